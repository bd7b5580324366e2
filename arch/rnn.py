"""Recurrent networks: one output per sequence, or one per position.

The cell is a field: `cell="layers.recurrent.GRU"`, or with its own fields, `"layers.recurrent.LSTM(forget_bias=2.0)"`.
"""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int, UInt8

from arch.layers.decoder import Cache
from arch.layers.recurrence import State
from arch.layers.recurrent import LSTM
from arch.layers.recurrent_stack import Recurrent

# Shapes: batch; length; features; width (of the last layer, both directions); classes.

Sequences = Float[Array, "batch length features"] | UInt8[Array, "batch length features"] | Int[Array, "batch length"]


class _RecurrentNetwork(nn.Module):
    """The parts that both networks share: the embedding of tokens, the stack and the head.

    Attributes:
        vocab_size: number of tokens; inputs are then token ids. None: inputs are numbers.
        embedding_width: width of a token's embedding; None: the width of the first layer.
        widths, bidirectional, residual, variational: as in `layers.recurrent_stack.Recurrent`.
        dropout: rate between layers and before the head; if `variational`, also for the inputs.
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

    def setup(self):
        if self.vocab_size is not None:
            width = self.embedding_width or self.widths[0]
            self.embedding = nn.Embed(self.vocab_size, width, dtype=self.dtype)
        self.stack = Recurrent(
            cell=self.cell,
            widths=self.widths,
            bidirectional=self.bidirectional,
            residual=self.residual,
            dropout=self.dropout,
            variational=self.variational,
            dtype=self.dtype,
        )
        self.head = nn.Dense(self.num_classes)

    def features(
        self, inputs: Sequences, states: list[State] | None, lengths: Int[Array, " batch"] | None, train: bool
    ) -> tuple[Float[Array, "batch length width"], list[State]]:
        """Returns the outputs of the top layer and the last state of every layer."""
        inputs = inputs.astype(jnp.float32) if inputs.ndim == 3 else inputs
        if (self.vocab_size is None) == jnp.issubdtype(inputs.dtype, jnp.integer):
            raise ValueError(f"inputs are {inputs.dtype}, but vocab_size is {self.vocab_size}: only tokens have one")
        x = inputs if self.vocab_size is None else self.embedding(inputs)
        return self.stack(x, states, lengths, train=train)


class RecurrentClassifier(_RecurrentNetwork):
    """One class or number per sequence: a head on the last states of the top layer or on the mean of its outputs.

    `pooling` is "last" (of both directions) or "mean" (over the real positions). The output is float32.
    """

    pooling: str = "last"

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "widths": (8,), "bidirectional": True, "dropout": 0.2}
    }

    def setup(self):
        super().setup()
        self.drop = nn.Dropout(self.dropout)

    def __call__(
        self, inputs: Sequences, lengths: Int[Array, " batch"] | None = None, *, train: bool
    ) -> Float[Array, "batch classes"]:
        if self.pooling not in ("last", "mean"):
            raise ValueError(f"pooling={self.pooling!r} must be 'last' or 'mean'")
        outputs, states = self.features(inputs, None, lengths, train)
        if self.pooling == "last":
            top = states[-2:] if self.bidirectional else states[-1:]
            x = jnp.concatenate([state["h"] for state in top], axis=-1)
        else:  # outputs after a sequence's end are zero
            count = jnp.full(len(inputs), inputs.shape[1]) if lengths is None else lengths
            x = outputs.astype(jnp.float32).sum(1) / jnp.maximum(count, 1)[:, None]
        return self.head(self.drop(x, deterministic=not train))


class RecurrentNetwork(_RecurrentNetwork):
    """One output per position: language models, tagging, copying. The output is float32.

    A network of tokens that reads forwards generates as a language model (`layers.decoder`).

    `stateful` carries the states from one batch to the next, which must hold the continuation of the same sequences, in
    the mutable collection "carry": truncated back-propagation through time in training, streaming step by step
    otherwise. Where "carry" is not mutable, as in evaluation, every batch starts from zeros. `forget` is the
    probability that a row starts from zeros in training too: otherwise the network does not learn to.
    """

    stateful: bool = False
    forget: float = 0.0

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "widths": (8, 8), "vocab_size": 11, "dropout": 0.2},
        # Zaremba et al. 2014, arXiv 1409.2329, sec. 4.1, on Penn Treebank
        "medium": {"num_classes": 10_000, "vocab_size": 10_000, "widths": (650, 650), "dropout": 0.5},
        "large": {"num_classes": 10_000, "vocab_size": 10_000, "widths": (1500, 1500), "dropout": 0.65},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {"medium": "20M", "large": "66M"}  # arXiv 1708.02182, table 1
    context: ClassVar[int | None] = None

    def setup(self):
        super().setup()
        self.drop = nn.Dropout(self.dropout, broadcast_dims=(1,) if self.variational else ())

    def __call__(
        self, inputs: Sequences, lengths: Int[Array, " batch"] | None = None, *, train: bool
    ) -> Float[Array, "batch length classes"]:
        if self.stateful and self.bidirectional:
            raise ValueError("stateful and bidirectional: a network that reads backwards cannot carry its state on")
        carried = self.stateful and self.is_mutable_collection("carry")
        states = self._carried_states(len(inputs), train) if carried else None
        logits, states = self._read(inputs, states, lengths, train)
        if carried:
            # `init` stores the shapes of the states and no memory of its example
            states = jax.tree.map(jnp.zeros_like, states) if self.is_initializing() else states
            self.put_variable("carry", "states", states)
        return logits

    def start(
        self, inputs: Int[Array, "batch length"], lengths: Int[Array, " batch"], *, length: int
    ) -> tuple[Int[Array, " batch"], Cache]:
        """Returns each prompt's last token and the cache before it; states do not depend on `length`.

        Raises:
            ValueError: the network reads numbers, or backwards.
        """
        if self.vocab_size is None or self.bidirectional:
            raise ValueError("only a network of tokens (vocab_size) that is not bidirectional can generate")
        last = jnp.maximum(lengths - 1, 0)
        _, states = self.features(inputs, None, last, train=False)
        return jnp.take_along_axis(inputs, last[:, None], axis=1)[:, 0], Cache(state=states)

    def decode(
        self, tokens: Int[Array, "batch length"], cache: Cache
    ) -> tuple[Float[Array, "batch length classes"], Cache]:
        """Returns the logits of the token after each of `tokens`, and the cache."""
        logits, states = self._read(tokens, cache.state, None, train=False)
        return logits, cache.replace(state=states)

    def _read(self, inputs: Sequences, states: list[State] | None, lengths: Int[Array, " batch"] | None, train: bool):
        outputs, states = self.features(inputs, states, lengths, train)
        return self.head(self.drop(outputs, deterministic=not train)), states

    def _carried_states(self, batch: int, train: bool) -> list[State] | None:
        """Returns the states at the end of the last batch; None before the first one."""
        if not self.has_variable("carry", "states"):
            return None
        states = jax.lax.stop_gradient(self.get_variable("carry", "states"))
        if len(states[0]["h"]) != batch:
            raise ValueError(f"{batch} sequences cannot continue {len(states[0]['h'])}: stateful needs the same number")
        if train and self.forget:
            kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.forget, (batch, 1))
            states = jax.tree.map(lambda state: state * kept, states)
        return states
