"""Recurrent layers: Elman's, LSTM and GRU, with every part a field.

A cell is a layer over a whole sequence, time-major: `(x, state, mask) -> (outputs, state)`. In a config it is named
with its fields: `cell="layers.recurrent.LSTM(peepholes=True, zoneout=0.1)"`. States are float32 whatever the compute
type is: they are sums over time. `layers.recurrent_stack` stacks cells, and knows lengths and directions.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Bool, Float

from arch.layers.gates import sigmoid, tanh
from arch.layers.recurrence import State, Step, Weights, recurrence

# Shapes: t time, b batch, f input features, n units, k width of all blocks.

Activation = Callable[[Array], Array] | None  # None: linear, which a config can say


def normalise(x: Float[Array, "b k"], gain: Float[Array, " k"]) -> Float[Array, "b k"]:
    """Layer normalisation without a bias: the pre-activations have their own."""
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return gain * x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def activate(function: Activation, x: Array) -> Array:
    return x if function is None else function(x)


def identity_matrix(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Initialises a recurrent kernel to the identity (Le et al. 2015, arXiv 1504.00941)."""
    return jnp.eye(*shape, dtype=dtype)


def by_block(init: Initializer, units: int) -> Callable[[Array, tuple[int, int]], Array]:
    """Returns the initialiser that gives each block of `units` columns, a gate's kernel, its own `init`."""

    def initialise(key: Array, shape: tuple[int, int]) -> Array:
        keys = jax.random.split(key, shape[1] // units)
        return jnp.concatenate([init(key, (shape[0], units), jnp.float32) for key in keys], axis=1)

    return initialise


class Cell(nn.Module):
    """What all cells share.

    Attributes:
        units: width of the output and of each part of the state.
        recurrent_dropout: of what the recurrent product sees, one mask for all time steps and gates (Gal & Ghahramani
            2016, arXiv 1512.05287, tied weights).
        zoneout, zoneout_cell: probability that a unit of h, or of the LSTM's c, keeps its value at a step (Krueger et
            al. 2017, arXiv 1606.01305); in evaluation, the expected value.
        layer_norm: normalises input and recurrent pre-activations, of all gates at once (Ba et al. 2016, arXiv
            1607.06450, eq. 20-22 and 26-29); the LSTM's also c where it is put out.
    """

    units: int
    kernel_init: Initializer = nn.initializers.glorot_uniform()
    recurrent_init: Initializer = nn.initializers.orthogonal()
    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    layer_norm: bool = False
    dtype: DTypeLike | None = None

    @property
    def gates(self) -> tuple[str, ...]:
        """Names of the blocks of pre-activations, in order."""
        raise NotImplementedError

    @property
    def state_names(self) -> tuple[str, ...]:
        """Parts of the state."""
        return ("h",)

    @property
    def product_names(self) -> tuple[str, ...]:
        """Parts of the state that the recurrent kernel multiplies."""
        return ("h",)

    @property
    def recurrent_blocks(self) -> int:
        """Blocks of the recurrent product; the first gates'."""
        return len(self.gates)

    @property
    def additive(self) -> bool:
        """Whether only the sum of projected input and recurrent product matters."""
        return not self.layer_norm

    @property
    def zoneouts(self) -> dict[str, float]:
        """Zoneout rate of each part of the state."""
        return {"h": self.zoneout}

    def other_params(self) -> dict[str, Array]:
        """Returns the parameters of `update` besides the bias and the gains of the pre-activations."""
        return {}

    @nn.nowrap
    def update(self, params: dict[str, Array], pre: tuple[Array, ...], state: State) -> State:
        """Returns the next state; `pre` as in `Step`."""
        raise NotImplementedError

    @nn.nowrap
    def blocks(self, params: dict[str, Array], pre: tuple[Array, ...]) -> dict[str, Float[Array, "b n"]]:
        """Returns the pre-activation of each gate."""
        if self.layer_norm:
            gains = (params["input_gain"], params["recurrent_gain"])
            pre = (sum(map(normalise, pre, gains)) + params["bias"],)
        return dict(zip(self.gates, jnp.split(pre[0], len(self.gates), axis=-1), strict=True))

    @nn.nowrap
    def initial_state(self, batch: int) -> State:
        """Returns zeros."""
        return {name: jnp.zeros((batch, self.units)) for name in self.state_names}

    @nn.nowrap
    def bias_init(self, key: Array, shape: tuple[int, ...]) -> Array:
        return jnp.zeros(shape)

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "t b f"],
        state: State | None = None,
        mask: Bool[Array, "t b"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "t b n"], State]:
        """Returns the output of each step and the last state; where `mask` is false, the state stays as it is."""
        length, batch, features = x.shape
        dtype, width = self.dtype or x.dtype, len(self.gates) * self.units
        rows = len(self.product_names) * self.units
        input_kernel = self.param("input_kernel", by_block(self.kernel_init, self.units), (features, width))
        recurrent_kernel = self.param(
            "recurrent_kernel", by_block(self.recurrent_init, self.units), (rows, self.recurrent_blocks * self.units)
        )
        bias, params = self.param("bias", self.bias_init, (width,)), self.other_params()
        if self.layer_norm:  # the bias comes after the normalisation
            gains = ("input_gain", "recurrent_gain")
            params |= {"bias": bias} | {name: self.param(name, nn.initializers.ones, (width,)) for name in gains}
            bias = jnp.zeros_like(bias)
        weights = Weights(*(weight.astype(dtype) for weight in (input_kernel, recurrent_kernel, bias)))

        masks, constants = {} if mask is None else {"real": mask[..., None]}, {}
        zoneouts = {name: rate for name, rate in self.zoneouts.items() if rate}
        if train:
            for name, rate in zoneouts.items():
                shape = (length, batch, self.units)
                masks[name] = jax.random.bernoulli(self.make_rng("dropout"), rate, shape)
            if self.recurrent_dropout:
                keep = 1 - self.recurrent_dropout
                constants["kept"] = jax.random.bernoulli(self.make_rng("dropout"), keep, (batch, rows)) / keep

        def product_input(state: State, constants: dict[str, Array]) -> Array:
            inputs = jnp.concatenate([state[name] for name in self.product_names], axis=-1)
            return inputs * constants["kept"] if constants else inputs

        def update(params: dict[str, Array], pre: tuple[Array, ...], state: State, masks: dict[str, Array]) -> State:
            new = self.update(params, pre, state)
            for name, rate in zoneouts.items():
                stays = masks[name] if train else rate
                new[name] = stays * state[name] + (1 - stays) * new[name]
            if mask is not None:
                new = {name: jnp.where(masks["real"], new[name], state[name]) for name in new}
            return {name: value.astype(jnp.float32) for name, value in new.items()}

        state = self.initial_state(batch) if state is None else state
        step = Step(product_input, update, self.additive)
        states = recurrence(step, weights, params, state, x.astype(dtype), masks, constants)
        return states["h"].astype(dtype), {name: values[-1] for name, values in states.items()}


