"""tanh, the sigmoid and the normal distribution function, in a form that XLA runs on all cores of a CPU.

XLA runs an elementwise loop on several cores if it has enough operations per byte, and counts tanh as one operation.
On one core, the gates of each time step take so long that the other cores fall asleep, and the next matrix product has
to wake them. A quotient of polynomials has enough operations. Other platforms use XLA's own functions, as 64-bit
numbers do everywhere.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

# tanh(x) is x P(x^2) / Q(x^2) on [-7.9, 7.9]: the minimax fit, of relative error 2.5e-8 before rounding.
LIMIT = 7.9
P = (5.24113563e-11, -5.27457074e-08, -5.77279532e-06, 2.21286992e-03, 1.23628524e-01, 9.99999976e-01)
Q = (-1.09798862e-06, 1.00752014e-04, 2.12005931e-02, 4.56961572e-01, 1.0)
# The normal distribution function is 1/2 + x P(x^2) / Q(x^2) on [-5.7, 5.7]: the minimax fit, of error 1.2e-8 before
# rounding. Beyond it differs from 0 and 1 by less than 1e-8.
NORMAL_LIMIT = 5.7
NORMAL_P = (2.15801002e-08, 6.37417621e-06, 1.79395074e-04, 4.74083599e-03, 3.49412796e-02, 3.98942206e-01)
NORMAL_Q = (1.16495583e-06, 7.6768148e-05, 1.94456003e-03, 2.92607564e-02, 2.54250268e-01, 1.0)


def _odd_quotient(
    x: Float[Array, "..."], limit: float, p: tuple[float, ...], q: tuple[float, ...]
) -> Float[Array, "..."]:
    """Returns x P(x^2) / Q(x^2) of the clipped x in float32; the highest powers come first."""
    clipped = jnp.clip(x.astype(jnp.float32), -limit, limit)
    square = clipped * clipped
    above, below = (functools.reduce(lambda value, coefficient: value * square + coefficient, c) for c in (p, q))
    return clipped * above / below


def _rational_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    return _odd_quotient(x, LIMIT, P, Q).astype(x.dtype)


def _rational_cdf(x: Float[Array, "..."]) -> Float[Array, "..."]:
    value = 0.5 + _odd_quotient(x, NORMAL_LIMIT, NORMAL_P, NORMAL_Q)
    return jnp.where(x < -NORMAL_LIMIT, 0.0, jnp.minimum(value, 1.0)).astype(x.dtype)


def _on_cpu(
    x: Float[Array, "..."], ours: Callable[[Array], Array], default: Callable[[Array], Array]
) -> Float[Array, "..."]:
    return default(x) if x.dtype == jnp.float64 else lax.platform_dependent(x, cpu=ours, default=default)


@jax.custom_jvp
def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The hyperbolic tangent; on a CPU to 4e-7, in float32 for types of fewer bits."""
    return _on_cpu(x, _rational_tanh, jnp.tanh)


@tanh.defjvp
def _tanh_jvp(primals, tangents):
    y = tanh(*primals)
    return y, tangents[0] * (1 - y * y)


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The logistic function, `(1 + tanh(x / 2)) / 2`."""
    return 0.5 * tanh(0.5 * x) + 0.5


@jax.custom_jvp
def normal_cdf(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The distribution function of the standard normal distribution; on a CPU to 4e-7, in float32 for types of fewer
    bits.
    """
    return _on_cpu(x, _rational_cdf, jax.scipy.stats.norm.cdf)


@normal_cdf.defjvp
def _normal_cdf_jvp(primals, tangents):
    (x,) = primals
    density = jnp.exp(-0.5 * x * x) * (2 * math.pi) ** -0.5
    return normal_cdf(x), tangents[0] * density
