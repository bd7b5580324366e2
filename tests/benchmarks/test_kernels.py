"""What counts as a kernel of a loop."""

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks.kernels import kernels_in_loops


def test_only_what_loops_compute_counts():
    """A sort is never fused: each is one operation, and so is the loop's counter."""

    def sorts(inside: int, outside: int):
        def body(_, x):
            for _ in range(inside):
                x = jnp.sort(x[::-1])
            return x

        def program(x):
            for _ in range(outside):
                x = jnp.sort(x[::-1])
            return lax.fori_loop(0, 9, body, x)

        return kernels_in_loops(jax.jit(program).lower(jnp.arange(5.0)).compile().as_text())

    assert sorts(0, 3) == 0
    one, two = sorts(1, 0), sorts(2, 0)
    assert 0 < one < two and sorts(2, 3) == two
