"""NumPy files: names of arrays, splits, tables, refusals."""

import pickle

import jax
import numpy as np
import pytest

import data
from core.errors import UserError
from data.augment.transform import Transform
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


@pytest.mark.parametrize("shape", [(8, 6, 6, 6), (8, 6, 6, 6, 1)])
def test_a_volume_and_its_label_map_are_mirrored_together(shape, config, tmp_path):
    volume = np.random.default_rng(0).integers(0, 2, (8, 6, 6, 6), np.uint8)
    np.savez(tmp_path / "a.npz", volume=volume * 255, label_map=volume.reshape(shape))
    splits, info = data.load(config(f"npz:{tmp_path / 'a.npz'}", test=""))
    assert shapes(info) == dict.fromkeys(("volume", "label_map"), ((6, 6, 6, 1), "uint8"))
    batch = splits["train"].batch(np.arange(8)) | {"index": np.arange(8, dtype=np.int32)}
    moved = Transform.create(("flip()",), info)(jax.random.key(0), batch | {"mask": np.ones(8, np.float32)})
    np.testing.assert_array_equal(moved["volume"], moved["label_map"].astype(np.float32))
    assert (np.asarray(moved["label_map"]) != batch["label_map"]).any()


def test_frames_without_an_axis_of_channels(config, tmp_path):
    np.savez(tmp_path / "a.npz", video=np.zeros((6, 5, 10, 12), np.uint8), label=np.arange(6) % 2)
    ops = ("sample_frames(4)", "resize(8, 8)")
    _, info = data.load(config(f"npz:{tmp_path / 'a.npz'}", preprocess=ops, test=""))
    assert shapes(info)["video"] == ((4, 8, 8, 1), "uint8")


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
        ({"video": np.zeros((2, 3, 3))}, r"array 'video' has the shape \(2, 3, 3\), not \(n, t, h, w\)"),
        ({"volume": np.zeros((2, 3, 3, 3)), "label_map": np.zeros((2, 3, 3), int)}, "'label_map' has the shape"),
        ({"image": np.full((2, 2, 2), 255)}, "array 'image' holds whole numbers up to 255 as int64"),
        ({"image": np.full((2, 2, 2), 255.0)}, "array 'image' holds whole numbers up to 255 as float64"),
        ({"image": np.full((2, 2, 2), -1)}, "array 'image' has the type int64: save pixels as uint8"),
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
