"""Transcription: the loss against a sum over all paths, the best path and error rates against ones worked out apart."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from tasks.transcription import Transcription
from tests.tasks.made_up import Examples
from tests.tasks.words import tokenizer

TOKENS = 6  # of which 0 is the blank, 1 and 2 are begin and end


def collapsed(path):
    """Returns a path's tokens, repeated ones merged, blanks left out."""
    return [token for token, _ in itertools.groupby(path) if token != 0]


def all_paths_loss(logits, labels):
    """Returns -log of the summed probability of every path that gives the labels."""
    logits = np.asarray(logits, np.float64)
    log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    paths = itertools.product(range(logits.shape[-1]), repeat=len(logits))
    fitting = [sum(log_p[i, token] for i, token in enumerate(path)) for path in paths if collapsed(path) == labels]
    return -np.logaddexp.reduce(fitting) if fitting else np.inf


def make(texts, frames, longest=5, seed=0):
    """Returns outputs with `frames` real frames each, and the batch of these labels between begin and end."""
    logits = np.random.default_rng(seed).normal(size=(len(texts), longest, TOKENS)).astype(np.float32)
    width = max(map(len, texts)) + 3
    rows = [[1, *text, 2] + [0] * (width - 2 - len(text)) for text in texts]
    batch = {
        "text": np.array(rows, np.int32),
        "text_lengths": np.array([len(text) + 2 for text in texts], np.int32),
        "mask": np.ones(len(texts), np.float32),
    }
    return {"logits": jnp.asarray(logits), "lengths": jnp.asarray(frames)}, batch


TASK = Transcription(vocabulary=Vocabulary(TOKENS, pad=0, bos=1, eos=2))
TEXTS = [[3, 4], [3, 3], [5], [], [4, 4, 5], [3, 4, 3, 4, 5]]
FRAMES = [5, 4, 1, 3, 4, 5]


