"""Attention against its equations in NumPy and float64, and against Flax's own layer."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.attention import CrossAttention, SelfAttention
from arch.layers.mixer import Context
from arch.layers.norm import rms_norm
from arch.layers.positions import ALiBi, RelativeBias, Rotary

pytestmark = pytest.mark.slow

BATCH, LENGTH, MEMORY, WIDTH, HEADS = 2, 7, 5, 12, 4
POSITIONS = np.arange(LENGTH)[None]
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1, 1], [3, 3, 3, 3, 3, 3, 4]])
MASK = np.arange(LENGTH)[None] < np.array([[LENGTH], [4]])
MEMORY_MASK = np.arange(MEMORY)[None] < np.array([[2], [MEMORY]])

CASES = {
    "plain": {},
    "grouped heads": {"kv_heads": 2, "causal": True},
    "multi-query": {"kv_heads": 1},
    "key and value width": {"key_width": 5, "value_width": 2},
    "without biases": {"bias": False, "out_bias": False, "causal": True},
    "band": {"causal": True, "window": 3},
    "band in both directions": {"window": 2},
    "normed queries and keys": {"qk_norm": rms_norm, "kv_heads": 2},
}


def dense(params: dict, x: np.ndarray) -> np.ndarray:
    return x @ params["kernel"] + params.get("bias", 0)


def scaled(params: dict | None, x: np.ndarray) -> np.ndarray:
    """Returns x / rms(x) * scale of one head, or x without a norm."""
    return x if params is None else x / np.sqrt((x**2).mean() + 1e-6) * params["scale"]


def expected(params: dict, x, memory, heads: int, kv_heads: int, visible) -> tuple[np.ndarray, np.ndarray]:
    """Returns the output and the weights [b, t, heads, s]; `visible(row, query, key)` says which pairs meet."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    x, memory = np.asarray(x, np.float64), np.asarray(memory, np.float64)
    q, k, v = dense(params["query"], x), dense(params["key"], memory), dense(params["value"], memory)
    h, width = q.shape[-1] // heads, v.shape[-1] // kv_heads
    mixed = np.zeros((*x.shape[:2], heads * width))
    weights = np.zeros((*x.shape[:2], heads, memory.shape[1]))
    for b, t, head in np.ndindex(*x.shape[:2], heads):
        group = head // (heads // kv_heads)
        query = scaled(params.get("query_norm"), q[b, t, head * h : (head + 1) * h])
        for s in range(memory.shape[1]):
            key = scaled(params.get("key_norm"), k[b, s, group * h : (group + 1) * h])
            weights[b, t, head, s] = np.exp(query @ key / np.sqrt(h)) if visible(b, t, s) else 0
        weights[b, t, head] /= weights[b, t, head].sum()
        for s in range(memory.shape[1]):
            value = v[b, s, group * width : (group + 1) * width]
            mixed[b, t, head * width : (head + 1) * width] += weights[b, t, head, s] * value
    return dense(params["out"], mixed), weights


@functools.cache
def tokens(length: int = LENGTH, seed: int = 0) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), (BATCH, length, WIDTH))


def disturbed(module: nn.Module, *inputs) -> dict:
    """Returns variables none of which is 0 or 1."""
    rng = np.random.default_rng(0)
    variables = jax.jit(module.init)(jax.random.key(0), *inputs)
    return {"params": jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), variables["params"])}


