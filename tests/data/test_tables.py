"""One's own tables: CSV, Parquet and JSONL files, read the same way in training and afterwards."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

import data
from core.errors import UserError
from data.preprocess.op import FOLDER
from data.preprocess.pipeline import Pipeline
from data.sources.source import shuffled
from data.sources.tables import Csv, Jsonl, Parquet
from tests.data.infos import class_names, shapes

HALVES = {"train": "train[:50%]", "test": "train[50%:]"}


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    age = rng.normal(40, 10, 100)
    city = rng.choice(["Oslo", "Rome"], 100)
    frame = pd.DataFrame({"age": age, "city": city, "ill": np.where(age > 40, "yes", "no"), "days": age * 2})
    frame.loc[:9, "age"] = None
    frame.loc[5:20, "city"] = None
    return frame.sort_values("ill", ignore_index=True)


@pytest.fixture
def read(config, tmp_path):
    """Returns a function that reads the text of a file as a source."""

    def make(text: str | bytes, cls=Csv, state=None, **options):
        path = tmp_path / f"a.{cls.__name__.lower()}"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return cls(str(path), config(f"csv:{path}", **options), state)

    return make


def columns(source) -> dict:
    """Returns all rows in the order of the file, without the folder."""
    chunk = source.examples("train", ordered=True).chunk(np.arange(source.splits["train"].num_examples))
    return {key: list(values) for key, values in chunk.items() if key != FOLDER}


def write(frame, path, kind):
    if kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=True, double_precision=15)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_table(config, tmp_path, frame, kind):
    path = tmp_path / f"people.{kind}"
    write(frame, path, kind)
    split = {"train": "train[:80%]", "test": "train[80%:]", "preprocess": ("features()",)}
    splits, info = data.load(config(f"{kind}:{path}", target="ill", **split))
    assert info.sizes == {"train": 80, "test": 20} and class_names(info) == ("no", "yes")
    # age and whether it is missing, three cities (one of them "missing"), days
    assert shapes(info) == {"features": ((6,), "float32"), "label": ((), "int32")}
    assert 3 < splits["test"].arrays["label"].sum() < 17  # rows are shuffled: the file is sorted by class
    counts = np.bincount(splits["train"].arrays["label"])
    assert info.keys["label"].statistics == {"counts": counts.tolist()}
    splits, info = data.load(config(f"{kind}:{path}", target="days", target_type="number", **split))
    target = np.concatenate([splits[name].arrays["target"] for name in ("train", "test")])
    np.testing.assert_allclose(np.sort(target), np.sort(frame["days"]), rtol=1e-6)
    np.testing.assert_allclose(info.keys["target"].statistics["std"], splits["train"].arrays["target"].std(), rtol=1e-5)


def test_statistics_come_from_the_training_rows_only(config, tmp_path, frame):
    path = tmp_path / "people.csv"
    split = {"train": "train[:50]", "test": "train[50:]", "preprocess": ("features()",)}
    name = config(f"csv:{path}", target="days", target_type="number", **split)
    frame.to_csv(path, index=False)
    splits, before = data.load(name)
    changed = frame.copy()
    changed.loc[shuffled(100)[50:], ["age", "days"]] = 1e6
    changed.loc[shuffled(100)[50:80], "city"] = "Paris"
    changed.to_csv(path, index=False)
    others, after = data.load(name)
    assert (before.keys, before.state["preprocess"]) == (after.keys, after.state["preprocess"])
    np.testing.assert_array_equal(splits["train"].arrays["features"], others["train"].arrays["features"])
    assert np.abs(splits["test"].arrays["features"] - others["test"].arrays["features"]).max() > 100


def test_a_second_file_is_a_split_and_read_as_the_first(config, tmp_path):
    (tmp_path / "a.csv").write_text("code,y\n" + "1,p\n2,q\nunknown,r\n" * 4)
    (tmp_path / "b.csv").write_text("y,code\np,1\nq,2\n")  # alone, its codes would be numbers
    name = config(
        f"csv:{tmp_path}/a.csv", target="y", test=f"csv:{tmp_path}/b.csv", preprocess=("features()",)
    )  # fmt: skip
    splits, _ = data.load(name)
    found = splits["test"].arrays
    np.testing.assert_array_equal(found["features"][np.argsort(found["label"])], [[1, 0, 0], [0, 1, 0]])
    (tmp_path / "b.csv").write_text("code\n1\n")
    with pytest.raises(UserError, match="target 'y' does not exist in the file of 'test'"):
        data.load(name)
    (tmp_path / "c.csv").write_text("codes,y\n" + "1,p\n2,q\n" * 4)
    other = config(f"csv:{tmp_path}/a.csv", target="y", test=f"csv:{tmp_path}/c.csv", preprocess=("features()",))
    with pytest.raises(UserError, match=r"the split 'test' has no column 'code': there are: label$"):
        data.load(other)


@pytest.mark.parametrize(
    ("new", "expected"),
    [("code,x\n1,0\n2,0\n", [[1, 0, 0], [0, 1, 0]]), ("code,x\n1,0\n2,0\n,0\n", [[1, 0, 0], [0, 1, 0], [0, 0, 0]])],
)
def test_new_rows_do_not_depend_on_each_other(config, tmp_path, new, expected):
    (tmp_path / "a.csv").write_text("code,x,y\n" + "1,0,p\n2,1,q\nunknown,2,r\n" * 4)
    (tmp_path / "NEW.CSV").write_text(new)
    name = config(f"csv:{tmp_path}/a.csv", target="y", preprocess=("features()",))
    _, info = data.load(name)
    info = type(info).from_json(json.loads(json.dumps(info.to_json())))
    source = Csv(str(tmp_path / "NEW.CSV"), name, info.state["source"])
    rows = source.examples("train", ordered=True)
    features = Pipeline.from_json(info.state["preprocess"])(rows.chunk(np.arange(len(rows))))["features"]
    np.testing.assert_array_equal(features[:, :3], expected)


def test_fields_are_what_the_file_says(read):
    source = read('a,b,c,d\n1,007,None,"x, y"\n,12,NA,"two\nlines"\n-2.5e1,3,nan,\n')
    assert columns(source) == {
        "a": [1.0, pytest.approx(np.nan, nan_ok=True), -25.0],
        "b": ["007", "12", "3"],
        "c": ["None", "NA", "nan"],
        "d": ["x, y", "two\nlines", None],
    }
    assert [record.role for record in source.keys.values()] == ["number", "text", "text", "text"]
    assert source.is_table and source.summary == "csv: 1 number, 3 texts of 2 and 3 and 3 values"
    folder = source.examples("train").chunk([0], (FOLDER,))[FOLDER][0]
    assert folder == str(source.file.parent)


def test_classes_are_named_as_in_the_file(read):
    assert columns(read("x,y\n1,01\n2,1\n", target="y"))["y"] == ["01", "1"]
    assert columns(read("x,label\n1,10\n2,9\n"))["label"] == ["10", "9"]
    assert columns(read("x,y\n1,10\n2,9\n", target="y", target_type="number"))["y"] == [10.0, 9.0]
    large = 2**60 + np.arange(2)
    assert columns(read(f"y\n{large[0]}\n{large[1]}\n", target="y"))["y"] == [str(large[0]), str(large[1])]
    lines = "".join(json.dumps({"y": value}) + "\n" for value in (2.0, 1.0, None))
    assert columns(read(lines, Jsonl, target="y"))["y"] == ["2", "1", None]


SECONDS = {
    "2024-02-03": (2024, 2, 3),
    "2024-02-03T04:05:06Z": (2024, 2, 3, 4, 5, 6),
    "2024-02-03 04:05:06+02:00": (2024, 2, 3, 2, 5, 6),
    "13.02.2024": (2024, 2, 13),
    "2/13/2024": (2024, 2, 13),
    "13/2/2024 14:30": (2024, 2, 13, 14, 30),
    "13 Feb 2024": (2024, 2, 13),
    "February 13, 2024": (2024, 2, 13),
}


@pytest.mark.parametrize(("text", "fields"), SECONDS.items())
def test_dates_are_seconds(read, text, fields):
    expected = datetime.datetime(*fields, tzinfo=datetime.UTC).timestamp()
    source = read(f'a;b\n"{text}";1\n;2\n')
    assert columns(source)["a"] == [expected, pytest.approx(np.nan, nan_ok=True)]
    assert source.summary.startswith("csv: 1 number, 1 date")
    with pytest.raises(UserError, match="row 2: column 'a' holds dates in training, but here 'soon'"):
        read(f'a;b\n"{text}";1\nsoon;2\n', state=source.state)
    assert columns(read(json.dumps({"a": text, "n": "12"}) + "\n", Jsonl)) == {"a": [expected], "n": ["12"]}


def test_the_format_of_dates_is_decided_by_all_rows_and_kept(read):
    ambiguous = "a\n" + "".join(f"{1 + i % 12:02}/{1 + i // 12:02}/2020\n" for i in range(140))
    source = read(ambiguous + "13/01/2020\n")  # beyond the sample
    assert source.state["a"]["format"] == "%d/%m/%Y"
    assert columns(read("a\n02/01/2020\n", state=source.state))["a"] == [1577923200.0]
    assert "'a' read as month/day" in read(ambiguous).summary


def test_words_among_numbers(read):
    numbers = "".join(f"{i}\n" for i in range(59))
    source = read(f"v\n{numbers}?\n")
    assert np.isnan(columns(source)["v"][59]) and source.keys["v"].role == "number"
    shown = "csv: 1 number, '?' in 'v' read as missing (declare it: --config.data.missing=\"('', '?')\")"
    assert source.summary == shown
    assert np.isnan(columns(read("v\n?\n3\n", state=source.state))["v"][0])
    with pytest.raises(UserError, match=r"a.csv: row 2: column 'v' holds numbers in training, but here 'tall'"):
        read("v\n3\ntall\n", state=source.state)
    assert read(f"v\n{numbers}?\n", missing=("", "?")).summary == "csv: 1 number"
    assert read("v\n" + "1\n2\nunknown\n" * 9).keys["v"].role == "text"  # categories
    assert read("v\n" + "".join(f"{i}\nword {i}\n" for i in range(59))).keys["v"].role == "text"
    assert read(f"v\n{numbers}?\n", target="v", target_type="number").keys["v"].role == "text"  # never read as missing


def test_missing_words(read):
    assert columns(read("a,b\nNA,x\n3,NA\n", missing=("", "NA"))) == {
        "a": [pytest.approx(np.nan, nan_ok=True), 3.0],
        "b": ["x", None],
    }
    assert columns(read("a,b\n,x\n3,\n", missing=()))["b"] == ["x", ""]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_are_found(read, separator):
    text = separator.join("ab") + "\r\n" + separator.join(("1", "x y")) + "\r\n"
    assert columns(read(text)) == {"a": [1.0], "b": ["x y"]}
    assert columns(read("a b\n1 2\n", separator=" ")) == {"a": [1.0], "b": [2.0]}


def test_decimal_mark(read):
    assert columns(read("a;b\n1,5;1.5\n-2,25;3\n", decimal=",")) == {"a": [1.5, -2.25], "b": ["1.5", "3"]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("cls", [Csv, Jsonl])
def test_encodings_are_found(read, encoding, cls):
    text = "städt\nKöln\n" if cls is Csv else '{"städt": "Köln"}\n'
    assert columns(read(text.encode(encoding), cls)) == {"städt": ["Köln"]}


def test_other_encodings_are_given(read):
    data = "a\nOslo\nKöln\n".encode("cp1252")
    with pytest.raises(UserError, match=r"line 3 is not utf-8: give the encoding, such as .*encoding=cp1252"):
        read(data)
    assert columns(read(data, encoding="cp1252")) == {"a": ["Oslo", "Köln"]}
    with pytest.raises(UserError, match=r"data.encoding 'cp125' is not an encoding"):
        read(data, encoding="cp125")
    with pytest.raises(UserError, match="line 1 holds a zero byte"):
        read("a\nb\n".encode("utf-16-le"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n3,4,5\n", "a.csv: row 2 has 3 fields, but the header has 2, separated by ','"),
        ("a,b\n1,2\n3\n", "a.csv: row 2 has 1 fields, but the header has 2"),
        ("a,a\n1,2\n", "a.csv: two columns are named 'a'"),
        ("a,,b\n1,2,3\n", "a.csv: column 2 has no name"),
        ("a,b\n", "a.csv has no rows"),
        ("", "a.csv cannot be read"),
    ],
)
def test_malformed_csv(read, text, message):
    with pytest.raises(UserError, match=message):
        read(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ('{"a": 1}\n[2]\n', "line 2 is not an object"),
        ('{"a": [1]}\n{"a": "x"}\n', "'a' holds values of different types, such as .* and 'x'"),
        ('{"a": [1, 2]}\n{"a": [NaN]}\n', "row 2: 'a' holds NaN, infinite or missing numbers"),
        ("\n", "has no rows"),
    ],
)
def test_malformed_jsonl(read, text, message):
    with pytest.raises(UserError, match=message):
        read(text, Jsonl)


def test_nested_and_listed_values(read, tmp_path, config):
    rows = [{"a": {"b": 1, "c": ["x"]}, "d": [1, 2]}, {"a": {"c": ["y", "z"]}, "d": [3], "e": "007"}]
    source = read("".join(json.dumps(row) + "\n" for row in rows), Jsonl)
    found = columns(source)
    assert found["a/b"][0] == 1 and np.isnan(found["a/b"][1])
    assert found["a/c"] == [["x"], ["y", "z"]] and found["e"] == [None, "007"]
    assert [value.tolist() for value in found["d"]] == [[1, 2], [3]] and found["d"][0].dtype.kind == "i"
    assert not source.is_table
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    again = columns(Parquet(str(tmp_path / "a.parquet"), config("parquet:a")))
    assert again["a/c"] == found["a/c"] and [value.tolist() for value in again["d"]] == [[1, 2], [3]]


@pytest.mark.filterwarnings("ignore:The DataFrame has column names of mixed type")
def test_types_of_parquet(tmp_path, config):
    path = tmp_path / "a.parquet"
    frame = pd.DataFrame(
        {
            0: pd.array([1, None], "Int64"),
            "zone": pd.to_datetime(["2024-01-01T00:00+02:00", None]),
            "category": pd.Categorical(["a", "b"]),
            "flag": [True, False],
            "code": ["007", "7"],
            "bytes": [b"x", b"y"],
        },
        index=[5, 6],
    )
    frame.to_parquet(path)
    source = Parquet(str(path), config("parquet:a"))
    found = columns(source)
    assert list(found) == ["0", "zone", "category", "flag", "code"]
    assert found["0"][0] == 1 and np.isnan(found["0"][1]) and found["flag"] == [1.0, 0.0]
    assert found["zone"][0] == datetime.datetime(2023, 12, 31, 22, tzinfo=datetime.UTC).timestamp()
    assert found["category"] == ["a", "b"] and found["code"] == ["007", "7"]
    assert source.summary.endswith("left out: 'bytes', neither numbers nor texts")


def test_the_fingerprint_changes_with_all_that_changes_values(read):
    text = "a;b\n1,5;x\n"
    prints = [read(text).fingerprint(), read(text + "2;y\n").fingerprint(), read(text, decimal=",").fingerprint()]
    assert len(set(prints)) == 3 and read(text).fingerprint() == prints[0]


def test_refusals(config, tmp_path, frame):
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    for others, message in [
        ({"target": "il"}, "data.target: 'il' does not exist: did you mean 'ill'"),
        ({"target": "city"}, "target 'city' is missing in .* rows, such as row"),
        ({"target": "ill", "target_type": "number"}, "set data.target_type='class'"),
        ({"target": "ill", "target_type": "clas"}, "clas"),
    ]:
        with pytest.raises(UserError, match=message):
            data.load(config(f"csv:{path}", **others))
    with pytest.raises(UserError, match=r"nowhere.csv does not exist"):
        data.load(config("csv:nowhere.csv"))
    for kind in ("csv", "jsonl", "parquet"):
        with pytest.raises(UserError, match=r"cannot be read|is not JSON|is a folder"):
            data.load(config(f"{kind}:{tmp_path}"))
    path.write_bytes(b"")
    with pytest.raises(UserError, match="cannot be read"):
        data.load(config(f"parquet:{path}"))