@pytest.mark.slow
@pytest.mark.slow
def test_loss_is_that_of_all_paths():
    outputs, batch = make(TEXTS, FRAMES)
    expected = [all_paths_loss(x[:n], text) for x, n, text in zip(outputs["logits"], FRAMES, TEXTS, strict=True)]
    losses, metrics, arrays = TASK.score(outputs, batch)
    np.testing.assert_allclose(arrays["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose((losses["loss"], TASK.weights(batch)["loss"]), (sum(expected), 6), rtol=1e-5)
    np.testing.assert_allclose(metrics["unalignable"], (0, 6))


@pytest.mark.slow
def test_gradient_is_that_of_all_paths():
    outputs, batch = make([[3, 3]], [4])
    actual = jax.grad(lambda x: TASK.score(outputs | {"logits": x}, batch).losses["loss"])(outputs["logits"])[0]
    logits = np.asarray(outputs["logits"][0], np.float64)
    for frame, token in ((0, 3), (2, 0), (3, 5)):
        step = np.zeros_like(logits)
        step[frame, token] = 1e-4
        numeric = (all_paths_loss((logits + step)[:4], [3, 3]) - all_paths_loss((logits - step)[:4], [3, 3])) / 2e-4
        np.testing.assert_allclose(actual[frame, token], numeric, atol=1e-5)
    assert float(jnp.abs(actual[4]).sum()) == 0  # behind the last real frame


def test_loss_equals_that_of_pytorch():
    torch = pytest.importorskip("torch")
    texts = [[3, 4, 4, 5], [5, 3], [4, 4, 4]]
    outputs, batch = make(texts, [40, 23, 31], longest=40)
    log_p = torch.tensor(np.asarray(outputs["logits"])).log_softmax(-1).transpose(0, 1)
    flat, sizes = torch.tensor(list(itertools.chain(*texts))), torch.tensor([len(text) for text in texts])
    theirs = torch.nn.functional.ctc_loss(log_p, flat, torch.tensor([40, 23, 31]), sizes, reduction="none")
    np.testing.assert_allclose(TASK.score(outputs, batch).arrays["loss"], theirs.numpy(), rtol=1e-5)


@pytest.mark.slow
def test_a_text_without_an_alignment_counts_apart():
    texts = [[3, 4], [3, 3], [3, 4, 5], [5]]
    outputs, batch = make(texts, [2, 2, 2, 0])  # all but the first need more frames than there are
    task = TASK
    assert [all_paths_loss(outputs["logits"][i, :2], text) for i, text in enumerate(texts[1:3], 1)] == [np.inf] * 2
    expected = all_paths_loss(outputs["logits"][0, :2], [3, 4])
    losses, metrics, _ = task.score(outputs, batch)
    np.testing.assert_allclose((losses["loss"], task.weights(batch)["loss"]), (expected, 4), rtol=1e-5)
    np.testing.assert_allclose(metrics["unalignable"], (3, 4))
    gradient = jax.grad(lambda x: task.score(outputs | {"logits": x}, batch).losses["loss"])(outputs["logits"])
    assert bool(jnp.isfinite(gradient).all()) and float(jnp.abs(gradient[1:]).sum()) == 0
    assert float(jnp.abs(gradient[0]).sum()) > 0.1


@pytest.mark.slow
def test_a_long_recording_that_is_all_wrong():
    outputs, batch = make([[3, 3]], [3000], longest=3000)
    sure = jnp.zeros((1, 3000, TOKENS)).at[:, :, 5].set(100.0)  # 100 nats a frame for whatever else
    np.testing.assert_allclose(TASK.score(outputs | {"logits": sure}, batch).losses["loss"], 3e5, rtol=1e-3)


@pytest.mark.slow
def test_padding_counts_nothing():
    outputs, batch = make(TEXTS, FRAMES)
    task = TASK
    more = {
        "logits": jnp.pad(outputs["logits"], ((0, 1), (0, 2), (0, 0)), constant_values=9.0),
        "lengths": jnp.append(outputs["lengths"], 4),
    }
    padded = {
        "text": np.pad(batch["text"], ((0, 1), (0, 2)), constant_values=4),
        "text_lengths": np.append(batch["text_lengths"], 5),
        "mask": np.append(batch["mask"], 0),
    }
    actual, expected = task.score(more, padded), task.score(outputs, batch)
    np.testing.assert_allclose(actual.losses["loss"], expected.losses["loss"], rtol=1e-6)
    np.testing.assert_allclose(actual.metrics["unalignable"], expected.metrics["unalignable"])
    assert task.weights(padded) == task.weights(batch)
    actual, expected = actual.arrays, expected.arrays
    width = expected["prediction"].shape[1]
    np.testing.assert_array_equal(actual["prediction"][: len(TEXTS), :width], expected["prediction"])
    assert not np.any(actual["prediction"][: len(TEXTS), width:])


def test_best_path():
    paths = [[3, 3, 0, 3, 4, 4], [0, 5, 0, 0, 5, 5], [4, 3, 4, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
    frames = [6, 4, 6, 6]
    outputs = {"logits": jax.nn.one_hot(jnp.array(paths), TOKENS), "lengths": jnp.array(frames)}
    prediction = np.asarray(TASK.predict(outputs)["prediction"])
    for row, path, count in zip(prediction, paths, frames, strict=True):
        expected = collapsed(path[:count])
        assert row.tolist() == expected + [0] * (6 - len(expected))


def edits(a, b):
    """Returns the edit distance of two sequences, by its recursive definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(edits(a[1:], b) + 1, edits(a, b[1:]) + 1, edits(a[1:], b[1:]) + (a[0] != b[0]))


def test_error_rates():
    fitted = tokenizer({"<pad>": 0, "<bos>": 1, "<eos>": 2, "on": 3, "ten": 4, "to": 5})
    task = Transcription(vocabulary=Vocabulary(TOKENS, pad=0, bos=1, eos=2, tokenizer=fitted))
    outputs = np.array([[3, 5, 0, 0], [4, 0, 0, 0], [5, 3, 3, 4]])
    examples = Examples({}, text=["on ten to", "ten", "to on"])
    result = task.summary({"prediction": outputs}, examples)
    np.testing.assert_allclose(result["wer"], 3 / 6)  # one word missing, two too many; six in the references
    pairs = [("on ten to", "on to"), ("ten", "ten"), ("to on", "to on on ten")]
    wrong = sum(edits(a[:6], b[:6]) + edits(a[6:], b[6:]) for a, b in pairs[1:]) + edits(*pairs[0])
    np.testing.assert_allclose(result["cer"], wrong / sum(len(a) for a, _ in pairs))
    np.testing.assert_allclose(result["sequence_accuracy"], 1 / 3)
    assert task.texts == ("text",)


def test_words_that_the_vocabulary_lacks_are_errors():
    fitted = tokenizer({"<pad>": 0, "<bos>": 1, "<eos>": 2, "on": 3, "<unk>": 4})
    task = Transcription(vocabulary=Vocabulary(5, pad=0, bos=1, eos=2, unk=4, tokenizer=fitted))
    assert task.summary({"prediction": np.array([[3, 4]])}, Examples({}, text=["on seven"]))["wer"] == 0.5


def test_an_end_token_among_the_frames_is_left_out():
    arrays = {"prediction": np.array([[3, 2, 4, 0]])}
    assert TASK.summary(arrays, Examples({"text": np.array([[1, 3, 4, 2]])}))["wer"] == 0
    assert TASK.row({}, {"prediction": arrays["prediction"][0]}, Info("made up", {}, {}))["prediction"] == "3 4"


def test_nothing_written_and_nothing_said():
    examples = Examples({"text": np.array([[1, 3, 4, 2], [1, 2, 0, 0]])})
    result = TASK.summary({"prediction": np.zeros((2, 4), int)}, examples)
    assert result["wer"] == 1 and result["sequence_accuracy"] == 0.5


def test_width_is_the_vocabulary():
    info = Info("made up", {}, {"text": Key((9,), "int32", vocabulary=Vocabulary(32, pad=0))})
    task = Transcription().bind(info)
    assert task.output_size(info) == 32 and task.blank == 0
    assert task.keys == ("text", "text_lengths")
    with pytest.raises(UserError, match="'text' of made up has no vocabulary"):
        Transcription().bind(Info("made up", {}, {"text": Key((9,), "int32")}))
