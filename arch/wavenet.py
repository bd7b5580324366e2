"""WaveNet (van den Oord et al. 2016, arXiv 1609.03499): the distribution of each sample of a sound given those before.

Samples are codes, 256 of mu-law coding (`data.preprocess.waves.MuLaw`) in the paper.
"""

from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer, he_normal
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.causal import CausalConv, Queue
from arch.layers.decoder import Cache
from arch.layers.dense import Dense
from arch.layers.gates import sigmoid, tanh
from arch.layers.mixer import Context

# b: batch, t: samples, w: width of the residual path, s: steps of the condition, e: its width; batch, length (in
# samples), steps, features (of the local condition), classes (codes)


class ResidualBlock(nn.Module):
    """A dilated convolution with a gated activation (equation 2; 3 with a condition), and its two outputs (figure 4).

    Attributes:
        gated: tanh(W_f * x) sigmoid(W_g * x); otherwise relu(W * x), of half as many features.
        skip: channels of the skip connection.
        last: the block has no residual output, since no block would read it.
    """

    width: int
    skip: int
    size: int
    dilation: int
    gated: bool
    last: bool
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t w"], condition: Float[Array, "b s e"] | None, context: Context, queue: Queue | None
    ) -> tuple[Float[Array, "b t w"], Float[Array, "b t skip"], Queue | None]:
        """Returns the block's output, its skip connection and the queue; `context.positions` count samples."""
        features = (1 + self.gated) * self.width
        y, queue = CausalConv(features, self.size, self.dilation, dtype=self.dtype, name="conv")(x, context, queue)
        if condition is not None:
            y += Dense(features, use_bias=False, dtype=self.dtype, name="condition")(condition)
        if self.gated:
            signal, gate = jnp.split(y, 2, axis=-1)
            y = tanh(signal) * sigmoid(gate)
        else:
            y = nn.relu(y)
        outputs = Dense(self.skip + (0 if self.last else self.width), dtype=self.dtype, name="out")(y)
        skip, residual = jnp.split(outputs, [self.skip], axis=-1)
        return (x if self.last else x + residual), skip, queue


class WaveNet(nn.Module):
    """Output i is the distribution of code i + 1. It generates (`layers.decoder`), at O(1) work per sample and layer.

    Attributes:
        num_classes: codes.
        width, skip: channels of the residual path and of the skip connections.
        dilations: of the blocks.
        size: of the kernels; also that of the first, causal layer, which has no dilation.
        gated: as in `ResidualBlock`.
        conditions: classes of the global condition, such as speakers (section 2.5); 0: there is no such condition.
        hop: samples per frame of the local condition, which is repeated (section 2.5, the last paragraph).
        condition_width: of the embedding of the class and of the frames.
        bos_id: the code before the first one.
    """

    num_classes: int = 256
    width: int = 64
    skip: int = 256
    dilations: tuple[int, ...] = tuple(2**i for i in range(10)) * 3
    size: int = 2
    gated: bool = True
    conditions: int = 0
    hop: int = 80
    condition_width: int = 16
    bos_id: int = 0
    head_init: Initializer = nn.initializers.lecun_normal()
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 11, "width": 16, "skip": 32, "dilations": (1, 2, 4, 1), "conditions": 11}
        | {"condition_width": 3, "bos_id": 1}
    }
    context: ClassVar[int | None] = None

    def setup(self):
        self.embedding = nn.Embed(self.num_classes, self.width, dtype=self.dtype)
        self.first = CausalConv(self.width, self.size, dtype=self.dtype)
        options = {"width": self.width, "skip": self.skip, "size": self.size, "gated": self.gated, "dtype": self.dtype}
        count = len(self.dilations)
        self.blocks = [
            ResidualBlock(dilation=dilation, last=i == count, name=f"block{i}", **options)
            for i, dilation in enumerate(self.dilations, start=1)
        ]
        if self.conditions:
            self.classes = nn.Embed(self.conditions, self.condition_width, dtype=self.dtype)
        self.frames = Dense(self.condition_width, dtype=self.dtype)  # has no parameters unless it is called
        self.hidden = Dense(self.skip, dtype=self.dtype, kernel_init=he_normal())
        self.head = nn.Dense(self.num_classes, kernel_init=self.head_init)

    @property
    def receptive_field(self) -> int:
        """The number of samples that an output sees."""
        return 1 + (self.size - 1) * (1 + sum(self.dilations))

    def __call__(
        self,
        label: Int[Array, " batch"],
        codes: Int[Array, "batch length"],
        frames: Float[Array, "batch steps features"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch length classes"]:
        """Returns float32 logits.

        Args:
            label: class of the global condition; without `conditions` it is not read.
            frames: the local condition: row i belongs to the samples i hop to (i + 1) hop - 1.
        """
        context = Context(jnp.arange(codes.shape[1])[None], train)
        return self._read(codes, self._condition(label, frames), context)[0]

    def start(
        self, label: Int[Array, " batch"], frames: Float[Array, "batch steps features"] | None = None, *, length: int
    ) -> tuple[Int[Array, " batch"], Cache]:
        """Returns the begin code and empty queues."""
        batch, condition = len(label), self._condition(label, frames)
        context = Context(jnp.zeros((1, 1), int), capacity=length, lengths=jnp.zeros(batch, int))
        _, queues = self._read(jnp.zeros((batch, 1), int), condition, context)
        state = {"position": jnp.zeros(batch, jnp.int32), "queues": queues}
        return jnp.full(batch, self.bos_id, jnp.int32), Cache(memory=condition, state=state)

    def decode(
        self, tokens: Int[Array, "batch length"], cache: Cache
    ) -> tuple[Float[Array, "batch length classes"], Cache]:
        """Returns the logits of the code after each of `tokens`, and the cache."""
        first = cache.state["position"]
        context = Context(first[:, None] + jnp.arange(tokens.shape[1]))
        logits, queues = self._read(tokens, cache.memory, context, cache.state["queues"])
        return logits, cache.replace(state={"position": first + tokens.shape[1], "queues": queues})

    def _condition(self, label: Int[Array, " b"], frames: Array | None) -> Float[Array, "b s e"] | None:
        """Returns the sum of both conditions; None without any."""
        parts = [self.classes(label)[:, None]] if self.conditions else []
        parts += [] if frames is None else [self.frames(frames)]
        return sum(parts) if parts else None

    def _read(
        self, codes: Int[Array, "b t"], condition: Float[Array, "b s e"] | None, context: Context, queues: Any = None
    ) -> tuple[Float[Array, "b t classes"], list[Queue | None]]:
        if condition is not None and condition.shape[1] > 1:  # one row per sample
            step = jnp.clip(context.positions // self.hop, 0, condition.shape[1] - 1)
            condition = jnp.take_along_axis(condition, jnp.broadcast_to(step, codes.shape)[..., None], axis=1)
        queues = queues or [None] * (1 + len(self.blocks))
        x, queue = self.first(self.embedding(codes), context, queues[0])
        new, total = [queue], 0.0
        for block, queue in zip(self.blocks, queues[1:], strict=True):
            x, skip, queue = block(x, condition, context, queue)
            new.append(queue)
            total += skip
        return self.head(nn.relu(self.hidden(nn.relu(total)))), new
