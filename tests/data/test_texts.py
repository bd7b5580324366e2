"""Plain text files: blocks that join to the text, and parallel lines."""

import numpy as np
import pytest

from core.errors import UserError
from data.builders.casing import _sentences
from data.sources.texts import Parallel, Text

LINES = [f"line {i}: é\u2028 and\x0c more\n" for i in range(3_000)]


def joined(source, spec, ordered=True):
    examples = source.examples(spec, ordered)
    return "".join(examples.chunk(np.arange(len(examples)))["text"])


def test_blocks_join_to_the_text(config, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("".join(LINES), newline="")
    source = Text(str(path), config(""))
    assert joined(source, "train") == "".join(LINES)
    part = joined(source, "train[:90%]")
    assert part.endswith("\n") and len(part) == pytest.approx(0.9 * len("".join(LINES)), rel=0.01)
    assert part + joined(source, "train[90%:]") == "".join(LINES)
    assert joined(source, "train", ordered=False) != "".join(LINES)  # other ops draw blocks at random
    assert max(map(len, source.rows["train"].chunk(range(len(source.rows["train"])))["text"])) < 5_000


@pytest.mark.parametrize(
    ("content", "encoding", "text"),
    [
        (b"\xef\xbb\xbfone\r\ntwo", "", "one\ntwo"),
        (b"caf\xe9\n", "cp1252", "café\n"),
        (b"\n\n", "", "\n\n"),
        (b"no line end", "", "no line end"),
    ],
)
def test_encodings_and_line_ends(content, encoding, text, config, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    assert joined(Text(f"{tmp_path}/a.txt", config("", encoding=encoding)), "train") == text


def test_folders_of_texts(config, tmp_path):
    for name in ("b", "a"):
        (tmp_path / "books" / "sub").mkdir(parents=True, exist_ok=True)
        (tmp_path / "books" / "sub" / f"{name}.txt").write_text(f"text {name}\n" * 3)
    assert joined(Text(f"{tmp_path}/books", config("")), "train") == "text a\n" * 3 + "text b\n" * 3
    for name in ("train", "valid", "test"):
        (tmp_path / "wiki").mkdir(exist_ok=True)
        (tmp_path / "wiki" / f"{name}.txt").write_text(f"text {name}\n")
    source = Text(f"{tmp_path}/wiki", config(""))
    assert set(source.splits) == {"train", "validation", "test"}
    assert joined(source, "validation") == "text valid\n"


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"", "", "text of split 'train' is empty"),
        ("one\n".encode("utf-16"), "", "a.txt is UTF-16"),
        (b"one\ntwo\nthr\xe9\n", "", "a.txt, line 3: byte 0xe9 is not utf-8: set --config.data.encoding=cp1252"),
        (b"one\n", "utf-9", "data.encoding 'utf-9' does not exist"),
        (b"one\n", "utf-32", "data.encoding 'utf-32' has line ends of several bytes"),
    ],
)
def test_text_refusals(content, encoding, message, config, tmp_path):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        joined(Text(f"{tmp_path}/a.txt", config("", encoding=encoding)), "train")
    with pytest.raises(UserError, match=r"has no .txt files"):
        (tmp_path / "empty").mkdir()
        Text(f"{tmp_path}/empty", config(""))


def test_parallel_lines(config, tmp_path):
    (tmp_path / "source.txt").write_bytes("eins\u2028zwei\r\n\x0cdrei\n\nvier".encode())
    (tmp_path / "target.txt").write_bytes(b"\xef\xbb\xbfone\ntwo\n\nfour\n")
    source = Parallel(str(tmp_path), config(""))
    chunk = source.examples("train", ordered=True).chunk(np.arange(4))
    assert chunk["source"] == ["eins\u2028zwei", "\x0cdrei", "", "vier"]
    assert chunk["target"] == ["one", "two", "", "four"]
    new = Parallel(f"{tmp_path}/source.txt", config(""), source.state)
    assert list(new.keys) == ["source"] and len(new.examples("train")) == 4
    (tmp_path / "target.txt").write_bytes(b"one\ntwo\n")
    with pytest.raises(UserError, match=r"source.txt has 4, .*target.txt has 2"):
        Parallel(str(tmp_path), config(""))
    (tmp_path / "target.txt").unlink()
    with pytest.raises(UserError, match=r"target.txt does not exist"):
        Parallel(str(tmp_path), config(""))


def test_parallel_splits(config, tmp_path):
    for split in ("train", "val"):
        for key in ("source", "target"):
            (tmp_path / split).mkdir(exist_ok=True)
            (tmp_path / split / f"{key}.txt").write_text(f"{split} {key}\n")
    source = Parallel(str(tmp_path), config(""))
    assert source.examples("validation").chunk([0])["target"] == ["val target"]


def test_builders_part_lines_at_line_feeds_only():
    assert _sentences("a b\x0c c\u2028d .\n = heading =\n") == [["a", "b", "c", "d", "."]]
