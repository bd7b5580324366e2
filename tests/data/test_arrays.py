"""NumPy files: names of arrays, splits, tables, refusals."""

import pickle

import numpy as np
import pytest

import data
from core.errors import UserError
from data.sources.arrays import Npy, Npz
from data.sources.named import open_source
from tests.data.infos import class_names, shapes


@pytest.mark.parametrize("kind", ["npz", "npy"])
@pytest.mark.parametrize("names", ["x_train y_train x_test y_test", "train_image train_label test_image test_label"])
def test_images(kind, names, config, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (20, 5, 5), np.uint8)
    values = [images, np.arange(20) % 4, np.zeros((6, 5, 5), np.uint8), np.arange(6) % 4]
    arrays = dict(zip(names.split(), values, strict=True))
    if kind == "npz":
        np.savez(tmp_path / "a.npz", **arrays)
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    path = tmp_path / "a.npz" if kind == "npz" else tmp_path
    splits, info = data.load(config(f"{kind}:{path}", test="test"))
    assert info.sizes == {"train": 20, "test": 6}
    assert shapes(info) == {"image": ((5, 5, 1), "uint8"), "label": ((), "int32")}
    assert class_names(info) == ("0", "1", "2", "3")
    assert sorted(map(bytes, splits["train"].arrays["image"])) == sorted(map(bytes, images))


def test_a_matrix_of_features_is_a_table(config, tmp_path):
    features = np.random.default_rng(0).normal(3, 2, (30, 4))
    np.savez(tmp_path / "a.npz", x=features, y=features.sum(1))
    source = Npz(f"{tmp_path}/a.npz", config(""))
    assert source.is_table and list(source.keys) == ["0", "1", "2", "3", "target"]
    chunk = source.examples("train", ordered=True).chunk(np.arange(5))
    np.testing.assert_array_equal(chunk["2"], features[:5, 2])
    assert chunk["target"].dtype == np.float64  # a large offset would be lost in 32 bits


def test_other_keys_keep_their_names(config, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, tokens=np.arange(60).reshape(30, 2), label=np.arange(30) % 2 == 1, note=np.array(["é"] * 30))
    splits, info = data.load(config(f"npz:{path}"))
    assert shapes(info) == {"tokens": ((2,), "int32"), "label": ((), "int32")}
    assert splits["train"].text("note", np.arange(2)) == ["é", "é"]
    np.save(tmp_path / "series.npy", np.arange(8.0).reshape(4, 2))
    source = Npy(f"{tmp_path}/series.npy", config(""))
    assert source.keys["series"].role == "series" and len(source.examples("train")) == 4


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((3, 2, 2)), "y": np.zeros(4)}, r"differ in length: .*image.*3.*target.*4"),
        (
            {"image": np.zeros((3, 2, 2)), "label": np.array([-1, 0, 1])},
            "are from -1 to 1, but classes are from 0 to 1",
        ),
        ({"image": np.zeros((3, 2))}, r"array 'image' has the shape \(3, 2\), not \(n, h, w\)"),
        ({"x": np.zeros((3, 2)), "features": np.zeros((3, 2))}, "two arrays of 'train' mean 'features'"),
        ({"series": np.array([[0.0], [np.nan], [1.0]])}, "array 'series' has NaN or infinity in row 1, counted from 0"),
        ({"image": np.full((2, 2, 2), np.inf)}, "array 'image' has NaN or infinity in row 0"),
        ({"label": np.array([{}, {}])}, "a.npz holds an array of Python objects"),
        ({"when": np.array(["2024-01-01"], "datetime64[D]")}, "array 'when' has the type datetime64"),
        ({"label": np.array(3)}, r"array 'label' has the shape \(\)"),
        ({"image": np.zeros((0, 2, 2))}, r"array 'image' has the shape \(0, 2, 2\): it needs one row per example"),
        ({"x_train": np.zeros((2, 2, 2)), "y_test": np.zeros(2)}, "'train' has image, but 'test' has target"),
    ],
)
def test_refusals(arrays, message, config, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=message) as caught:
        data.load(config(f"npz:{path}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_broken_files_are_named(kind, config, tmp_path):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match=rf"a.{kind} is not an .{kind} file"):
        data.load(config(f"{kind}:{path}"))
    path.write_bytes(b"")
    with pytest.raises(UserError, match=rf"a.{kind} is not an .{kind} file"):
        data.load(config(f"{kind}:{path}"))


@pytest.mark.parametrize("key", ["label", "target"])
def test_an_answer_with_an_axis_too_many_is_refused(config, tmp_path, key):
    path = tmp_path / "a.npz"
    np.savez(path, image=np.zeros((4, 5, 5), np.uint8), **{key: np.zeros((4, 1), np.int64)})
    with pytest.raises(UserError, match=rf"'{key}' has the shape \(n, 1\)"):
        data.load(config(f"npz:{path}"))


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("name", ["image", "features"])
def test_workers_map_npy_files_themselves(name, layout, config, tmp_path):
    shape = (500, 8, 8) if name == "image" else (500, 64)
    values = np.arange(500 * 64, dtype=np.float32).reshape(shape)
    np.save(tmp_path / f"{name}.npy", np.asarray(values, order=layout))
    np.save(tmp_path / "label.npy", np.arange(500) % 2)
    examples = open_source(f"npy:{tmp_path}", config(""), None).examples("train", ordered=True)
    sent = pickle.dumps(examples)
    assert len(sent) < 30_000 < values.nbytes
    chunk = pickle.loads(sent).chunk([7, 3])
    found = chunk["image"] if name == "image" else np.stack([chunk[str(i)] for i in range(64)], axis=1)
    np.testing.assert_array_equal(np.reshape(found, (2, 64)), values.reshape(500, 64)[[7, 3]])
    assert list(chunk["label"]) == [1, 1]
