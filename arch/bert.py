"""BERT: a Transformer encoder that reads texts in both directions, and its relatives RoBERTa and DistilBERT.

Sources: Devlin et al. 2019, arXiv 1810.04805; Turc et al. 2019, arXiv 1908.08962 (the sizes from tiny to medium); Liu
et al. 2019, arXiv 1907.11692 (RoBERTa); Sanh et al. 2019, arXiv 1910.01108 (DistilBERT).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.attention import SelfAttention
from arch.layers.decoder import check_context
from arch.layers.dense import Dense, matmul
from arch.layers.feedforward import FeedForward, gelu_exact
from arch.layers.mixer import Context
from arch.layers.norm import Norm, layer_norm
from arch.layers.positions import Learned, Positions, common_positions
from arch.layers.trunk import Block, Sublayer, Trunk

# Shapes: batch; length (in tokens); choices; rows (batch times choices); places (of tokens that are predicted); width
# (of the model); classes; tokens (of the vocabulary)

Hidden = Float[Array, "rows length width"]
Places = Int[Array, "rows places"] | None
INIT = nn.initializers.normal(0.02)  # of all kernels and embeddings (the code of the paper)


class _Head(nn.Module):
    """The layers after the trunk. `BERT` fills in the fields; a recipe may name `pooling`.

    Attributes:
        pooling: what stands for a text: its "first" token, [CLS], or the "mean" of its tokens.
        activation: of the pooled text.
        token_activation, norm: of the layer before the logits of tokens.
        dropout: rate before the last layer.
    """

    num_classes: int = 2
    pooling: Literal["first", "mean"] = "first"
    activation: Callable[[Array], Array] = nn.tanh
    token_activation: Callable[[Array], Array] = gelu_exact
    norm: Norm = layer_norm
    dropout: float = 0.1
    dtype: DTypeLike | None = None

    def pool(self, x: Hidden, context: Context) -> Float[Array, "rows width"]:
        """Returns the text's vector after a dense layer (the "pooler"), and dropout."""
        if self.pooling == "first":
            pooled = x[:, 0]
        else:
            mask = jnp.ones(x.shape[:2]) if context.mask is None else context.mask
            weights = mask / jnp.maximum(mask.sum(1, keepdims=True), 1)
            pooled = jnp.einsum("rtw,rt->rw", x, weights.astype(x.dtype))
        pooled = self.activation(Dense(x.shape[-1], dtype=self.dtype, kernel_init=INIT, name="pooler")(pooled))
        return nn.Dropout(self.dropout, deterministic=not context.train)(pooled)

    def tokens(self, x: Hidden, table: Array, context: Context, places: Places) -> Float[Array, "rows scored tokens"]:
        """Returns the logits of the token at each position, or at `places` alone, which saves most of the work. The
        last layer is `table` [tokens, width], the embedding, with a bias of its own."""
        x = x if places is None else jnp.take_along_axis(x, places[..., None], axis=1)
        x = self.token_activation(Dense(x.shape[-1], dtype=self.dtype, kernel_init=INIT, name="transform")(x))
        x = self.norm(train=context.train, dtype=self.dtype, name="transform_norm")(x)
        bias = self.param("head_bias", nn.initializers.zeros, (len(table),))
        return matmul(x, table.T.astype(x.dtype), preferred_element_type=jnp.float32) + bias

    def classes(self, x: Float[Array, "*rows width"], size: int, name: str = "head") -> Float[Array, "*rows classes"]:
        """Returns float32 logits of classes."""
        return Dense(size, kernel_init=INIT, name=name)(x)


class Pooler(_Head):
    """The vector of the text."""

    @nn.compact
    def __call__(self, x: Hidden, table: Array, context: Context, places: Places) -> Float[Array, "rows width"]:
        return self.pool(x, context)


class MaskedTokens(_Head):
    """Logits of tokens, for masked language models (section 3.1, task 1)."""

    @nn.compact
    def __call__(self, x: Hidden, table: Array, context: Context, places: Places) -> Float[Array, "rows scored tokens"]:
        return self.tokens(x, table, context, places)


