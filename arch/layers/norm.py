"""Normalisations under one signature, so that a model's `norm` field takes any of them.

`norm(train=train, dtype=dtype)` returns a module that is applied to `[batch, ..., channels]`. Every function takes the
same arguments, although only batch statistics use `train`: the caller does not need to know which norm it has. A user's
own norm is another function of this signature.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import TypedDict, Unpack

import flax.linen as nn
import jax.numpy as jnp
from flax.linen import BatchNorm as _BatchNorm
from jax import Array, lax
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

Norm = Callable[..., nn.Module]

_axes: contextvars.ContextVar[tuple[str, ...]] = contextvars.ContextVar("axes of batch statistics", default=())


class Common(TypedDict, total=False):
    """Arguments of every norm. `scale_init=zeros` lets a residual branch start at zero."""

    dtype: DTypeLike | None
    name: str | None
    scale_init: Initializer


@contextlib.contextmanager
def statistics_over(axes: Sequence[str]) -> Iterator[None]:
    """Within the context, batch statistics are also averaged over the mapped axes `axes` (of `jax.pmap`, `jax.vmap`).

    The axes are read while a model is traced, so the context must be entered inside the compiled function, around
    `model.apply`. Each thread has its own context. Initialisation ignores the axes.
    """
    token = _axes.set(tuple(axes))
    try:
        yield
    finally:
        _axes.reset(token)


def batch_norm(*, train: bool, momentum: float = 0.9, epsilon: float = 1e-5, **common: Unpack[Common]) -> nn.Module:
    """Batch normalisation (Ioffe & Szegedy 2015, arXiv 1502.03167) over the batch and the axes of `statistics_over`.

    `momentum` is the fraction of the running average that is kept at each step (PyTorch's default 0.1 is 0.9 here).
    """
    return nn.BatchNorm(not train, axis_name=_axes.get() or None, momentum=momentum, epsilon=epsilon, **common)


def frozen_batch_norm(*, train: bool, epsilon: float = 1e-5, **common: Unpack[Common]) -> nn.Module:
    """Batch normalisation whose statistics, scale and bias never change: those of a trained backbone (Carion et al.
    2020, arXiv 2005.12872, appendix A.4)."""
    return BatchNorm(use_running_average=True, epsilon=epsilon, **common)


def layer_norm(*, train: bool, epsilon: float = 1e-6, bias: bool = True, **common: Unpack[Common]) -> nn.Module:
    """Layer normalisation (Ba et al. 2016, arXiv 1607.06450) over the channels of each position."""
    return LayerNorm(epsilon=epsilon, use_bias=bias, **common)


def rms_norm(*, train: bool, epsilon: float = 1e-6, **common: Unpack[Common]) -> nn.Module:
    """Division by the root mean square of the channels (Zhang & Sennrich 2019, arXiv 1910.07467)."""
    return nn.RMSNorm(epsilon=epsilon, **common)


def group_norm(*, train: bool, groups: int = 32, epsilon: float = 1e-5, **common: Unpack[Common]) -> nn.Module:
    """Group normalisation (Wu & He 2018, arXiv 1803.08494) over the positions and the channels of each group."""
    return nn.GroupNorm(num_groups=groups, epsilon=epsilon, **common)


def identity(*, train: bool, **common: Unpack[Common]) -> nn.Module:
    """No normalisation."""
    return Identity(name=common.get("name"))


class BatchNorm(_BatchNorm):
    """The layer of `frozen_batch_norm`. Its name gives the parameters the paths that they have in the trained network.

    Scale and bias have no gradient.
    """

    def param(self, name, *args, **kwargs):
        return lax.stop_gradient(super().param(name, *args, **kwargs))


class Identity(nn.Module):
    """Returns its input."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return x


class LayerNorm(nn.Module):
    """The layer of `layer_norm`, computed in float32.

    It subtracts the first channel before it computes the mean, which changes the rounding alone: in float32 the mean of
    numbers near 1000 has an error of 1e-4, which is large if they differ little.
    """

    epsilon: float
    use_bias: bool = True
    dtype: DTypeLike | None = None
    scale_init: Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: Float[Array, "*b c"]) -> Float[Array, "*b c"]:
        scale = self.param("scale", self.scale_init, x.shape[-1:])
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        shifted = wide - lax.stop_gradient(wide[..., :1])  # the result does not depend on the shift
        centred = shifted - shifted.mean(-1, keepdims=True)
        y = centred * (lax.rsqrt(jnp.square(centred).mean(-1, keepdims=True) + self.epsilon) * scale)
        if self.use_bias:
            y += self.param("bias", nn.initializers.zeros, x.shape[-1:])
        return y.astype(self.dtype or y.dtype)
