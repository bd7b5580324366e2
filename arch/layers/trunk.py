"""A trunk of residual blocks with any sublayers: attention makes it a Transformer, an MLP over tokens an MLP-Mixer."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, PyTree

from arch.layers.mixer import Cached, Context
from arch.layers.norm import Norm, layer_norm

# b: batch, t: tokens, d: width of the model

Sublayer = Callable[..., nn.Module]  # a class with its fields; see `layers.mixer`
Rate = float | Float[Array, ""] | None


class Residual(nn.Module):
    """x + dropout(sublayer(norm(x))), or, in the order "post", norm(x + dropout(sublayer(x))).

    "post" is the order of Vaswani et al. (2017, arXiv 1706.03762, section 3.1), "pre" that of GPT-2 and of Xiong et al.
    (2020, arXiv 2002.04745).

    Attributes:
        layer_scale: initial value of a learned factor per channel of the branch (Touvron et al. 2021, arXiv 2103.17239,
            section 2); None: without it.
    """

    sublayer: Sublayer
    norm: Norm = layer_norm
    order: Literal["pre", "post"] = "pre"
    dropout: float = 0.0
    layer_scale: float | None = None
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], cache: PyTree, context: Context, drop_path: Rate = None) -> Cached:
        norm = self.norm(train=context.train, dtype=self.dtype, name="norm")
        sublayer = self.sublayer(dtype=self.dtype, name="layer")
        branch, cache = sublayer(norm(x) if self.order == "pre" else x, context, cache)
        if self.layer_scale is not None:
            scale = self.param("layer_scale", nn.initializers.constant(self.layer_scale), x.shape[-1:])
            branch *= scale.astype(branch.dtype)
        branch = nn.Dropout(self.dropout, deterministic=not context.train)(branch)
        if drop_path is not None and context.train:
            branch = drop_examples(branch, drop_path, self.make_rng("dropout"))
        return (x + branch if self.order == "pre" else norm(x + branch)), cache


def drop_examples(x: Float[Array, "b *d"], rate: Rate, rng: Array) -> Float[Array, "b *d"]:
    """Returns x with each example set to 0 at this rate, and the others scaled up (stochastic depth: Huang et al. 2016,
    arXiv 1603.09382)."""
    kept = jax.random.bernoulli(rng, 1 - rate, (len(x), *(1,) * (x.ndim - 1)))
    return x * (kept / (1 - rate)).astype(x.dtype)


class Block(nn.Module):
    """Sublayers, one after the other, each in its own residual branch.

    Attributes:
        sublayers: name -> class with its fields, in order.
        residual: fields of `Residual` that all branches share.
        norms: norms of single sublayers, by name, in the place of the shared one.
    """

    sublayers: Mapping[str, Sublayer]
    residual: Mapping[str, Any]
    norms: Mapping[str, Norm] = dataclasses.field(default_factory=dict)

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], caches: Mapping[str, PyTree] | None, context: Context, drop_path: Rate = None
    ) -> Cached:
        """Returns the tokens and the cache of each sublayer."""
        new = {}
        for name, sublayer in self.sublayers.items():
            own = {"norm": self.norms[name]} if name in self.norms else {}
            branch = Residual(sublayer, name=name, **{**self.residual, **own})
            x, new[name] = branch(x, caches and caches[name], context, drop_path)
        return x, new


def _in_turn(blocks, x, caches, rates, context) -> Cached:
    """Applies blocks, one after the other, within a compact method."""
    new = []
    for i, block in enumerate(blocks):
        rate = None if rates is None else rates[i]
        x, cache = block(name=f"block{i + 1}")(x, caches and caches[i], context, rate)
        new.append(cache)
    return x, new


def _rematerialised(block: partial) -> partial:
    """Returns a block whose activations are computed again in the backward pass."""
    return partial(nn.remat(block.func), *block.args, **block.keywords)


class _Turn(nn.Module):
    """The blocks that `Trunk` repeats."""

    blocks: tuple[Callable[..., nn.Module], ...]

    @nn.compact
    def __call__(self, x, caches, rates, context):
        return _in_turn(self.blocks, x, caches, rates, context)


class Trunk(nn.Module):
    """`depth` blocks and a last norm. With caches, the tokens continue those that were seen.

    Attributes:
        blocks: the kinds of blocks, which take turns.
        norm: after the last block; None: without it (post-norm networks).
        drop_path: rate at which an example skips the last block; it grows linearly from 0 at the first block.
        remat: saves memory: a block's activations are computed again in the backward pass.
        scan: compiles one turn of `blocks` and repeats it, which takes less time for deep networks. Its parameters have
            a leading axis of turns; `layers.stacking` converts them.
    """

    depth: int
    blocks: tuple[Callable[..., nn.Module], ...]
    norm: Norm | None = layer_norm
    drop_path: float = 0.0
    remat: bool = False
    scan: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], context: Context, caches: PyTree = None) -> Cached:
        turns, rest = divmod(self.depth, len(self.blocks))
        if rest:
            raise ValueError(f"depth {self.depth} is not a multiple of the {len(self.blocks)} kinds of blocks")
        rates = np.linspace(0, self.drop_path, self.depth).tolist() if self.drop_path else None
        blocks = tuple(_rematerialised(block) if self.remat else block for block in self.blocks)
        if self.scan:
            repeated = nn.scan(
                _Turn,
                variable_axes={"params": 0, "intermediates": 1},
                split_rngs={"params": True, "dropout": True},
                in_axes=(1, 0, nn.broadcast),
                out_axes=1,
                length=turns,
            )
            rates = None if rates is None else jnp.asarray(rates, jnp.float32).reshape(turns, -1)
            x, caches = repeated(blocks, name="blocks")(x, caches, rates, context)
        else:
            x, caches = _in_turn(blocks * turns, x, caches, rates, context)
        return x if self.norm is None else self.norm(train=context.train, dtype=self.dtype, name="norm")(x), caches
