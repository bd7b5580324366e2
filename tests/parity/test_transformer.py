"""Attention, blocks, label smoothing and a small GPT equal PyTorch's on the same weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.gpt import GPT
from arch.layers.attention import CrossAttention, SelfAttention
from arch.layers.feedforward import FeedForward
from arch.layers.mixer import Context
from arch.layers.norm import layer_norm
from arch.layers.trunk import Block
from tasks.classification import Classification

torch = pytest.importorskip("torch")
functional = torch.nn.functional

BATCH, LENGTH, MEMORY, WIDTH, HEADS, HIDDEN = 3, 7, 5, 12, 3, 20
CLOSE = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
CONTEXT = Context(jnp.arange(LENGTH)[None])
RNG = np.random.default_rng(0)
X, Y = (RNG.standard_normal((BATCH, size, WIDTH), np.float32) for size in (LENGTH, MEMORY))
MASK = np.arange(LENGTH) < np.array([[LENGTH], [2], [5]])
MEMORY_MASK = np.arange(MEMORY) < np.array([[1], [MEMORY], [4]])


def disturb(module) -> None:
    """Adds noise to all weights of a PyTorch module: biases and scales start at 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


def array(tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def dense(weight, bias=None) -> dict[str, np.ndarray]:
    """Returns the parameters of a dense layer: PyTorch's weight is [outputs, inputs]."""
    return {"kernel": array(weight).T} | ({} if bias is None else {"bias": array(bias)})


def norm(module) -> dict[str, np.ndarray]:
    return {"scale": array(module.weight), "bias": array(module.bias)}


def attention(module) -> dict:
    """Returns the parameters of `torch.nn.MultiheadAttention`, which has one matrix for queries, keys and values."""
    parts = zip(("query", "key", "value"), module.in_proj_weight.chunk(3), module.in_proj_bias.chunk(3), strict=True)
    heads = {name: dense(weight, bias) for name, weight, bias in parts}
    return heads | {"out": dense(module.out_proj.weight, module.out_proj.bias)}


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_that_of_pytorch(causal):
    peer, x = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), torch.tensor(X)
    disturb(peer)
    hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1) if causal else None
    expected, weights = peer(
        x, x, x, key_padding_mask=~torch.tensor(MASK), attn_mask=hidden, average_attn_weights=False
    )
    module = SelfAttention(HEADS, causal=causal)
    context = CONTEXT.replace(mask=jnp.asarray(MASK))
    (y, _), captured = module.apply({"params": attention(peer)}, jnp.asarray(X), context, mutable="intermediates")
    CLOSE(y, array(expected))
    CLOSE(captured["intermediates"][module.SOWN][0], array(weights).swapaxes(1, 2))


def test_cross_attention_is_that_of_pytorch():
    peer, memory = torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True), torch.tensor(Y)
    disturb(peer)
    expected, _ = peer(torch.tensor(X), memory, memory, key_padding_mask=~torch.tensor(MEMORY_MASK))
    context = CONTEXT.replace(memory=jnp.asarray(Y), memory_mask=jnp.asarray(MEMORY_MASK))
    y, _ = CrossAttention(HEADS).apply({"params": attention(peer)}, jnp.asarray(X), context)
    CLOSE(y, array(expected))


