"""A batch of training images after augmentation."""

import jax
import numpy as np

from reporting.drawing import Figure, image_grid
from reporting.shown import Shown


def draw(shown: Shown) -> Figure | None:
    """Shows images as in training, before normalisation."""
    run = shown.run
    texts = [text for text, op in zip(run.config.augment.ops, run.transform.ops, strict=True) if op.when == "train"]
    if not (texts and shown.images()):
        return None
    train, key = run.splits["train"], shown.images()[0]
    batch = train.batch(np.arange(min(16, len(train))))
    batch |= {"mask": np.ones(len(batch[key]), np.float32), "index": np.arange(len(batch[key]), dtype=np.int32)}
    images = run.transform.augmented(jax.random.key(run.config.seed), batch)[key]
    caption = f"As in training, before normalisation: {', '.join(texts)}."
    return Figure("An augmented batch", caption, image_grid(np.asarray(images)))
