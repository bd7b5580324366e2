"""Our own TFDS builders, prepared without network and TensorFlow."""

import sys

import numpy as np
import pandas as pd
import pytest

import data
from data.builders import BUILDERS
from data.builders.raw import FromFiles
from data.preprocess.pipeline import Pipeline
from data.sources.tables import Csv
from data.sources.tfds import Official
from tests.data.fake import few_examples
from tests.data.infos import class_names, shapes


def test_digits(config, data_dir):
    splits, info = data.load(config("digits", test="test"), data_dir)
    assert info.sizes == {"train": 1437, "test": 360}
    assert shapes(info) == {"image": ((8, 8, 1), "uint8"), "label": ((), "int32")}
    assert class_names(info) == tuple("0123456789")
    train, test = (splits[name].batch(np.arange(len(splits[name]))) for name in ("train", "test"))
    assert train["image"].max() == 255
    shares = [np.bincount(part["label"]) / len(part["label"]) for part in (train, test)]
    np.testing.assert_allclose(shares[0], shares[1], atol=0.003)  # stratified
    from sklearn.datasets import load_digits

    originals = sorted(map(bytes, np.round(load_digits().images * (255 / 16)).astype(np.uint8)))
    assert sorted(map(bytes, np.concatenate([train["image"], test["image"]]))) == originals
    images = train["image"] / 255
    np.testing.assert_allclose(info.keys["image"].statistics["mean"], [images.mean()], rtol=1e-9)
    np.testing.assert_allclose(info.keys["image"].statistics["std"], [images.std()], rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "sizes", "width", "classes"),
    [
        ("breast_cancer", (455, 114), 30, ("malignant", "benign")),
        ("wine", (142, 36), 13, ("class_0", "class_1", "class_2")),
        ("iris", (120, 30), 4, ("setosa", "versicolor", "virginica")),
        ("diabetes", (353, 89), 10, ()),
    ],
)
def test_tables(config, data_dir, name, sizes, width, classes):
    splits, info = data.load(config(name, test="test", preprocess=("features()",)), data_dir)
    assert (info.sizes["train"], info.sizes["test"]) == sizes
    assert shapes(info)["features"] == ((width,), "float32")
    assert class_names(info) == classes
    train = splits["train"].arrays
    np.testing.assert_allclose(train["features"].mean(0), np.zeros(width), atol=1e-5)
    np.testing.assert_allclose(train["features"].std(0), np.ones(width), atol=1e-5)
    assert ("label" in train) == bool(classes)
    if not classes:
        assert shapes(info)["target"] == ((), "float32")
        np.testing.assert_allclose(info.keys["target"].statistics["mean"], train["target"].mean(), rtol=1e-6)


def test_columns_are_named_so_that_new_rows_can_be_given(config, data_dir, tmp_path):
    settings = config("breast_cancer", preprocess=("features()",))
    _, info = data.load(settings, data_dir)
    fitted = Pipeline.from_json(info.state["preprocess"])
    means = {column["name"]: column["mean"] for column in fitted.states[-1]["columns"]}
    assert "mean radius" in means
    pd.DataFrame([means]).to_csv(tmp_path / "new.csv", index=False)
    rows = Csv(str(tmp_path / "new.csv"), settings, {name: info.state["source"][name] for name in means})
    new = fitted(rows.examples("train").chunk([0]))
    np.testing.assert_allclose(new["features"], np.zeros((1, 30)), atol=1e-6)


@pytest.mark.slow
def test_prepared_without_tensorflow_and_documented(tmp_path, monkeypatch):
    few_examples(monkeypatch)
    for name, builder in BUILDERS.items():
        assert "Source:" in builder.__doc__ and "icence" in builder.__doc__.replace("BSD-3-Clause", "licence")
        if not issubclass(builder, FromFiles):  # whose files only the network or the user has
            assert Official(name, str(tmp_path)).splits["train"].num_examples > 0
    assert "tensorflow" not in sys.modules
