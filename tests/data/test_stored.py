"""Arrays in the cache and fitted ops of an earlier run serve the data that they were made from."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import data
from core.errors import UserError
from core.info import Info
from data.preprocess import pipeline

OPS = ("read_image('photo', channels=1)", "tokenize('text', words())")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def save(file, level):
    """Writes an image whose time differs from that of the one before."""
    Image.fromarray(np.full((4, 4), level, np.uint8)).save(file)
    time = file.stat().st_mtime_ns + 1_000_000 * (level + 1)
    os.utime(file, ns=(time, time))


@pytest.mark.parametrize("memory_gb", [1.0, 0.0])
def test_an_edited_file_named_by_a_column_is_read_again(memory_gb, config, tmp_path, monkeypatch):
    for name in "ab":
        save(tmp_path / f"{name}.png", 10)
    pd.DataFrame({"photo": ["a.png", "b.png"], "text": ["x y", "x"]}).to_csv(tmp_path / "set.csv", index=False)
    settings = config(f"csv:{tmp_path}/set.csv", preprocess=OPS, memory_gb=memory_gb)

    def levels():
        split = data.load(settings)[0]["train"]
        return sorted(split.batch(np.arange(2))["image"].mean((1, 2, 3)))

    assert levels() == [10, 10]
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit", None)  # the second start fits nothing
        assert levels() == [10, 10]
    save(tmp_path / "b.png", 90)
    assert levels() == [10, 90]
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"a\.png does not exist"):
        levels()


def table(file, ages, colours, labels):
    pd.DataFrame({"age": ages, "colour": colours, "label": labels}).to_csv(file, index=False)
    return file


def through_json(info):
    return Info.from_json(json.loads(json.dumps(info.to_json())))


def test_the_state_of_an_earlier_run_is_used(config, tmp_path):
    file = table(tmp_path / "set.csv", [1.0, 3.0, 5.0, 7.0], ["red", "blue"] * 2, list("xyxy"))
    settings = config(f"csv:{file}", preprocess=("features()",))
    trained = through_json(data.load(settings)[1])
    table(file, [4.0, 4.0 + 5**0.5], ["red", "green"], list("yx"))
    splits, info = data.load(settings, trained=trained)
    arrays = splits["train"].arrays
    rows = arrays["features"][np.argsort(arrays["features"][:, 0])]
    np.testing.assert_allclose(rows, [[0, 0, 1], [1, 0, 0]], atol=1e-6)  # age, blue, red of the first file
    assert info.state["preprocess"] == trained.state["preprocess"]
    assert info.keys["label"].statistics == trained.keys["label"].statistics
    assert trained.key_difference(info) == []
    other = data.load(settings)[1]
    assert other.state["preprocess"] != trained.state["preprocess"]


def test_a_vocabulary_of_an_earlier_run_is_used_and_stored(config, tmp_path, monkeypatch):
    file = tmp_path / "set.csv"
    pd.DataFrame({"text": ["a b", "c"], "label": ["x", "y"]}).to_csv(file, index=False)
    settings = config(f"csv:{file}", preprocess=("tokenize('text', words())",))
    trained = through_json(data.load(settings)[1])
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fit", None)  # nothing has changed: the arrays in the cache serve
        assert data.load(settings, trained=trained)[1].keys == trained.keys
    pd.DataFrame({"text": ["b d", "c c"], "label": ["x", "y"]}).to_csv(file, index=False)
    for _ in range(2):
        splits, info = data.load(settings, trained=trained)
        vocabulary = info.keys["text"].vocabulary
        assert vocabulary == trained.keys["text"].vocabulary
        texts = {vocabulary.text(ids) for ids in splits["train"].arrays["text"]}
        assert "c c" in texts and "b d" not in texts


def test_data_that_lack_a_key_of_an_earlier_run_are_refused(config, tmp_path):
    file = table(tmp_path / "set.csv", [1.0, 3.0], ["red", "blue"], list("xy"))
    settings = config(f"csv:{file}", preprocess=("features()",))
    trained = through_json(data.load(settings)[1])
    pd.DataFrame({"ages": [1.0, 2.0], "colour": ["red", "blue"], "label": list("xy")}).to_csv(file, index=False)
    with pytest.raises(UserError, match=r"'age', a key of .* in training, is missing: there are: colour, label"):
        data.load(settings, trained=trained)