class Pretraining(_Head):
    """Logits of tokens, and whether the second text follows the first (section 3.1, tasks 1 and 2)."""

    @nn.compact
    def __call__(self, x: Hidden, table: Array, context: Context, places: Places) -> dict[str, Array]:
        """Returns "masked" [rows, scored, tokens] and "follows" [rows, 2]; class 0 means that it follows."""
        tokens = self.tokens(x, table, context, places)
        return {"masked": tokens, "follows": self.classes(self.pool(x, context), 2, "head_next")}


class TextClassifier(_Head):
    """Logits of classes of a text, or of a pair of texts (section 4.1)."""

    @nn.compact
    def __call__(self, x: Hidden, table: Array, context: Context, places: Places) -> Float[Array, "rows classes"]:
        return self.classes(self.pool(x, context), self.num_classes)


class TokenClassifier(_Head):
    """Logits of classes of each token, such as its tag (section 5.3)."""

    @nn.compact
    def __call__(
        self, x: Hidden, table: Array, context: Context, places: Places
    ) -> Float[Array, "rows length classes"]:
        return self.classes(nn.Dropout(self.dropout, deterministic=not context.train)(x), self.num_classes)


class AnswerSpan(_Head):
    """Scores of each token as the first and as the last one of an answer (section 4.2)."""

    @nn.compact
    def __call__(self, x: Hidden, table: Array, context: Context, places: Places) -> Float[Array, "rows length 2"]:
        return self.classes(nn.Dropout(self.dropout, deterministic=not context.train)(x), 2, "head_span")


class MultipleChoice(_Head):
    """A score per text, as a class of the choices that an example has (section 4.4)."""

    @nn.compact
    def __call__(self, x: Hidden, table: Array, context: Context, places: Places) -> Float[Array, "rows 1"]:
        return self.classes(self.pool(x, context), 1)


