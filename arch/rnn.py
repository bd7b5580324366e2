"""Recurrent networks: one output a sequence, or one a position.

The cell is a field: `cell="layers.recurrent.GRU"`, or with its own fields, `"layers.recurrent.LSTM(coupled=True)"`.
"""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt8

from arch.layers.recurrence import State
from arch.layers.recurrent import LSTM
from arch.layers.recurrent_stack import Recurrent

# Shapes: batch; length; features; width (of the last layer, both directions); classes.

Sequences = Float[Array, "batch length features"] | UInt8[Array, "batch length features"] | Int[Array, "batch length"]


class _RecurrentNetwork(nn.Module):
    """What both networks share: inputs, stack and dropout before the head.

    Attributes:
        vocab_size: number of tokens; inputs are then token ids, and embedded. None: inputs are numbers.
        embedding_width: of tokens; None: as wide as the first layer.
        widths, bidirectional, residual, variational: as in `layers.recurrent_stack.Recurrent`.
        dropout: between layers and before the head; if `variational`, also of the inputs.
    """

    num_classes: int = 10
    cell: Callable[..., nn.Module] = LSTM
    widths: tuple[int, ...] = (256,)
    vocab_size: int | None = None
    embedding_width: int | None = None
    bidirectional: bool = False
    residual: bool = False
    dropout: float = 0.0
    variational: bool = False
    dtype: DTypeLike | None = None

    @nn.compact
    def features(
        self, inputs: Sequences, states: list[State] | None, lengths: Int[Array, " batch"] | None, train: bool
    ) -> tuple[Float[Array, "batch length width"], list[State]]:
        inputs = inputs.astype(jnp.float32) if inputs.ndim == 3 else inputs
        if (self.vocab_size is None) == jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(f"inputs are {inputs.dtype}, but vocab_size is {self.vocab_size}: only tokens have one")
        if self.vocab_size is not None:
            width = self.embedding_width or self.widths[0]
            inputs = nn.Embed(self.vocab_size, width, dtype=self.dtype, name="embedding")(inputs)
        stack = Recurrent(
            cell=self.cell,
            widths=self.widths,
            bidirectional=self.bidirectional,
            residual=self.residual,
            dropout=self.dropout,
            variational=self.variational,
            dtype=self.dtype,
            name="stack",
        )
        return stack(inputs, states, lengths, train=train)


class RecurrentClassifier(_RecurrentNetwork):
    """One class or number a sequence: the last states of the top layer, or the mean of its outputs, and a head.

    `pooling` is "last" (of both directions) or "mean" (over the real positions). The output is float32.
    """

    pooling: str = "last"

    TINY: ClassVar[dict] = {"num_classes": 3, "widths": (8,), "bidirectional": True, "dropout": 0.2}

    @nn.compact
    def __call__(
        self, inputs: Sequences, lengths: Int[Array, " batch"] | None = None, *, train: bool
    ) -> Float[Array, "batch classes"]:
        if self.pooling not in ("last", "mean"):
            raise ValueError(f"pooling={self.pooling!r}: there are 'last' and 'mean'")
        outputs, states = self.features(inputs, None, lengths, train)
        if self.pooling == "last":
            top = states[-2:] if self.bidirectional else states[-1:]
            x = jnp.concatenate([state["h"] for state in top], axis=-1)
        else:  # outputs behind a sequence's length are zero
            count = jnp.full(len(inputs), inputs.shape[1]) if lengths is None else lengths
            x = outputs.astype(jnp.float32).sum(1) / jnp.maximum(count, 1)[:, None]
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_classes, name="head")(x)


