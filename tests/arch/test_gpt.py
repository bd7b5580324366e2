"""GPT by gradient: which embeddings a logit depends on; packed texts."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.gpt import GPT
from arch.layers import positions
from arch.layers.mixers import Convolution, Recurrence
from core.names import defined
from tests.arch.influence import disturbed, influence, moved

LENGTH, WIDTH, VOCABULARY, FIRST = 9, 8, 7, 4  # FIRST: tokens of the first of two packed texts
INPUTS = jax.random.randint(jax.random.key(0), (1, LENGTH), 0, VOCABULARY)
ONE_TEXT, TWO_TEXTS = jnp.zeros((1, LENGTH), jnp.int32), 5 - (jnp.arange(LENGTH)[None] >= FIRST).astype(jnp.int32)
SIZES = {"num_classes": VOCABULARY, "vocab_size": VOCABULARY, "context": LENGTH, "width": WIDTH, "heads": 2, "depth": 2}
KINDS = defined(positions, lambda value: isinstance(value, type) and issubclass(value, positions.Positions))
CASES = {
    **{name: {"positions": kind} for name, kind in KINDS.items()},
    "post-norm": {"order": "post"},
    "scan": {"scan": True, "positions": positions.Rotary, "kv_heads": 1},
    "band": {"windows": (3,)},
    "dense and band in turn": {"windows": (None, 2), "scan": True},
    "convolution": {"mixer": functools.partial(Convolution, size=3)},
}
REACH = {"band": 2 * (3 - 1), "convolution": 2 * (3 - 1)}  # the farthest token that a case's two layers see


class Case:
    """A small model; `measure` returns logits [1, t, k] and the influence of embedding j on logits i, as [t, s]."""

    def __init__(self, fields: dict):
        self.model = GPT(**SIZES | fields)
        init = functools.partial(self.model.init, train=False)
        self.variables = disturbed(jax.jit(init)(jax.random.key(0), INPUTS))

    @functools.partial(jax.jit, static_argnums=0)
    def measure(self, inputs, segments):
        def apply(move):
            call = functools.partial(self.model.apply, self.variables, inputs, segments, train=False)
            return moved(call, {LENGTH: move})

        return influence(apply, jnp.zeros((1, LENGTH, WIDTH)))


@functools.cache
def make_case(name: str) -> Case:
    return Case(CASES[name])


FAST = ("Learned", "Rotary", "band")


@pytest.fixture(params=[name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def case(request) -> Case:
    return make_case(request.param)


def test_a_logit_depends_on_its_token_and_earlier_ones_alone(case, request):
    _, influences = case.measure(INPUTS, ONE_TEXT)
    distance = np.arange(LENGTH)[:, None] - np.arange(LENGTH)
    reach = REACH.get(request.node.callspec.params["case"], LENGTH)
    np.testing.assert_array_equal(influences > 0, (distance >= 0) & (distance <= reach))


def test_a_packed_text_does_not_see_the_one_before(case):
    _, influences = case.measure(INPUTS, TWO_TEXTS)
    assert not influences[FIRST:, :FIRST].any() and not np.triu(influences, 1).any()
    assert (influences.diagonal() > 0).all() and (influences.diagonal(-1)[np.arange(LENGTH - 1) != FIRST - 1] > 0).all()


def test_the_loss_of_packed_texts_is_that_of_the_texts_alone(case):
    """Positions begin anew with each text. Behind a text alone stands padding, which it does not see."""

    def loss(logits, tokens):
        return optax.softmax_cross_entropy_with_integer_labels(logits[:-1], tokens[1:]).sum()

    packed, _ = case.measure(INPUTS, TWO_TEXTS)
    first, _ = case.measure(INPUTS.at[0, FIRST:].set(0), ONE_TEXT)
    second, _ = case.measure(jnp.roll(INPUTS, -FIRST, 1).at[0, LENGTH - FIRST :].set(0), ONE_TEXT)
    np.testing.assert_allclose(packed[0, :FIRST], first[0, :FIRST], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(packed[0, FIRST:], second[0, : LENGTH - FIRST], rtol=1e-5, atol=1e-5)
    texts = INPUTS[0, :FIRST], INPUTS[0, FIRST:]
    alone = loss(first[0, :FIRST], texts[0]) + loss(second[0, : LENGTH - FIRST], texts[1])
    together = loss(packed[0, :FIRST], texts[0]) + loss(packed[0, FIRST:], texts[1])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_one_segment_is_an_unpacked_row():
    case = make_case("Learned")
    alone = jax.jit(functools.partial(case.model.apply, train=False))(case.variables, INPUTS)
    np.testing.assert_allclose(case.measure(INPUTS, ONE_TEXT)[0], alone, rtol=1e-5, atol=1e-5)


def test_a_recurrence_refuses_packed_texts():
    model = GPT(**SIZES, mixer=Recurrence)
    with pytest.raises(ValueError, match="one text per row"):
        jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), INPUTS, TWO_TEXTS)


def test_the_rows_that_pad_the_vocabulary_have_no_logits():
    model = GPT(**SIZES, pad_vocabulary=16)
    init = functools.partial(model.init_with_output, train=False)
    logits, variables = jax.eval_shape(init, jax.random.key(0), INPUTS)
    assert logits.shape == (1, LENGTH, VOCABULARY)
    assert variables["params"]["embedding"]["embedding"].shape == (16, WIDTH)


def test_kernels_have_the_published_deviations():
    """0.02, and 0.02 / sqrt(2 depth) at the end of a branch (GPT-2, section 2.3)."""
    model = GPT(**SIZES | {"width": 96, "depth": 4, "num_classes": 500, "vocab_size": 500})
    params = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), INPUTS)["params"]
    for path, leaf in jax.tree.leaves_with_path(params):
        keys = [entry.key for entry in path]
        if keys[-1] in ("kernel", "embedding"):
            expected = 0.02 / np.sqrt(8) if keys[-2] == "out" else 0.02
            assert abs(leaf.std() / expected - 1) < 0.06, keys
        else:
            assert (leaf == (keys[-1] == "scale")).all(), keys
