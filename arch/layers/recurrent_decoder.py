"""A recurrent decoder that may attend to a memory; one function for whole sequences and for one step of decoding.

Where the next step does not need the attention's result (Luong et al. without input feeding), the attention is computed
for all positions at once after the recurrent layers. Otherwise one loop over the positions runs both.
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from arch.layers.decoder import Cache
from arch.layers.recurrence import State
from arch.layers.recurrent import LSTM
from arch.layers.recurrent_stack import Recurrent
from arch.layers.tap import TAPS

# Shapes: b batch, t positions of the output, s of the memory, f input features, n units of the last layer, c width of
# the memory.


class Bridge(nn.Module):
    """Computes a decoder's initial states: `tanh(W x + bias)` for each part x of each layer's given state (Bahdanau et
    al. 2014, arXiv 1409.0473, A.2.2).
    """

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

    The attention weights [b, t, s] are sown as "attention" in the collection "intermediates".

    Attributes:
        attention: makes the score, from `query_width` and `dtype`; None: no attention.
        query: "previous": the query is the top layer's last output, and the context is an input of the first layer
            (Bahdanau et al. 2014, arXiv 1409.0473, A.1.2); "current": the query is its new output (Luong et al. 2015,
            arXiv 1508.04025).
        combine: outputs are the attentional vectors `tanh(W [context; h])` (Luong et al., eq. 5).
        input_feeding: the last attentional vector is an input of the first layer (Luong et al., sec. 3.3); requires
            `combine` and the query "current".
        gated: scales the context by a number computed from the query (Xu et al. 2015, arXiv 1502.03044, sec. 4.2.1).
        dropout: rate for the input of every layer but the first. Where one loop runs recurrent layers and attention, a
            cell's own `recurrent_dropout` draws another mask at each step.
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
            raise ValueError(f"query={self.query!r} must be 'previous' or 'current'")
        if self.input_feeding and not (self.attention and self.combine and self.query == "current"):
            raise ValueError("input_feeding=True requires attention, query='current' and attentional vectors")
        self.stack = Recurrent(cell=self.cell, widths=self.widths, dropout=self.dropout, dtype=self.dtype)
        if self.attention is not None:
            self.attend = self.attention(query_width=self.widths[-1], dtype=self.dtype)
            if self.gated:
                self.gate = nn.Dense(1, dtype=self.dtype)
            if self.combine:
                self.attentional = nn.Dense(self.widths[-1], use_bias=False, dtype=self.dtype)

    def cache(self, values: Float[Array, "b s c"], mask: Bool[Array, "b s"], states: list[State]) -> Cache:
        """Returns the cache before the first position; its memory is empty without attention.

        Args:
            values: the memory; positions where `mask` is false are padding.
            states: the initial state of each layer.
        """
        state = {"layers": states}
        if self.input_feeding:
            state["fed"] = jnp.zeros((len(values), self.widths[-1]), values.dtype)
        if self.attention is None:
            return Cache(state=state)
        return Cache(memory={"keys": self.attend.keys(values), "values": values, "mask": mask}, state=state)

    def __call__(
        self, x: Float[Array, "b t f"], cache: Cache, *, train: bool
    ) -> tuple[Float[Array, "b t n"], Float[Array, "b t c"] | None, Cache]:
        """Returns the outputs, the contexts (None without attention), and the cache after the last position."""
        if self.attention is None:
            outputs, layers = self.stack(x, cache.state["layers"], train=train)
            return outputs, None, cache.replace(state={"layers": layers})
        if self.query == "current" and not self.input_feeding:
            outputs, layers = self.stack(x, cache.state["layers"], train=train)
            state, (contexts, weights) = {"layers": layers}, self._context(outputs, cache.memory)
        else:
            state, (outputs, contexts, weights) = self._loop(x, cache, train)
        self.sow("intermediates", "attention", weights)
        if self.combine and not self.input_feeding:
            outputs = self._combined(outputs, contexts)
        return outputs, contexts, cache.replace(state=state)

    def _loop(self, x: Float[Array, "b t f"], cache: Cache, train: bool):
        """Returns the last state, and the outputs, contexts and attention weights of all positions."""

        def body(decoder: RecurrentDecoder, state: dict, x: Float[Array, "b f"]):
            step = decoder._feed if decoder.input_feeding else decoder._attend_before
            state, results = step(x[:, None], state, cache.memory, train)
            return state, tuple(result[:, 0] for result in results)

        loop = nn.scan(
            body,
            variable_broadcast="params",
            variable_axes={TAPS: 1},
            split_rngs={"params": False, "dropout": True},
            in_axes=1,
            out_axes=1,
        )
        return loop(self, cache.state, x)

    def _attend_before(self, x: Float[Array, "b 1 f"], state: dict, memory: dict, train: bool):
        """One step of a decoder whose last output is the query."""
        query = state["layers"][-1]["h"][:, None].astype(x.dtype)
        context, weights = self._context(query, memory)
        output, layers = self.stack(jnp.concatenate([x, context], -1), state["layers"], train=train)
        return {"layers": layers}, (output, context, weights)

    def _feed(self, x: Float[Array, "b 1 f"], state: dict, memory: dict, train: bool):
        """One step of a decoder with input feeding."""
        x = jnp.concatenate([x, state["fed"][:, None]], -1)
        output, layers = self.stack(x, state["layers"], train=train)
        context, weights = self._context(output, memory)
        output = self._combined(output, context)
        return {"layers": layers, "fed": output[:, 0]}, (output, context, weights)

    def _context(self, queries: Float[Array, "b t n"], memory: dict):
        contexts, weights = self.attend(queries, memory["keys"], memory["values"], memory["mask"])
        return (nn.sigmoid(self.gate(queries)) * contexts if self.gated else contexts), weights

    def _combined(self, outputs: Float[Array, "b t n"], contexts: Float[Array, "b t c"]) -> Float[Array, "b t n"]:
        return jnp.tanh(self.attentional(jnp.concatenate([contexts, outputs], -1)))
