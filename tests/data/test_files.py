"""One's own files: CSV, Parquet, folders of images, .npz."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import data
from core.errors import UserError
from data.dataset import StreamSplit
from data.preprocess.encode import encode
from tests.data.infos import class_names, shapes


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    age = rng.normal(40, 10, 100)
    city = rng.choice(["Oslo", "Rome"], 100)
    frame = pd.DataFrame({"age": age, "city": city, "ill": np.where(age > 40, "yes", "no"), "days": age * 2})
    frame.loc[:9, "age"] = None
    frame.loc[5:20, "city"] = None
    return frame.sort_values("ill", ignore_index=True)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_table(config, tmp_path, frame, kind):
    path = tmp_path / f"people.{kind}"
    frame.to_csv(path, index=False) if kind == "csv" else frame.to_parquet(path)
    split = {"train": "train[:80%]", "test": "train[80%:]"}
    splits, info = data.load(config(f"{kind}:{path}", target="ill", **split))
    assert info.sizes == {"train": 80, "test": 20}
    assert class_names(info) == ("no", "yes")
    # age and whether it is missing, three cities (one of them "missing"), days
    assert shapes(info) == {"features": ((6,), "float32"), "label": ((), "int32")}
    test = splits["test"].arrays["label"]
    assert 3 < test.sum() < 17  # rows are shuffled: the file is sorted by class
    splits, info = data.load(config(f"{kind}:{path}", target="days", target_type="number", **split))
    assert class_names(info) == ()
    target = np.concatenate([splits[name].arrays["target"] for name in ("train", "test")])
    np.testing.assert_allclose(np.sort(target), np.sort(frame["days"]), rtol=1e-6)
    np.testing.assert_allclose(info.keys["target"].statistics["std"], splits["train"].arrays["target"].std(), rtol=1e-5)


def test_statistics_come_from_the_training_rows_only(config, tmp_path, frame):
    path = tmp_path / "people.csv"
    name = config(f"csv:{path}", target="days", target_type="number", train="train[:50]", test="train[50:]")
    frame.to_csv(path, index=False)
    splits, before = data.load(name)
    from data.sources.source import shuffled

    rows = shuffled(100)[50:]
    changed = frame.copy()
    changed.loc[rows, ["age", "days"]] = 1e6
    changed.loc[rows, "city"] = "Paris"
    changed.to_csv(path, index=False)
    others, after = data.load(name)
    assert before.to_json() == after.to_json()
    np.testing.assert_array_equal(splits["train"].arrays["features"], others["train"].arrays["features"])
    assert np.abs(splits["test"].arrays["features"] - others["test"].arrays["features"]).max() > 100


def test_table_refusals(config, tmp_path, frame):
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    for others, message in [
        ({"target": "il"}, "data.target: the table has no column 'il': did you mean 'ill'"),
        ({}, "data.target is not set: name the column to predict, of age, city, ill, days"),
        ({"target": "city"}, "target 'city' is missing in"),
        ({"target": "ill", "target_type": "number"}, "set data.target_type='class'"),
        ({"target": "ill", "target_type": "clas"}, "must be 'class' or 'number', not 'clas'"),
    ]:
        with pytest.raises(UserError, match=message):
            data.load(config(f"csv:{path}", **others))
    with pytest.raises(UserError, match=r"nowhere.csv does not exist"):
        data.load(config("csv:nowhere.csv"))
    path.write_text("a,b\n")
    with pytest.raises(UserError, match="has no rows"):
        data.load(config(f"csv:{path}"))
    path.write_text("")
    with pytest.raises(UserError, match="cannot be read"):
        data.load(config(f"csv:{path}"))
    with pytest.raises(UserError, match="cannot be read"):
        data.load(config(f"parquet:{path}"))


def _draw(path, value, size=(6, 4), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


def test_folder(config, tmp_path):
    for label, name in enumerate(("cat", "dog")):
        for i in range(10):
            _draw(tmp_path / name / f"{i}.png", 100 * label + i)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    splits, info = data.load(config(f"folder:{tmp_path}", train="train[:75%]", test="train[75%:]"))
    assert class_names(info) == ("cat", "dog")
    assert info.sizes == {"train": 15, "test": 5}
    assert shapes(info) == {"image": ((4, 6, 1), "uint8"), "label": ((), "int32")}
    for split in splits.values():
        np.testing.assert_array_equal(split.arrays["image"][:, 0, 0, 0] >= 100, split.arrays["label"] == 1)
    assert set(splits["train"].arrays["label"]) == {0, 1}  # shuffled: the last quarter is not all dogs
    assert set(splits["test"].arrays["label"]) == {0, 1}
    streamed, streamed_info = data.load(config(f"folder:{tmp_path}", train="train[:75%]", memory_gb=0.0))
    assert isinstance(streamed["train"], StreamSplit)
    np.testing.assert_array_equal(streamed["train"].batch(np.arange(15))["image"], splits["train"].arrays["image"])
    assert streamed_info.keys["image"].statistics == info.keys["image"].statistics


def test_folder_with_splits_colours_and_sizes(config, tmp_path):
    _draw(tmp_path / "train" / "a" / "1.png", 255)
    _draw(tmp_path / "train" / "b" / "1.jpg", (255, 0, 0), size=(9, 9), mode="RGB")
    _draw(tmp_path / "test" / "b" / "1.png", 0)
    name = f"folder:{tmp_path}"
    with pytest.raises(UserError, match=r"has different shapes, such as \(4, 6, 3\) and \(9, 9, 3\).*data.image_size"):
        data.load(config(name))
    splits, info = data.load(config(name, test="test", image_size=(5, 7)))
    assert shapes(info)["image"] == ((5, 7, 3), "uint8")
    assert class_names(info) == ("a", "b")
    np.testing.assert_array_equal(splits["test"].arrays["label"], [1])


def test_folder_refusals(config, tmp_path):
    with pytest.raises(UserError, match="has no images in folders named by class"):
        data.load(config(f"folder:{tmp_path}"))
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "1.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cat/1.png is not an image"):
        data.load(config(f"folder:{tmp_path}"))
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        data.load(config(f"folder:{tmp_path}/nowhere"))


@pytest.mark.parametrize("names", ["x_train y_train x_test y_test", "train_image train_label test_image test_label"])
def test_npz_images(config, tmp_path, names):
    rng = np.random.default_rng(0)
    values = [
        rng.integers(0, 255, (20, 5, 5), np.uint8),
        np.arange(20) % 4,
        np.zeros((6, 5, 5), np.uint8),
        np.arange(6) % 4,
    ]
    np.savez(tmp_path / "a.npz", **dict(zip(names.split(), values, strict=True)))
    splits, info = data.load(config(f"npz:{tmp_path}/a.npz", test="test"))
    assert info.sizes == {"train": 20, "test": 6}
    assert shapes(info) == {"image": ((5, 5, 1), "uint8"), "label": ((), "int32")}
    assert class_names(info) == ("0", "1", "2", "3")
    assert sorted(map(bytes, splits["train"].arrays["image"])) == sorted(map(bytes, values[0]))


def test_npz_table_and_other_keys(config, tmp_path):
    path = tmp_path / "a.npz"
    features = np.random.default_rng(0).normal(3, 2, (30, 4))
    np.savez(path, x=features, y=features.sum(1))
    splits, info = data.load(config(f"npz:{path}"))
    assert shapes(info) == {"features": ((4,), "float32"), "target": ((), "float32")}
    rows = pd.DataFrame(features, columns=list("0123"))
    np.testing.assert_allclose(encode(info, rows)["features"].mean(0), np.zeros(4), atol=1e-5)
    assert len(splits["train"]) == 30
    np.savez(path, tokens=np.arange(60).reshape(30, 2), label=np.arange(30) % 2)
    assert shapes(data.load(config(f"npz:{path}"))[1]) == {"tokens": ((2,), "int32"), "label": ((), "int32")}


def test_npz_refusals(config, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=np.zeros((3, 2, 2)), y=np.zeros(4))
    with pytest.raises(UserError, match=r"differ in length: .*image.*3.*target.*4"):
        data.load(config(f"npz:{path}"))
    np.savez(path, image=np.zeros((3, 2, 2)), label=np.array([-1, 0, 1]))
    with pytest.raises(UserError, match="labels of 'train' are from -1 to 1, but classes are from 0 to 1"):
        data.load(config(f"npz:{path}"))
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"is not an .npz file"):
        data.load(config(f"npz:{path}"))


@pytest.mark.parametrize("key", ["label", "target"])
def test_an_answer_with_an_axis_too_many_is_refused(config, tmp_path, key):
    path = tmp_path / "a.npz"
    np.savez(path, image=np.zeros((4, 5, 5), np.uint8), **{key: np.zeros((4, 1), np.int64)})
    with pytest.raises(UserError, match=rf"'{key}' has the shape \(\d, 1\)"):
        data.load(config(f"npz:{path}"))


@pytest.mark.parametrize(
    ("name", "written"),
    [("mine.csv", "csv:mine.csv"), ("../a/b.parquet", "parquet:../a/b.parquet"), ("./photos/", "folder:./photos/")],
)
def test_a_path_without_its_kind_is_answered_with_it(name, written, config):
    with pytest.raises(UserError, match=f"is a path: write '{written}'"):
        data.load(config(name), "/nowhere")
