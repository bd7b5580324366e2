"""A recurrent decoder that may attend to a memory; one function for whole sequences and for one step of decoding.

Where the attention's result is not needed by the next step (Luong et al. without input feeding), it is computed of all
positions at once behind the recurrent layers; else recurrent layers and attention are one loop over the positions.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from arch.layers.recurrence import State
from arch.layers.recurrent import LSTM
from arch.layers.recurrent_stack import Recurrent
from arch.layers.watch import WATCHED

# Shapes: b batch, t positions of the output, s of the memory, f input features, n units of the last layer, c width of
# the memory.


class Bridge(nn.Module):
    """Starts a decoder's layers: `tanh(W x + bias)` of each part x of each layer's given state (1409.0473, A.2.2)."""

    widths: tuple[int, ...]
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, states: list[State]) -> list[State]:
        def start(x: Array, units: int, name: str) -> Array:
            return jnp.tanh(nn.Dense(units, dtype=self.dtype, name=name)(x)).astype(jnp.float32)

        return [
            {part: start(x, units, f"layer{number}_{part}") for part, x in state.items()}
            for number, (state, units) in enumerate(zip(states, self.widths, strict=True), start=1)
        ]


class RecurrentDecoder(nn.Module):
    """Recurrent layers over a sequence, with attention to a memory.

    Attributes:
        attention: makes the score, from `query_width` and `dtype`; None: the memory is not looked at.
        query: "previous": the top layer's last output asks, and the context is an input of the first layer (Bahdanau
            et al. 2014, arXiv 1409.0473, A.1.2); "current": its new output asks (Luong et al. 2015, arXiv 1508.04025).
        combine: outputs are the attentional vectors `tanh(W [context; h])` (Luong et al., eq. 5).
        input_feeding: the last attentional vector is an input of the first layer (Luong et al., sec. 3.3); with
            `combine` and the query "current".
        gated: the context is scaled by a number from the query (Xu et al. 2015, arXiv 1502.03044, sec. 4.2.1).
        dropout: of the input of every layer but the first. Where recurrent layers and attention are one loop, a cell's
            own `recurrent_dropout` has another mask at each step.
    """

    cell: Callable[..., nn.Module] = LSTM
    widths: tuple[int, ...] = (256,)
    attention: Callable[..., nn.Module] | None = None
    query: str = "current"
    combine: bool = True
    input_feeding: bool = False
    gated: bool = False
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    def setup(self):
        if self.query not in ("previous", "current"):
            raise ValueError(f"query={self.query!r}: there are 'previous' and 'current'")
        if self.input_feeding and not (self.attention and self.combine and self.query == "current"):
            raise ValueError("input_feeding is of attentional vectors: with attention and query='current'")
        self.stack = Recurrent(cell=self.cell, widths=self.widths, dropout=self.dropout, dtype=self.dtype)
        if self.attention is not None:
            self.attend = self.attention(query_width=self.widths[-1], dtype=self.dtype)
            if self.gated:
                self.gate = nn.Dense(1, dtype=self.dtype)
            if self.combine:
                self.attentional = nn.Dense(self.widths[-1], use_bias=False, dtype=self.dtype)

    def begin(self, values: Float[Array, "b s c"], mask: Bool[Array, "b s"], states: list[State]) -> dict:
        """Returns the cache: the layers' states, and with attention the memory and the last step's weights [b, s].

        Args:
            values: the memory; where `mask` is false it is padding.
            states: of each layer, to start from.
        """
        cache = {"states": states}
        if self.attention is not None:
            cache |= {"keys": self.attend.keys(values), "values": values, "mask": mask}
            cache["attention"] = jnp.zeros(mask.shape)
        if self.input_feeding:
            cache["fed"] = jnp.zeros((len(values), self.widths[-1]), values.dtype)
        return cache

    def __call__(
        self, x: Float[Array, "b t f"], cache: dict, *, train: bool
    ) -> tuple[Float[Array, "b t n"], Float[Array, "b t c"] | None, dict]:
        """Returns the outputs, the contexts (None without attention), and the cache after the last position."""
        if self.attention is None or (self.query == "current" and not self.input_feeding):
            return self._all_at_once(x, cache, train)
        memory = {name: cache[name] for name in ("keys", "values", "mask")}
        carry = {name: value for name, value in cache.items() if name not in memory}
        step = self._previous if self.query == "previous" else self._feeding

        def body(decoder: RecurrentDecoder, carry: dict, x: Array) -> tuple[dict, tuple[Array, Array]]:
            return step.__func__(decoder, carry, memory, x[:, None], train)

        loop = nn.scan(
            body,
            variable_broadcast="params",
            variable_axes={WATCHED: 1},
            split_rngs={"params": False, "dropout": True},
            in_axes=1,
            out_axes=1,
        )
        carry, (outputs, contexts) = loop(self, carry, x)
        if self.combine and self.query == "previous":
            outputs = self._combined(outputs, contexts)
        return outputs, contexts, {**carry, **memory}

    def _all_at_once(self, x, cache, train):
        outputs, states = self.stack(x, cache["states"], train=train)
        if self.attention is None:
            return outputs, None, {"states": states}
        contexts, weights = self._context(outputs, cache)
        outputs = self._combined(outputs, contexts) if self.combine else outputs
        return outputs, contexts, cache | {"states": states, "attention": weights[:, -1]}

    def _previous(self, carry, memory, x, train):
        query = carry["states"][-1]["h"][:, None].astype(x.dtype)
        context, weights = self._context(query, memory)
        output, states = self.stack(jnp.concatenate([x, context], -1), carry["states"], train=train)
        return {"states": states, "attention": weights[:, 0]}, (output[:, 0], context[:, 0])

    def _feeding(self, carry, memory, x, train):
        x = jnp.concatenate([x, carry["fed"][:, None]], -1)
        output, states = self.stack(x, carry["states"], train=train)
        context, weights = self._context(output, memory)
        output = self._combined(output, context)
        return {"states": states, "attention": weights[:, 0], "fed": output[:, 0]}, (output[:, 0], context[:, 0])

    def _context(self, queries, memory):
        contexts, weights = self.attend(queries, memory["keys"], memory["values"], memory["mask"])
        return (nn.sigmoid(self.gate(queries)) * contexts if self.gated else contexts), weights

    def _combined(self, outputs, contexts):
        return jnp.tanh(self.attentional(jnp.concatenate([contexts, outputs], -1)))
