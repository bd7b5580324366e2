"""Ops on columns: everything learnt comes from the training rows, survives JSON, and faults are named."""

import json
from collections.abc import Collection, Sequence
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.preprocessing import QuantileTransformer

from core.errors import UserError
from core.info import Key
from data.preprocess import pipeline

DAY = 86400.0
TRAIN = {
    "age": np.array([20.0, 40.0, np.nan, 60.0]),
    "height": [1, 2, 3, 4],
    "same": [7, 7, 7, 7],
    "smoker": [True, False, True, False],
    "city": ["Rome", "Oslo", None, "Rome"],
    "seen": np.array([0.0, 1.0, 2.0, 3.0]) * DAY,
}


class Rows:
    """Columns in memory as the examples of a split, which know their place in a file."""

    def __init__(self, columns: dict[str, Sequence]):
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def chunk(self, indices: Sequence[int], keys: Collection[str] | None = None) -> dict[str, list]:
        wanted = self.columns if keys is None else self.columns.keys() & set(keys)
        return {key: [self.columns[key][i] for i in indices] for key in self.columns if key in wanted}

    def place(self, index: int) -> str:
        return f"row {index + 1} of a.csv"


def keys_of(columns: dict[str, Sequence], **others: Key) -> dict[str, Key]:
    is_text = {key: any(isinstance(value, str) for value in values) for key, values in columns.items()}
    return {key: Key(role="text" if text else "number") for key, text in is_text.items()} | others


def fit(texts: Sequence[str], train: dict[str, Sequence], keys=None, **splits: dict[str, Sequence]):
    """Returns the ops, restored from JSON, the changed splits, and the keys."""
    examples = {"train": Rows(train)} | {name: Rows(columns) for name, columns in splits.items()}
    fitted, changed, described = pipeline.fit(tuple(texts), examples, keys or keys_of(train))
    restored = pipeline.Pipeline.from_json(json.loads(json.dumps(fitted.to_json())))
    return restored, {name: each.chunk(range(len(each))) for name, each in changed.items()}, described


def test_features_of_the_training_rows():
    _, changed, keys = fit(["features()"], TRAIN)
    features = changed["train"]["features"]
    # age, age missing, height, smoker, city: Oslo, Rome, missing, seen; the constant column is dropped
    assert features.shape == (4, 8) and features.dtype == np.float32
    assert changed["train"].keys() == keys.keys() == {"features"} and keys["features"].role == "features"
    scale = np.sqrt(800 / 3)
    np.testing.assert_allclose(features[:, 0], np.array([-20, 0, 0, 20]) / scale, rtol=1e-6)
    np.testing.assert_array_equal(features[:, 1], [0, 0, 1, 0])
    np.testing.assert_array_equal(features[:, 3], [1, -1, 1, -1])
    np.testing.assert_array_equal(features[:, 4:7], [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 1, 0]])
    for column in (2, 7):
        np.testing.assert_allclose([features[:, column].mean(), features[:, column].std()], [0, 1], atol=1e-6)


def test_features_of_new_rows():
    ops, _, _ = fit(["features()"], TRAIN)
    new = {"age": [40], "height": [None], "smoker": [True], "city": ["Paris"], "extra": [1], "seen": [DAY]}
    changed = ops(new)
    # mean age, not missing; missing height -> mean; a city that the training rows lack
    np.testing.assert_array_equal(changed["features"][0, [0, 1, 2, 4, 5, 6]], np.zeros(6))
    assert changed["extra"] == [1]
    new = {key: list(TRAIN[key]) for key in TRAIN}
    with pytest.raises(UserError, match=r"no column 'age': did you mean 'ages'"):
        ops({("ages" if key == "age" else key): values for key, values in new.items()})
    with pytest.raises(UserError, match="'height' holds numbers in training, but here 'tall'"):
        ops(new | {"height": [1, "tall", 3, 4]})
    with pytest.raises(UserError, match=r"'city' holds only texts that the training rows lack, such as 'oslo'.*'Oslo'"):
        ops(new | {"city": ["oslo"] * 4})