class Elman(Cell):
    """`h = activation(W x + U h + b)` (Elman 1990)."""

    activation: Activation = tanh

    gates = ("h",)

    @nn.nowrap
    def update(self, params, pre, state):
        return {"h": activate(self.activation, self.blocks(params, pre)["h"])}


class ReLUElman(Elman):
    """Elman's layer with rectified units."""

    activation: Activation = nn.relu


class IRNN(ReLUElman):
    """Rectified units whose recurrent kernel starts at the identity (Le et al. 2015, arXiv 1504.00941, sec. 2)."""

    kernel_init: Initializer = nn.initializers.normal(1e-3)
    recurrent_init: Initializer = identity_matrix


class LSTM(Cell):
    """Long short-term memory, `c = f c + i g(z)`, `h = o h(c)`; the defaults are those of `torch.nn.LSTM`.

    With `peepholes=True` it is the vanilla LSTM of Greff et al. (2017, arXiv 1503.04069, sec. II). Their variants
    (sec. III) change one field of that: NIG `input_gate=False`, NFG `forget_gate=False`, NOG `output_gate=False`, NIAF
    `input_activation=None`, NOAF `output_activation=None`, NP `peepholes=False`, CIFG `coupled=True`, FGR
    `full_gate_recurrence=True`.

    Attributes:
        input_gate, forget_gate, output_gate: a gate that is left out is always open.
        coupled: the forget gate is 1 - the input gate.
        peepholes: gates see c, the output gate the new one, each unit its own.
        full_gate_recurrence: each gate also sees all gates' last values.
        forget_bias: initial bias of the forget gate (1: Jozefowicz et al. 2015).
    """

    input_gate: bool = True
    forget_gate: bool = True
    output_gate: bool = True
    coupled: bool = False
    peepholes: bool = False
    full_gate_recurrence: bool = False
    input_activation: Activation = tanh
    output_activation: Activation = tanh
    gate_activation: Activation = sigmoid
    forget_bias: float = 1.0
    zoneout_cell: float = 0.0

    @property
    def gates(self):
        forget = self.forget_gate and not self.coupled
        present = {"i": self.input_gate, "f": forget, "g": True, "o": self.output_gate}
        return tuple(name for name, there in present.items() if there)

    @property
    def state_names(self):
        return ("h", "c", *self._recurrent_gates)

    @property
    def product_names(self):
        return ("h", *self._recurrent_gates)

    @property
    def _recurrent_gates(self):
        return tuple(gate for gate in self.gates if gate != "g") if self.full_gate_recurrence else ()

    @property
    def zoneouts(self):
        return {"h": self.zoneout, "c": self.zoneout_cell}

    @nn.nowrap
    def bias_init(self, key, shape):
        values = jnp.array([self.forget_bias if gate == "f" else 0.0 for gate in self.gates])
        return jnp.repeat(values, self.units)

    def other_params(self):
        names = [f"{gate}_peephole" for gate in self.gates if gate != "g"] if self.peepholes else []
        params = {name: self.param(name, nn.initializers.normal(0.1), (self.units,)) for name in names}
        if self.layer_norm:
            params["cell_gain"] = self.param("cell_gain", nn.initializers.ones, (self.units,))
            params["cell_bias"] = self.param("cell_bias", nn.initializers.zeros, (self.units,))
        return params

    @nn.nowrap
    def update(self, params, pre, state):
        blocks, c = self.blocks(params, pre), state["c"]

        def gate(name: str, c: Array) -> Array:
            z = blocks[name] + params[f"{name}_peephole"] * c if self.peepholes else blocks[name]
            return activate(self.gate_activation, z)

        gates = {name: gate(name, c) for name in ("i", "f") if name in blocks}
        forget = 1 - gates.get("i", 1.0) if self.coupled else gates.get("f", 1.0)
        c = forget * c + gates.get("i", 1.0) * activate(self.input_activation, blocks["g"])
        if self.output_gate:
            gates["o"] = gate("o", c)
        output = normalise(c, params["cell_gain"]) + params["cell_bias"] if self.layer_norm else c
        h = gates.get("o", 1.0) * activate(self.output_activation, output)
        return {"h": h, "c": c} | {name: gates[name] for name in self._recurrent_gates}


