"""Sequence to sequence: equations, padding, and decoding that computes what training does."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers.recurrent import GRU, LSTM
from arch.layers.recurrent_attention import Additive, Dot, General
from arch.layers.recurrent_stack import Recurrent
from arch.layers.recurrent_variants import VariantLSTM
from arch.seq2seq import Seq2Seq

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
SOURCE = jax.random.randint(KEY, (3, 6), 0, 7)
LENGTHS = jnp.array([4, 6, 2])
TARGET = jax.random.randint(jax.random.key(1), (3, 5), 0, 9)
UNIDIRECTIONAL = {"bidirectional": False, "query": "current"}
VARIANTS = {
    "bahdanau": {"deep_output": 4},
    "bahdanau lstm": {"cell": LSTM, "widths": (6, 5), "tied": True},
    "sutskever": {"cell": LSTM, "attention": None, "bidirectional": False, "reverse_source": True, "widths": (6, 5)},
    "cho": {"attention": None, "deep_output": 4},
    "luong dot": {"attention": Dot, **UNIDIRECTIONAL, "widths": (6, 6), "reverse_source": True},
    "luong general": {
        "attention": General,
        "query": "current",
        "cell": functools.partial(VariantLSTM, layer_norm=True),
    },
    "luong concat": {"attention": Additive, **UNIDIRECTIONAL, "tied": True},
    "luong feeding": {"attention": General, **UNIDIRECTIONAL, "input_feeding": True, "cell": LSTM, "widths": (6, 5)},
}


def make(**fields) -> Seq2Seq:
    return Seq2Seq(**{"num_classes": 9, "vocab_size": 7, "widths": (6,), "embedding_width": 4} | fields)


@functools.cache
def trained(name: str) -> tuple[Seq2Seq, dict, jax.Array]:
    """Returns model, disturbed variables (a bias that starts at zero hides mistakes) and logits."""
    model = make(**VARIANTS[name])
    variables = jax.jit(functools.partial(model.init, train=False))(KEY, SOURCE, LENGTHS, TARGET)
    rng = np.random.default_rng(2)
    variables = jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, p.dtype), variables)
    return model, variables, forced(model)(variables, SOURCE, LENGTHS, TARGET)


@functools.cache
def forced(model: Seq2Seq):
    return jax.jit(functools.partial(model.apply, train=False))


@pytest.mark.parametrize("name", VARIANTS)
def test_step_by_step_is_what_is_trained(name):
    model, variables, logits = trained(name)
    _, cache = jax.jit(functools.partial(model.apply, length=5, method="start"))(variables, SOURCE, LENGTHS)
    decode = jax.jit(functools.partial(model.apply, method="decode", mutable=["intermediates"]))
    steps = []
    for tokens in TARGET.T:
        before = jax.tree.structure(cache)
        (step, cache), sown = decode(variables, tokens[:, None], cache)
        assert jax.tree.structure(cache) == before and step.dtype == jnp.float32
        steps.append(step[:, 0])
        if model.attention is not None:
            (weights,) = sown["intermediates"]["decoder"]["attention"]
            np.testing.assert_allclose(weights.sum(2), 1, rtol=1e-5)
            assert not jnp.where(jnp.arange(6) < LENGTHS[:, None, None], 0, weights).any()
    np.testing.assert_allclose(jnp.stack(steps, 1), logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", VARIANTS)
def test_padding_of_the_source_changes_nothing(name):
    model, variables, logits = trained(name)
    padding = jnp.arange(6) >= LENGTHS[:, None]
    np.testing.assert_array_equal(
        forced(model)(variables, jnp.where(padding, SOURCE + 1, SOURCE) % 7, LENGTHS, TARGET), logits
    )
    alone = forced(model)(variables, SOURCE[:1, :4], LENGTHS[:1], TARGET[:1])
    np.testing.assert_allclose(alone[0], logits[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["bahdanau", "luong dot", "luong feeding"])
def test_an_output_sees_all_of_the_source_and_the_target_up_to_its_position(name):
    model, variables, logits = trained(name)
    later = forced(model)(variables, SOURCE, LENGTHS, TARGET.at[:, 3].set((TARGET[:, 3] + 1) % 9))
    changed = np.abs(later - logits).max((0, 2)) > 1e-6
    np.testing.assert_array_equal(changed, [False, False, False, True, True])
    for position in range(4):
        source = SOURCE.at[0, position].set((SOURCE[0, position] + 1) % 7)
        assert np.abs(forced(model)(variables, source, LENGTHS, TARGET) - logits)[0].max(1).min() > 1e-6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gru(params, x, h):
    x_r, x_z, x_n = np.split(x @ params["input_kernel"] + params["bias"], 3, -1)
    u_r, u_z, u_n = np.split(h @ params["recurrent_kernel"], 3, -1)
    z = sigmoid(x_z + u_z)
    return (1 - z) * np.tanh(x_n + sigmoid(x_r + u_r) * (u_n + params["candidate_bias"])) + z * h


def softmax(scores):
    return np.exp(scores) / np.exp(scores).sum()


def encoded(variables, row):
    """Returns parameters, the encoder's outputs of one sentence, and its backward layer's last state."""
    params = jax.tree.map(np.asarray, variables["params"])
    x = params["source_embedding"]["embedding"][SOURCE[row, : LENGTHS[row]]]
    outputs, states = Recurrent(cell=GRU, widths=(6,), bidirectional="bridge" in params).apply(
        {"params": variables["params"]["encoder"]}, jnp.asarray(x)[None], train=False
    )
    return params, np.asarray(outputs[0]), np.asarray(states[-1]["h"][0])


@pytest.mark.parametrize("row", [0, 1])
def test_the_equations_of_bahdanau(row):
    """arXiv 1409.0473, appendix A; the deep output looks at the state after the step."""
    _, variables, logits = trained("bahdanau")
    params, values, backward = encoded(variables, row)
    decoder, bridge, dense = params["decoder"], params["bridge"]["layer1_h"], params["maxout"]
    attend = decoder["attend"]
    keys = values @ attend["key"]["kernel"] + attend["key"]["bias"]
    s = np.tanh(backward @ bridge["kernel"] + bridge["bias"])
    for token, expected in zip(TARGET[row], logits[row], strict=True):
        alpha = softmax(np.tanh(s @ attend["query"]["kernel"] + keys) @ attend["vector"])
        context, y = alpha @ values, params["target_embedding"]["embedding"][token]
        s = gru(decoder["stack"]["layer1_forward"], np.concatenate([y, context]), s)
        pairs = np.concatenate([s, y, context]) @ dense["kernel"] + dense["bias"]
        t = pairs.reshape(4, 2).max(1)
        np.testing.assert_allclose(t @ params["head"]["kernel"] + params["head"]["bias"], expected, atol=1e-4)


@pytest.mark.parametrize("feeding", [False, True])
def test_the_equations_of_luong(feeding):
    """arXiv 1508.04025, eq. 5-8 and sec. 3.3."""
    model = make(attention=General, input_feeding=feeding, **UNIDIRECTIONAL)
    variables = model.init(KEY, SOURCE, LENGTHS, TARGET, train=False)
    logits = model.apply(variables, SOURCE, LENGTHS, TARGET, train=False)
    row = 0
    params, values, h = encoded(variables, row)
    decoder = params["decoder"]
    attentional = np.zeros(6)
    for token, expected in zip(TARGET[row], logits[row], strict=True):
        x = params["target_embedding"]["embedding"][token]
        x = np.concatenate([x, attentional]) if feeding else x
        h = gru(decoder["stack"]["layer1_forward"], x, h)
        context = softmax(h @ decoder["attend"]["key"]["kernel"].T @ values.T) @ values
        attentional = np.tanh(np.concatenate([context, h]) @ decoder["attentional"]["kernel"])
        np.testing.assert_allclose(
            attentional @ params["head"]["kernel"] + params["head"]["bias"], expected, rtol=1e-4, atol=1e-5
        )


def test_a_reversed_source_is_read_from_its_end():
    _, variables, logits = trained("sutskever")
    reversed_rows = jnp.stack([jnp.concatenate([x[:n][::-1], x[n:]]) for x, n in zip(SOURCE, LENGTHS, strict=True)])
    forwards = make(**VARIANTS["sutskever"] | {"reverse_source": False})
    np.testing.assert_array_equal(forced(forwards)(variables, reversed_rows, LENGTHS, TARGET), logits)


def test_attention_weights_are_in_the_order_of_the_source():
    """The memory's place of each token: only its weight and those after it (read later) change with the token."""
    model = make(**VARIANTS["luong dot"] | {"reverse_source": False})
    variables = model.init(KEY, SOURCE, LENGTHS, TARGET, train=False)
    for reverse, unchanged in ((False, slice(0, 3)), (True, slice(4, 6))):
        model = model.clone(reverse_source=reverse)
        a, b = (
            model.apply(variables, source, LENGTHS, length=5, method="start")[1].memory["values"][1]
            for source in (SOURCE, SOURCE.at[1, 3].set((SOURCE[1, 3] + 1) % 7))
        )
        np.testing.assert_array_equal(a[unchanged], b[unchanged])
        assert np.abs(a[3] - b[3]).max() > 1e-6


