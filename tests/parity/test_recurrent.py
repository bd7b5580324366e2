"""Recurrent layers equal PyTorch's on the same weights: outputs, last states and gradients to 1e-5."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.recurrent import GRU, LSTM, Elman
from arch.layers.recurrent_stack import Recurrent

torch = pytest.importorskip("torch")

BATCH, LENGTH, FEATURES, UNITS, LAYERS = 4, 9, 5, 6, 2
LENGTHS = np.array([4, 9, 1, 6], np.int32)
CLOSE = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
PEERS = {
    "elman": (Elman, lambda **kwargs: torch.nn.RNN(**kwargs)),
    "relu": (
        functools.partial(Elman, activation=jax.nn.relu),
        lambda **kwargs: torch.nn.RNN(nonlinearity="relu", **kwargs),
    ),
    "lstm": (LSTM, lambda **kwargs: torch.nn.LSTM(**kwargs)),
    "gru": (GRU, lambda **kwargs: torch.nn.GRU(**kwargs)),
}


def to_ours(arrays: dict[str, np.ndarray], gradients: bool) -> dict:
    """Turns PyTorch's weights, or their gradients, into our layers': kernels transposed, two biases made one.

    PyTorch has a bias each for input and state. Their sum is ours, except in the GRU's candidate; either one's
    gradient is ours.
    """
    params = {}
    for number in range(LAYERS):
        for direction, suffix in (("forward", ""), ("backward", "_reverse")):
            if f"weight_ih_l{number}{suffix}" not in arrays:
                continue
            names = (f"{kind}_l{number}{suffix}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            input_kernel, recurrent_kernel, bias, recurrent_bias = (arrays[name] for name in names)
            layer = {"input_kernel": input_kernel.T, "recurrent_kernel": recurrent_kernel.T}
            if len(bias) == 3 * UNITS:
                layer["candidate_bias"], recurrent_bias = recurrent_bias[-UNITS:], recurrent_bias.copy()
                recurrent_bias[-UNITS:] = 0
            layer["bias"] = bias if gradients else bias + recurrent_bias
            params[f"layer{number + 1}_{direction}"] = layer
    return params


def run_theirs(peer, x, state, lengths, targets):
    """Returns outputs, last states by layer and direction, and the gradients of weights, input and first states."""
    x = torch.tensor(x, requires_grad=True)
    state = [torch.tensor(part, requires_grad=True) for part in state]
    inputs = x
    if lengths is not None:
        inputs = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor(lengths), True, enforce_sorted=False)
    y, last = peer(inputs, tuple(state) if len(state) > 1 else state[0])
    if lengths is not None:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, batch_first=True)
    last = last if isinstance(last, tuple) else (last,)
    loss = (y * torch.tensor(targets)).sum() + sum(part.square().sum() for part in last)
    loss.backward()
    gradients = {name: p.grad.numpy() for name, p in peer.named_parameters()}
    return y.detach().numpy(), [p.detach().numpy() for p in last], gradients, x.grad.numpy(), [p.grad for p in state]


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["whole", "packed"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["forward", "bidirectional"])
@pytest.mark.parametrize("name", PEERS)
def test_outputs_states_and_gradients_are_pytorchs(name, bidirectional, lengths):
    cell, make_peer = PEERS[name]
    torch.manual_seed(0)
    peer = make_peer(
        input_size=FEATURES, hidden_size=UNITS, num_layers=LAYERS, batch_first=True, bidirectional=bidirectional
    )
    weights = {key: value.detach().numpy() for key, value in peer.named_parameters()}
    parts, directions = ("h", "c") if name == "lstm" else ("h",), 1 + bidirectional
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, LENGTH, FEATURES), np.float32)
    first = rng.standard_normal((len(parts), LAYERS * directions, BATCH, UNITS), np.float32)
    targets = rng.standard_normal((BATCH, LENGTH, UNITS * directions), np.float32)
    y, last, gradients, d_x, d_first = run_theirs(peer, x, first, lengths, targets)

    model = Recurrent(cell=cell, widths=(UNITS,) * LAYERS, bidirectional=bidirectional)

    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def loss(params, x, states):
        y, last = model.apply(
            {"params": params}, x, states, None if lengths is None else jnp.asarray(lengths), train=True
        )
        return (y * targets).sum() + sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(last)), (y, last)

    states = [dict(zip(parts, first[:, i], strict=True)) for i in range(LAYERS * directions)]
    (_, (our_y, our_last)), (our_gradients, our_d_x, our_d_first) = loss(
        *jax.tree.map(jnp.asarray, (to_ours(weights, False), x, states))
    )
    CLOSE(our_y, y)
    CLOSE(our_d_x, d_x)
    for i, part in enumerate(parts):
        CLOSE(np.stack([state[part] for state in our_last]), last[i])
        CLOSE(np.stack([state[part] for state in our_d_first]), d_first[i])
    theirs = jax.tree.leaves_with_path(to_ours(gradients, True))
    for (path, a), b in zip(theirs, jax.tree.leaves(our_gradients), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-5, err_msg=jax.tree_util.keystr(path))
