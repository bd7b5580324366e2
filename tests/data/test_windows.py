"""Windows of a running text, against plain loops."""

import tracemalloc

import numpy as np
import pytest

from core.errors import UserError
from data.batches import eval_batches
from data.preprocess.windows import RunningText, Windows, WindowSplit
from data.splits import Ragged, Split
from tests.data.rows import Rows, all_of, new, processed

RUNNING = "tokenize('text', characters(), special=False)"


def joined(*rows, separator=()):
    """Returns the running text of rows of tokens."""
    rows = [np.array(row, np.uint16) for row in rows]
    return RunningText(Ragged(np.concatenate(rows), np.cumsum([0, *map(len, rows)])), separator)


def texts(info, values):
    """Returns the text of each row of tokens."""
    return [info.keys["tokens"].vocabulary.text(row) for row in values]


@pytest.mark.parametrize(("size", "window"), [(2, 1), (2, 8), (9, 4), (10, 4), (12, 4), (13, 4), (50, 7)])
def test_every_token_but_the_first_is_a_label_once(size, window):
    ids = np.random.default_rng(0).integers(5, 100, size)
    split = WindowSplit(joined(ids), window)
    windows = all_of(split)
    tokens, labels, mask = (windows[key] for key in ("tokens", "labels", "labels_mask"))
    count = (size - 1 + window - 1) // window
    assert isinstance(split, Split) and len(split) == count
    assert tokens.shape == labels.shape == mask.shape == (count, window)
    assert (tokens.dtype, labels.dtype, mask.dtype) == (np.int32, np.int32, np.float32)
    assert labels[mask == 1].tolist() == ids[1:].tolist()
    assert tokens[mask == 1].tolist() == ids[:-1].tolist()
    assert not labels[mask == 0].any() and not tokens[mask == 0].any()
    assert mask[:-1].all() and mask[-1, 0] == 1
    with pytest.raises(IndexError):
        split.batch(np.array([count]))


def test_batches_read_the_windows_asked_for():
    ids = np.arange(10, 43)
    order = [5, 0, 7]
    batch = WindowSplit(joined(ids), 4).batch(np.array(order))
    assert batch["tokens"].tolist() == [ids[4 * i : 4 * i + 4].tolist() for i in order]


@pytest.mark.parametrize("rows", [["ab", "c", "", "def"], ["a"], ["abc", "d"], ["", "ab"]])
def test_separators_between_rows(rows):
    ids = [[ord(letter) for letter in row] for row in rows]
    text = joined(*ids, separator=[1, 2])
    expected = "\x01\x02".join(rows)
    found, numbers = text(np.arange(text.size))
    assert "".join(map(chr, found)) == expected and text.size == len(expected)
    ends = [i for i, row in enumerate(rows) for _ in range(len(row) + 2 * (i < len(rows) - 1))]
    assert numbers.tolist() == ends


def test_a_set_of_several_texts_in_order():
    rows = Rows(text=["abcabcab\n", "ba"])
    ops = (RUNNING, "windows('text', 4, evaluation=3)")
    splits, info = processed(ops, {"text": "text"}, train=rows, test=Rows(text=["cabxc"]))
    train, test = all_of(splits["train"]), all_of(splits["test"])
    assert info.keys.keys() == {"tokens", "labels", "labels_mask"}
    assert info.keys["tokens"].vocabulary.size == info.keys["labels"].vocabulary.size == 4 + 4
    assert info.keys["tokens"].shape == (4,) and info.sizes == {"train": 3, "test": 2}
    real = train["labels_mask"].astype(bool)
    assert texts(info, [train["tokens"][real], train["labels"][real]]) == ["abcabcab\nb", "bcabcab\nba"]
    assert test["tokens"].shape == (2, 3)
    assert test["labels"][test["labels_mask"] > 0].tolist() == [5, 6, 3, 7]  # the vocabulary lacks "x"
    prompt = new(info, text=["ab"])
    assert [ids.tolist() for ids in prompt["tokens"]] == [[5, 6]]


@pytest.mark.parametrize(("end", "tokenizer"), [("\n", "characters()"), ("", "characters()"), ("", "bpe(270)")])
def test_rows_are_lines(end, tokenizer):
    lines = [f"line {i:02d}" for i in range(20)]
    ops = (f"tokenize('text', {tokenizer}, special=False)", "windows('text', 1000)")
    splits, info = processed(ops, {"text": "text"}, train=Rows(text=[line + end for line in lines]))
    labels = all_of(splits["train"])
    read = texts(info, [np.append(labels["tokens"][0][:1], labels["labels"][0])])[0]
    assert read == "\n".join(lines) + end


