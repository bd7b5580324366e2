"""The Transformer of "Attention Is All You Need" (Vaswani et al. 2017, arXiv 1706.03762), encoder and decoder.

Every row of the paper's table 3 is a few fields: A heads, key_width and value_width; B key_width; C depth, width,
key_width, value_width and mlp_width; D dropout (and the task's label smoothing); E positions.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float, Int

from arch.layers.attention import CrossAttention, SelfAttention
from arch.layers.decoder import Cache, check_context
from arch.layers.dense import Dense, matmul
from arch.layers.feedforward import FeedForward
from arch.layers.mixer import Context
from arch.layers.norm import Norm, layer_norm
from arch.layers.positions import Positions, Sinusoids, common_positions
from arch.layers.trunk import Block, Sublayer, Trunk

# Shapes: batch; source_length; length (of the target); width (of the model); classes (of the target's vocabulary)

CROSS = "cross_attention"


class Memory(NamedTuple):
    """The outputs of the encoder, which the decoder attends to, and a mask that is true at their real positions."""

    x: Float[Array, "batch positions width"]
    mask: Bool[Array, "batch positions"]


class EncoderDecoder(nn.Module):
    """Base class: a Transformer that writes a text about a memory, the output of its encoder. It generates
    (`layers.decoder`).

    A subclass encodes its inputs with `self.encoder`.

    Attributes:
        num_classes: the number of tokens of the text.
        depth, decoder_depth: blocks of the encoder and of the decoder; None: as many as the encoder has.
        key_width, value_width: d_k and d_v of each head; None: width / heads.
        mlp_width: d_ff.
        order: of norm and residual branch. The paper has "post"; "pre" needs no warm-up (arXiv 2002.04745), and has one
            more norm after the last block.
        tied: the head's weights are the embedding.
        scale_embedding: multiplies embeddings by sqrt(width).
        head_bias: whether the head has a bias.
        positions: a class of `layers.positions`; relative ones act in self-attention alone.
        dropout: rate of residual branches.
        embedding_dropout: rate of the sums of embeddings and positions; None: dropout.
        attention_dropout, activation_dropout: of attention weights and of the hidden layers (tensor2tensor's; 0 in the
            paper's text).
        mixer: another sublayer (`layers.mixer`) instead of the encoder's self-attention.
        context: the longest text, in tokens; None: any length.
        bos_id: the token that every text begins with.
        drop_path, remat, scan: as in `layers.trunk.Trunk`.
    """

    num_classes: int = 37_000
    depth: int = 6
    decoder_depth: int | None = None
    width: int = 512
    heads: int = 8
    key_width: int | None = None
    value_width: int | None = None
    mlp_width: int = 2048
    positions: Callable[..., Positions] = Sinusoids
    norm: Norm = layer_norm
    activation: Callable[[Array], Array] = nn.relu
    order: Literal["pre", "post"] = "post"
    tied: bool = True
    scale_embedding: bool = True
    head_bias: bool = False
    mixer: Sublayer | None = None
    dropout: float = 0.1
    embedding_dropout: float | None = None
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    drop_path: float = 0.0
    remat: bool = False
    scan: bool = False
    context: int | None = None
    bos_id: int = 1
    dtype: DTypeLike | None = None

    adapt = staticmethod(common_positions)  # a checkpoint may have another context

    def setup(self):
        self.target_embedding = self._embedding(self.num_classes)
        self.target_positions = self._positions()
        self.drop = nn.Dropout(self.dropout if self.embedding_dropout is None else self.embedding_dropout)
        self.encoder = self._trunk(self.depth, {"self_attention": self.mixer or self._self_attention(causal=False)})
        sublayers = {"self_attention": self._self_attention(causal=True)}
        sublayers[CROSS] = partial(CrossAttention, **self._heads)
        self.decoder = self._trunk(self.decoder_depth or self.depth, sublayers)
        init = nn.initializers.normal(self.width**-0.5)
        if not self.tied:
            self.head = Dense(self.num_classes, use_bias=self.head_bias, kernel_init=init)
        elif self.head_bias:
            self.bias = self.param("head_bias", nn.initializers.zeros, (self.num_classes,))

    @nn.nowrap
    def _embedding(self, size: int) -> nn.Embed:
        init = nn.initializers.normal(self.width**-0.5)
        return nn.Embed(size, self.width, dtype=self.dtype, embedding_init=init)

    @nn.nowrap
    def _positions(self) -> Positions:
        return self.positions(length=self.context, dtype=self.dtype)

    @property
    def _heads(self) -> dict[str, Any]:
        widths = {"key_width": self.key_width, "value_width": self.value_width}
        return {"heads": self.heads, **widths, "dropout": self.attention_dropout}

    @nn.nowrap
    def _self_attention(self, *, causal: bool) -> Sublayer:
        return partial(SelfAttention, **self._heads, causal=causal, positions=self.positions)

    @nn.nowrap
    def _trunk(self, depth: int, mixers: dict[str, Sublayer]) -> Trunk:
        """One side of figure 1."""
        feed_forward = partial(FeedForward, self.mlp_width, self.activation, dropout=self.activation_dropout)
        residual = {"norm": self.norm, "order": self.order, "dropout": self.dropout, "dtype": self.dtype}
        block = partial(Block, {**mixers, "feed_forward": feed_forward}, residual)
        options = {"drop_path": self.drop_path, "remat": self.remat, "scan": self.scan, "dtype": self.dtype}
        return Trunk(depth, (block,), self.norm if self.order == "pre" else None, **options)

    def decode(
        self, tokens: Int[Array, "batch length"], cache: Cache
    ) -> tuple[Float[Array, "batch length classes"], Cache]:
        """Returns the logits of the token after each of `tokens`, and the cache."""
        first, mask = cache.state["position"], cache.memory["mask"]
        context = Context(first[:, None] + jnp.arange(tokens.shape[1]), memory_mask=mask)
        blocks = [a | b for a, b in zip(cache.memory["blocks"], cache.state["blocks"], strict=True)]
        logits, blocks = self._decode(tokens, context, blocks)
        return logits, _cache(first + tokens.shape[1], mask, blocks)

    def _all(self, memory: Memory, target: Int[Array, "batch length"], train: bool) -> Array:
        """Returns the logits at every position of `target`."""
        check_context(self.context, 1, target.shape[1])
        context = Context(jnp.arange(target.shape[1])[None], train, memory=memory.x, memory_mask=memory.mask)
        return self._decode(target, context)[0]

    def _start(self, memory: Memory, length: int) -> tuple[Int[Array, " batch"], Cache]:
        """Returns the begin token, and a cache with room for `length` tokens; keys and values of the memory are its
        memory."""
        check_context(self.context, length)
        first = jnp.full((len(memory.x), 1), self.bos_id, jnp.int32)
        positions = jnp.zeros((1, 0), jnp.int32)
        context = Context(positions, memory=memory.x, memory_mask=memory.mask, capacity=length)
        _, blocks = self._decode(first[:, :0], context)  # no token yet
        return first[:, 0], _cache(jnp.zeros(len(first), jnp.int32), memory.mask, blocks)

    def _decode(self, tokens: Int[Array, "batch length"], context: Context, caches: Any = None):
        x = self._embed(self.target_embedding, self.target_positions, tokens, context.positions, context.train)
        x, caches = self.decoder(x, context, caches)
        if not self.tied:
            return self.head(x), caches
        kernel = self.target_embedding.embedding.T.astype(x.dtype)
        logits = matmul(x, kernel, preferred_element_type=jnp.float32)
        return (logits + self.bias if self.head_bias else logits), caches

    def _embed(self, embedding: nn.Embed, positions: Positions, tokens: Array, places: Array, train: bool):
        x = embedding(tokens) * (self.width**0.5 if self.scale_embedding else 1.0)
        return self.drop(positions.embed(x, places), deterministic=not train)


class Transformer(EncoderDecoder):
    """Encoder and decoder; output i predicts token i + 1 of the target.

    The published networks share one embedding among source, target and head (section 3.4), which needs one tokenizer
    for both texts: `tokenize(('source', 'target'), ..., shared=True)`.

    Attributes:
        vocab_size: the number of tokens of the source; `num_classes` is that of the target.
        shared: source and target have one embedding.
        context: also the longest source.
    """

    vocab_size: int = 37_000
    shared: bool = True

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 11, "vocab_size": 11, "depth": 2, "width": 24, "heads": 3, "mlp_width": 48},
        "base": {},
        "big": {"width": 1024, "heads": 16, "mlp_width": 4096, "dropout": 0.3},
        "A 1 head": {"heads": 1, "key_width": 512, "value_width": 512},
        "A 4 heads": {"heads": 4},
        "A 16 heads": {"heads": 16},
        "A 32 heads": {"heads": 32},
        "B 16": {"key_width": 16},
        "B 32": {"key_width": 32},
        "C 2 layers": {"depth": 2},
        "C 4 layers": {"depth": 4},
        "C 8 layers": {"depth": 8},
        "C 256": {"width": 256, "key_width": 32, "value_width": 32},
        "C 1024": {"width": 1024, "key_width": 128, "value_width": 128},
        "C ff 1024": {"mlp_width": 1024},
        "C ff 4096": {"mlp_width": 4096},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {  # with 37,000 tokens; the paper's 65M need about 40,700
        "base": 63_082_496,
        "big": 214_245_376,
        "C 2 layers": "33.7M",
        "C 4 layers": "48.4M",
        "C 8 layers": "77.8M",
        "C 256": "26.8M",
        "C 1024": "163.9M",
        "C ff 1024": "50.5M",
        "C ff 4096": "88.3M",
    }

    def setup(self):
        if self.shared and self.vocab_size != self.num_classes:
            sizes = f"the source has {self.vocab_size} tokens and the target {self.num_classes}"
            raise ValueError(f"{sizes}: they share one embedding only if one tokenizer splits both; else shared=False")
        super().setup()
        self.source_embedding = self.target_embedding if self.shared else self._embedding(self.vocab_size)
        self.source_positions = self._positions()

    def __call__(
        self,
        source: Int[Array, "batch source_length"],
        source_lengths: Int[Array, " batch"],
        target: Int[Array, "batch length"],
        *,
        train: bool,
    ) -> Float[Array, "batch length classes"]:
        """Returns float32 logits at every position of `target`. Padding of source and target changes nothing else."""
        return self._all(self._encode(source, source_lengths, train), target, train)

    def start(
        self, source: Int[Array, "batch source_length"], source_lengths: Int[Array, " batch"], *, length: int
    ) -> tuple[Int[Array, " batch"], Cache]:
        """Returns the begin token, and a cache with room for `length` tokens."""
        return self._start(self._encode(source, source_lengths, train=False), length)

    def _encode(self, source: Int[Array, "batch source_length"], lengths: Int[Array, " batch"], train: bool) -> Memory:
        check_context(self.context, 1, source.shape[1])
        positions = jnp.arange(source.shape[1])[None]
        mask = positions < lengths[:, None]
        x = self._embed(self.source_embedding, self.source_positions, source, positions, train)
        return Memory(self.encoder(x, Context(positions, train, mask=mask))[0], mask)


def _cache(position: Int[Array, " batch"], mask: Array, blocks: list[dict[str, Any]]) -> Cache:
    """Returns the cache of a decoder; keys and values of the source do not change."""
    constant, changing = [], []
    for block in blocks:
        constant.append({CROSS: block[CROSS]})
        changing.append({name: cache for name, cache in block.items() if name != CROSS})
    return Cache({"mask": mask, "blocks": constant}, {"position": position, "blocks": changing})
