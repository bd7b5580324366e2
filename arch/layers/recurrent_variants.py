"""Published variants of the recurrent layers: gates left out or coupled, peepholes, layer norm, zoneout, dropout.

Each class adds fields to `layers.recurrent`'s cells and equals them at its defaults:
`cell="layers.recurrent_variants.VariantLSTM(peepholes=True, zoneout=0.1)"`.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.gates import sigmoid, tanh
from arch.layers.recurrence import State, Step
from arch.layers.recurrent import Cell, Elman

# Shapes: t time, b batch, n units, k width of all gates.

Activation = Callable[[Array], Array] | None  # None: linear


def identity_matrix(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Initialises a recurrent kernel to the identity (Le et al. 2015, arXiv 1504.00941)."""
    return jnp.eye(*shape, dtype=dtype)


class IRNN(Elman):
    """Rectified units whose recurrent kernel starts at the identity (Le et al. 2015, arXiv 1504.00941, sec. 2)."""

    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.normal(1e-3)
    recurrent_init: Initializer = identity_matrix


class Regularised(Cell):
    """Base class of cells with dropout, zoneout and layer normalisation.

    Attributes:
        recurrent_dropout: rate for the input of the recurrent product, with one mask for all time steps and gates (Gal
            & Ghahramani 2016, arXiv 1512.05287, tied weights).
        zoneout: probability that a unit of h keeps its value at a step (Krueger et al. 2017, arXiv 1606.01305);
            evaluation uses the expected value.
        layer_norm: normalises the pre-activations W x and U h, each over all gates at once (Ba et al. 2016, arXiv
            1607.06450, eq. 20-22 and 26-29); in an LSTM also c before the output.
    """

    recurrent_dropout: float = 0.0
    zoneout: float = 0.0
    layer_norm: bool = False

    @property
    def additive(self) -> bool:
        return not self.layer_norm

    @property
    def product_names(self) -> tuple[str, ...]:
        """Parts of the state that the recurrent kernel multiplies."""
        return ("h",)

    @property
    def recurrent_shape(self):
        return len(self.product_names) * self.units, len(self.gates) * self.units

    @property
    def zoneouts(self) -> dict[str, float]:
        """Zoneout rate of each part of the state."""
        return {"h": self.zoneout}

    def weights(self, features):
        weights = super().weights(features)
        # the bias follows the normalisation, in `normalised`
        return weights._replace(bias=jnp.zeros_like(weights.bias)) if self.layer_norm else weights

    def other_params(self):
        if not self.layer_norm:
            return {}
        width = len(self.gates) * self.units
        gains = {name: self.param(name, nn.initializers.ones, (width,)) for name in ("input_gain", "recurrent_gain")}
        return {"bias": self.get_variable("params", "bias"), **gains}

    @nn.nowrap
    def normalised(self, params: dict[str, Array], pre: tuple[Array, ...]) -> tuple[Array, ...]:
        """Returns the summed pre-activations, normalised if `layer_norm`."""
        if not self.layer_norm:
            return pre
        x, u = pre
        return (normalise(x, params["input_gain"]) + normalise(u, params["recurrent_gain"]) + params["bias"],)

    @nn.nowrap
    def step(self, length, batch, train):
        masks, constants = {}, {}
        zoneouts = {name: rate for name, rate in self.zoneouts.items() if rate}
        if train:
            for name, rate in zoneouts.items():
                masks[name] = jax.random.bernoulli(self.make_rng("dropout"), rate, (length, batch, self.units))
            if self.recurrent_dropout:
                keep, shape = 1 - self.recurrent_dropout, (batch, self.recurrent_shape[0])
                constants["kept"] = jax.random.bernoulli(self.make_rng("dropout"), keep, shape) / keep

        def product_input(state: State, constants: dict[str, Array]) -> Array:
            inputs = jnp.concatenate([state[name] for name in self.product_names], axis=-1)
            return inputs * constants["kept"] if constants else inputs

        def update(params: dict[str, Array], pre: tuple[Array, ...], state: State, masks: dict[str, Array]) -> State:
            new = self.update(params, pre, state)
            for name, rate in zoneouts.items():
                stays = masks[name] if train else rate
                new[name] = stays * state[name] + (1 - stays) * new[name]
            return new

        return Step(product_input, update, self.additive), masks, constants


class VariantElman(Regularised):
    """`layers.recurrent.Elman` with the fields of `Regularised`."""

    activation: Callable[[Array], Array] = tanh

    @nn.nowrap
    def update(self, params, pre, state):
        return {"h": self.activation(self.normalised(params, pre)[0])}