@pytest.mark.parametrize("order", ["post", "pre"])
def test_a_block_is_an_encoder_layer_of_pytorch(order):
    peer = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, HIDDEN, dropout=0.0, activation="relu", batch_first=True, norm_first=order == "pre"
    )
    disturb(peer)
    x = torch.tensor(X, requires_grad=True)
    padding = ~torch.tensor(MASK)
    expected = peer(x, src_key_padding_mask=padding)
    expected.square().sum().backward()
    feed_forward = {"hidden": dense(*peer.linear1.parameters()), "out": dense(*peer.linear2.parameters())}
    params = {
        "attention": {"norm": norm(peer.norm1), "layer": attention(peer.self_attn)},
        "feed_forward": {"norm": norm(peer.norm2), "layer": feed_forward},
    }
    sublayers = {
        "attention": functools.partial(SelfAttention, HEADS),
        "feed_forward": functools.partial(FeedForward, HIDDEN),
    }
    block = Block(sublayers, {"order": order, "norm": functools.partial(layer_norm, epsilon=1e-5)})
    context = CONTEXT.replace(mask=jnp.asarray(MASK))

    def loss(x):
        y, _ = block.apply({"params": params}, x, None, context)
        return jnp.square(y).sum(), y

    (_, y), gradient = jax.value_and_grad(loss, has_aux=True)(jnp.asarray(X))
    np.testing.assert_allclose(y, array(expected), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gradient, x.grad.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
def test_label_smoothing_is_that_of_pytorch(smoothing):
    logits = RNG.standard_normal((6, 5), np.float32)
    labels, mask = np.array([0, 4, 2, 2, 1, 3]), np.array([1, 1, 0, 1, 1, 1], np.float32)
    peer = torch.tensor(logits, requires_grad=True)
    expected = functional.cross_entropy(
        peer[mask > 0], torch.tensor(labels[mask > 0]), reduction="sum", label_smoothing=smoothing
    )
    expected.backward()
    task, batch = Classification(label_smoothing=smoothing), {"label": jnp.asarray(labels), "mask": jnp.asarray(mask)}
    loss, gradient = jax.value_and_grad(lambda logits: task.score(logits, batch).losses["loss"])(jnp.asarray(logits))
    CLOSE(loss, expected.item())
    CLOSE(gradient, peer.grad.numpy())


VOCABULARY, DEPTH, STEPS = 11, 2, 10


class Peer(torch.nn.Module):
    """nanoGPT's network: learned positions, pre-norm blocks, tanh gelu, a head tied to the embedding."""

    def __init__(self):
        super().__init__()
        self.tokens = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.positions = torch.nn.Embedding(LENGTH, WIDTH)
        self.blocks = torch.nn.ModuleList(
            torch.nn.ModuleDict(
                {
                    "norm1": torch.nn.LayerNorm(WIDTH),
                    "attention": torch.nn.MultiheadAttention(WIDTH, HEADS, batch_first=True),
                    "norm2": torch.nn.LayerNorm(WIDTH),
                    "hidden": torch.nn.Linear(WIDTH, 4 * WIDTH),
                    "out": torch.nn.Linear(4 * WIDTH, WIDTH),
                }
            )
            for _ in range(DEPTH)
        )
        self.norm = torch.nn.LayerNorm(WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens):
        x = self.tokens(tokens) + self.positions(torch.arange(LENGTH))
        hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
        for block in self.blocks:
            y = block["norm1"](x)
            x = x + block["attention"](y, y, y, attn_mask=hidden, need_weights=False)[0]
            x = x + block["out"](functional.gelu(block["hidden"](block["norm2"](x)), approximate="tanh"))
        return self.head(self.norm(x))


def of_gpt(peer: Peer) -> dict:
    """Returns the parameters of `GPT`."""
    trunk = {"norm": norm(peer.norm)}
    for number, block in enumerate(peer.blocks, start=1):
        feed_forward = {name: dense(block[name].weight, block[name].bias) for name in ("hidden", "out")}
        trunk[f"block{number}"] = {
            "attention": {"norm": norm(block["norm1"]), "layer": attention(block["attention"])},
            "feed_forward": {"norm": norm(block["norm2"]), "layer": feed_forward},
        }
    return {
        "embedding": {"embedding": array(peer.tokens.weight)},
        "position_embedding": {"embedding": array(peer.positions.weight)},
        "trunk": trunk,
    }


def test_ten_steps_of_a_gpt_with_tied_weights_are_those_of_pytorch():
    """Losses of each step, the first gradient of the tied weights, and all parameters after the last step."""
    torch.manual_seed(0)
    peer = Peer()
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter *= 0.5
    model = GPT(VOCABULARY, VOCABULARY, context=LENGTH, depth=DEPTH, width=WIDTH, heads=HEADS, dropout=0.0)
    params = jax.tree.map(jnp.asarray, of_gpt(peer))
    theirs, ours = torch.optim.SGD(peer.parameters(), 0.1), optax.sgd(0.1)
    batches = np.random.default_rng(1).integers(0, VOCABULARY, (STEPS, BATCH, LENGTH + 1))

    @jax.jit
    def step(params, batch):
        def loss(params):
            logits = model.apply({"params": params}, batch[:, :-1], train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()

        value, gradients = jax.value_and_grad(loss)(params)
        updates, _ = ours.update(gradients, ours.init(params))
        return optax.apply_updates(params, updates), value, gradients["embedding"]["embedding"]

    for number, batch in enumerate(batches):
        tokens = torch.tensor(batch)
        theirs.zero_grad()
        expected = functional.cross_entropy(peer(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        expected.backward()
        params, value, tied = step(params, jnp.asarray(batch, jnp.int32))
        np.testing.assert_allclose(value, expected.item(), rtol=1e-4, err_msg=f"step {number}")
        if number == 0:
            CLOSE(tied, peer.tokens.weight.grad.numpy())
        theirs.step()
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4), params, of_gpt(peer))
