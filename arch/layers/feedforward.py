"""The position-wise feed-forward layers of a block, and their activations."""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.dense import Dense
from arch.layers.mixer import Cached, Context

# b: batch, t: tokens, d: width of the model

gelu_tanh = partial(nn.gelu, approximate=True)  # GPT, and the original code of BERT and ViT
gelu_exact = partial(nn.gelu, approximate=False)  # PyTorch's default


def relu_squared(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The square of relu (So et al. 2021, Primer, arXiv 2109.08668)."""
    return jnp.square(nn.relu(x))


class FeedForward(nn.Module):
    """Two dense layers over each token (Vaswani et al. 2017, arXiv 1706.03762, section 3.3).

    Attributes:
        width: of the hidden layer.
        gated: multiplies the activated hidden layer by a second, linear one (Shazeer 2020, arXiv 2002.05202): with
            `nn.silu` SwiGLU, with `gelu_tanh` GEGLU.
        dropout: rate of the hidden layer.
    """

    width: int
    activation: Callable[[Array], Array] = nn.relu
    gated: bool = False
    bias: bool = True
    dropout: float = 0.0
    kernel_init: Initializer = nn.initializers.xavier_uniform()
    out_init: Initializer = nn.initializers.xavier_uniform()
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], context: Context, cache: None = None) -> Cached:
        dense = partial(Dense, use_bias=self.bias, dtype=self.dtype)
        hidden = self.activation(dense(self.width, kernel_init=self.kernel_init, name="hidden")(x))
        if self.gated:
            hidden *= dense(self.width, kernel_init=self.kernel_init, name="gate")(x)
        hidden = nn.Dropout(self.dropout, deterministic=not context.train)(hidden)
        return dense(x.shape[-1], kernel_init=self.out_init, name="out")(hidden), None
