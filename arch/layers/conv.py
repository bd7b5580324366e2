"""Convolution whose weight gradient is also fast on a CPU; parameters and results are those of `flax.linen.Conv`.

For the weight gradient XLA transposes the input from [b, h, w, c] to [c, h, w, b]. On a CPU it fuses the preceding
normalisation and activation into that transpose, and computes them again in a badly strided loop, which takes a third
of a ResNet's step. Fusion stops at a conditional (at an `optimization_barrier` it does not: XLA removes it before).
"""

import functools

import flax.linen as nn
import jax
from jax import Array, lax
from jaxtyping import Float


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Float[Array, "b *space f"], kernel: Float[Array, "*window f_ c"], options: tuple) -> Array:
    return lax.conv_general_dilated(x, kernel, **dict(options))


def _forward(x, kernel, options):
    return _conv(x, kernel, options), (x, kernel)


def _backward(options, saved, d_outputs):
    x, kernel = saved
    _, pull = jax.vjp(lambda x: lax.conv_general_dilated(x, kernel, **dict(options)), x)
    (d_x,) = pull(d_outputs)
    x = lax.platform_dependent(x, kernel, cpu=_unfused, default=lambda x, _: x)
    _, pull = jax.vjp(lambda kernel: lax.conv_general_dilated(x, kernel, **dict(options)), kernel)
    (d_kernel,) = pull(d_outputs)
    return d_x, d_kernel


_conv.defvjp(_forward, _backward)


def _unfused(x: Array, kernel: Array) -> Array:
    """Returns x from a conditional that the compiler cannot remove: its condition holds unless the kernel is NaN."""
    one = kernel.ravel()[0]
    return lax.cond(one == one, lambda x: x, lambda x: x * one, x)


def conv_general_dilated(lhs: Array, rhs: Array, window_strides, padding, **options) -> Array:
    """`jax.lax.conv_general_dilated`, for reverse-mode differentiation (`nn.Conv`'s field of this name)."""
    pairs = padding if isinstance(padding, str) else tuple(map(tuple, padding))
    options |= {"window_strides": tuple(window_strides), "padding": pairs}
    return _conv(lhs, rhs, tuple(options.items()))


Conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)
