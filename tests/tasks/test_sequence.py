"""Token classification against numbers computed by hand, and sums that no padding or microbatch changes."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from arch.rnn import RecurrentClassifier
from core.errors import UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from data.augment.transform import Transform
from tasks.classification import Classification
from tasks.sequence import TokenClassification
from training import build
from training import state as state_lib
from training.step import train_step

# probabilities of two classes at the positions of two sequences, the second one padded at its end
PROBABILITY = np.array([[[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]], [[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]]], np.float32)
LOGITS = jnp.log(PROBABILITY) + 3.0  # logits are defined up to a constant
BATCH = {
    "labels": np.array([[0, 1, 1], [1, 0, 0]], np.int32),
    "labels_mask": np.array([[1, 1, 1], [1, 1, 0]], np.float32),
    "mask": np.ones(2, np.float32),
}
CHOSEN = np.array([0.5, 0.75, 0.1, 0.8, 0.6])  # probabilities of the five real labels


def numbers(task, logits, batch):
    """Returns (loss, weight) as "total", metrics and arrays of NumPy."""
    losses, metrics, arrays = task.score(logits, batch)
    return jax.tree.map(np.asarray, {"total": (losses["loss"], task.weights(batch)["loss"]), **metrics, **arrays})


def loss(task, logits, batch):
    return task.score(logits, batch).losses["loss"]


def random_batch(seed=0, examples=8, positions=7, classes=5):
    random = np.random.default_rng(seed)
    batch = {
        "tokens": random.integers(0, classes, (examples, positions)).astype(np.int32),
        "labels": random.integers(0, classes, (examples, positions)).astype(np.int32),
        "labels_mask": (random.random((examples, positions)) < 0.7).astype(np.float32),
        "mask": np.ones(examples, np.float32),
    }
    return jnp.asarray(random.normal(size=(examples, positions, classes)), jnp.float32), batch


def test_by_hand():
    result = numbers(TokenClassification(), LOGITS, BATCH)
    nats = -np.log(CHOSEN)
    np.testing.assert_allclose(result["total"], (nats.sum(), 5), rtol=1e-6)
    np.testing.assert_allclose(result["bits_per_token"], (-np.log2(CHOSEN).sum(), 5), rtol=1e-6)
    np.testing.assert_allclose(result["accuracy"], (4, 5))  # ties go to class 0; only the third label is missed
    np.testing.assert_allclose(result["sequence_accuracy"], (1, 2))
    np.testing.assert_allclose(result["loss"], (nats[:3].sum(), nats[3:].sum()), rtol=1e-6)
    np.testing.assert_allclose(result["weight"], (3, 2))


def test_perplexity_is_of_the_pooled_loss():
    task = TokenClassification()
    result = numbers(task, LOGITS, BATCH)
    perplexity = task.summary({key: result[key] for key in ("loss", "weight")}, None)["perplexity"]
    np.testing.assert_allclose(perplexity, np.prod(1 / CHOSEN) ** (1 / 5), rtol=1e-6)
    assert abs(perplexity - np.exp(result["loss"] / result["weight"]).mean()) > 0.01  # 2.233 and not 2.215
    assert task.summary({"loss": np.array([1e6]), "weight": np.array([1.0])}, None)["perplexity"] == np.inf


def test_without_a_mask_every_position_counts():
    batch = {key: BATCH[key] for key in ("labels", "mask")}
    total, weight = numbers(TokenClassification(), LOGITS, batch)["total"]
    np.testing.assert_allclose((total, weight), (-np.log([*CHOSEN, 0.5]).sum(), 6), rtol=1e-6)


def test_fractions_weigh():
    batch = BATCH | {"half": np.full((2, 3), 0.5, np.float32)}
    total, weight = numbers(TokenClassification(loss_mask="half"), LOGITS, batch)["total"]
    np.testing.assert_allclose((total, weight), (-0.5 * np.log([*CHOSEN, 0.5]).sum(), 3), rtol=1e-6)


def test_accuracy_may_be_of_other_positions_than_the_loss():
    batch = BATCH | {"answer_mask": np.array([[True, True, False], [False, False, False]])}
    result = numbers(TokenClassification(metric_mask="answer_mask"), LOGITS, batch)
    np.testing.assert_allclose(result["accuracy"], (2, 2))
    np.testing.assert_allclose(result["sequence_accuracy"], (1, 1))  # the second sequence has nothing to get right
    np.testing.assert_allclose(result["total"], (-np.log(CHOSEN).sum(), 5), rtol=1e-6)


def test_label_smoothing_is_of_the_loss_alone():
    logits, batch = random_batch()
    smooth, plain = (numbers(TokenClassification(label_smoothing=e), logits, batch) for e in (0.3, 0.0))
    targets = optax.smooth_labels(jax.nn.one_hot(batch["labels"], 5), 0.3)
    expected = np.sum(optax.softmax_cross_entropy(logits, targets) * batch["labels_mask"])
    np.testing.assert_allclose(smooth["total"], (expected, batch["labels_mask"].sum()), rtol=1e-5)
    for name in plain.keys() - {"total"}:
        np.testing.assert_array_equal(smooth[name], plain[name], err_msg=name)


def test_width_of_the_head():
    keys = {key: Key((9,), "int32", vocabulary=Vocabulary(size)) for key, size in (("target", 20), ("labels", 30))}
    info = Info("made up", {}, keys | {"tags": Key((9,), "int32", classes=("noun", "verb")), "x": Key((9,), "int32")})
    widths = {key: TokenClassification(target=key).output_size(info) for key in info.keys}
    assert widths == {"target": 20, "labels": 30, "tags": 2, "x": 0}


def test_a_tagger_reads_tokens_and_answers_with_tags():
    logits, batch = random_batch()
    tagged = {"tags": batch["labels"], "tags_mask": batch["labels_mask"], "mask": batch["mask"]}
    result = numbers(TokenClassification(target="tags"), logits, tagged)
    right = (np.argmax(logits, -1) == batch["labels"]) & (batch["labels_mask"] > 0)
    np.testing.assert_allclose(result["accuracy"], (right.sum(), batch["labels_mask"].sum()))


def test_text_classification_reads_text_and_lengths():
    _, batch = random_batch()
    lengths = np.array([7, 5, 3, 2, 7, 1, 4, 6], np.int32)
    batch = {"text": batch["tokens"], "text_lengths": lengths, "label": batch["tokens"][:, 0], "mask": np.ones(8)}
    task = Classification(inputs=("text", "text_lengths"))
    model, optimizer = RecurrentClassifier(num_classes=5, widths=(8,), vocab_size=5), optax.adam(0.03)
    inputs = tuple(jnp.asarray(batch[key]) for key in task.inputs)
    state = state_lib.create(model, optimizer, inputs, jax.random.key(0))
    step = jax.jit(functools.partial(train_step, model=model, task=task, optimizer=optimizer))
    losses = []
    for _ in range(40):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"][0] / metrics["loss"][1]))
    assert losses[-1] < losses[0] / 3
    longer = {**batch, "text": np.pad(batch["text"], ((0, 0), (0, 3)), constant_values=4)}
    outputs, padded = (
        model.apply(state.variables, *(jnp.asarray(each[key]) for key in task.inputs), train=False)
        for each in (batch, longer)
    )
    np.testing.assert_allclose(loss(task, padded, longer), loss(task, outputs, batch), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("positions", [0, 3])
@pytest.mark.parametrize("examples", [0, 2])
def test_padding_changes_nothing(positions, examples):
    logits, batch = random_batch()
    padded = {
        "labels": np.pad(batch["labels"], ((0, examples), (0, positions)), constant_values=-100),
        "labels_mask": np.pad(batch["labels_mask"], ((0, examples), (0, positions))),
        "mask": np.pad(batch["mask"], (0, examples)),
    }
    padded["labels_mask"][len(logits) :] = 1  # eval pads with copies of a real example
    more = jnp.pad(logits, ((0, examples), (0, positions), (0, 0)), constant_values=50.0)
    task = TokenClassification()
    expected, actual = numbers(task, logits, batch), numbers(task, more, padded)
    for name in expected:
        length = len(expected[name])
        np.testing.assert_allclose(actual[name][:length], expected[name], rtol=1e-6, err_msg=name)
    gradient = jax.grad(lambda x: loss(task, x, padded))(more)
    assert float(jnp.abs(gradient[:, logits.shape[1] :]).sum() + jnp.abs(gradient[len(logits) :]).sum()) == 0
    np.testing.assert_allclose(
        gradient[: len(logits), : logits.shape[1]], jax.grad(lambda x: loss(task, x, batch))(logits), rtol=1e-6
    )


@pytest.mark.slow
def test_sums_add_up_over_microbatches():
    logits, batch = random_batch()
    batch["mask"][-3:] = 0
    task = TokenClassification()
    whole = numbers(task, logits, batch)
    parts = [numbers(task, logits[i : i + 2], {k: x[i : i + 2] for k, x in batch.items()}) for i in range(0, 8, 2)]
    for name, value in whole.items():
        if isinstance(value, tuple):
            np.testing.assert_allclose(np.sum([part[name] for part in parts], 0), value, rtol=1e-5, err_msg=name)
        else:
            np.testing.assert_allclose(np.concatenate([part[name] for part in parts]), value, rtol=1e-6, err_msg=name)


def test_a_language_model_may_read_its_own_target():
    logits, batch = random_batch()
    batch["tokens_mask"] = batch["labels_mask"]
    shifted = numbers(TokenClassification(target="tokens", shift=1), logits, batch)
    explicit = {
        "labels": batch["tokens"][:, 1:],
        "labels_mask": batch["tokens_mask"][:, 1:],
        "mask": batch["mask"],
    }
    expected = numbers(TokenClassification(), logits[:, :-1], explicit)
    for name in expected:
        np.testing.assert_allclose(shifted[name], expected[name], rtol=1e-6, err_msg=name)


class Bigram(nn.Module):
    @nn.compact
    def __call__(self, tokens, *, train: bool):
        return nn.Embed(5, 5)(tokens)


def test_accumulation_gives_the_same_step():
    _, batch = random_batch()
    batch["mask"][-3:] = 0
    model, optimizer = Bigram(), optax.sgd(0.5)
    state = state_lib.create(model, optimizer, (jnp.zeros((1, 7), int),), jax.random.key(0))
    step = functools.partial(train_step, model=model, task=TokenClassification(), optimizer=optimizer)
    (once, metrics), (four, _) = (jax.jit(functools.partial(step, accumulate=n))(state, batch) for n in (1, 4))
    np.testing.assert_allclose(metrics["loss"][1], batch["labels_mask"][:5].sum())
    before, a, b = (jax.tree.leaves(each.params)[0] for each in (state, once, four))
    assert float(jnp.abs(a - before).max()) > 1e-3
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_built_from_a_config():
    keys = {"tokens": Key((7,), "int32"), "labels": Key((7,), "int32", classes=("a", "b", "c"))}
    info = Info("made up", {"train": 1}, keys)
    task = build.build_task(ConfigDict({"task": {"name": "sequence.TokenClassification"}}), info, Transform())
    assert task.output_size(info) == 3
    assert task.predict(LOGITS)["prediction"].tolist() == [[0, 1, 0], [1, 0, 0]]
    for wrong, named in ({"target": "tags"}, "tags"), ({"metric_mask": "answers"}, "answers"), ({"shift": -1}, "shift"):
        with pytest.raises(UserError, match=named):
            build.build_task(ConfigDict({"task": {"name": "sequence.TokenClassification", **wrong}}), info, Transform())
