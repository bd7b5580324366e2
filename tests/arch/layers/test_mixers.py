"""The contract of sublayers (`arch.layers.mixer`) for every class that has its signature, and for causal mixers."""

import dataclasses
import functools
import importlib
import inspect
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

import arch
from arch.gpt import GPT
from arch.layers.attention import CrossAttention
from arch.layers.mixer import Context
from arch.layers.positions import Learned
from core.names import defined
from training.build import construct

BATCH, LENGTH, WIDTH = 3, 8, 6
FIELDS = {"heads": 2, "width": 4, "causal": True}  # for the fields of a sublayer that have these names
X = jax.random.normal(jax.random.key(0), (BATCH, LENGTH, WIDTH))
CONTEXT = Context(jnp.arange(LENGTH)[None], memory=X[:, :2])
LENGTHS = jnp.array([3, 0, 6])
SEGMENTS = jnp.array([[0] * 3 + [1] * 5, [0] * 8, [2] + [0] * 6 + [5]])


def is_sublayer(value) -> bool:
    names = ["self", "x", "context", "cache"]
    return (
        inspect.isclass(value)
        and issubclass(value, nn.Module)
        and names == list(inspect.signature(value.__call__).parameters)
    )


def find() -> dict[str, type[nn.Module]]:
    files = [info.name for info in pkgutil.walk_packages(arch.__path__, "arch.") if not info.ispkg]
    return {
        f"{file.removeprefix('arch.')}.{name}": cls
        for file in files
        for name, cls in defined(importlib.import_module(file), is_sublayer).items()
    }


SUBLAYERS = find()


class Case:
    """A sublayer with disturbed parameters."""

    def __init__(self, cls: type[nn.Module]):
        fields = {field.name for field in dataclasses.fields(cls)}
        self.fields = {name: value for name, value in FIELDS.items() if name in fields}
        self.module, rng = cls(**self.fields), np.random.default_rng(0)
        drawn = jax.jit(self.module.init)(jax.random.key(0), X, CONTEXT)
        self.variables = jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, np.float32), drawn)
        self.apply = jax.jit(functools.partial(self.module.apply, self.variables))


@functools.cache
def make_case(name: str) -> Case:
    return Case(SUBLAYERS[name])


def is_causal(name: str) -> bool:
    """Whether a sublayer mixes tokens and can generate: asked for a cache of the tokens, it returns one."""
    fields = {field.name for field in dataclasses.fields(SUBLAYERS[name])}
    module = SUBLAYERS[name](**{key: value for key, value in FIELDS.items() if key in fields})
    context = CONTEXT.replace(capacity=LENGTH, lengths=jnp.zeros(BATCH, jnp.int32))
    try:
        (_, cache), _ = jax.eval_shape(module.init_with_output, jax.random.key(0), X, context)
    except ValueError:  # it sees later tokens
        return False
    return cache is not None and not issubclass(SUBLAYERS[name], CrossAttention)  # which caches another sequence


CAUSAL = [name for name in SUBLAYERS if is_causal(name)]
NOT_CAUSAL = [name for name in SUBLAYERS if name not in CAUSAL]


@pytest.fixture(params=SUBLAYERS)
def sublayer(request) -> Case:
    return make_case(request.param)


@pytest.fixture(params=CAUSAL)
def causal(request) -> Case:
    return make_case(request.param)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_all_mixers_are_found():
    assert {"layers.attention.SelfAttention", "layers.attention.CrossAttention"} < set(SUBLAYERS)
    assert {"layers.mixers.Recurrence", "layers.mixers.Convolution"} < set(CAUSAL)
    assert {"mixer.TokenMLP", "gmlp.GatedMLP"} < set(NOT_CAUSAL)


def test_the_result_has_the_shape_of_the_input_and_no_cache_unless_asked(sublayer):
    y, cache = sublayer.apply(X, CONTEXT)
    assert y.shape == X.shape and y.dtype == jnp.float32 and cache is None


def test_parameters_stay_float32(sublayer):
    module = type(sublayer.module)(**sublayer.fields, dtype=jnp.bfloat16)
    (y, _), variables = jax.eval_shape(module.init_with_output, jax.random.key(0), X.astype(jnp.bfloat16), CONTEXT)
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))


def influence(case: Case, context: Context) -> np.ndarray:
    """Returns the size of d y[row, i] / d x[row, j], as [row, i, j]."""

    @jax.jit
    def jacobian(x):
        return jax.jacrev(lambda x: jnp.sin(case.module.apply(case.variables, x, context)[0]).sum((0, 2)))(x)

    return np.abs(jacobian(X)).sum(-1).transpose(1, 0, 2)  # rows do not meet: the sum over rows keeps them apart


def test_causal_mixers_see_no_later_token(causal):
    meets = influence(causal, CONTEXT) > 0
    assert not np.triu(meets, 1).any()
    assert meets.diagonal(0, 1, 2).all() and meets.diagonal(-1, 1, 2).all()


