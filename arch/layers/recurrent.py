"""The recurrent layers of Elman, the LSTM and the GRU; `layers.recurrent_variants` has their published variants.

A cell is a layer over a whole sequence, time-major: `(x, state, mask) -> (outputs, state)`. `Cell` holds the weights
and runs the scan; a subclass lists its gates and writes its equations in `update`. In a config it is named with its
fields: `cell="layers.recurrent.LSTM(forget_bias=2.0)"`. States are float32 whatever the compute type is, because they
are sums over time. `layers.recurrent_stack` stacks cells and handles lengths and directions.
"""

from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from arch.layers.gates import sigmoid, tanh
from arch.layers.recurrence import State, Step, Weights, recurrence

# Shapes: t time, b batch, f input features, n units, k width of all gates.


class Cell(nn.Module):
    """Base class of cells.

    A subclass implements `update`. If it has parameters besides two kernels and a bias, it also implements
    `other_params`.

    Attributes:
        units: width of the output and of each part of the state.
        gates: names of the blocks of pre-activations, in the order of the kernels' columns.
        state_names: parts of the state; "h" is the output.
        additive: whether `update` needs only the sum `W x + b + U h`; if false, it gets `(W x + b, U h)`.
    """

    units: int
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    dtype: DTypeLike | None = None

    gates: ClassVar[tuple[str, ...]] = ("h",)
    state_names: ClassVar[tuple[str, ...]] = ("h",)
    additive: ClassVar[bool] = True

    @nn.nowrap
    def update(self, params: dict[str, Array], pre: tuple[Array, ...], state: State) -> State:
        """Returns the next state: the equations of one step, for a batch.

        Args:
            params: `other_params`.
            pre: `(W x + b + U h,)` if `additive`, else `(W x + b, U h)`; `blocks` splits them into gates.
            state: parts [b, n] of the previous state.
        """
        raise NotImplementedError

    def other_params(self) -> dict[str, Array]:
        """Returns the parameters of `update`."""
        return {}

    @nn.nowrap
    def blocks(self, pre: Float[Array, "b k"]) -> list[Float[Array, "b n"]]:
        """Splits pre-activations into those of each gate."""
        return jnp.split(pre, len(self.gates), axis=-1)

    @nn.nowrap
    def bias_init(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jnp.zeros(shape)

    @nn.nowrap
    def initial_state(self, batch: int) -> State:
        """Returns zeros."""
        return {name: jnp.zeros((batch, self.units)) for name in self.state_names}

    def weights(self, features: int) -> Weights:
        """Returns the parameters of the matrix products."""
        width, recurrent_shape = len(self.gates) * self.units, self.recurrent_shape
        return Weights(
            self.param("input_kernel", by_gate(self.kernel_init, self.units), (features, width)),
            self.param("recurrent_kernel", by_gate(self.recurrent_init, self.units), recurrent_shape),
            self.param("bias", self.bias_init, (width,)),
        )

    @property
    def recurrent_shape(self) -> tuple[int, int]:
        """Shape of the recurrent kernel."""
        return self.units, len(self.gates) * self.units

    @nn.nowrap
    def step(self, length: int, batch: int, train: bool) -> tuple[Step, dict[str, Array], dict[str, Array]]:
        """Returns the step of the scan, its masks [t, ...] and its constants (see `recurrence`)."""

        def product_input(state: State, constants: dict[str, Array]) -> Array:
            return state["h"]

        def update(params: dict[str, Array], pre: tuple[Array, ...], state: State, masks: dict[str, Array]) -> State:
            return self.update(params, pre, state)

        return Step(product_input, update, self.additive), {}, {}

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "t b f"],
        state: State | None = None,
        mask: Bool[Array, "t b"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "t b n"], State]:
        """Returns the output of each step and the last state. Where `mask` is false, the state stays the same."""
        length, batch, features = x.shape
        dtype = self.dtype or x.dtype
        weights = Weights(*(weight.astype(dtype) for weight in self.weights(features)))
        params = self.other_params()
        step, masks, constants = self.step(length, batch, train)
        if mask is not None:
            masks = masks | {"real": mask[..., None]}

        def update(params: dict[str, Array], pre: tuple[Array, ...], state: State, masks: dict[str, Array]) -> State:
            new = step.update(params, pre, state, masks)
            if mask is not None:
                new = {name: jnp.where(masks["real"], new[name], state[name]) for name in new}
            return {name: value.astype(jnp.float32) for name, value in new.items()}

        state = self.initial_state(batch) if state is None else state
        states = recurrence(step._replace(update=update), weights, params, state, x.astype(dtype), masks, constants)
        return states["h"].astype(dtype), {name: values[-1] for name, values in states.items()}


class Elman(Cell):
    """`h = activation(W x + U h + b)` (Elman 1990, Cognitive Science 14). The default is that of `torch.nn.RNN`."""

    activation: Callable[[Array], Array] = tanh

    @nn.nowrap
    def update(self, params, pre, state):
        return {"h": self.activation(pre[0])}


class LSTM(Cell):
    """Long short-term memory with a forget gate (Gers et al. 2000, Neural Computation 12), as `torch.nn.LSTM`.

    Attributes:
        forget_bias: initial bias of the forget gate (1: Jozefowicz et al. 2015).
    """

    forget_bias: float = 1.0

    gates: ClassVar[tuple[str, ...]] = ("i", "f", "g", "o")
    state_names: ClassVar[tuple[str, ...]] = ("h", "c")

    @nn.nowrap
    def bias_init(self, key, shape):
        return jnp.repeat(jnp.array([0.0, self.forget_bias, 0.0, 0.0]), self.units)

    @nn.nowrap
    def update(self, params, pre, state):
        i, f, g, o = self.blocks(pre[0])
        c = sigmoid(f) * state["c"] + sigmoid(i) * tanh(g)
        h = sigmoid(o) * tanh(c)
        return {"h": h, "c": c}


class GRU(Cell):
    """Gated recurrent unit (Cho et al. 2014, arXiv 1406.1078), whose reset gate follows the product with U, as in
    `torch.nn.GRU` and cuDNN.
    """

    gates: ClassVar[tuple[str, ...]] = ("r", "z", "n")
    additive: ClassVar[bool] = False

    def other_params(self):
        return {"candidate_bias": self.param("candidate_bias", nn.initializers.zeros, (self.units,))}

    @nn.nowrap
    def update(self, params, pre, state):
        (x_rz, x_n), (u_rz, u_n) = (jnp.split(x, [2 * self.units], axis=-1) for x in pre)
        r, z = jnp.split(sigmoid(x_rz + u_rz), 2, axis=-1)  # both in one loop: a third faster on a CPU
        n = tanh(x_n + r * (u_n + params["candidate_bias"]))
        return {"h": (1 - z) * n + z * state["h"]}


def by_gate(init: Initializer, units: int) -> Callable[[Array, tuple[int, int]], Array]:
    """Returns an initialiser that applies `init` to each gate's `units` columns separately."""

    def initialise(key: Array, shape: tuple[int, int]) -> Array:
        keys = jax.random.split(key, shape[1] // units)
        return jnp.concatenate([init(key, (shape[0], units), jnp.float32) for key in keys], axis=1)

    return initialise