def test_features_in_64_bits_until_they_are_standardised():
    offset = 1.7e9 + np.array([-1.0, 0.0, 1.0])
    _, changed, _ = fit(["features()"], {"x": offset})
    np.testing.assert_allclose(changed["train"]["features"][:, 0], np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, np.inf, 3.0], [[-1, 0], [0, 1], [1, 0]]),  # infinite values count as missing
        ([5.0, None, 5.0], [[0, 0], [0, 1], [0, 0]]),  # constant but for missing values: keeps the indicator
        (["1", "007", "7"], [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),  # sorted as texts
    ],
)
def test_features_of_one_column(values, expected):
    _, changed, _ = fit(["features()"], {"x": values})
    np.testing.assert_allclose(changed["train"]["features"], expected)


def test_features_know_their_columns():
    _, changed, keys = fit(["features()"], TRAIN)
    sizes = {"age": 2, "height": 1, "smoker": 1, "city": 3, "seen": 1}
    assert list(keys["features"].columns.items()) == list(sizes.items())
    _, changed, keys = fit(["features(bins=2)"], TRAIN)
    assert keys["features"].columns == sizes | {"age": 3, "height": 2, "smoker": 2, "seen": 2}
    assert changed["train"]["features"].shape == (4, 12)


def test_quantile_scaling_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    train = {"x": np.exp(2 * rng.normal(size=2000)), "ties": rng.integers(0, 5, 2000).astype(float)}
    ops, changed, _ = fit(["features(scaling='quantile')"], train)
    scaled = changed["train"]["features"]
    peer = QuantileTransformer(n_quantiles=66, output_distribution="normal", subsample=None)
    expected = peer.fit_transform(np.stack([train["x"], train["ties"]], axis=1))
    inner = np.abs(expected) < 3  # theirs puts the lowest and highest number at -5.2 and 5.2
    assert inner[:, 0].mean() > 0.99 and inner[:, 1].mean() > 0.5
    np.testing.assert_allclose(scaled[inner], expected[inner], rtol=1e-5, atol=1e-6)
    end = -NormalDist().inv_cdf(0.5 / 2000)
    np.testing.assert_allclose([scaled[:, 0].min(), scaled[:, 0].max()], [-end, end], rtol=1e-6)
    assert abs(scaled[:, 0].std() - 1) < 0.02
    new = ops({"x": [-1e9, 1e9, np.nan], "ties": [0.0, 4.0, 2.0]})["features"]
    np.testing.assert_allclose(new[:, 0], [-end, end, 0], rtol=1e-6)


def test_piecewise_linear_encoding_by_hand():
    train = {"x": np.arange(9.0)}  # standardised numbers; three bins of 8 / 3
    ops, _, _ = fit(["features(bins=3)"], train)
    new = {"x": [0.0, 4.0, 8.0, -8.0, 16.0, None]}
    expected = [[0, 0, 0], [1, 0.5, 0], [1, 1, 1], [-3, 0, 0], [1, 1, 4], [1, 0.5, 0]]  # the missing one is the mean
    np.testing.assert_allclose(ops(new)["features"], expected, atol=1e-6)
    _, changed, _ = fit(["features(bins=4)"], {"x": [0.0] * 8 + [1.0, 3.0]})  # quartiles at 0: one bin
    np.testing.assert_allclose(changed["train"]["features"][:, 0], [0] * 8 + [1 / 3, 1], atol=1e-6)


def test_features_choose_columns_and_leave_results_of_earlier_ops():
    keys = keys_of(TRAIN, label=Key(role="label", dtype="int32"))
    train = TRAIN | {"label": [0, 1, 0, 1]}
    _, changed, described = fit(["features(keep=('height', 'smoker'))"], train, keys)
    assert changed["train"]["features"].shape == (4, 2)
    assert described.keys() == {*TRAIN, "label", "features"} - {"height", "smoker"}
    _, changed, described = fit(["features(drop=('city', 'age'))"], train, keys)
    assert changed["train"]["features"].shape == (4, 3) and described.keys() == {"city", "age", "label", "features"}