def test_causal_mixers_see_no_other_text_or_refuse(causal):
    try:
        meets = influence(causal, CONTEXT.replace(segments=SEGMENTS)) > 0
    except ValueError as error:
        assert "one text per row" in str(error)
        return
    together = np.asarray(SEGMENTS)[:, :, None] == np.asarray(SEGMENTS)[:, None, :]
    assert not (meets & ~together).any() and not np.triu(meets, 1).any()
    neighbours = together.diagonal(-1, 1, 2)
    assert meets.diagonal(-1, 1, 2)[neighbours].all()


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_other_sublayers_see_the_complete_row_and_refuse_to_predict(name):
    case = make_case(name)
    meets = influence(case, CONTEXT) > 0
    if not np.triu(meets, 1).any():  # it looks at single tokens
        assert not np.tril(meets, -1).any()
        return
    assert meets.all()
    for context in (CONTEXT.replace(causal=True), CONTEXT.replace(capacity=LENGTH)):
        with pytest.raises(ValueError, match="sees later tokens"):
            case.apply(X, context)


@pytest.mark.parametrize("name", NOT_CAUSAL)
def test_other_sublayers_see_no_padding_and_no_other_text_or_refuse(name):
    case, real = make_case(name), np.arange(LENGTH) < np.array([[3], [8], [6]])
    sizes = influence(case, CONTEXT.replace(mask=jnp.asarray(real)))
    assert not sizes[real[:, :, None] & ~real[:, None, :]].any()
    try:
        meets = influence(case, CONTEXT.replace(segments=SEGMENTS)) > 0
    except ValueError as error:
        assert "one text per row" in str(error)
        return
    assert not (meets & (np.asarray(SEGMENTS)[:, :, None] != np.asarray(SEGMENTS)[:, None, :])).any()


def test_attention_that_is_not_causal_cannot_predict():
    model = SUBLAYERS["layers.attention.SelfAttention"](heads=2)
    with pytest.raises(ValueError, match="causal=True"):
        jax.eval_shape(model.init, jax.random.key(0), X, CONTEXT.replace(causal=True))


@pytest.mark.parametrize("sizes", [[1, 1, 1, 5], [3, 5]])
def test_causal_mixers_continue_from_their_cache(causal, sizes):
    context = CONTEXT.replace(positions=jnp.zeros((1, 1), jnp.int32), capacity=LENGTH)
    _, cache = causal.apply(X[:, :1], context.replace(lengths=jnp.zeros(BATCH, jnp.int32)))  # nothing yet
    parts, start = [], 0
    for size in sizes:
        context = CONTEXT.replace(positions=jnp.full((BATCH, 1), start) + jnp.arange(size))
        y, cache = causal.apply(X[:, start : start + size], context, cache)
        parts.append(y)
        start += size
        assert all(leaf.shape[0] == BATCH for leaf in jax.tree.leaves(cache))
    close(jnp.concatenate(parts, 1), causal.apply(X, CONTEXT)[0])


def test_the_cache_of_rows_of_unequal_lengths_has_their_real_tokens(causal):
    _, cache = causal.apply(X, CONTEXT.replace(capacity=LENGTH + 2, lengths=LENGTHS))
    new = jax.random.normal(jax.random.key(1), (BATCH, 2, WIDTH))
    y, _ = causal.apply(new, CONTEXT.replace(positions=LENGTHS[:, None] + jnp.arange(2)), cache)
    for row, length in enumerate(LENGTHS):
        alone = jnp.concatenate([X[row, :length], new[row], X[row, : LENGTH - 2 - length]])[
            :LENGTH
        ]  # padded at the end
        expected, _ = causal.apply(jnp.stack([alone] * BATCH), CONTEXT)
        close(y[row], expected[0, length : length + 2])


MIXERS = {name: name for name in CAUSAL if name.startswith("layers.mixers.")} | {"attention": None}


@pytest.mark.slow
@pytest.mark.parametrize("name", MIXERS)
def test_each_mixer_learns_in_the_same_trunk_to_repeat_the_token_of_two_steps_before(name):
    """The mixer is given as a config gives it."""
    vocabulary, length, batch = 5, 10, 16
    fields = {"name": "gpt.GPT", "context": length, "depth": 2, "width": 16, "heads": 2, "dropout": 0.0}
    fields |= {"mixer": MIXERS[name]} if MIXERS[name] else {}
    model = construct(ConfigDict(fields), "arch", num_classes=vocabulary, vocab_size=vocabulary)
    assert isinstance(model, GPT) and model.positions is Learned
    optimizer = optax.adam(1e-2)

    def loss(params, key):
        tokens = jax.random.randint(key, (batch, length), 0, vocabulary)
        logits = model.apply({"params": params}, tokens, train=True)[:, 2:]
        return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, :-2]).mean()

    def step(carry, key):
        params, state = carry
        value, gradients = jax.value_and_grad(loss)(params, key)
        updates, state = optimizer.update(gradients, state)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def train(key):
        params = model.init(key, jnp.zeros((1, length), jnp.int32), train=False)["params"]
        return jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, 300))[1]

    losses = train(jax.random.key(0))
    assert losses[0] > 1.5 and np.mean(losses[-10:]) < 0.02


def test_a_mixer_of_a_config_is_checked():
    fields = {"name": "gpt.GPT", "variant": "test", "mixer": "layers.mixers.Convolution(size=2)"}
    model = construct(ConfigDict(fields), "arch")
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    assert shapes["params"]["trunk"]["block1"]["attention"]["layer"]["kernel"].shape == (2, 12)
    with pytest.raises(ValueError, match=r"Convolution.*'sizes'"):
        construct(ConfigDict(fields | {"mixer": "layers.mixers.Convolution(sizes=2)"}), "arch")
