"""Dense layers over tokens whose weight gradient is also fast on a CPU; otherwise those of `flax.linen.Dense`.

The weight gradient of a product over [b, t, d] contracts two axes. XLA on a CPU brings them together by a transpose,
fuses the derivatives of the activation and of the norm into it, and computes these again in a badly strided loop, which
takes two fifths of a small Transformer's step. A product over [b t, d] contracts one axis and needs no transpose.
"""

import functools

import flax.linen as nn
from jax import Array, lax
from jaxtyping import Float


def matmul(x: Float[Array, "*b d"], kernel: Float[Array, "d e"], **options) -> Float[Array, "*b e"]:
    """Returns x @ kernel; `options` are those of `jax.lax.dot_general`."""
    y = lax.dot_general(x.reshape(-1, x.shape[-1]), kernel, (((1,), (0,)), ((), ())), **options)
    return y.reshape(*x.shape[:-1], kernel.shape[-1])


def _dot_general(x: Float[Array, "*b d"], kernel: Float[Array, "d e"], dimension_numbers, **options) -> Array:
    """`nn.Dense`'s field of this name: it always contracts the last axis with the first."""
    return matmul(x, kernel, **options)


Dense = functools.partial(nn.Dense, dot_general=_dot_general)