@pytest.mark.parametrize(
    ("op", "columns", "message"),
    [
        ("features()", {"id": [f"row {i}" for i in range(1001)]}, r"column 'id' has 1001 different texts.*drop=\('id'"),
        ("features()", {"a": [1, 1], "b": ["x", "x"]}, "no column varies over the training rows: a, b"),
        ("features(keep=('agee',))", TRAIN, "features: 'agee' does not exist: did you mean 'age'"),
        ("features(drop=('agee',))", TRAIN, "features: 'agee' does not exist: did you mean 'age'"),
        ("features(kep=())", TRAIN, "unexpected keyword argument 'kep'"),
        ("features(keep='age')", TRAIN, "features.keep must be"),
        ("features(scaling='quantiles')", TRAIN, "features.scaling must be"),
        ("features(bins=-1)", TRAIN, "bins is -1"),
        ("keep('agee')", TRAIN, "keep: 'agee' does not exist: did you mean 'age'"),
        ("drop('agee')", TRAIN, "drop: 'agee' does not exist: did you mean 'age'"),
        ("drop()", TRAIN, "name at least one key"),
        ("drop(3)", TRAIN, "Drop takes keys"),
        ("rename(years='agee')", TRAIN, "rename: 'agee' does not exist: did you mean 'age'"),
        ("rename(height='age')", TRAIN, "rename: there is another key 'height'"),
        ("rename(a='age', b='age')", TRAIN, "a key has two new names"),
        ("rename(a=3)", TRAIN, "Rename takes names"),
    ],
)
def test_refusals(op, columns, message):
    with pytest.raises(UserError, match=message):
        fit([op], columns)


def test_all_texts_of_another_split_unknown():
    with pytest.raises(UserError, match="'city' holds only texts that the training rows lack, such as 'paris'"):
        fit(["features()"], {"city": ["Oslo", "Rome"]}, test={"city": ["paris", "lyon"]})


def test_rename_keep_and_drop():
    columns = {"a/age": [1, 2], "b": [3.0, 4.0], "c": ["x", "y"], "d": [5, 6]}
    ops, changed, keys = fit(["rename(label='a/age', b='d', d='b')", "drop('c')"], columns)
    assert changed["train"] == {"label": [1, 2], "d": [3.0, 4.0], "b": [5, 6]}
    assert {key: record.role for key, record in keys.items()} == {"label": "label", "d": "number", "b": "number"}
    assert ops({"d": [7]}) == {"b": [7]}  # keys that new inputs lack are ignored
    answered = Key(role="target", dtype="float64")
    ops, changed, keys = fit(["keep('b')"], columns | {"target": [0, 1]}, keys_of(columns, target=answered))
    assert changed["train"].keys() == keys.keys() == {"b", "target"}


def test_a_renamed_key_is_found_by_later_ops():
    _, changed, _ = fit(["rename(label='y')", "features(keep=('x',))"], {"x": [1, 3], "y": [0, 1]})
    np.testing.assert_array_equal(changed["train"]["features"], [[-1], [1]])
    _, changed, _ = fit(["rename(animal='y')", "answer('animal')"], {"x": [1, 3], "y": ["dog", "cat"]})
    np.testing.assert_array_equal(changed["train"]["label"], [1, 0])


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 9, 10], ("9", "10")),
        ([2.0, 1.0], ("1", "2")),
        (["10", "9", "007"], ("007", "9", "10")),
        (["1", "X", "2"], ("1", "2", "X")),
        (["b", "a", "b"], ("a", "b")),
        (["m", "M"], ("M", "m")),
        ([True, False], ("False", "True")),
    ],
)
def test_classes(values, names):
    _, changed, keys = fit(["answer('y')"], {"y": values})
    assert keys["label"].classes == names and changed["train"].keys() == {"label"}
    decoded = [names[label] for label in changed["train"]["label"]]
    assert decoded == [str(int(v)) if isinstance(v, float) else str(v) for v in values]