class VariantLSTM(Regularised):
    """`layers.recurrent.LSTM` with parts added or left out.

    With `peepholes=True` it is the vanilla LSTM of Greff et al. (2017, arXiv 1503.04069, sec. II). Their variants
    (sec. III) change one more field: NIG `input_gate=False`, NFG `forget_gate=False`, NOG `output_gate=False`, NIAF
    `input_activation=None`, NOAF `output_activation=None`, NP `peepholes=False`, CIFG `coupled=True`, FGR
    `full_gate_recurrence=True`.

    Attributes:
        input_gate, forget_gate, output_gate: a gate that is left out is always open.
        coupled: the forget gate is 1 - the input gate.
        peepholes: gates see c, the output gate the new one; one weight per unit.
        full_gate_recurrence: each gate also sees the previous values of all gates.
        forget_bias: initial bias of the forget gate.
        zoneout_cell: zoneout of c.
    """

    input_gate: bool = True
    forget_gate: bool = True
    output_gate: bool = True
    coupled: bool = False
    peepholes: bool = False
    full_gate_recurrence: bool = False
    input_activation: Activation = tanh
    output_activation: Activation = tanh
    gate_activation: Callable[[Array], Array] = sigmoid
    forget_bias: float = 1.0
    zoneout_cell: float = 0.0

    @property
    def gates(self):
        forget = self.forget_gate and not self.coupled
        present = {"i": self.input_gate, "f": forget, "g": True, "o": self.output_gate}
        return tuple(name for name, is_present in present.items() if is_present)

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
        params = super().other_params()
        names = [f"{gate}_peephole" for gate in self.gates if gate != "g"] if self.peepholes else []
        params |= {name: self.param(name, nn.initializers.normal(0.1), (self.units,)) for name in names}
        if self.layer_norm:
            params["cell_gain"] = self.param("cell_gain", nn.initializers.ones, (self.units,))
            params["cell_bias"] = self.param("cell_bias", nn.initializers.zeros, (self.units,))
        return params

    @nn.nowrap
    def update(self, params, pre, state):
        blocks = dict(zip(self.gates, self.blocks(self.normalised(params, pre)[0]), strict=True))
        c = state["c"]

        def gate(name: str, c: Array) -> Array:
            z = blocks[name] + params[f"{name}_peephole"] * c if self.peepholes else blocks[name]
            return self.gate_activation(z)

        gates = {name: gate(name, c) for name in ("i", "f") if name in blocks}
        forget = 1 - gates.get("i", 1.0) if self.coupled else gates.get("f", 1.0)
        c = forget * c + gates.get("i", 1.0) * activate(self.input_activation, blocks["g"])
        if self.output_gate:
            gates["o"] = gate("o", c)
        output = normalise(c, params["cell_gain"]) + params["cell_bias"] if self.layer_norm else c
        h = gates.get("o", 1.0) * activate(self.output_activation, output)
        return {"h": h, "c": c} | {name: gates[name] for name in self._recurrent_gates}


class VariantGRU(Regularised):
    """`layers.recurrent.GRU` with the fields of `Regularised`, or with its reset gate before the product.

    Attributes:
        reset_after: the candidate is `activation(W x + b + r (U h + b'))`, as in PyTorch and cuDNN; if false it is
            `activation(W x + U (r h) + b)`, as in the papers, without `layer_norm` and `recurrent_dropout`.
    """

    reset_after: bool = True
    activation: Activation = tanh
    gate_activation: Callable[[Array], Array] = sigmoid

    gates = ("r", "z", "n")
    additive = False

    @property
    def recurrent_shape(self):
        return self.units, (3 if self.reset_after else 2) * self.units

    def other_params(self):
        if self.reset_after:
            bias = self.param("candidate_bias", nn.initializers.zeros, (self.units,))
            return super().other_params() | {"candidate_bias": bias}
        if self.layer_norm or self.recurrent_dropout:
            raise ValueError("reset_after=False does not support layer_norm and recurrent_dropout")
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
        r, z = jnp.split(self.gate_activation(x_gates + u_gates), 2, axis=-1)
        if self.reset_after:
            u = r * (u + params["candidate_bias"])
        else:
            u = (r * h).astype(x.dtype) @ params["candidate_kernel"].astype(x.dtype)
        return {"h": (1 - z) * activate(self.activation, x + u) + z * h}


def normalise(x: Float[Array, "b k"], gain: Float[Array, " k"]) -> Float[Array, "b k"]:
    """Layer normalisation without a bias, because the pre-activations have their own."""
    x = x.astype(jnp.float32)
    x = x - x.mean(-1, keepdims=True)
    return gain * x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6)


def activate(function: Activation, x: Array) -> Array:
    return x if function is None else function(x)