class RecurrentNetwork(_RecurrentNetwork):
    """One output a position: language models, tagging, copying. The output is float32.

    `stateful` carries the states from one batch to the next, which must hold the continuation of the same sequences, in
    the mutable collection "carry": truncated back-propagation through time in training, streaming step by step
    otherwise. Where "carry" is not mutable, as in evaluation, every batch starts from zeros. `forget` is the
    probability that a row does so in training too: a network that never starts from zeros does not learn to.
    """

    stateful: bool = False
    forget: float = 0.0

    TINY: ClassVar[dict] = {"num_classes": 3, "widths": (8, 8), "vocab_size": 11, "dropout": 0.2}

    @nn.compact
    def __call__(
        self, inputs: Sequences, lengths: Int[Array, " batch"] | None = None, *, train: bool
    ) -> Float[Array, "batch length classes"]:
        if self.stateful and self.bidirectional:
            raise ValueError("stateful and bidirectional: a network that reads backwards cannot carry its state on")
        carried = self.stateful and self.is_mutable_collection("carry")
        states = None
        if carried and self.has_variable("carry", "states"):
            states = jax.lax.stop_gradient(self.get_variable("carry", "states"))
            if len(states[0]["h"]) != len(inputs):
                raise ValueError(
                    f"{len(inputs)} sequences cannot continue {len(states[0]['h'])}: stateful needs the same"
                )
            if train and self.forget:
                kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.forget, (len(inputs), 1))
                states = jax.tree.map(lambda state: state * kept, states)
        outputs, states = self.features(inputs, states, lengths, train)
        if carried:
            # `init` stores the shapes of the states and no memory of its example
            states = jax.tree.map(jnp.zeros_like, states) if self.is_initializing() else states
            self.put_variable("carry", "states", states)
        x = nn.Dropout(self.dropout, broadcast_dims=(1,) if self.variational else (), deterministic=not train)(outputs)
        return nn.Dense(self.num_classes, name="head")(x)

    def begin(self, tokens: Int[Array, "batch length"], lengths: Int[Array, " batch"]) -> dict:
        """Returns the cache of decoding after all real tokens but the last, with which `extend` goes on.

        Raises:
            ValueError: the network reads numbers, or backwards.
        """
        if self.vocab_size is None or self.bidirectional:
            raise ValueError("only a network of tokens (vocab_size) that is not bidirectional can be extended")
        return {"states": self.features(tokens, None, jnp.maximum(lengths - 1, 0), train=False)[1]}

    def extend(self, tokens: Int[Array, " batch"], cache: dict) -> tuple[Float[Array, "batch classes"], dict]:
        """Returns the logits of the token after `tokens`, and the cache."""
        outputs, states = self.features(tokens[:, None], cache["states"], None, train=False)
        head = nn.Dense(self.num_classes, parent=None)  # the one that `__call__` made
        return head.apply({"params": self.get_variable("params", "head")}, outputs[:, 0]), {"states": states}


class RecurrentForecaster(nn.Module):
    """The next steps of a series, all at once, from the last state of recurrent layers over its past.

    The network sees the past, and forecasts the future, as differences from the last value (NLinear's normalisation:
    Zeng et al. 2023, arXiv 2205.13504, sec. 4.2), so that a level that drifts is no new input.

    Attributes:
        num_classes: numbers to forecast, steps times channels.
        cell, widths, dropout: as in `RecurrentClassifier`, which it is but for the differences.
        autoregressive: whether a linear map of a channel's past, one for all channels, is added to what the network
            says of it (LSTNet: Lai et al. 2018, arXiv 1703.07015, sec. 3.6).
    """

    num_classes: int = 7 * 24
    cell: Callable[..., nn.Module] = LSTM
    widths: tuple[int, ...] = (64,)
    dropout: float = 0.0
    autoregressive: bool = False
    dtype: DTypeLike | None = None

    TINY: ClassVar[dict] = {"num_classes": 12, "widths": (8,), "dropout": 0.2, "autoregressive": True}

    @nn.compact
    def __call__(
        self, past: Float[Array, "batch length features"], *, train: bool
    ) -> Float[Array, "batch steps features"]:
        last = past[:, -1:]
        network = RecurrentClassifier(
            num_classes=self.num_classes,
            cell=self.cell,
            widths=self.widths,
            dropout=self.dropout,
            dtype=self.dtype,
            name="network",
        )
        changes = network(past - last, train=train).reshape(len(past), -1, past.shape[-1])
        if self.autoregressive:
            channels = jnp.swapaxes(past - last, 1, 2)
            layer = nn.Dense(changes.shape[1], dtype=self.dtype, name="autoregression")
            changes += jnp.swapaxes(layer(channels), 1, 2)
        return last + changes