def run(module: nn.Module, variables: dict, x, context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Returns the output and the captured weights."""
    apply = jax.jit(functools.partial(module.apply, mutable="intermediates"))
    (y, _), captured = apply(variables, x, context)
    return y, captured["intermediates"][module.SOWN][0]


@pytest.mark.parametrize("name", CASES)
def test_self_attention_computes_its_equation(name):
    fields = CASES[name]
    module, x, context = SelfAttention(HEADS, **fields), tokens(), Context(jnp.asarray(POSITIONS))
    variables = disturbed(module, x, context)
    causal, window = fields.get("causal", False), fields.get("window", LENGTH)

    def visible(row, query, key):
        return abs(query - key) < window and (key <= query or not causal)

    output, weights = run(module, variables, x, context)
    wanted = expected(variables["params"], x, x, HEADS, fields.get("kv_heads", HEADS), visible)
    np.testing.assert_allclose(weights, wanted[1], atol=1e-6)
    np.testing.assert_allclose(output, wanted[0], rtol=1e-5, atol=1e-5)
    assert weights.shape == (BATCH, LENGTH, HEADS, LENGTH)
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)
    assert not np.asarray(weights)[wanted[1] == 0].any()


def test_padding_and_other_texts_get_no_weight():
    module, x = SelfAttention(HEADS), tokens()
    context = Context(jnp.asarray(POSITIONS), mask=jnp.asarray(MASK), segments=jnp.asarray(SEGMENTS))
    context = context.replace(mask=context.mask | (context.segments == 1) | (context.segments == 4))
    variables = disturbed(module, x, context)
    mask = np.asarray(context.mask)
    output, weights = run(module, variables, x, context)
    wanted = expected(
        variables["params"], x, x, HEADS, HEADS, lambda b, t, s: mask[b, s] and SEGMENTS[b, t] == SEGMENTS[b, s]
    )
    np.testing.assert_allclose(output, wanted[0], rtol=1e-5, atol=1e-5)
    assert not np.asarray(weights)[wanted[1] == 0].any()


@pytest.mark.parametrize("fields", [{}, {"kv_heads": 2, "key_width": 6, "value_width": 3}], ids=["plain", "widths"])
def test_cross_attention_computes_its_equation_and_remembers_the_memory(fields):
    module, x, memory = CrossAttention(HEADS, **fields), tokens(), tokens(MEMORY, 1)
    context = Context(jnp.asarray(POSITIONS), memory=memory, memory_mask=jnp.asarray(MEMORY_MASK))
    variables = disturbed(module, x, context)
    output, weights = run(module, variables, x, context)
    kv_heads = fields.get("kv_heads", HEADS)
    wanted = expected(variables["params"], x, memory, HEADS, kv_heads, lambda b, t, s: MEMORY_MASK[b, s])
    np.testing.assert_allclose(output, wanted[0], rtol=1e-5, atol=1e-5)
    assert weights.shape == (BATCH, LENGTH, HEADS, MEMORY) and not np.asarray(weights)[wanted[1] == 0].any()
    apply = jax.jit(module.apply)
    _, cache = apply(variables, x, context.replace(capacity=LENGTH))
    again, kept = apply(variables, x, context.replace(memory=None), cache)
    np.testing.assert_allclose(again, output, atol=1e-6)
    assert kept.keys.shape[2] == MEMORY


@pytest.mark.parametrize("causal", [False, True])
def test_self_attention_is_that_of_flax(causal):
    x, context = tokens(), Context(jnp.asarray(POSITIONS))
    module, theirs = SelfAttention(HEADS, causal=causal), nn.MultiHeadDotProductAttention(HEADS, qkv_features=WIDTH)
    params = disturbed(module, x, context)["params"]
    heads = {
        name: {"kernel": p["kernel"].reshape(WIDTH, HEADS, -1), "bias": p["bias"].reshape(HEADS, -1)}
        for name, p in params.items()
    }
    heads["out"] = {"kernel": params["out"]["kernel"].reshape(HEADS, -1, WIDTH), "bias": params["out"]["bias"]}
    mask = nn.make_causal_mask(x[..., 0]) if causal else None
    output, _ = jax.jit(module.apply)({"params": params}, x, context)
    np.testing.assert_allclose(output, theirs.apply({"params": heads}, x, x, mask=mask), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        CASES["grouped heads"],
        CASES["band"],
        CASES["key and value width"],
        {"positions": Rotary, "kv_heads": 1, "key_width": 4, "value_width": 4},
        {"positions": ALiBi, "causal": True},
        {"positions": RelativeBias},
    ],
    ids=["grouped", "band", "widths", "rotary", "ALiBi", "relative"],
)
def test_implementations_agree(fields, monkeypatch):
    fused, calls = jax.nn.dot_product_attention, []
    monkeypatch.setattr(
        jax.nn, "dot_product_attention", lambda *args, **kwargs: calls.append(1) or fused(*args, **kwargs)
    )
    x, context = tokens(), Context(jnp.asarray(POSITIONS), segments=jnp.asarray(SEGMENTS))
    einsum, xla = (SelfAttention(HEADS, **fields, implementation=name) for name in ("einsum", "xla"))
    variables = disturbed(einsum, x, context)

    def both(variables, x):
        return jnp.stack([module.apply(variables, x, context)[0] for module in (einsum, xla)])

    outputs = jax.jit(both)(variables, x)
    np.testing.assert_allclose(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    alike = fields.get("key_width") == fields.get("value_width")
    assert len(calls) == alike, "one call, where keys are as wide as values"


def test_a_fused_implementation_knows_that_the_mask_is_causal(monkeypatch):
    fused, causal = jax.nn.dot_product_attention, []
    monkeypatch.setattr(
        jax.nn,
        "dot_product_attention",
        lambda *args, **kwargs: causal.append((args[4] is None, kwargs["is_causal"])) or fused(*args, **kwargs),
    )
    x, plain = tokens(), Context(jnp.arange(LENGTH)[None])
    packed = Context(jnp.asarray(POSITIONS), segments=jnp.asarray(SEGMENTS))
    einsum, xla = (SelfAttention(HEADS, causal=True, implementation=name) for name in ("einsum", "xla"))
    variables = disturbed(einsum, x, plain)
    for context in (plain, packed):
        outputs = [jax.jit(module.apply)(variables, x, context)[0] for module in (einsum, xla)]
        np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)
    assert causal == [(True, True), (False, False)], "the mask of packed texts is passed"


@pytest.mark.parametrize("length", [LENGTH, LENGTH - 1], ids=["odd", "even"])
@pytest.mark.parametrize("kind", ["all", "causal", "masked"])
def test_cudnn_gets_even_lengths_and_a_row_of_the_mask_per_query(kind, length, monkeypatch):
    fused, shapes = jax.nn.dot_product_attention, []

    def by_xla(q, k, v, bias, mask, implementation, **options):
        assert implementation == "cudnn"
        shapes.extend([q.shape[1], k.shape[1], *(() if mask is None else mask.shape[2:])])
        return fused(q, k, v, bias, mask, implementation="xla", **options)

    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    x = tokens()[:, :length]
    real = jnp.arange(length)[None] < jnp.arange(length - BATCH, length)[:, None] if kind == "masked" else None
    context = Context(jnp.arange(length)[None], mask=real)
    einsum, cudnn = (SelfAttention(HEADS, causal=kind == "causal", implementation=i) for i in ("einsum", "cudnn"))
    variables = disturbed(einsum, x, context)

    def loss(x, module):
        return (module.apply(variables, x, context)[0] ** 2).sum()

    gradients = [jax.jit(jax.grad(loss), static_argnums=1)(x, module) for module in (einsum, cudnn)]
    np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-4)
    assert shapes and not any(size % 2 for size in shapes)


def test_implementations_mask_the_memory_alike():
    x, memory = tokens(), tokens(MEMORY, 1)
    context = Context(jnp.asarray(POSITIONS), memory=memory, memory_mask=jnp.asarray(MEMORY_MASK))
    einsum, xla = (CrossAttention(HEADS, implementation=name) for name in ("einsum", "xla"))
    variables = disturbed(einsum, x, context)
    outputs = [jax.jit(module.apply)(variables, x, context)[0] for module in (einsum, xla)]
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)


def test_dropped_and_captured_weights_are_not_lost_by_a_fused_implementation():
    x, context = tokens(), Context(jnp.asarray(POSITIONS), train=True)
    module = SelfAttention(HEADS, dropout=0.5, implementation="xla")
    variables = disturbed(module, x, context.replace(train=False))
    apply = jax.jit(lambda key: module.apply(variables, x, context, rngs={"dropout": key})[0])
    assert np.abs(apply(jax.random.key(0)) - apply(jax.random.key(1))).max() > 0.01
    assert run(module, variables, x, context.replace(train=False))[1].shape == (BATCH, LENGTH, HEADS, LENGTH)


def test_a_row_without_visible_tokens_stays_finite():
    x, context = tokens(), Context(jnp.asarray(POSITIONS), mask=jnp.zeros((BATCH, LENGTH), bool))
    module = SelfAttention(HEADS)
    variables = disturbed(module, x, context)
    gradient = jax.jit(jax.grad(lambda x: module.apply(variables, x, context)[0].sum()))(x)
    assert np.isfinite(gradient).all()


def test_scores_are_float32_where_the_network_computes_in_bfloat16():
    x, context = 4 * tokens(), Context(jnp.asarray(POSITIONS))
    module = SelfAttention(HEADS, dtype=jnp.bfloat16)
    variables = disturbed(module, x, context)
    output, weights = run(module, variables, x, context)
    assert output.dtype == jnp.bfloat16 and weights.dtype == jnp.float32
    np.testing.assert_allclose(weights.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("fields", [{"heads": 5}, {"heads": 4, "kv_heads": 3}])
def test_heads_that_do_not_fit_are_refused(fields):
    with pytest.raises(ValueError, match=r"must divide the width 12|multiple of 3 kv_heads"):
        jax.eval_shape(SelfAttention(**fields).init, jax.random.key(0), tokens(), Context(jnp.asarray(POSITIONS)))
