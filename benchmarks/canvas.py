"""Average precision of a trained detector on canvases larger than its images, with the region of the image as an input
and without:

    python -m benchmarks.canvas --workdir=RUN [--data_dir=DIR]

The images of the test split keep their size; zeros are added below and to the right. No training.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

import data
from core.cli import guarded, set_environment
from data.augment.op import Batch
from data.splits import Split
from inference.predict import Trained, load
from tasks.detection import average_precision

FACTORS = (1.0, 1.25, 1.5, 2.0)  # sides of the canvas, in sides of the image
SIZE = 50  # images at a time


def padded(images: Float[jax.Array, "b h w c"], factor: float) -> tuple[Float[jax.Array, "b _ _ c"], np.ndarray]:
    """Returns images on a canvas, and the height and width of the part that they fill, in fractions of it."""
    sides = np.array(images.shape[1:3])
    added = np.round((factor - 1) * sides).astype(int)
    return jnp.pad(images, ((0, 0), (0, added[0]), (0, added[1]), (0, 0))), sides / (sides + added)


def precision(run: Trained, split: Split, factor: float, with_region: bool) -> float:
    """Returns the AP50 of a split on a canvas. `with_region`: the network does not read the padding."""
    task = run.task

    @jax.jit
    def arrays(batch: Batch) -> dict[str, jax.Array]:
        batch = run.transform(None, batch)
        images, extent = padded(batch["image"], factor)
        region = jnp.tile(jnp.array([0, 0, *extent], jnp.float32), (len(images), 1)) if with_region else None
        outputs = run.model.apply(run.variables, images, region, train=False)
        return task.score(outputs, batch | {task.boxes: batch[task.boxes] * np.tile(extent, 2)}).arrays

    pieces = []
    for start in range(0, len(split), SIZE):
        index = np.arange(start, min(start + SIZE, len(split)))
        batch = split.batch(index) | {"mask": np.ones(len(index), np.float32), "index": index.astype(np.int32)}
        pieces.append(jax.device_get(arrays(batch)))
    return average_precision({key: np.concatenate([piece[key] for piece in pieces]) for key in pieces[0]})["ap50"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--data_dir")
    arguments = parser.parse_args()
    run = load(arguments.workdir)
    test = data.load(run.config.data, arguments.data_dir)[0]["test"]
    print("canvas  AP50 with region  without")
    for factor in FACTORS:
        found, without = (precision(run, test, factor, with_region) for with_region in (True, False))
        print(f"{factor:6.2f}  {found:16.3f}  {without:7.3f}")


if __name__ == "__main__":
    set_environment()
    sys.exit(guarded(main))
