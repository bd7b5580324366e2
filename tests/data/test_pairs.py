"""Two texts as one sequence, and answers as parts of the second."""

import numpy as np
import pytest

from core.errors import UserError
from tests.data.rows import Rows, all_of, new, processed

QUESTIONS = ["who ran home ?", "where did she go ?", "nobody ?"]
CONTEXTS = ["Yesterday the  Dog ran home.", "She – Zoë – went to Café Ü🙂, at 5 o'clock", "Some words"]
ANSWERS = [["the  Dog", "Dog"], ["Café Ü🙂"], []]
STARTS = [[CONTEXTS[0].index("the"), 15], [CONTEXTS[1].index("Café")], []]
ROLES = {"question": "text", "context": "text", "answers/text": "text", "answers/answer_start": ""}
TOKENIZERS = ["wordpiece(200)", "bpe(300)", "characters()", "words()", "unigram(60)"]


def questions(call, **columns):
    given = {"question": QUESTIONS, "context": CONTEXTS, "answers/text": ANSWERS, "answers/answer_start": STARTS}
    splits, info = processed((call,), ROLES, train=Rows(**{**given, **columns}))
    return splits["train"], info


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_answers_are_read_back_from_the_string(tokenizer):
    call = f"pair('question', 'context', {tokenizer}, answer='answers/text', answer_start='answers/answer_start')"
    split, _ = questions(call)
    batch, contexts = all_of(split), split.text("context", np.arange(3))
    assert contexts == CONTEXTS and split.text("answers/text", np.arange(3)) == ANSWERS
    for i, answers in enumerate(ANSWERS[:2]):
        first, last = batch["start"][i], batch["end"][i]
        assert batch["segments"][i, first] == batch["segments"][i, last] == 1
        span = contexts[i][batch["offsets"][i, first, 0] : batch["offsets"][i, last, 1]]
        assert span.strip() == answers[0]
    assert batch["start"][2] == batch["end"][2] == 0


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_the_order_of_tokens_and_segments(tokenizer):
    split, info = questions(f"pair('question', 'context', {tokenizer})")
    vocabulary, batch = info.keys["tokens"].vocabulary, all_of(split)
    between = vocabulary.eos if vocabulary.sep is None else vocabulary.sep
    columns = (batch[key] for key in ("tokens", "segments", "offsets", "tokens_lengths"))
    for ids, segments, offsets, size in zip(*columns, strict=True):
        middle = ids.tolist().index(between)
        assert ids[0] == vocabulary.bos and ids[size - 1] == vocabulary.eos
        assert segments[:size].tolist() == [0] * (middle + 1) + [1] * (size - middle - 1)
        assert not offsets[: middle + 1].any() and offsets[middle + 1 : size - 1, 1].all()
    assert batch["segments_lengths"].tolist() == batch["tokens_lengths"].tolist()
    assert {"start", "question", "context"}.isdisjoint(info.keys)


def test_the_longer_text_is_truncated():
    long, short = "x" * 30, "y" * 3
    call = "pair('question', 'context', characters(), max_length=12)"
    split, info = questions(call, question=[long, short, long], context=[short, long, long])
    batch = all_of(split)
    assert batch["tokens_lengths"].tolist() == [12] * 3
    counts = [((batch["tokens"] > 3) & (batch["segments"] == segment)).sum(1).tolist() for segment in (0, 1)]
    assert counts[0][:2] == [6, 3] and counts[1][:2] == [3, 6] and abs(counts[0][2] - counts[1][2]) == 1
    assert len(new(info, question=[long], context=[short])["tokens"][0]) == 12


def test_an_answer_that_is_cut_off_has_no_position():
    call = "pair('question', 'context', characters(), 24, answer='answers/text', answer_start='answers/answer_start')"
    columns = {"answers/text": ["Yes", "She", "words"], "answers/answer_start": [0, 0, 5]}
    split, _ = questions(call, **columns)
    batch = all_of(split)
    assert batch["start"].tolist()[0] > 0 and batch["end"].tolist()[0] == batch["start"].tolist()[0] + 2
    columns = {"answers/text": ["home.", "clock", "words"], "answers/answer_start": [23, 36, 5]}
    batch = all_of(questions(call, **columns)[0])
    assert batch["start"].tolist()[:2] == batch["end"].tolist()[:2] == [0, 0] and batch["start"][2] > 0


@pytest.mark.parametrize(
    ("call", "columns", "message"),
    [
        ("pair('question', 'contexts', words())", {}, "'contexts' does not exist: did you mean 'context'"),
        ("pair('question', 'context', words(), 4)", {}, "max_length must be 0 or at least 5"),
        ("pair('question', 'context', words(), answer='answers/text')", {}, "answer and answer_start go together"),
        (
            "pair('question', 'context', words())",
            {"question": ["a", None, "b"]},
            "pair: 'question' is missing, not a text",
        ),
        (
            "pair('question', 'context', words(), answer='answers/text', answer_start='answers/answer_start')",
            {"answers/answer_start": [[11], [2], []]},
            "'the  Dog' does not begin at character 11 of 'context', where 'he  Dog ' stands",
        ),
    ],
)
def test_slips(call, columns, message):
    with pytest.raises(UserError, match=message) as caught:
        questions(call, **columns)
    assert "\n" not in str(caught.value)