class GRU(Cell):
    """Gated recurrent unit, `h = (1 - z) n + z h` (Cho et al. 2014, arXiv 1406.1078; their z, as PyTorch's).

    Attributes:
        reset_after: the candidate is `activation(W x + b + r (U h + b'))`, as in PyTorch and cuDNN; if false it is
            `activation(W x + U (r h) + b)`, as in the papers.
    """

    reset_after: bool = True
    activation: Activation = tanh
    gate_activation: Activation = sigmoid

    gates = ("r", "z", "n")
    additive = False

    @property
    def recurrent_blocks(self):
        return 3 if self.reset_after else 2

    def other_params(self):
        if self.reset_after:
            return {"candidate_bias": self.param("candidate_bias", nn.initializers.zeros, (self.units,))}
        if self.layer_norm or self.recurrent_dropout:
            raise ValueError("reset_after=False has neither layer_norm nor recurrent_dropout")
        return {"candidate_kernel": self.param("candidate_kernel", self.recurrent_init, (self.units, self.units))}

    @nn.nowrap
    def update(self, params, pre, state):
        def halves(x: Array) -> list[Array]:  # of both gates, and of the candidate
            return jnp.split(x, [2 * self.units], axis=-1)

        (x_gates, x), (u_gates, u), h = *map(halves, pre), state["h"]
        if self.layer_norm:
            gains, bias = halves(params["input_gain"]), halves(params["bias"])
            x_gates, x = (normalise(*pair) for pair in zip((x_gates, x), gains, strict=True))
            x_gates, x = x_gates + bias[0], x + bias[1]
            u_gates, u = (normalise(*pair) for pair in zip((u_gates, u), halves(params["recurrent_gain"]), strict=True))
        r, z = jnp.split(activate(self.gate_activation, x_gates + u_gates), 2, axis=-1)
        if self.reset_after:
            u = r * (u + params["candidate_bias"])
        else:
            u = (r * h).astype(x.dtype) @ params["candidate_kernel"].astype(x.dtype)
        return {"h": (1 - z) * activate(self.activation, x + u) + z * h}
