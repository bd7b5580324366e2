"""TFDS sets by name, the split syntax, and the description of a set."""

import io
import json
import os
import pickle
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import data
from core.errors import UserError
from core.info import Info
from data.batches import train_batches
from data.sources import tfds as official
from data.sources.source import resolve, sizes_as_splits
from data.splits import ArraySplit, StreamSplit
from inference.inputs import encode
from tasks.classification import Classification
from tests.data import fake
from tests.data.infos import class_names, shapes
from training.config import default

SPLITS = sizes_as_splits({"train": 100, "test": 10})


@pytest.fixture(scope="module")
def mnist_dir(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("mnist"))
    fake.prepare("mnist", path, {"train": 60, "test": 20})
    return path


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("train", [("train", 0, 100)]),
        ("train[80%:]", [("train", 80, 100)]),
        ("train[:-5]+test[2:4]", [("train", 0, 95), ("test", 2, 4)]),
        ("all", [("train", 0, 100), ("test", 0, 10)]),
    ],
)
def test_split_syntax(spec, parts):
    assert resolve(spec, SPLITS) == parts


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "validation",
            r"splits.train='train\[:80%\]' --config.data.splits.validation=",
        ),
        ("tran", r"'tran': no split 'tran'; there are: train \(100\), test \(10\); did you mean 'train'"),
        ("train[90%:", r"Unrecognized split format.*there are: train \(100\), test \(10\)"),
        ("train[200:]", r"incompatible with 100 examples"),
        ("train[5:5]", r"'train\[5:5\]' selects no example; there are: train \(100\)"),
        ("test[:1%]", r"selects no example"),
    ],
)
def test_bad_splits(spec, message):
    with pytest.raises(UserError, match=message) as error:
        resolve(spec, SPLITS)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_official_images_in_memory_and_streamed_are_the_same(config, mnist_dir):
    splits, info = data.load(config("mnist", test="test"), mnist_dir)
    assert info.sizes == {"train": 60, "test": 20}
    assert shapes(info) == {"image": ((28, 28, 1), "uint8"), "label": ((), "int32")}
    assert class_names(info) == tuple("0123456789")
    assert isinstance(splits["train"], ArraySplit)
    assert "tensorflow" not in sys.modules
    streamed, streamed_info = data.load(config("mnist", test="test", memory_gb=0.0), mnist_dir)
    assert isinstance(streamed["train"], StreamSplit)
    assert streamed_info == info
    run = {"seed": 0, "batch_size": 16, "start": 1, "stop": 5}
    batches = [train_batches(splits["train"], **run), train_batches(streamed["train"], workers=2, **run)]
    for one, other in zip(*batches, strict=True):
        assert one.keys() == other.keys() == {"image", "label", "mask"}
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_official_images_are_resized_on_the_host(config, mnist_dir):
    _, info = data.load(config("mnist", preprocess=("resize(14, 10)",)), mnist_dir)
    assert shapes(info)["image"] == ((14, 10, 1), "uint8")


def test_statistics_of_images_are_of_the_training_split(config, mnist_dir):
    splits, info = data.load(config("mnist", train="train[:30]", test="test"), mnist_dir)
    images = splits["train"].arrays["image"] / 255
    np.testing.assert_allclose(info.keys["image"].statistics["mean"], images.mean((0, 1, 2)), rtol=1e-9)
    np.testing.assert_allclose(info.keys["image"].statistics["std"], images.std((0, 1, 2)), rtol=1e-9)


