"""One's own files: CSV, Parquet, folders of images, .npz."""

import numpy as np
import pandas as pd
import pytest

import data
from core.errors import UserError
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


@pytest.mark.parametrize(
    ("name", "written"),
    [("mine.csv", "csv:mine.csv"), ("../a/b.parquet", "parquet:../a/b.parquet"), ("./photos/", "folder:./photos/")],
)
def test_a_path_without_its_kind_is_answered_with_it(name, written, config):
    with pytest.raises(UserError, match=f"is a path: write '{written}'"):
        data.load(config(name), "/nowhere")
