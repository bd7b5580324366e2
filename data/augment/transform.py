"""Device transform of a batch before the model: images as floats, then the augment ops in order."""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp

from core.errors import UserError
from core.info import PIXELS, Info
from data.augment.op import WHERE, Batch, Op, Rng, example_keys, parse_op


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity: jit may close over it or treat it as static
class Transform:
    """A pure function `transform(rng, batch) -> batch` for use inside a compiled step; `rng` None means evaluation.

    Every op has one key per example, a function of `rng`, the op's position and the batch's `index` [b]: the example's
    position in the global batch in training, its index in the split in evaluation. Draws therefore depend neither on
    devices nor on microbatches, and in evaluation on the example alone.

    Attributes:
        ops: bound to the data set, at most one of them mixes examples.
        pixels: keys of images, which become float32; uint8 is divided by 255.

    Raises:
        UserError: two ops mix examples.
    """

    ops: tuple[Op, ...] = ()
    pixels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        mixing = [op.name for op in self.ops if op.mixes]
        if len(mixing) > 1:
            raise UserError(f"{' and '.join(mixing)} both mix examples; keep one of them")

    @classmethod
    def create(cls, texts: Iterable[str], info: Info) -> "Transform":
        """Returns the transform of `config.augment.ops` for a data set. Raises UserError for ops that do not fit it."""
        ops = tuple(map(parse_op, texts))
        try:
            pixels = tuple(key for key, record in info.keys.items() if record.role in PIXELS)
            return cls(tuple(op.bind(info) for op in ops), pixels)
        except UserError as error:
            raise UserError(f"{WHERE}: {error}") from error

    def __call__(self, rng: Rng | None, batch: Batch) -> Batch:
        """Returns the model's batch: all ops if `rng` is given, otherwise those that always run."""
        return self._run(rng, batch, lambda op: rng is not None or op.when == "always")

    def augmented(self, rng: Rng, batch: Batch) -> Batch:
        """Returns the batch as pictures show it: only the ops of training, so without normalisation."""
        return self._run(rng, batch, lambda op: op.when == "train")

    def _run(self, rng: Rng | None, batch: Batch, wanted: Callable[[Op], bool]) -> Batch:
        batch = {key: jnp.asarray(values) for key, values in batch.items()}
        for key in batch.keys() & set(self.pixels):
            scale = 255 if batch[key].dtype == jnp.uint8 else 1
            batch[key] = jnp.asarray(batch[key], jnp.float32) / scale
        rng = jax.random.key(0) if rng is None else rng
        for position, op in enumerate(self.ops):
            if wanted(op):
                batch = op(example_keys(rng, position, batch["index"]), batch)
        return batch
