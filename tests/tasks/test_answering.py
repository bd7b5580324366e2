"""Answers in a text: the best span, and SQuAD's comparison of texts."""

import jax.numpy as jnp
import numpy as np
import pytest

from core.info import Info
from tasks.answering import SpanAnswer
from tests.tasks.made_up import Examples

TEXT = "In 1815, the old king left."
OFFSETS = np.array([[0, 0], [0, 0], [0, 2], [3, 7], [7, 8], [9, 12], [13, 16], [17, 21], [22, 26], [26, 27], [0, 0]])
IN, YEAR, KING, LEFT = 2, 3, 7, 8


def batch(start=YEAR, end=YEAR, count=1):
    keys = {"offsets": OFFSETS, "start": np.array(start), "end": np.array(end)}
    return {key: jnp.repeat(jnp.asarray(x)[None], count, 0) for key, x in keys.items()} | {"mask": jnp.ones(count)}


def logits(**scores):
    """Returns logits of 0, but for first_N and last_N."""
    found = np.zeros((1, len(OFFSETS), 2), np.float32)
    for name, value in scores.items():
        kind, place = name.split("_")
        found[0, int(place), ["first", "last"].index(kind)] = value
    return jnp.asarray(found)


def span(task, found):
    arrays = task.score(found, batch()).arrays
    return int(arrays["first"][0]), int(arrays["last"][0])


def test_the_best_span_lies_in_the_text_and_is_no_longer_than_allowed():
    task = SpanAnswer()
    assert span(task, logits(first_3=5, last_7=5)) == (YEAR, KING)
    assert span(task, logits(first_1=9, last_10=9, first_3=5, last_7=5)) == (YEAR, KING)  # question, and end token
    assert span(SpanAnswer(most_tokens=3), logits(first_3=5, last_7=5, last_5=1)) == (YEAR, 5)
    assert span(task, logits(first_0=5, last_0=5, first_3=4, last_3=4)) == (0, 0)  # no answer


def test_the_end_never_comes_before_the_start():
    assert span(SpanAnswer(), logits(first_7=5, last_3=5, last_8=1)) == (KING, LEFT)


def test_the_loss_is_the_mean_of_both_cross_entropies():
    found = logits(first_3=2, last_3=1)
    score = SpanAnswer().score(found, batch())
    places = (OFFSETS[:, 1] > OFFSETS[:, 0]).sum() + 1  # the text, and the first token
    expected = [np.log(np.exp(x) + places - 1) - x for x in (2.0, 1.0)]
    assert float(score.losses["loss"]) == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize(
    ("first", "last", "answers", "exact", "f1"),
    [
        (YEAR, YEAR, "1815", 1, 1),
        (5, KING, "old King", 1, 1),  # without article and case
        (5, KING, "the old queen", 0, 0.5),
        (IN, 4, ["1815", "in 1815"], 1, 1),  # the best of several; without punctuation
        (0, 0, [], 1, 1),
        (YEAR, YEAR, [], 0, 0),
        (0, 0, "1815", 0, 0),
        (KING, LEFT, "king king left", 0, 0.8),  # words count as often as they occur in both
    ],
)
def test_answers_are_compared_by_the_rules_of_squad(first, last, answers, exact, f1):
    arrays = {"first": np.array([first]), "last": np.array([last])}
    examples = Examples({key: np.asarray(x) for key, x in batch().items()}, context=[TEXT], answer=[answers])
    summary = SpanAnswer().summary(arrays, examples)
    assert summary == {"exact_match": exact, "f1": pytest.approx(f1)}


def test_a_row_is_the_part_of_the_text():
    example = {key: np.asarray(x)[0] for key, x in batch().items()} | {"context": TEXT}
    row = SpanAnswer().row(example, {"prediction": np.asarray(logits(first_5=4, last_7=4)[0])}, Info("made up", {}, {}))
    assert row == {"prediction": "the old king"}
