"""Temporal convolutional networks (Bai, Kolter & Koltun 2018, arXiv 1803.01271): one output per sequence or position.

Each output sees 1 + 2 (size - 1) (sum of the dilations) inputs: a block has two convolutions.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer, normal, variance_scaling
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt8

from arch.layers.causal import CausalConv
from arch.layers.decoder import Cache
from arch.layers.mixer import Cached, Context

# b: batch, t: positions, c: input channels, f: features of a block; batch, length, features (of the inputs), width (of
# the last block), classes

Sequences = Float[Array, "batch length features"] | UInt8[Array, "batch length features"] | Int[Array, "batch length"]


class TemporalBlock(nn.Module):
    """activation(x + branch(x)), where the branch is twice a causal convolution, activation and dropout (figure 1b).

    A 1x1 convolution changes the width of x where the branch has another. A row has one text: no `context.segments`.

    Attributes:
        features: of both convolutions; None: those of the input.
        spatial: dropout drops whole channels, as in section 3.3 and the published code up to April 2018; otherwise
            single values, as in the code from then on.
        kernel_init: uniform within 1 / sqrt(fan in), PyTorch's default. The N(0, 0.01) of the published code has no
            effect, as it precedes weight normalisation.
    """

    features: int | None = None
    size: int = 7
    dilation: int = 1
    dropout: float = 0.0
    spatial: bool = True
    weight_norm: bool = True
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = variance_scaling(1 / 3, "fan_in", "uniform")
    dtype: DTypeLike | None = None

    causal: ClassVar[bool] = True

    @nn.compact
    def __call__(self, x: Float[Array, "b t c"], context: Context, cache: Any = None) -> Cached:
        features, y, queues = self.features or x.shape[-1], x, []
        for i in (0, 1):
            conv = CausalConv(
                features, self.size, self.dilation, self.weight_norm, self.kernel_init, self.dtype, name=f"conv{i + 1}"
            )
            y, queue = conv(y, context, cache and cache[i])
            dropout = nn.Dropout(self.dropout, broadcast_dims=(1,) if self.spatial else ())
            y = dropout(self.activation(y), deterministic=not context.train)
            queues.append(queue)
        if x.shape[-1] != features:
            x = nn.Dense(features, dtype=self.dtype, kernel_init=normal(0.01), name="shortcut")(x)
        return self.activation(y + x), None if queues[0] is None else tuple(queues)


class _TemporalNetwork(nn.Module):
    """The parts that both networks share: the embedding of tokens, the blocks and the head.

    Attributes:
        vocab_size: number of tokens; inputs are then token ids. None: inputs are numbers, [b, t] as one channel.
        embedding_width: of a token; None: the width of the first block.
        widths: features of each block; block i has the dilation 2^i.
        size, spatial, weight_norm, activation: as in `TemporalBlock`.
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (25,) * 8
    size: int = 7
    vocab_size: int | None = None
    embedding_width: int | None = None
    dropout: float = 0.0
    spatial: bool = True
    weight_norm: bool = True
    activation: Callable[[Array], Array] = nn.relu
    dtype: DTypeLike | None = None

    def setup(self):
        if self.vocab_size is not None:
            width = self.embedding_width or self.widths[0]
            self.embedding = nn.Embed(self.vocab_size, width, dtype=self.dtype, embedding_init=normal(0.1))
        options = {"size": self.size, "dropout": self.dropout, "spatial": self.spatial, "dtype": self.dtype}
        options |= {"weight_norm": self.weight_norm, "activation": self.activation}
        self.blocks = [
            TemporalBlock(width, dilation=2**i, name=f"block{i + 1}", **options) for i, width in enumerate(self.widths)
        ]
        self.head = nn.Dense(self.num_classes, kernel_init=normal(0.01))

    @property
    def receptive_field(self) -> int:
        """The number of inputs that an output sees."""
        return 1 + 2 * (self.size - 1) * (2 ** len(self.widths) - 1)

    def features(
        self, inputs: Sequences, context: Context, caches: Any = None
    ) -> tuple[Float[Array, "batch length width"], list[Any]]:
        """Returns the outputs of the last block, and the cache of each block."""
        if self.vocab_size is not None:
            x = self.embedding(inputs)
        else:
            x = (inputs if inputs.ndim == 3 else inputs[..., None]).astype(jnp.float32)
        new = []
        for i, block in enumerate(self.blocks):
            x, cache = block(x, context, caches and caches[i])
            new.append(cache)
        return x, new


class TCNClassifier(_TemporalNetwork):
    """One class or number per sequence, from the last real position. The output is float32."""

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "widths": (8, 8), "size": 2, "dropout": 0.2},
        "adding 600": {"num_classes": 1, "widths": (24,) * 8, "size": 8},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {"adding 600": "70K"}  # table 1
    PUBLISHED_SIZES: ClassVar[dict[str, int]] = {"features": 2}

    def __call__(
        self, inputs: Sequences, lengths: Int[Array, " batch"] | None = None, *, train: bool
    ) -> Float[Array, "batch classes"]:
        x, _ = self.features(inputs, Context(jnp.arange(inputs.shape[1])[None], train))
        if lengths is None:
            return self.head(x[:, -1])
        last = jnp.maximum(lengths - 1, 0)[:, None, None]
        return self.head(jnp.take_along_axis(x, last, axis=1)[:, 0])


class TCN(_TemporalNetwork):
    """One output per position: language models, music, copying. The output is float32.

    A network of tokens generates as a language model (`layers.decoder`).
    """

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 11, "widths": (16, 16), "size": 3, "vocab_size": 11, "dropout": 0.2},
        "JSB": {"num_classes": 88, "widths": (150,) * 2, "size": 3, "dropout": 0.5},
        "Nottingham": {"num_classes": 88, "widths": (150,) * 4, "size": 6, "dropout": 0.2},
        "copy 1000": {"num_classes": 10, "widths": (10,) * 8, "size": 8},
    }
    context: ClassVar[int | None] = None

    def __call__(
        self, inputs: Sequences, lengths: Int[Array, " batch"] | None = None, *, train: bool
    ) -> Float[Array, "batch length classes"]:
        """Returns the outputs; those of padding, after `lengths`, have no meaning."""
        x, _ = self.features(inputs, Context(jnp.arange(inputs.shape[1])[None], train))
        return self.head(x)

    def start(
        self, inputs: Int[Array, "batch length"], lengths: Int[Array, " batch"], *, length: int
    ) -> tuple[Int[Array, " batch"], Cache]:
        """Returns each prompt's last token and the cache before it; queues do not depend on `length`.

        Raises:
            ValueError: the network reads numbers.
        """
        if self.vocab_size is None:
            raise ValueError("only a network of tokens (vocab_size) can generate")
        before = jnp.maximum(lengths - 1, 0)
        context = Context(jnp.arange(inputs.shape[1])[None], capacity=inputs.shape[1] + length - 1, lengths=before)
        _, caches = self.features(inputs, context)
        return jnp.take_along_axis(inputs, before[:, None], axis=1)[:, 0], Cache(state=caches)

    def decode(
        self, tokens: Int[Array, "batch length"], cache: Cache
    ) -> tuple[Float[Array, "batch length classes"], Cache]:
        """Returns the logits of the token after each of `tokens`, and the cache."""
        x, caches = self.features(tokens, Context(jnp.arange(tokens.shape[1])[None]), cache.state)
        return self.head(x), cache.replace(state=caches)
