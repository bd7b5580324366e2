"""Which inputs an output depends on, by gradient: an exact zero is the proof that something is not seen."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# t: tokens of the output, s: tokens of the input


def influence(apply: Callable[[Array], Array], x: Float[Array, "1 s d"]) -> tuple[Array, Float[Array, "t s"]]:
    """Returns apply(x) [1, t, k], and the size of the gradient of each of its tokens with respect to each of x."""
    rng = np.random.default_rng(1)

    def projected(x):
        y = apply(x)
        return (y @ rng.normal(1, 0.3, y.shape[-1]).astype(np.float32))[0], y

    jacobian, y = jax.jacrev(projected, has_aux=True)(x)
    return y, jnp.abs(jacobian[:, 0]).sum(-1)


def moved(apply: Callable[[], Array], moves: dict[int, Array]) -> Array:
    """Returns apply() where `moves[s]` [b, s, d] is added to the embeddings of s tokens."""

    def interceptor(call, args, kwargs, context):
        y = call(*args, **kwargs)
        is_embedding = isinstance(context.module, nn.Embed) and context.method_name == "__call__"
        return y + moves[y.shape[1]] if is_embedding else y

    with nn.intercept_methods(interceptor):
        return apply()


def disturbed(variables: dict) -> dict:
    """Returns variables none of which is 0 or 1."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), variables)