def test_any_token_begins_a_window():
    ids = np.arange(5, 25)
    split = WindowSplit(joined(ids), 6, every=True)
    assert len(split) == 14  # a window and the label after it
    batch = all_of(split)
    for start in range(14):
        assert batch["tokens"][start].tolist() == ids[start : start + 6].tolist()
        assert batch["labels"][start].tolist() == ids[start + 1 : start + 7].tolist()
    assert batch["labels_mask"].all()
    short = all_of(WindowSplit(joined([5, 6, 7]), 6, every=True))
    assert short["labels"].tolist() == [[6, 7, 0, 0, 0, 0]]


def test_beginnings_of_a_long_text_are_spread_evenly(monkeypatch):
    monkeypatch.setattr("data.preprocess.windows.MOST_STARTS", 10)
    split = WindowSplit(joined(np.arange(106)), 6, every=True)
    assert len(split) == 10
    assert all_of(split)["tokens"][:, 0].tolist() == list(range(0, 100, 10))


def test_only_training_begins_anywhere():
    op, rows = (
        Windows("text", 4, offsets="random"),
        processed((RUNNING,), {"text": "text"}, train=Rows(text=["abcdefg"])),
    )
    split = rows[0]["train"]
    split.columns["tokens"] = split.columns["text"]
    assert len(op.arrange(split, [], is_training=True)) == 3
    assert len(op.arrange(split, [], is_training=False)) == 2


def test_documents_are_numbered_within_a_window():
    ops = (RUNNING, "windows('text', 6, documents=True)")
    splits, info = processed(ops, {"text": "text"}, train=Rows(text=["ab", "cde", "f", "gh"]))
    eos = info.keys["tokens"].vocabulary.eos
    batch = all_of(splits["train"])
    a = info.keys["tokens"].vocabulary.text
    assert a(batch["tokens"][0]) == "ab" and batch["tokens"][0].tolist().count(eos) == 1
    # a b . c d e | . f . g
    assert batch["documents"].tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 1, 2, -1, -1]]
    assert batch["labels_mask"].tolist() == [[1] * 6, [1, 1, 1, 1, 0, 0]]


def test_a_long_text_stays_in_its_file(tmp_path):
    size = 4_000_000
    np.arange(size, dtype=np.uint32).astype(np.uint16).tofile(tmp_path / "tokens.bin")
    values = np.memmap(tmp_path / "tokens.bin", np.uint16, "r")
    tracemalloc.start()
    split = WindowSplit(RunningText(Ragged(values, np.array([0, size])), ()), 64)
    batch = split.batch(np.array([0, 62_499, 17]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000 < size
    assert batch["tokens"][1, -1] == (size - 2) % 2**16 or batch["labels_mask"][1, -1] == 0
    assert batch["tokens"][2].tolist() == list(range(17 * 64, 18 * 64))


def test_tokens_of_a_stored_text_are_mapped_into_memory(tmp_path):
    """16 bits per token on disk."""
    ops = (RUNNING, "windows('text', 4)")
    (tmp_path / "x").mkdir()
    splits, _ = processed(ops, {"text": "text"}, tmp_path / "x", train=Rows(text=["abcabc" * 50]))
    tokens = splits["train"].tokens
    assert isinstance(tokens.values, np.memmap) and tokens.values.dtype == np.uint16
    assert sum(file.stat().st_size for file in tmp_path.rglob("tokens.bin")) == 600


def test_an_evaluation_counts_every_label_once():
    split = WindowSplit(joined(np.arange(5, 40)), 4)
    batches = list(eval_batches(split, batch_size=4))
    labels = np.concatenate([(b["labels_mask"] * b["mask"][:, None]).sum(1) for b in batches])
    assert labels.sum() == 34


@pytest.mark.parametrize(
    ("call", "rows", "message"),
    [
        ("windows('text', 0)", ["ab"], "size must be at least 1"),
        ("windows('texts', 4)", ["ab"], "windows: 'texts' does not exist: did you mean 'text'"),
        ("windows('text', 4)", ["a"], "a text needs at least 2 tokens, and this one has 1"),
        ("windows('text', 4, offsets='every')", ["ab"], "windows.offsets must be"),
    ],
)
def test_slips(call, rows, message):
    with pytest.raises(UserError, match=message) as refusal:
        processed((RUNNING, call), {"text": "text"}, train=Rows(text=rows))
    assert "\n" not in str(refusal.value)