class BERT(nn.Module):
    """An encoder of texts, and a head.

    Attributes:
        num_classes: of the head.
        vocab_size: tokens of the input.
        head: one of this file's heads with its fields, such as `bert.TextClassifier(pooling="mean")`.
        segments: kinds of segments, which have an embedding; 0: without (DistilBERT).
        context: the longest text, in tokens.
        mlp_width: of the feed-forward layers; None: 4 width.
        positions: a class of `layers.positions`.
        pooled_activation: of the pooled text: tanh in BERT and RoBERTa, relu in DistilBERT.
        order: of norm and residual branch, "post" in the paper. "pre" trains deep networks without a warm-up.
        mixer, feed_forward: other sublayers (`layers.mixer`) instead of attention and `FeedForward`.
        dropout: rate of embeddings, residual branches and the head.
        attention_dropout: rate of attention weights; None: `dropout`.
        head_dropout: rate before the last layer; None: `dropout`.
        drop_path, remat, scan: as in `layers.trunk.Trunk`.
    """

    num_classes: int = 2
    vocab_size: int = 30_522
    head: Callable[..., nn.Module] = Pretraining
    segments: int = 2
    context: int = 512
    depth: int = 12
    width: int = 768
    heads: int = 12
    mlp_width: int | None = None
    positions: Callable[..., Positions] = Learned
    norm: Norm = partial(layer_norm, epsilon=1e-12)
    activation: Callable[[Array], Array] = gelu_exact
    pooled_activation: Callable[[Array], Array] = nn.tanh
    order: Literal["pre", "post"] = "post"
    mixer: Sublayer | None = None
    feed_forward: Sublayer | None = None
    dropout: float = 0.1
    attention_dropout: float | None = None
    head_dropout: float | None = None
    drop_path: float = 0.0
    remat: bool = False
    scan: bool = False
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "vocab_size": 11, "head": TextClassifier, "context": 16}
        | {"depth": 2, "width": 12, "heads": 3},
        "tiny": {"depth": 2, "width": 128, "heads": 2},
        "mini": {"depth": 4, "width": 256, "heads": 4},
        "small": {"depth": 4, "width": 512, "heads": 8},
        "medium": {"depth": 8, "width": 512, "heads": 8},
        "base": {},
        "large": {"depth": 24, "width": 1024, "heads": 16},
        "base cased": {"vocab_size": 28_996},
        "large cased": {"vocab_size": 28_996, "depth": 24, "width": 1024, "heads": 16},
        "RoBERTa base": {"vocab_size": 50_265, "segments": 1, "head": MaskedTokens}
        | {"norm": partial(layer_norm, epsilon=1e-5)},
        "DistilBERT": {"segments": 0, "depth": 6, "head": MaskedTokens, "pooled_activation": nn.relu},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "base": 110_106_428,
        "RoBERTa base": "125M",
        "DistilBERT": "67M",
    }

    adapt = staticmethod(common_positions)  # a checkpoint may have another context

    def setup(self):
        embed = partial(nn.Embed, features=self.width, dtype=self.dtype, embedding_init=INIT)
        self.embedding = embed(self.vocab_size)
        self.position_embedding = self.positions(length=self.context, dtype=self.dtype)
        if self.segments:
            self.segment_embedding = embed(self.segments)
        self.embedding_norm = self.norm(train=False, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout)
        options = {"drop_path": self.drop_path, "remat": self.remat, "scan": self.scan, "dtype": self.dtype}
        self.trunk = Trunk(self.depth, (self._block(),), self.norm if self.order == "pre" else None, **options)
        dropout = self.dropout if self.head_dropout is None else self.head_dropout
        activations = {"activation": self.pooled_activation, "token_activation": self.activation}
        fields = {"norm": self.norm, "dropout": dropout, "dtype": self.dtype}
        self.output = self.head(num_classes=self.num_classes, **activations, **fields)

    @nn.nowrap
    def _block(self) -> Callable[..., Block]:
        dropout = self.dropout if self.attention_dropout is None else self.attention_dropout
        init = {"kernel_init": INIT, "out_init": INIT}
        attention = partial(SelfAttention, self.heads, dropout=dropout, positions=self.positions, **init)
        feed_forward = partial(FeedForward, self.mlp_width or 4 * self.width, self.activation, **init)
        sublayers = {"attention": self.mixer or attention, "feed_forward": self.feed_forward or feed_forward}
        residual = {"norm": self.norm, "order": self.order, "dropout": self.dropout, "dtype": self.dtype}
        return partial(Block, sublayers, residual)

    def __call__(
        self,
        tokens: Int[Array, "batch length"] | Int[Array, "batch choices length"],
        lengths: Int[Array, " batch"] | Int[Array, "batch choices"] | None = None,
        segments: Int[Array, "batch length"] | Int[Array, "batch choices length"] | None = None,
        places: Int[Array, "batch places"] | None = None,
        *,
        train: bool,
    ) -> Any:
        """Returns the head's float32 outputs. Padding, behind `lengths`, changes nothing else.

        Args:
            tokens: texts, or for each example several, from which a head like `MultipleChoice` chooses.
            lengths: number of each text's tokens; None: all are real.
            segments: the text of a pair to which each token belongs, 0 or 1; None: all are 0, as with one segment.
            places: positions whose tokens the head predicts; None: all.
        """
        choices = tokens.shape[1:-1]
        if choices:
            tokens = tokens.reshape(-1, tokens.shape[-1])
            lengths = None if lengths is None else lengths.reshape(-1)
            segments = None if segments is None else segments.reshape(tokens.shape)
        positions = jnp.arange(tokens.shape[1])[None]
        context = Context(positions, train, mask=None if lengths is None else positions < lengths[:, None])
        x = self.encode(tokens, segments, context)
        outputs = self.output(x, self.embedding.embedding, context, places)
        return outputs.reshape(-1, *choices) if choices else outputs

    def encode(
        self, tokens: Int[Array, "rows length"], segments: Int[Array, "rows length"] | None, context: Context
    ) -> Hidden:
        """Returns the vectors of the tokens after the last block."""
        check_context(self.context, 1, tokens.shape[1])
        x = self.position_embedding.embed(self.embedding(tokens), context.positions)
        if self.segments:
            is_first = segments is None or self.segments == 1
            x += self.segment_embedding(jnp.zeros_like(tokens) if is_first else segments)
        x = self.drop(self.embedding_norm(x), deterministic=not context.train)
        return self.trunk(x, context)[0]