def test_classes_of_all_splits_and_of_the_set():
    ops, changed, keys = fit(["answer('y')"], {"y": ["b", "c"]}, test={"y": ["a"]})
    assert keys["label"].classes == ("a", "b", "c") and changed["test"]["label"].tolist() == [0]
    assert ops({"y": ["unknown", None]})["label"].tolist() == [-1, -1]  # only new inputs
    assert ops({"x": [1]}) == {"x": [1]}
    known = {"y": Key(role="label", classes=("z", "b", "a"))}
    assert fit(["answer('y')"], {"y": ["a", "b"]}, known)[1]["train"]["label"].tolist() == [2, 1]
    _, changed, keys = fit(["answer('y')"], {"y": [2, 0]}, known)  # positions in the set's classes
    assert changed["train"]["label"].tolist() == [2, 0] and keys["label"].classes == ("z", "b", "a")
    with pytest.raises(UserError, match=r"target 'y' is missing in 1 of 2 rows, such as row 2 of a.csv"):
        fit(["answer('y')"], {"y": [2, -1]}, known)


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("number", [1.0, None, np.nan], "target 'y' is missing in 2 of 3 rows, such as row 2 of a.csv"),
        ("class", ["a", None], "target 'y' is missing in 1 of 2 rows, such as row 2 of a.csv"),
        ("number", ["1", "a", "b"], r"holds text such as 'a' \(row 2 of a.csv\): set data.target_type='class'"),
        ("number", [1.0, np.inf], "target 'y' is inf in row 2 of a.csv"),
        ("number", [3.0, 3.0], "target 'y' is 3.0 in all training rows"),
        ("class", ["a", "a"], "target 'y' is 'a' in all training rows"),
        ("class", [0.5, 1.0], "fractions such as 0.5: set data.target_type='number'"),
        ("class", ["0.5", "1"], "fractions such as 0.5: set data.target_type='number'"),
        ("class", [f"id {i}" for i in range(1001)], "has 1001 different values: classes should repeat"),
        ("class", ["cat", "dog", "Cat "], r"'Cat ' and 'cat' \(row 1 of a.csv\) differ only by case or spaces"),
    ],
)
def test_answers_are_checked(kind, values, message):
    with pytest.raises(UserError, match=message):
        fit([f"answer('y', '{kind}')"], {"y": values})


def test_answers_that_do_not_exist_or_have_a_rival():
    with pytest.raises(UserError, match=r"data.target: 'z' does not exist: there are: y"):
        fit(["answer('z')"], {"y": [1, 2]})
    with pytest.raises(UserError, match=r"'y' becomes 'label', but there is such a column"):
        fit(["answer('y')"], {"y": [1, 2], "label": [0, 1]})
    with pytest.raises(UserError, match="target 'y' does not exist in the file of 'test'"):
        fit(["answer('y')"], {"y": [1, 2]}, test={"x": [1]})


@pytest.mark.parametrize("mean", [0.0, 1.7e9, -1.7e9])
def test_a_target_keeps_its_digits(mean):
    rng = np.random.default_rng(0)
    values = mean + 10 * rng.normal(size=50)
    _, changed, keys = fit(["answer('y', 'number')"], {"y": values})
    facts = keys["target"].statistics
    stored = np.asarray(changed["train"]["target"], np.float32)
    np.testing.assert_allclose(stored.astype(np.float64) + facts["offset"], values, atol=2e-6 if mean else 1e-5, rtol=0)
    np.testing.assert_allclose([facts["mean"], facts["std"]], [values.mean(), values.std()])
    assert (facts["offset"] == 0) == (mean == 0)  # others stay bit for bit as they are
