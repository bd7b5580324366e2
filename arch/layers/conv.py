"""Convolution that is also fast on a CPU; parameters and results are those of `flax.linen.Conv`.

Two kinds of programs that XLA makes are slow on a CPU, and replaced there:

- For the weight gradient XLA transposes the input from [b, h, w, c] to [c, h, w, b]. It fuses the preceding
  normalisation and activation into that transpose, and computes them again in a badly strided loop, which takes a third
  of a ResNet's step. Fusion stops at a conditional (at an `optimization_barrier` it does not: XLA removes it before).
- An image that is smaller than the kernel along an axis, such as 2x2 under 3x3, is convolved in a loop of scalars: a
  hundred times slower than one matrix product (64 images of 512 channels, one core, jax 0.10.2: 782 ms and 6 ms). The
  gradient of the input is such a convolution of the gradient of the output. That of the weights convolves the input
  with the gradient of the output, which is larger where more is padded than the kernel's half: 124 ms, and 3 ms with
  the padding as zeros in the input (64 texts of 99 words, 239 filters of 5 words).
"""

import functools
import itertools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

# b: batch, space: positions of the input, places: of the output, window: taps of the kernel, f and c: channels before
# and after


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv(x: Float[Array, "b *space f"], kernel: Float[Array, "*window f_ c"], options: tuple) -> Array:
    return _convolution(x.shape[1:-1], kernel.shape, **dict(options))(x, kernel)


def _forward(x, kernel, options):
    return _conv(x, kernel, options), (x, kernel)


def _backward(options, saved, d_outputs):
    x, kernel = saved
    backwards = _convolution(d_outputs.shape[1:-1], kernel.shape, **dict(options))
    _, pull = jax.vjp(lambda x: backwards(x, kernel), x)
    (d_x,) = pull(d_outputs)

    def on_cpu(x, kernel, d_outputs):
        x, grown = _grown(_unfused(x, kernel), d_outputs.shape[1:-1], **dict(options))
        return _kernel_gradient(x, kernel, d_outputs, **grown)

    elsewhere = functools.partial(_kernel_gradient, **dict(options))
    return d_x, lax.platform_dependent(x, kernel, d_outputs, cpu=on_cpu, default=elsewhere)


_conv.defvjp(_forward, _backward)


def _convolution(size: Sequence[int], kernel: Sequence[int], **options) -> Callable[[Array, Array], Array]:
    """Returns the convolution of x and a kernel. `size`: of what XLA would convolve; `kernel`: the kernel's shape."""
    xla = functools.partial(lax.conv_general_dilated, **options)
    if not is_plain(options) or all(side >= taps for side, taps in zip(size, kernel[:-2], strict=True)):
        return xla
    product = functools.partial(_im2col, strides=options["window_strides"], padding=options["padding"])
    return functools.partial(lax.platform_dependent, cpu=product, default=xla)


def _kernel_gradient(
    x: Float[Array, "b *space f"],
    kernel: Float[Array, "*window f_ c"],
    d_outputs: Float[Array, "b *places c"],
    **options,
) -> Float[Array, "*window f_ c"]:
    _, pull = jax.vjp(lambda kernel: lax.conv_general_dilated(x, kernel, **options), kernel)
    return pull(d_outputs)[0]


def _grown(x: Float[Array, "b *space f"], places: Sequence[int], **options) -> tuple[Float[Array, "b *padded f"], dict]:
    """Returns x with its padding as zeros, and options without padding, if the output is larger than x."""
    if not is_plain(options) or all(side >= place for side, place in zip(x.shape[1:-1], places, strict=True)):
        return x, options
    x = jnp.pad(x, ((0, 0), *options["padding"], (0, 0)))
    return x, options | {"padding": ((0, 0),) * len(places)}


def is_plain(options: dict) -> bool:
    """Returns whether options of a convolution state no dilation, groups or precision."""
    dilations = (*(options.get("lhs_dilation") or ()), *(options.get("rhs_dilation") or ()))
    groups = options.get("feature_group_count", 1)
    return all(size == 1 for size in dilations) and groups == 1 and options.get("precision") is None


def pairs(
    padding: str | Sequence[Sequence[int]], size: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Returns the padding before and after each axis of an image of `size`."""
    found = lax.padtype_to_pads(size, window, strides, padding) if isinstance(padding, str) else padding
    return tuple(map(tuple, found))


def _im2col(
    x: Float[Array, "b *space f"], kernel: Float[Array, "*window f c"], strides: Sequence[int], padding: Sequence
) -> Float[Array, "b *places c"]:
    """Returns the convolution as one product of what the window sees at each place and the kernel."""
    *window, _, features = kernel.shape
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    reach = [(side - taps) // step * step + 1 for side, taps, step in zip(x.shape[1:-1], window, strides, strict=True)]
    seen = []
    for taps in itertools.product(*map(range, window)):
        ends = [tap + length for tap, length in zip(taps, reach, strict=True)]
        seen.append(lax.slice(x, (0, *taps, 0), (x.shape[0], *ends, x.shape[-1]), (1, *strides, 1)))
    return jnp.concatenate(seen, axis=-1) @ kernel.reshape(-1, features)


def _unfused(x: Array, kernel: Array) -> Array:
    """Returns x from a conditional that the compiler cannot remove: its condition holds unless the kernel is NaN."""
    one = kernel.ravel()[0]
    return lax.cond(one == one, lambda x: x, lambda x: x * one, x)


def conv_general_dilated(lhs: Array, rhs: Array, window_strides, padding, **options) -> Array:
    """`jax.lax.conv_general_dilated`, for reverse-mode differentiation (`nn.Conv`'s field of this name)."""
    if is_plain(options) or not isinstance(padding, str):
        padding = pairs(padding, lhs.shape[1:-1], rhs.shape[:-2], window_strides)
    options |= {"window_strides": tuple(window_strides), "padding": padding}
    return _conv(lhs, rhs, tuple(options.items()))


Conv = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)
