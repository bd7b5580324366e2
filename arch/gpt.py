"""The GPT family: decoders of one running text.

The variants of `GPT` are GPT-1 (Radford et al. 2018), GPT-2 (Radford et al. 2019), GPT-3 (Brown et al. 2020, arXiv
2005.14165), nanoGPT's versions of GPT-2, and the modern block (RMSNorm, rotary positions, SwiGLU, grouped queries) with
the sizes of Llama (Touvron et al. 2023, arXiv 2307.09288; arXiv 2407.21783) and Qwen (arXiv 2412.15115, 2505.09388).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.attention import SelfAttention
from arch.layers.decoder import Cache, check_context
from arch.layers.dense import matmul
from arch.layers.feedforward import FeedForward, gelu_exact, gelu_tanh
from arch.layers.mixer import Context
from arch.layers.norm import Norm, layer_norm, rms_norm
from arch.layers.positions import Learned, Positions, Rotary, common_positions
from arch.layers.trunk import Block, Sublayer, Trunk

# Shapes: batch; length (in tokens); width (of the model); classes (tokens of the vocabulary)

LLAMA: dict[str, Any] = {
    "norm": partial(rms_norm, epsilon=1e-5),
    "positions": Rotary,
    "activation": nn.silu,
    "gated": True,
    "bias": False,
    "tied": False,
    "dropout": 0.0,
    "context": 4096,
}
NANOGPT: dict[str, Any] = {
    "norm": partial(layer_norm, epsilon=1e-5, bias=False),
    "activation": gelu_exact,
    "bias": False,
    "dropout": 0.0,
}
QWEN: dict[str, Any] = LLAMA | {"norm": partial(rms_norm, epsilon=1e-6), "positions": partial(Rotary, base=1e6)}


def _size(depth: int, width: int, heads: int, **fields: Any) -> dict[str, Any]:
    return {"depth": depth, "width": width, "heads": heads, **fields}


def _vocabulary(size: int) -> dict[str, int]:
    return {"num_classes": size, "vocab_size": size}


def _gpt3(depth: int, width: int, heads: int, **fields: Any) -> dict[str, Any]:
    """Dense and locally banded attention take turns (section 2.1; the width of the band is not published)."""
    return _size(depth, width, heads, context=2048, windows=(None, 256), dropout=0.0, **fields)


class GPT(nn.Module):
    """A Transformer decoder; output i predicts token i + 1. It generates (`layers.decoder`).

    The published networks have kernels of standard deviation 0.02, those at the end of a residual branch of
    0.02 / sqrt(2 depth) (GPT-2, section 2.3).

    Attributes:
        num_classes, vocab_size: tokens of the output and of the input.
        pad_vocabulary: embedding and head have a multiple of this number of rows, which is faster on GPUs; the
            additional ones have no logits.
        context: the longest text, in tokens.
        kv_heads, head_width: as `kv_heads` and `key_width` of `layers.attention.SelfAttention`.
        mlp_width: of the feed-forward layers; None: 4 width.
        windows: tokens that attention sees, for each kind of block; the kinds take turns.
        positions: a class of `layers.positions`.
        activation, gated: of the feed-forward layers.
        order: of norm and residual branch, "pre" or "post" (GPT-1).
        bias, qkv_bias: of all dense layers; of queries, keys and values alone, where None is `bias`.
        tied: the head's weights are the embedding.
        mixer, feed_forward: other sublayers (`layers.mixer`) instead of attention and `FeedForward`.
        dropout: rate of embeddings, attention weights and residual branches.
        embedding_dropout, attention_dropout: of embeddings and of attention weights alone, where None is `dropout`.
        drop_path, remat, scan: as in `layers.trunk.Trunk`.
    """

    num_classes: int = 50_257
    vocab_size: int = 50_257
    pad_vocabulary: int = 1
    context: int = 1024
    depth: int = 12
    width: int = 768
    heads: int = 12
    kv_heads: int | None = None
    head_width: int | None = None
    mlp_width: int | None = None
    windows: tuple[int | None, ...] = (None,)
    positions: Callable[..., Positions] = Learned
    norm: Norm = partial(layer_norm, epsilon=1e-5)
    qk_norm: Norm | None = None
    activation: Callable[[Array], Array] = gelu_tanh
    gated: bool = False
    order: Literal["pre", "post"] = "pre"
    bias: bool = True
    qkv_bias: bool | None = None
    tied: bool = True
    mixer: Sublayer | None = None
    feed_forward: Sublayer | None = None
    dropout: float = 0.1
    embedding_dropout: float | None = None
    attention_dropout: float | None = None
    drop_path: float = 0.0
    remat: bool = False
    scan: bool = False
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": _vocabulary(11) | _size(2, 12, 3, context=16, windows=(None, 4)),
        "modern test": _vocabulary(11) | LLAMA | _size(2, 12, 3, context=16, kv_heads=1, mlp_width=20),
        "GPT-1": _vocabulary(40_478) | {"context": 512, "order": "post"},
        "GPT-2": {},
        "GPT-2 medium": _size(24, 1024, 16),
        "GPT-2 large": _size(36, 1280, 20),
        "GPT-2 XL": _size(48, 1600, 25),
        "nanoGPT": NANOGPT | {"pad_vocabulary": 64},
        "nanoGPT character": NANOGPT | _size(6, 384, 6, context=256, dropout=0.2),
        "nanoGPT CPU": NANOGPT | _size(4, 128, 4, context=64),
        "GPT-3 small": _gpt3(12, 768, 12),
        "GPT-3 medium": _gpt3(24, 1024, 16),
        "GPT-3 large": _gpt3(24, 1536, 16),
        "GPT-3 XL": _gpt3(24, 2048, 16),
        "GPT-3 XL as printed": _gpt3(24, 2048, 24, head_width=128),
        "GPT-3 2.7B": _gpt3(32, 2560, 32),
        "GPT-3 6.7B": _gpt3(32, 4096, 32),
        "GPT-3 13B": _gpt3(40, 5120, 40),
        "GPT-3 13B as printed": _gpt3(40, 5140, 40, head_width=128),
        "GPT-3 175B": _gpt3(96, 12_288, 96),
        "Llama-2 7B": _vocabulary(32_000) | LLAMA | _size(32, 4096, 32, mlp_width=11_008),
        "Llama-3 8B": _vocabulary(128_256)
        | LLAMA
        | _size(32, 4096, 32, kv_heads=8, mlp_width=14_336, context=8192, positions=partial(Rotary, base=5e5)),
        "Qwen2.5 0.5B": _vocabulary(151_936)
        | QWEN
        | _size(24, 896, 14, kv_heads=2, mlp_width=4864, context=32_768, qkv_bias=True, tied=True),
        "Qwen3 0.6B": _vocabulary(151_936)
        | QWEN
        | _size(28, 1024, 16, kv_heads=8, head_width=128, mlp_width=3072, context=40_960, tied=True)
        | {"qk_norm": partial(rms_norm, epsilon=1e-6)},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {
        "GPT-1": 116_534_784,
        "GPT-2": 124_439_808,
        "GPT-2 medium": 354_823_168,
        "GPT-2 large": 774_030_080,
        "GPT-2 XL": 1_557_611_200,
        "nanoGPT": 124_373_760,
        "GPT-3 small": 125_226_240,
        "GPT-3 medium": 355_871_744,
        "GPT-3 large": 760_300_032,
        "GPT-3 XL": 1_315_723_264,
        "GPT-3 XL as printed": 1_517_123_584,
        "GPT-3 2.7B": 2_651_553_280,
        "GPT-3 6.7B": 6_658_404_352,
        "GPT-3 13B": 12_853_386_240,
        "GPT-3 13B as printed": 12_936_488_380,
        "GPT-3 175B": 174_604_259_328,
        "Llama-2 7B": 6_738_415_616,
        "Llama-3 8B": 8_030_261_248,
        "Qwen2.5 0.5B": 494_032_768,
        "Qwen3 0.6B": 596_049_920,
    }

    adapt = staticmethod(common_positions)  # a checkpoint may have another context

    def setup(self):
        rows = -(-self.vocab_size // self.pad_vocabulary) * self.pad_vocabulary
        self.embedding = nn.Embed(rows, self.width, dtype=self.dtype, embedding_init=nn.initializers.normal(0.02))
        self.position_embedding = self.positions(length=self.context, dtype=self.dtype)
        self.drop = nn.Dropout(self.dropout if self.embedding_dropout is None else self.embedding_dropout)
        last_norm = self.norm if self.order == "pre" else None
        blocks = tuple(self._block(window) for window in self.windows)
        options = {"drop_path": self.drop_path, "remat": self.remat, "scan": self.scan, "dtype": self.dtype}
        self.trunk = Trunk(self.depth, blocks, last_norm, **options)
        if not self.tied:
            rows = -(-self.num_classes // self.pad_vocabulary) * self.pad_vocabulary
            self.head = self.param("head_kernel", nn.initializers.normal(0.02), (self.width, rows))

    @nn.nowrap
    def _block(self, window: int | None) -> Callable[..., Block]:
        """Figure 1 (left) of the paper of GPT-1, and section 2.3 of that of GPT-2 for the order of the norms."""
        init = {"kernel_init": nn.initializers.normal(0.02)}
        init |= {"out_init": nn.initializers.normal(0.02 / (2 * self.depth) ** 0.5)}
        attention = partial(
            SelfAttention,
            self.heads,
            self.kv_heads,
            self.head_width,
            self.head_width,
            bias=self.bias if self.qkv_bias is None else self.qkv_bias,
            out_bias=self.bias,
            qk_norm=self.qk_norm,
            dropout=self.dropout if self.attention_dropout is None else self.attention_dropout,
            causal=True,
            window=window,
            positions=self.positions,
            **init,
        )
        width = self.mlp_width or 4 * self.width
        feed_forward = partial(FeedForward, width, self.activation, self.gated, self.bias, **init)
        sublayers = {"attention": self.mixer or attention, "feed_forward": self.feed_forward or feed_forward}
        residual = {"norm": self.norm, "order": self.order, "dropout": self.dropout, "dtype": self.dtype}
        return partial(Block, sublayers, residual)

    def __call__(
        self, inputs: Int[Array, "batch length"], segments: Int[Array, "batch length"] | None = None, *, train: bool
    ) -> Float[Array, "batch length classes"]:
        """Returns float32 logits. With `segments`, the number of each token's text, rows hold several texts, which do
        not see each other; positions count within a text.
        """
        check_context(self.context, 1, inputs.shape[1])
        positions = jnp.arange(inputs.shape[1])[None]
        if segments is not None:
            starts = jnp.diff(segments, axis=1, prepend=-2) != 0
            positions = positions - lax.cummax(jnp.where(starts, positions, 0), axis=1)
        return self._read(inputs, Context(positions, train, segments=segments, causal=True))[0]

    def start(
        self, inputs: Int[Array, "batch length"], lengths: Int[Array, " batch"], *, length: int
    ) -> tuple[Int[Array, " batch"], Cache]:
        """Returns each prompt's last token, and the cache of those before it with room for `length` more.

        Raises:
            UserError: the prompt and `length` exceed `context`.
        """
        check_context(self.context, length, inputs.shape[1])
        before = jnp.maximum(lengths - 1, 0)
        positions, capacity = jnp.arange(inputs.shape[1])[None], inputs.shape[1] + length - 1
        _, blocks = self._read(inputs, Context(positions, capacity=capacity, lengths=before, causal=True))
        last = jnp.take_along_axis(inputs, before[:, None], axis=1)[:, 0]
        return last, Cache(state={"position": before, "blocks": blocks})

    def decode(
        self, tokens: Int[Array, "batch length"], cache: Cache
    ) -> tuple[Float[Array, "batch length classes"], Cache]:
        """Returns the logits of the token after each of `tokens`, and the cache."""
        first = cache.state["position"]
        context = Context(first[:, None] + jnp.arange(tokens.shape[1]), causal=True)
        logits, blocks = self._read(tokens, context, cache.state["blocks"])
        return logits, cache.replace(state={"position": first + tokens.shape[1], "blocks": blocks})

    def _read(self, tokens: Int[Array, "batch length"], context: Context, caches: Any = None):
        x = self.position_embedding.embed(self.embedding(tokens), context.positions)
        x, caches = self.trunk(self.drop(x, deterministic=not context.train), context, caches)
        kernel = self.embedding.embedding.T if self.tied else self.head
        logits = matmul(x, kernel.astype(x.dtype), preferred_element_type=jnp.float32)
        return logits[..., : self.num_classes], caches
