"""Convolution over three axes whose CPU program has 2-D convolutions; parameters and results are those of
`flax.linen.Conv`.

XLA's 3-D convolution on a CPU is tens of times slower than PyTorch's, its gradient most of all. There the taps along
the first axis become channels of one 2-D convolution, a kernel of one pixel a matrix product, and the gradient of a
kernel one matrix product per tap in the plane. Other platforms keep the plain convolution.
"""

import functools
import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from arch.layers import conv

# b: batch; t, h, w: positions, of which the first are frames or layers; c: channels; p, q, r, f: of the output
# l, m, n: taps of the kernel along t, h, w

Input = Float[Array, "b t h w c"]
Kernel = Float[Array, "l m n c f"]
Output = Float[Array, "b p q r f"]
Triple = tuple[int, int, int]
Padding = tuple[tuple[int, int], ...]

PLAIN = ("NDHWC", "DHWIO", "NDHWC")


def plain(x: Input, kernel: Kernel, strides: Triple, padding: Padding) -> Output:
    """Returns XLA's own convolution."""
    return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=PLAIN)


def folded(x: Input, kernel: Kernel, strides: Triple, padding: Padding) -> Output:
    """Returns the same from one 2-D convolution of all frames: the taps along t are channels of its input."""
    taps, height, width, channels, features = kernel.shape
    stride, *strides = strides
    x = _with_taps(x, taps, stride, padding[0])
    kernel = jnp.moveaxis(kernel, 0, 2).reshape(height, width, taps * channels, features)
    if height == width == 1 and not any(map(any, padding[1:])):
        return x[:, :, :: strides[0], :: strides[1]] @ kernel[0, 0]
    frames = x.reshape(-1, *x.shape[2:])
    y = conv.conv_general_dilated(frames, kernel, strides, padding[1:], dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _with_taps(x: Input, taps: int, stride: int, padding: tuple[int, int]) -> Float[Array, "b p h w tc"]:
    """Returns x at each position of the output along t, with the frames that the taps read there as channels."""
    x = jnp.pad(x, ((0, 0), padding, (0, 0), (0, 0), (0, 0))) if any(padding) else x
    last = (x.shape[1] - taps) // stride * stride  # the first frame that the last position reads
    return jnp.concatenate([x[:, tap : tap + last + 1 : stride] for tap in range(taps)], axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Input, kernel: Kernel, strides: Triple, padding: Padding) -> Output:
    options = {"strides": strides, "padding": padding}
    on_cpu, elsewhere = functools.partial(folded, **options), functools.partial(plain, **options)
    return lax.platform_dependent(x, kernel, cpu=on_cpu, default=elsewhere)


def _forward(x, kernel, strides, padding):
    return _conv(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, saved, d_outputs):
    def of_plain(x, kernel, d_outputs):
        return jax.vjp(lambda x, kernel: plain(x, kernel, strides, padding), x, kernel)[1](d_outputs)

    def of_folded(x, kernel, d_outputs):
        _, pull = jax.vjp(lambda x: folded(x, kernel, strides, padding), x)
        return *pull(d_outputs), _kernel_gradient(x, d_outputs, kernel.shape, strides, padding)

    return lax.platform_dependent(*saved, d_outputs, cpu=of_folded, default=of_plain)


_conv.defvjp(_forward, _backward)


def _kernel_gradient(x: Input, d_outputs: Output, shape: Sequence[int], strides: Triple, padding: Padding) -> Kernel:
    taps, height, width, channels, features = shape
    x = jnp.pad(_with_taps(x, taps, strides[0], padding[0]), ((0, 0), (0, 0), *padding[1:], (0, 0)))
    rows, columns = ((size - 1) * stride + 1 for size, stride in zip(d_outputs.shape[2:4], strides[1:], strict=True))
    d_outputs = d_outputs.reshape(-1, features)
    products = []
    for row, column in itertools.product(range(height), range(width)):
        seen = x[:, :, row : row + rows : strides[1], column : column + columns : strides[2]]
        products.append(seen.reshape(-1, taps * channels).T @ d_outputs)
    return jnp.moveaxis(jnp.stack(products).reshape(height, width, taps, channels, features), 2, 0)


def conv_general_dilated(
    lhs: Input, rhs: Float[Array, "l m n _ f"], window_strides, padding, **options
) -> Float[Array, "b p q r f"]:
    """`jax.lax.conv_general_dilated`, for reverse-mode differentiation (`nn.Conv`'s field of this name).

    Dilated and grouped convolutions, and those of a given precision, stay XLA's own.
    """
    if not conv.is_plain(options):
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    return _conv(lhs, rhs, tuple(window_strides), conv.pairs(padding, lhs.shape[1:4], rhs.shape[:3], window_strides))


Conv3D = functools.partial(nn.Conv, conv_general_dilated=conv_general_dilated)
