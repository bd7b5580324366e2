"""tanh and the sigmoid of recurrent cells, in a form that XLA runs on all cores of a CPU.

XLA runs an elementwise loop on several cores if it has enough operations per byte, and counts tanh as one operation.
On one core, the gates of each time step take so long that the other cores fall asleep, and the next matrix product has
to wake them. A quotient of polynomials has enough operations. Other platforms use XLA's own tanh.
"""

import functools

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

# tanh(x) is x P(x^2) / Q(x^2) on [-7.9, 7.9]: the minimax fit, of relative error 2.5e-8 before rounding.
LIMIT = 7.9
P = (5.24113563e-11, -5.27457074e-08, -5.77279532e-06, 2.21286992e-03, 1.23628524e-01, 9.99999976e-01)
Q = (-1.09798862e-06, 1.00752014e-04, 2.12005931e-02, 4.56961572e-01, 1.0)


def _rational_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    clipped = jnp.clip(x.astype(jnp.float32), -LIMIT, LIMIT)
    square = clipped * clipped
    p, q = (functools.reduce(lambda value, coefficient: value * square + coefficient, c) for c in (P, Q))
    return (clipped * p / q).astype(x.dtype)


@jax.custom_jvp
def tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The hyperbolic tangent; on a CPU to 4e-7, in float32 whatever the type of `x`."""
    return lax.platform_dependent(x, cpu=_rational_tanh, default=jnp.tanh)


@tanh.defjvp
def _tanh_jvp(primals, tangents):
    y = tanh(*primals)
    return y, tangents[0] * (1 - y * y)


def sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The logistic function, `(1 + tanh(x / 2)) / 2`."""
    return 0.5 * tanh(0.5 * x) + 0.5
