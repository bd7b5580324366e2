"""Columns in files are those in memory, and entries of the cache are whole or made again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from data import store
from data.splits import ArraySplit

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "onestep" / "data"


def chunks():
    rng = np.random.default_rng(0)
    for start in (0, 3):
        sizes = [2, 0, 4] if start else [1, 3, 2]
        yield {
            "ids": [rng.integers(9, size=size).astype(np.uint16) for size in sizes],
            "a/b": [rng.normal(size=(size, 2)).astype(np.float32) for size in sizes],
            "image": [np.full((2, 2, 1), start + i, np.uint8) for i in range(3)],
            "label": np.arange(start, start + 3),
            "name": ["a", None, "b"] if start else [None] * 3,
        }


def written(folder):
    writer = store.Writer(folder)
    for chunk in chunks():
        writer.add(chunk)
    return writer.columns({"ids", "a/b"}), writer.strings


def test_files_hold_what_memory_holds(tmp_path):
    columns, strings = written(None)
    assert strings == {"name": [None, None, None, "a", None, "b"]}
    folder = tmp_path / "train"
    folder.mkdir()
    in_files, texts = written(folder)
    store.save(folder, in_files, texts)
    loaded, names = store.load(folder)
    assert names == strings and isinstance(loaded["ids"].values, np.memmap)
    for other in (in_files, loaded):
        splits = [ArraySplit(values).arrays for values in (columns, other)]
        assert splits[0].keys() == splits[1].keys()
        for key, values in splits[0].items():
            np.testing.assert_array_equal(values, splits[1][key], strict=True)
    assert os.path.getsize(folder / "ids.bin") == 2 * 12  # two bytes per token
    np.testing.assert_array_equal(columns["label"], np.arange(6))
    assert columns["image"].shape == (6, 2, 2, 1) and columns["image"].dtype == np.uint8


@pytest.mark.parametrize("with_files", [False, True])
def test_types_grow_as_needed(tmp_path, with_files):
    writer = store.Writer(tmp_path if with_files else None)
    for values in ([np.array([1, 2], np.uint16)], [np.array([], np.float32)], [np.array([0.5], np.float32)]):
        writer.add({"x": values})
    column = writer.columns({"x"})["x"]
    assert column.values.tolist() == [1, 2, 0.5] and column.lengths.tolist() == [2, 0, 1]


def test_keys_that_some_examples_lack_are_refused():
    writer = store.Writer()
    writer.add({"x": [1], "y": [2]})
    with pytest.raises(UserError, match="'y' is missing, or not a number, in some examples"):
        writer.add({"x": [1]})


def make_entry(facts, text="value"):
    folder = store.entry(facts)
    with store.new_entry(folder) as part:
        (part / "train").mkdir()
        (part / "train" / "x.bin").write_text(text)
    return folder


def test_an_entry_depends_on_its_facts_only(cache):
    folder = make_entry(["a", 1])
    assert store.exists(folder) and folder == store.entry(["a", 1]) and folder.parent == cache
    assert not store.exists(store.entry(["a", 2]))
    assert [path.name for path in cache.iterdir()] == [folder.name]


def _cut(file):
    file.write_text("valu")


def _flip(file):
    file.write_text("valve")


def _zero(file):
    file.write_bytes(b"\0" * 5)


@pytest.mark.parametrize("damage", [_cut, _flip, _zero, Path.unlink])
@pytest.mark.parametrize("name", ["train/x.bin", store.SEAL])
def test_damaged_entries_are_removed_with_one_line(damage, name, capsys):
    folder = make_entry("a")
    damage(folder / name)
    assert not store.exists(folder)
    assert not folder.exists()
    (line,) = capsys.readouterr().err.splitlines()
    assert "is damaged: it is made again" in line
    assert store.exists(make_entry("a"))


def test_an_entry_is_whole_or_not_there(cache):
    folder = store.entry("a")
    with pytest.raises(KeyError), store.new_entry(folder) as part:
        (part / "x").write_text("half")
        raise KeyError
    assert list(cache.iterdir()) == []


def test_a_faster_process_wins(cache):
    folder = store.entry("a")
    with store.new_entry(folder) as part:
        (part / "x").write_text("slow")
        make_entry("a", "fast")
    assert store.exists(folder) and (folder / "train" / "x.bin").read_text() == "fast"
    assert len(list(cache.iterdir())) == 1


@pytest.mark.slow
def test_concurrent_processes_make_one_whole_entry(cache):
    code = """
import numpy as np, sys
from data import store
folder = store.entry("concurrent")
for _ in range(3):
    with store.new_entry(folder) as part:
        np.save(part / "x.npy", np.arange(1000))
    assert store.exists(folder) and np.load(folder / "x.npy").sum() == 499500
"""
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(3)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0, 0]
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with store.new_entry(store.entry("a")) as part:
        assert part is None
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot be written (Not a directory): nothing is stored" in line


def test_a_full_disk_is_one_line():
    message = "cannot be written: No space left on device: free space"
    with pytest.raises(UserError, match=message), store.new_entry(store.entry("a")):
        raise OSError(28, "No space left on device")


def test_entries_of_killed_processes_are_removed(cache):
    make_entry("a")
    old, new = cache / "x.1.part", cache / "x.2.part"
    for path in (old, new):
        path.mkdir()
    os.utime(old, times=(time.time() - 2 * store.ABANDONED,) * 2)
    make_entry("b")
    assert not old.exists() and new.exists()


def test_lengths_of_a_streamed_split(tmp_path):
    assert store.load_lengths(tmp_path) is None
    lengths = {"objects/bbox": np.array([1, 2], np.int32), "file": np.array([3, 4], np.int32)}
    store.save_lengths(tmp_path, lengths)
    loaded = store.load_lengths(tmp_path)
    assert json.dumps({key: x.tolist() for key, x in loaded.items()}) == '{"objects/bbox": [1, 2], "file": [3, 4]}'


def test_an_entry_that_another_process_completes_in_between(tmp_path, monkeypatch):
    """Its folder was listed, and is gone when its age is read."""
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / "gone.part"])
    with store.new_entry(tmp_path / "cache" / "entry") as part:
        assert part.is_dir()
    assert (tmp_path / "cache" / "entry").is_dir()
