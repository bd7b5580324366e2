"""Augmentation that blends pairs of examples of a device's batch and their answers."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from core.info import Info
from data.augment.images import rectangle
from data.augment.op import Batch, Keys, Number, Op

# b: batch

PerExample = Float[Array, "b"]


@dataclasses.dataclass(frozen=True)
class _Mixing(Op):
    """Blends inputs with the weight w ~ Beta(alpha, alpha) per example, unlike the authors' code, which draws one w.

    A `label` gets a partner, `mixed_label` [b], and the share of the label itself, `mix_weight` [b]; a `target` is
    blended like the inputs.
    """

    alpha: Number = 1.0

    mixes: ClassVar[bool] = True
    roles: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        self.check_range(alpha=(1e-3, None))

    def bind(self, info: Info) -> "Op":
        bound = super().bind(info)
        bound.check_roles(*self.roles)
        bound.check_unmoved("image")
        if not {"label", "target"} & info.keys.keys():
            self.refuse(f"mixes label or target; {info.name} has {', '.join(info.keys)}")
        return bound

    def mixed(self, batch: Batch, partner: Int[Array, "b"], weight: PerExample) -> Batch:
        """Returns the batch with its answers mixed."""
        batch = dict(batch)
        if "target" in batch:
            batch["target"] = _blend(weight, batch["target"], batch["target"][partner])
        if "label" in batch:
            batch |= {"mixed_label": batch["label"][partner], "mix_weight": weight}
        return batch


@dataclasses.dataclass(frozen=True)
class Mixup(_Mixing):
    """Blends each example with another: w x + (1 - w) x' (mixup, 1710.09412, section 2); images and features."""

    alpha: Number = 0.2

    roles: ClassVar[tuple[str, ...]] = ("image", "features")

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        partner_keys, weight_keys = split(keys, 2)
        partner = partners(partner_keys, batch["mask"])
        weight = jax.vmap(lambda key: jax.random.beta(key, self.alpha, self.alpha))(weight_keys)
        inputs = {key: _blend(weight, batch[key], batch[key][partner]) for key in self.keys_of(*self.roles)}
        return self.mixed(batch | inputs, partner, weight)


@dataclasses.dataclass(frozen=True)
class Cutmix(_Mixing):
    """Pastes a random box of another image over each image (CutMix, 1905.04899, section 3.1).

    The box is centred on a random pixel and covers 1 - w of an image's area before it is cut off at the edges. Labels
    are mixed as in `mixup`, weighted by the area that remains visible.
    """

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        partner_keys, weight_keys, box_keys = split(keys, 3)
        partner = partners(partner_keys, batch["mask"])
        side = jnp.sqrt(1 - jax.vmap(lambda key: jax.random.beta(key, self.alpha, self.alpha))(weight_keys))
        images, weight = {}, None
        for key in self.keys_of("image"):
            size = batch[key].shape[1:3]
            height, width = (jnp.round(side * extent).astype(int) for extent in size)
            pasted = jax.vmap(lambda key, *box, size=size: rectangle(key, size, *box))(box_keys, height, width)
            images[key] = jnp.where(pasted[..., None], batch[key][partner], batch[key])
            weight = 1 - pasted.mean((1, 2))
        return self.mixed(batch | images, partner, weight)


@dataclasses.dataclass(frozen=True)
class MixupOrCutmix(_Mixing):
    """`mixup(alpha)` or `cutmix(box_alpha)`, with equal probability per example (DeiT, 2012.12877, table 9).

    The authors' code draws one of both per batch.
    """

    alpha: Number = 0.8
    box_alpha: Number = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_range(box_alpha=(1e-3, None))

    def __call__(self, keys: Keys, batch: Batch) -> Batch:
        choice_keys, *others = split(keys, 3)
        is_mixup = jax.vmap(jax.random.bernoulli)(choice_keys)
        ops = (Mixup(self.alpha).bind(self.info), Cutmix(self.box_alpha).bind(self.info))
        blended, pasted = (op(own, batch) for op, own in zip(ops, others, strict=True))
        chosen = {}
        for key, value in blended.items():
            is_first = is_mixup.reshape(-1, *(1,) * (value.ndim - 1))
            chosen[key] = jnp.where(is_first, value, pasted[key])
        return chosen


def split(keys: Keys, count: int) -> list[Keys]:
    """Returns `count` independent keys of each example."""
    return list(jnp.moveaxis(jax.vmap(lambda key: jax.random.split(key, count))(keys), 1, 0))


def partners(keys: Keys, mask: Shaped[Array, "b"]) -> Int[Array, "b"]:
    """Returns each example's partner: the next in a random cycle of the real examples. Padding is its own partner."""
    size, real = len(mask), mask > 0
    cycle = jnp.argsort(jnp.where(real, jax.vmap(jax.random.uniform)(keys), 2.0))  # the real ones come first
    count, place = real.sum(), jnp.arange(size)
    following = jnp.where(place < count, (place + 1) % jnp.maximum(count, 1), place)
    return jnp.zeros(size, int).at[cycle].set(cycle[following])


def _blend(weight: PerExample, first: Shaped[Array, "b ..."], second: Shaped[Array, "b ..."]) -> Shaped[Array, "b ..."]:
    weight = weight.reshape(-1, *(1,) * (first.ndim - 1))
    return weight * first + (1 - weight) * second
