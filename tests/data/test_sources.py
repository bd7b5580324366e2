"""The contract of every kind of file: splits, order, keys, fingerprint, state. A test finds kinds by discovery."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core.errors import UserError
from data.preprocess.op import FOLDER, Examples
from data.sources.named import kinds, open_source, open_splits
from data.sources.source import content_hash
from tests.data.drawn import draw

SIZE = 12


def make_table(root, write):
    write(pd.DataFrame({"n": np.arange(SIZE), "city": ["Oslo", "Rome"] * (SIZE // 2)}), root / "file")
    return root / "file"


def make_folder(root):
    for i in range(SIZE):
        draw(root / f"class{i % 2}" / f"{i}.png", i)
    return root


def make_frames(root):
    for i in range(SIZE):
        draw(root / f"class{i % 2}" / f"clip{i}" / "1.png", i)
    return root


def make_masks(root):
    for i in range(SIZE):
        draw(root / "images" / f"{i}.png", i)
        draw(root / "masks" / f"{i}.png", i % 3)
    return root


def make_coco(root):
    images = [{"id": i, "file_name": f"{i}.png", "width": 6, "height": 4} for i in range(SIZE)]
    boxes = [{"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [0, 0, 2, 2]} for i in range(SIZE)]
    names = [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]
    for i in range(SIZE):
        draw(root / f"{i}.png", i)
    (root / "a.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": names}))
    return root / "a.json"


def make_npz(root):
    np.savez(root / "a.npz", image=np.arange(SIZE * 16, dtype=np.uint8).reshape(SIZE, 4, 4), label=np.arange(SIZE) % 2)
    return root / "a.npz"


def make_npy(root):
    np.save(root / "series.npy", np.arange(SIZE * 2.0).reshape(SIZE, 2))
    return root / "series.npy"


def make_nifti(root):
    nibabel = pytest.importorskip("nibabel")
    (root / "volumes").mkdir()
    for i in range(SIZE):
        nibabel.save(nibabel.Nifti1Image(np.full((2, 3, 4), i, np.int16), np.eye(4)), root / "volumes" / f"{i}.nii")
    return root


def make_text(root):
    (root / "a.txt").write_text("".join(f"{i}\n" for i in range(SIZE)))
    return root / "a.txt"


def make_parallel(root):
    for key in ("source", "target"):
        (root / f"{key}.txt").write_text("".join(f"{key} {i}\n" for i in range(SIZE)))
    return root


MAKERS = {
    "csv": lambda root: make_table(root, lambda frame, path: frame.to_csv(path, index=False)),
    "parquet": lambda root: make_table(root, pd.DataFrame.to_parquet),
    "jsonl": lambda root: make_table(root, lambda frame, path: frame.to_json(path, orient="records", lines=True)),
    "folder": make_folder,
    "frames": make_frames,
    "masks": make_masks,
    "coco": make_coco,
    "npz": make_npz,
    "npy": make_npy,
    "nifti": make_nifti,
    "text": make_text,
    "parallel": make_parallel,
}


@pytest.fixture(params=sorted(kinds()))
def named(request, tmp_path):
    """Returns the name of a set of `SIZE` examples for every kind of file; a new kind needs a maker."""
    return f"{request.param}:{MAKERS[request.param](tmp_path)}"


def values(examples):
    """Returns every value of all examples as nested lists."""
    chunk = examples.chunk(np.arange(len(examples)))
    return {key: [np.asarray(value).tolist() for value in column] for key, column in chunk.items()}


def rows(found):
    return sorted(map(repr, zip(*(found[key] for key in sorted(found)), strict=True)))


def test_slices_are_parts_in_a_fixed_order(named, config):
    source = open_source(named, config(named), None)
    assert source.splits["train"].num_examples == SIZE
    every = source.examples("train", ordered=True)
    assert isinstance(every, Examples) and len(every) == SIZE
    first, rest = (source.examples(spec) for spec in ("train[:75%]", "train[75%:]"))
    assert len(first) == 9 and values(first) == values(source.examples("train[:75%]"))
    parts = {key: column + values(rest)[key] for key, column in values(first).items()}
    assert rows(parts) == rows(values(every)) and parts != values(every)  # shuffled, each example once
    ordered = [values(source.examples(spec, ordered=True)) for spec in ("train[:75%]", "train[75%:]")]
    assert {key: column + ordered[1][key] for key, column in ordered[0].items()} == values(every)
    assert len(source.examples("train[:2]+train[3:5]")) == 4
    with pytest.raises(UserError, match="no split 'validation'"):
        source.examples("validation")


@pytest.mark.parametrize(("test", "shared"), [("train[6:]", 3), ("train[9:]", 0), ("train[:2]+train[10:]", 2)])
def test_held_out_examples_that_are_trained_on_are_counted(config, tmp_path, capsys, test, shared):
    name = f"csv:{MAKERS['csv'](tmp_path)}"
    group = config(name)
    group.splits = {"train": "train[:9]", "test": test, "seen": "train"}
    open_splits(group, None, ordered=False)
    line = capsys.readouterr().err
    assert (f"data.splits.test {test!r} shares {shared} examples with data.splits.train" in line) == bool(shared)
    assert "seen" not in line


def test_chunks_hold_the_described_keys(named, config):
    source = open_source(named, config(named), None)
    examples = source.examples("train")
    assert set(examples.chunk([0])) == {*source.keys, FOLDER}
    for key in source.keys:
        chunk = examples.chunk(np.array([3, 1]), [key])
        assert key in chunk and len(chunk[key]) == 2
        assert np.array_equal(chunk[key][0], examples.chunk([3])[key][0])
    folders = examples.chunk([0, 1], [FOLDER])[FOLDER]
    assert folders == [str(source.folder)] * 2 and all(file.is_file() for file in source.files)


def test_workers_can_read(named, config):
    examples = open_source(named, config(named), None).examples("train")
    assert values(pickle.loads(pickle.dumps(examples))) == values(examples)


def test_state_reads_further_files_in_the_same_way(named, config):
    source = open_source(named, config(named), None)
    kind, _, path = named.partition(":")
    state = json.loads(json.dumps(source.state))
    again = kinds()[kind](path, config(named), state)
    assert values(again.examples("train")) == values(source.examples("train"))
    assert again.keys == source.keys


def test_the_fingerprint_is_of_the_content(named, config):
    source = open_source(named, config(named), None)
    before = source.fingerprint()
    assert open_source(named, config(named), None).fingerprint() == before
    file = source.files[-1]
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert source.fingerprint() != before


def test_a_missing_path_is_named(named, config):
    with pytest.raises(UserError, match="nowhere does not exist"):
        open_source(f"{named.partition(':')[0]}:nowhere", config(named), None)


def test_a_file_in_another_folder_is_another_set(config, tmp_path):
    make_folder(tmp_path)
    before = open_source(f"folder:{tmp_path}", config(""), None).fingerprint()
    (tmp_path / "class0" / "0.png").rename(tmp_path / "class1" / "0.png")
    assert open_source(f"folder:{tmp_path}", config(""), None).fingerprint() != before


def test_large_sets_are_identified_by_the_ends_of_their_files(tmp_path, monkeypatch):
    Image.effect_noise((200, 200), 90).save(tmp_path / "a.png")
    monkeypatch.setattr("data.sources.source.MANY", 100)
    before = content_hash([tmp_path / "a.png"])
    image = Image.open(tmp_path / "a.png").copy()
    image.putpixel((100, 100), 255 - image.getpixel((100, 100)))
    image.save(tmp_path / "a.png")
    assert content_hash([tmp_path / "a.png"]) != before
