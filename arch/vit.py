"""The Vision Transformer (Dosovitskiy et al. 2020, "An Image is Worth 16x16 Words", arXiv 2010.11929)."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from arch.layers.attention import CrossAttention, SelfAttention
from arch.layers.feedforward import FeedForward, gelu_tanh
from arch.layers.grids import LearnedGrid, SinusoidGrid, bicubic_antialias
from arch.layers.mixer import Context
from arch.layers.norm import Norm, layer_norm
from arch.layers.patches import PatchNetwork
from arch.layers.positions import Positions
from arch.layers.trunk import Sublayer

# Shapes: batch; cells (patches); tokens (patches and the class token); width (of the model)


class AttentionPool(nn.Module):
    """Attention to all tokens, whose one query is learned, and a feed-forward layer (Zhai et al. 2021, arXiv
    2106.04560, section 3.2)."""

    heads: int
    feed_forward: Sublayer
    norm: Norm
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch tokens width"], mask: Bool[Array, "batch tokens"] | None, train: bool
    ) -> Float[Array, "batch width"]:
        query = self.param("query", nn.initializers.xavier_uniform(), (1, 1, x.shape[-1])).astype(x.dtype)
        context = Context(jnp.zeros((1, 1), jnp.int32), train, memory=x, memory_mask=mask)
        attention = CrossAttention(self.heads, dtype=self.dtype, name="attention")
        y, _ = attention(jnp.broadcast_to(query, (len(x), 1, x.shape[-1])), context)
        hidden = self.norm(train=train, dtype=self.dtype, name="norm")(y)
        return (y + self.feed_forward(dtype=self.dtype, name="feed_forward")(hidden, context)[0])[:, 0]


class ViT(PatchNetwork):
    """A Transformer encoder over patches, and a head on one vector: the class token's (section 3.1, eq. 1-4), the mean
    of the patches (appendix D.3), or attention to them.

    Attributes:
        mlp_width: of the feed-forward layers; None: 4 width.
        pool: "token", "mean", or "map" (`AttentionPool`).
        positions: a class of `layers.grids` or of `layers.positions`.
        resampling: `zoom`, `bicubic` or `bicubic_antialias` of `layers.grids`: how learned positions change when
            `init_from` meets another number of patches (section 3.2).
        head_width: of a dense layer with tanh before the head, as in pre-training (section 3.1); None: without.
        mixer: another sublayer (`layers.mixer`) instead of attention.
        activation: the original code has `gelu_tanh`, ports to PyTorch have `gelu_exact`.
        dropout: rate of embeddings, hidden layers and residual branches. attention_dropout: of attention weights.
    """

    heads: int = 12
    mlp_width: int | None = None
    pool: Literal["token", "mean", "map"] = "token"
    positions: Callable[..., Positions] = LearnedGrid
    resampling: Callable[[np.ndarray, tuple[int, ...]], np.ndarray] = bicubic_antialias
    head_width: int | None = None
    mixer: Sublayer | None = None
    activation: Callable[[Array], Array] = gelu_tanh
    norm: Norm = partial(layer_norm, epsilon=1e-6)
    qkv_bias: bool = True
    qk_norm: Norm | None = None
    attention_dropout: float = 0.0

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "patch": (4, 4), "depth": 2, "width": 12, "heads": 3, "dropout": 0.1}
        | {"head_init": nn.initializers.lecun_normal()},
        "Ti/16": {"width": 192, "heads": 3},
        "S/32": {"width": 384, "heads": 6, "patch": (32, 32)},
        "S/16": {"width": 384, "heads": 6},
        "B/32": {"patch": (32, 32)},
        "B/16": {},
        "L/32": {"depth": 24, "width": 1024, "heads": 16, "patch": (32, 32)},
        "L/16": {"depth": 24, "width": 1024, "heads": 16},
        "H/14": {"depth": 32, "width": 1280, "heads": 16, "patch": (14, 14)},
        "Simple S/16": {"width": 384, "heads": 6, "pool": "mean", "positions": SinusoidGrid},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {  # timm's; Simple ViT: arXiv 2205.01580
        "Ti/16": 5_717_416,
        "S/32": 22_878_952,
        "S/16": 22_050_664,
        "B/32": 88_224_232,
        "B/16": 86_567_656,
        "L/32": 306_535_400,
        "L/16": 304_326_632,
        "H/14": 632_045_800,
        "Simple S/16": 21_974_632,
    }

    def setup(self):
        super().setup()
        if self.pool == "map":
            self.attention_pool = AttentionPool(self.heads, self._feed_forward(), self.norm, self.dtype)
        if self.head_width is not None:
            self.head_hidden = nn.Dense(self.head_width, dtype=self.dtype)

    @nn.nowrap
    def sublayers(self, grid: tuple[int, ...]) -> dict[str, Sublayer]:
        """Figure 1 (right)."""
        attention = partial(
            SelfAttention,
            self.heads,
            bias=self.qkv_bias,
            qk_norm=self.qk_norm,
            dropout=self.attention_dropout,
            positions=partial(self.positions, grid=grid),
        )
        return {"attention": self.mixer or attention, "feed_forward": self._feed_forward()}

    @nn.nowrap
    def _feed_forward(self) -> Sublayer:
        return partial(FeedForward, self.mlp_width or 4 * self.width, self.activation, dropout=self.dropout)

    def placed(
        self, x: Float[Array, "batch cells width"], grid: tuple[int, ...], train: bool
    ) -> Float[Array, "batch tokens width"]:
        """Equation 1."""
        if self.pool == "token":
            token = self.param("class_token", nn.initializers.zeros, (1, 1, self.width)).astype(x.dtype)
            x = jnp.concatenate([jnp.broadcast_to(token, (len(x), 1, self.width)), x], axis=1)
        count = x.shape[1]
        x = self.positions(length=count, grid=grid, dtype=self.dtype, name="positions").embed(
            x, jnp.arange(count)[None]
        )
        return nn.Dropout(self.dropout, deterministic=not train)(x)

    def pooled(
        self, x: Float[Array, "batch tokens width"], mask: Bool[Array, "batch tokens"] | None, train: bool
    ) -> Float[Array, "batch _"]:
        if self.pool == "mean":
            x = super().pooled(x, mask, train)
        else:
            x = x[:, 0] if self.pool == "token" else self.attention_pool(x, mask, train)
        x = x if self.head_width is None else jnp.tanh(self.head_hidden(x))
        return x.astype(jnp.float32)

    @nn.nowrap
    def adapt(self, path: str, old: np.ndarray | Array, new: Array) -> np.ndarray | None:
        """Returns learned positions [*old grid, width] on the grid of `new`; None for another parameter."""
        if path.split("/")[-2:] != ["positions", "embedding"] or old.ndim != new.ndim or old.shape[-1] != new.shape[-1]:
            return None
        return self.resampling(np.asarray(old), new.shape[:-1])
