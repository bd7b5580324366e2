"""FT-Transformer, a Transformer over the columns of a table (Gorishniy et al. 2021, arXiv 2106.11959, section 3.3)."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.attention import SelfAttention
from arch.layers.columns import ColumnEmbedding, symmetric
from arch.layers.feedforward import FeedForward
from arch.layers.mixer import Context
from arch.layers.norm import Norm, identity, layer_norm
from arch.layers.trunk import Block, Sublayer, Trunk

# Shapes: batch; features (numbers that encode the columns); classes (1 for regression)

linear_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # PyTorch's of linear layers


def _default(depth: int, width: int, attention_dropout: float, feed_forward_dropout: float) -> dict[str, Any]:
    """The default of the authors' package for a number of blocks."""
    sizes = {"num_classes": 1, "depth": depth, "width": width, "mlp_width": width * 4 // 3}
    return sizes | {"attention_dropout": attention_dropout, "feed_forward_dropout": feed_forward_dropout}


class FTTransformer(nn.Module):
    """A token per column and a [CLS] token, pre-norm blocks with ReGLU, then norm, relu and head on [CLS].

    The defaults are those of the authors' package with three blocks. As there, weight decay leaves out tokens, [CLS],
    norms and biases: `config.optimizer.decay_mask` names kernels. Biases start at 0, which the package has in attention
    alone. `num_classes=1` is a regression.

    Attributes:
        columns: features of each column, as in `layers.columns.ColumnEmbedding`; filled in from the data.
        mlp_width: of the hidden layer of `FeedForward`.
        first_norm: before attention in the first block; the paper has none there, which is crucial with pre-norm.
        activation, gated: of the feed-forward layers; ReGLU is a gated relu.
        mixer: another sublayer (`layers.mixer`) instead of attention.
        dropout: rate of the residual branches.
        attention_dropout, feed_forward_dropout: of attention weights and of the hidden layers.
    """

    num_classes: int = 10
    columns: tuple[int, ...] = ()
    depth: int = 3
    width: int = 192
    heads: int = 8
    mlp_width: int = 256
    norm: Norm = partial(layer_norm, epsilon=1e-5)
    first_norm: Norm = identity
    activation: Callable[[Array], Array] = nn.relu
    gated: bool = True
    mixer: Sublayer | None = None
    kernel_init: Initializer = linear_init
    dropout: float = 0.0
    attention_dropout: float = 0.2
    feed_forward_dropout: float = 0.1
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "depth": 2, "width": 12, "heads": 3, "mlp_width": 16, "columns": (1, 3, 1, 1)},
        "1 block": _default(1, 96, 0.1, 0.0),
        "2 blocks": _default(2, 128, 0.15, 0.05),
        "3 blocks": _default(3, 192, 0.2, 0.1),
        "4 blocks": _default(4, 256, 0.25, 0.15),
        "5 blocks": _default(5, 320, 0.3, 0.2),
        "6 blocks": _default(6, 384, 0.35, 0.25),
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {  # counted in the authors' package, for a regression
        "1 block": 76_577,
        "2 blocks": 266_921,
        "3 blocks": 894_913,
        "4 blocks": 2_112_681,
        "5 blocks": 4_117_221,
        "6 blocks": 7_111_681,
    }
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"features": 8}

    @nn.compact
    def __call__(self, features: Float[Array, "batch features"], *, train: bool) -> Float[Array, "batch classes"]:
        tokens = ColumnEmbedding(self.width, self.columns, dtype=self.dtype, name="tokens")(features)
        cls = self.param("cls", symmetric(self.width**-0.5), (self.width,)).astype(tokens.dtype)
        x = jnp.concatenate([jnp.broadcast_to(cls, (len(tokens), 1, self.width)), tokens], axis=1)
        first, others = self._block({"attention": self.first_norm}), self._block({})
        trunk = Trunk(self.depth, (first, *(others,) * (self.depth - 1)), norm=None, dtype=self.dtype, name="trunk")
        x, _ = trunk(x, Context(jnp.arange(x.shape[1])[None], train))
        x = nn.relu(self.norm(train=train, dtype=self.dtype, name="norm")(x[:, 0]))
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, name="head")(x)

    @nn.nowrap
    def _block(self, norms: dict[str, Norm]) -> Callable[..., Block]:
        init = {"kernel_init": self.kernel_init, "out_init": self.kernel_init}
        attention = partial(SelfAttention, self.heads, dropout=self.attention_dropout, **init)
        feed_forward = partial(
            FeedForward, self.mlp_width, self.activation, self.gated, dropout=self.feed_forward_dropout, **init
        )
        residual = {"norm": self.norm, "dropout": self.dropout, "dtype": self.dtype}
        return partial(Block, {"attention": self.mixer or attention, "feed_forward": feed_forward}, residual, norms)