class _Boxes(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Images with lists of objects."""

    name = "boxes"
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        objects = {"bbox": tfds.features.BBoxFeature(), "label": tfds.features.ClassLabel(names=["cat", "dog"])}
        features = {
            "image": tfds.features.Tensor(shape=(4, 4, 3), dtype=np.uint8),
            "objects": tfds.features.Sequence(objects),
            "tokens": tfds.features.Sequence(np.int32),
            "name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples([0, 1, 2]), "test": self._generate_examples([4, 1])}

    def _generate_examples(self, counts):
        box = tfds.features.BBox(ymin=0.0, xmin=0.0, ymax=0.5, xmax=1.0)
        for i, count in enumerate(counts):
            objects = [{"bbox": box, "label": "dog"}] * count
            yield i, {"image": np.zeros((4, 4, 3), np.uint8), "objects": objects, "tokens": [1, 2], "name": "x"}


def test_boxes_are_padded_to_one_length_in_all_splits(config, tmp_path, monkeypatch):
    monkeypatch.setitem(official.BUILDERS, "boxes", _Boxes)
    splits, info = data.load(config("boxes", test="test"), str(tmp_path))
    assert shapes(info) == {
        "image": ((4, 4, 3), "uint8"),
        "objects/bbox": ((4, 4), "float32"),
        "objects/bbox_mask": ((4,), "float32"),
        "objects/bbox_lengths": ((), "int32"),
        "objects/label": ((4,), "int32"),
        "objects/label_mask": ((4,), "float32"),
        "objects/label_lengths": ((), "int32"),
        "tokens": ((2,), "int32"),
        "tokens_lengths": ((), "int32"),
        "tokens_mask": ((2,), "float32"),  # declared to vary, though here they do not
    }
    assert sorted(splits["train"].arrays["objects/bbox_mask"].sum(1)) == [0, 1, 2]
    assert sorted(splits["test"].arrays["objects/label"].sum(1)) == [1, 4]
    assert (info.keys["objects/label"].role, info.keys["objects/label"].classes) == ("label", ("cat", "dog"))
    assert [info.keys[f"objects/bbox{end}"].role for end in ("", "_mask", "_lengths")] == ["boxes", "mask", "lengths"]
    assert splits["test"].text("name", np.arange(2)) == ["x", "x"]
    streamed, streamed_info = data.load(config("boxes", test="test", memory_gb=0.0), str(tmp_path))
    assert isinstance(streamed["test"], StreamSplit) and streamed_info.keys == info.keys
    batch = streamed["test"].batch(np.arange(2))
    assert batch.keys() == splits["test"].arrays.keys()
    for key, values in splits["test"].arrays.items():
        np.testing.assert_array_equal(batch[key], values)


class _Single(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """One value a feature, of every kind that a record stores."""

    name = "single"
    VERSION = tfds.core.Version("1.0.0")
    FEATURES = {
        "image": tfds.features.Image(shape=(4, 5, 3), encoding_format="png"),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        "name": tfds.features.Text(),
        "flag": np.bool_,
        "byte": np.uint8,
        "ratio": np.float32,
        "wide": np.float64,
        "packed": tfds.features.Tensor(shape=(2, 2), dtype=np.int32, encoding="zlib"),
    }
    MORE = {}

    def _info(self):
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.FEATURES | self.MORE))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        rng = np.random.default_rng(0)
        for i in range(6):
            example = {
                "label": i % 2,
                "name": f"n{i}",
                "flag": i % 3 == 0,
                "byte": 250 + i,
                "ratio": i / 3,
                "wide": 0.1,
            }
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).save(file, format="png")
            packed = np.arange(4, dtype=np.int32).reshape(2, 2) - i
            more = {"list": [1] * i, "count": i} if self.MORE else {}
            yield i, {**example, "image": file.getvalue(), "packed": packed, **more}


class _Nested(_Single, skip_registration=True):
    """The same and a list, which a record does not store as one value."""

    name = "nested"
    MORE = {"list": tfds.features.Sequence(np.int32), "count": np.int64}


@pytest.mark.parametrize("cls", [_Single, _Nested])
def test_records_are_decoded_as_tfds_does(cls, tmp_path, monkeypatch):
    monkeypatch.setitem(official.BUILDERS, cls.name, cls)
    source = official.Official(cls.name, str(tmp_path))
    theirs = list(source.builder.as_data_source(split="train[1:]"))
    ours = pickle.loads(pickle.dumps(source.examples("train[1:]"))).records  # as it reaches a worker
    assert len(ours) == len(theirs) == 5
    for examples in (ours.read(range(5)), [ours.read([i])[0] for i in range(5)]):
        for one, other in zip(examples, theirs, strict=True):
            assert list(one) == list(other)
            for key in one:
                assert type(one[key]) is type(other[key]), key
                np.testing.assert_array_equal(one[key], other[key], strict=isinstance(one[key], np.ndarray))


@pytest.mark.parametrize("cls", [_Single, _Nested])
def test_columns_hold_the_decoded_records(cls, tmp_path, monkeypatch):
    monkeypatch.setitem(official.BUILDERS, cls.name, cls)
    source = official.Official(cls.name, str(tmp_path))
    theirs = list(source.builder.as_data_source(split="train"))
    chunk = source.examples("train").chunk(np.array([4, 0]))
    assert chunk.keys() == theirs[0].keys() == source.keys.keys()
    assert chunk["name"] == [theirs[i]["name"].decode() for i in (4, 0)]
    for key in chunk.keys() - {"name"}:
        for value, i in zip(chunk[key], (4, 0), strict=True):
            np.testing.assert_array_equal(value, theirs[i][key])
    roles = {"image": "image", "label": "label", "name": "text", "byte": "number", "packed": ""}
    assert {key: source.keys[key].role for key in roles} == roles and source.keys["label"].classes == ("cat", "dog")
    assert [key for key, record in source.keys.items() if record.ragged] == ["list"] * bool(cls.MORE)


def test_single_values_do_not_pass_through_tfds_decoding_of_nested_ones(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("decoded the slow way")

    monkeypatch.setitem(official.BUILDERS, "single", _Single)
    examples = official.Official("single", str(tmp_path)).examples("train")
    monkeypatch.setattr(tfds.features.FeaturesDict, "deserialize_example_np", refuse)
    assert examples.chunk([0]).keys() == _Single.FEATURES.keys()
    assert examples.chunk([0], ("label", "name")).keys() == {"label", "name"}  # others are not decoded


def test_labels_without_names_are_numbered(config, tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((4, 2, 2), np.uint8), label=[0, 2, 1, 2])
    assert class_names(data.load(config(f"npz:{tmp_path}/a.npz"))[1]) == ("0", "1", "2")


def test_info_survives_json(config, data_dir):
    for name, ops in (("digits", ()), ("iris", ("features()",)), ("diabetes", ())):
        _, info = data.load(config(name, test="test", preprocess=ops), data_dir)
        assert Info.from_json(json.loads(json.dumps(info.to_json()))) == info


def test_new_images_are_encoded(config, data_dir, tmp_path):
    settings, task = default(), Classification(inputs=("image",))
    settings.data = config("digits")
    _, info = data.load(settings.data, data_dir)
    pixels = {"a": np.full((20, 30, 3), 255, np.uint8), "b": np.full((8, 8), 255, np.uint8)}
    for name, values in pixels.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
    batch = encode(settings, info, task, [str(tmp_path / f"{name}.png") for name in pixels], []).batch
    assert batch["image"].shape == (2, 8, 8, 1) and batch["image"].dtype == np.uint8
    assert (batch["image"] == 255).all()
    (tmp_path / "x.csv").write_text("x\n1\n")
    for path, message in [
        (str(tmp_path / "c.png"), "does not exist"),
        (__file__, "is not an image"),
        (str(tmp_path / "x.csv"), "reads 'image' of digits: give image files, not .*x.csv"),
    ]:
        with pytest.raises(UserError, match=message):
            encode(settings, info, task, [path], [])
    settings.data = config("iris", preprocess=("features()",))
    _, info = data.load(settings.data, data_dir)
    with pytest.raises(UserError, match=r"of iris: give .*\.csv.*, not .*a\.png"):
        encode(settings, info, task, [str(tmp_path / "a.png")], [])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("digit", "data set 'digit' does not exist: did you mean 'digits'"),
        ("mnits", "did you mean 'mnist'"),
        ("cmaterdb/bangl", "'cmaterdb' has no config 'bangl': did you mean 'bangla'"),
        ("csv:", "'csv:'"),
        ("no such set", "'no such set' is not a data set"),
    ],
)
def test_unknown_names(config, tmp_path, name, message):
    with pytest.raises(UserError, match=message) as error:
        data.load(config(name), str(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["mnist", "wine_quality/white", "emnist/letters"])
def test_unprepared_sets_without_tensorflow(config, tmp_path, monkeypatch, name):
    monkeypatch.setattr(official, "_has_tensorflow", lambda: False)
    with pytest.raises(UserError, match=f"{name}.* is not prepared under {tmp_path}; .* the extra `tfds`"):
        data.load(config(name), str(tmp_path))


def test_sets_prepared_as_tfrecord_are_refused(config, mnist_dir, monkeypatch):
    tfrecord = tfds.core.FileFormat.TFRECORD
    monkeypatch.setattr(tfds.core.DatasetInfo, "file_format", property(lambda self: tfrecord))
    monkeypatch.setattr(tfds.core.DatasetBuilder, "is_prepared", lambda self: True)
    with pytest.raises(UserError, match="'mnist' is prepared as tfrecord, which has no random access"):
        data.load(config("mnist"), mnist_dir)


def test_a_failed_preparation_is_one_line(config, tmp_path):
    (tmp_path / "digits").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=r"preparing 'digits' under .* failed"):
        data.load(config("digits"), str(tmp_path))


def test_other_refusals(config, data_dir):
    with pytest.raises(UserError, match=r"no split 'valid'; there are: "):
        data.load(config("digits", validation="valid"), data_dir)
    with pytest.raises(UserError, match=r"data.splits.train is not set"):
        data.load(config("digits", train=""), data_dir)
    with pytest.raises(UserError, match=r"^data.target: 'labl' does not exist: did you mean 'label'"):
        data.load(config("digits", target="labl"), data_dir)


@pytest.mark.skipif("DATA_DIR" not in os.environ, reason="needs official sets, prepared under $DATA_DIR")
def test_official_sets(config):
    _, info = data.load(config("cmaterdb/bangla", test="test"), os.environ["DATA_DIR"])
    assert info.sizes == {"train": 5000, "test": 1000}
    assert shapes(info) == {"image": ((32, 32, 3), "uint8"), "label": ((), "int32")}
    wine = config("wine_quality/white", target="quality", target_type="number", test="train[80%:]")
    wine.preprocess = ("features()",)
    _, info = data.load(wine, os.environ["DATA_DIR"])
    assert shapes(info) == {"features": ((11,), "float32"), "target": ((), "float32")}
    assert "alcohol" in info.state["source"]
