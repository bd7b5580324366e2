"""Spans' scores against counts made by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from tasks.tagging import SpanTagging

NAMES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TASK = SpanTagging(inputs=("tokens",), classes=NAMES)
OUT, PER, IN_PER, LOC, IN_LOC = range(5)


def gathered(tags, predicted, mask):
    """Returns what the metrics leave of one example each row; `mask` 0: a word's later token, or padding."""
    logits = 9.0 * (np.arange(len(NAMES)) == np.array(predicted)[..., None])
    batch = {"tags": jnp.array(tags), "tags_mask": jnp.array(mask, jnp.float32), "mask": jnp.ones(len(tags))}
    arrays = TASK.score(jnp.asarray(logits, jnp.float32), batch).arrays
    return {name: np.asarray(value) for name, value in arrays.items()}


def test_a_span_is_right_only_as_a_whole():
    """Of four names two are found; of three that are predicted, two are right: the third ends too early."""
    tags = [[PER, IN_PER, OUT, LOC], [LOC, IN_LOC, IN_LOC, PER]]
    predicted = [[PER, IN_PER, OUT, OUT], [LOC, IN_LOC, OUT, PER]]
    scores = TASK.summary(gathered(tags, predicted, np.ones((2, 4))), None)
    assert scores["precision"] == pytest.approx(2 / 3)
    assert scores["recall"] == pytest.approx(2 / 4)
    assert scores["f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert scores["perplexity"] > 1


def test_positions_without_a_tag_part_no_span():
    """-1 is a word's later token: the name goes on behind it, and what is predicted there is not looked at."""
    tags, mask = [[PER, -1, IN_PER, OUT, -1]], [[1, 0, 1, 1, 0]]
    results = gathered(tags, [[PER, LOC, IN_PER, OUT, LOC]], mask)
    assert TASK.summary(results, None)["f1"] == 1
    np.testing.assert_array_equal(results["reference"], [[2, 0, 3, 1, 0]])


def test_tags_of_words_are_refused():
    with pytest.raises(ValueError, match="'DET' is not a tag of spans"):
        SpanTagging(classes=("DET", "NOUN"))


def test_nothing_found_is_zero_not_an_error():
    assert TASK.summary(gathered([[PER, OUT]], [[OUT, OUT]], np.ones((1, 2))), None)["f1"] == 0