def test_in_a_loop_every_step_has_its_own_dropout():
    """Two layers whose input is the same at each step: with one mask for all steps the outputs would settle."""
    model = make(widths=(6, 6), dropout=0.5)
    target = jnp.zeros((1, 40), jnp.int32)
    variables = model.init(KEY, SOURCE[:1], LENGTHS[:1], target, train=False)

    def change(train):
        logits = model.apply(variables, SOURCE[:1], LENGTHS[:1], target, train=train, rngs={"dropout": KEY})
        return np.abs(np.diff(logits[0, 20:], axis=0)).max()

    assert change(False) < 1e-3 < 1e-2 < change(True)


@pytest.mark.parametrize("name", ["bahdanau", "luong feeding"])
def test_half_precision_decodes(name):
    model = make(**VARIANTS[name], dtype=jnp.bfloat16)
    _, variables, logits = trained(name)
    _, cache = model.apply(variables, SOURCE, LENGTHS, length=5, method="start")
    step, after = model.apply(variables, TARGET[:, :1], cache, method="decode")
    assert [leaf.dtype for leaf in jax.tree.leaves(cache)] == [leaf.dtype for leaf in jax.tree.leaves(after)]
    np.testing.assert_allclose(step[:, 0], logits[:, 0], atol=0.3)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"query": "next"}, "must be 'previous' or 'current'"),
        ({"input_feeding": True}, "input_feeding"),
        ({"input_feeding": True, "query": "current", "deep_output": 3}, "input_feeding"),
        ({"attention": Dot}, "use General"),
    ],
)
def test_contradictions_are_refused(fields, words):
    with pytest.raises(ValueError, match=words):
        make(**fields).init(KEY, SOURCE, LENGTHS, TARGET, train=False)
