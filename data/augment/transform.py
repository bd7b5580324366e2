"""Device transform of a batch before the model: conversion to float, augmentation (training only), normalisation."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from core.errors import UserError
from data.augment.ops import Op

Batch = dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity: jit may close over it or treat it as static
class Transform:
    """A pure function `transform(rng, batch) -> batch` for use inside a compiled step; `rng` None means evaluation.

    Args:
        ops: augmentations, `op(rng, batch) -> batch`, applied in order, each with its own key. At most one of them
            mixes examples.
        statistics: "image" -> {"mean", "std"}, each [c] or a number, of images in [0, 1] over the training split.
            Statistics of other keys are not used: the host standardises features, and targets keep their units.

    Raises:
        UserError: two ops mix examples; on a call, an op finds none of its keys, or the number of channels differs.
    """

    ops: tuple[Callable[[Key[Array, ""], Batch], Batch], ...] = ()
    statistics: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        mixing = [op.name for op in self.ops if isinstance(op, Op) and op.mixes]
        if len(mixing) > 1:
            raise UserError(f"augment: {' and '.join(mixing)} both mix examples; keep one of them")

    def __call__(self, rng: Key[Array, ""] | None, batch: Batch) -> Batch:
        """Returns the model's batch: `image` float32, augmented if `rng` is given, then normalised."""
        batch = self.augmented(rng, batch)
        if "image" in batch and "image" in self.statistics:
            batch["image"] = self._normalised(batch["image"])
        return batch

    def augmented(self, rng: Key[Array, ""] | None, batch: Batch) -> Batch:
        """Returns the batch before normalisation, as pictures show it: `image` float32 in [0, 1]."""
        batch = dict(batch)
        if "image" in batch:
            scale = 255 if batch["image"].dtype == jnp.uint8 else 1
            batch["image"] = jnp.asarray(batch["image"], jnp.float32) / scale
        if rng is not None:
            for position, op in enumerate(self.ops):
                batch = op(jax.random.fold_in(rng, position), batch)
        return batch

    def _normalised(self, images: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        mean, std = (np.asarray(self.statistics["image"][name], np.float32) for name in ("mean", "std"))
        if mean.shape not in ((), images.shape[-1:]):
            raise UserError(f"image: {images.shape[-1]} channels, but its statistics have the shape {mean.shape}")
        return (images - mean) / np.where(std > 0, std, 1)  # a channel that never varies is only centred
