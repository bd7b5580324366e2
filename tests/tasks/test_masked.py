"""Masked tokens: what `predict.py` prints."""

import numpy as np
import pytest

from core.errors import UserError
from core.info import Info
from tasks.masked import MaskedTokens
from tests.tasks.made_up import BY_ROLE, VOCABULARY

INFO = Info("made up", {}, {"tokens": BY_ROLE["tokens"]})
PAD, BOS, EOS, _, MASK, A, B, C = range(8)


def row(tokens, found, shares):
    prediction = {"prediction": np.array(found), "probability": np.array(shares)}
    return MaskedTokens().row({"tokens": np.array(tokens)}, prediction, INFO)


def test_masks_are_filled_in_order():
    found = row([BOS, A, MASK, C, MASK, EOS], [[B, C], [A, B], [C, C]], [[0.9, 0.1]] * 3)
    assert found == {"prediction": "a b c a"}


def test_a_single_mask_has_probabilities():
    found = row([BOS, A, MASK, EOS], [[B, C], [A, B]], [[0.75, 0.25]] * 2)
    assert found == {"prediction": "a b", "probability": {"b": 0.75, "c": 0.25}}


@pytest.mark.parametrize("tokens", [[BOS, A, EOS], [BOS, MASK, MASK, MASK, EOS]])
def test_other_numbers_of_masks_are_refused(tokens):
    with pytest.raises(UserError, match="write 1 to 2 of them"):
        row(tokens, [[B], [B]], [[1.0]] * 2)


def test_the_head_has_the_size_of_the_vocabulary():
    assert MaskedTokens().bind(INFO).output_size(INFO) == VOCABULARY.size
