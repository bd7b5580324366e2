"""Tables and verdicts, against hand-computed numbers; and the README of the results that are kept."""

import dataclasses
import json
import math
import re
import shutil

import numpy as np
import pytest
from scipy import stats

from core.errors import UserError
from experiments import matrix, table
from experiments.engine import results
from experiments.engine import statistics as judge
from experiments.engine.cells import CellFiles
from experiments.engine.experiment import Cell, Claim, cell_config, changed, declared, load
from experiments.engine.results import Record
from experiments.engine.statistics import Interval
from tests.experiments import tiny
from tests.experiments.test_experiment import declare
from training import config as config_lib
from training import environment


def record(row, seed, value, **changes):
    settings = {"values": {}, "chosen": True, "diverged": False, "seconds": 1.0, "gradients": {}}
    return Record(row=row, seed=seed, metrics={"test/loss": value}, **(settings | changes))


def test_the_interval_of_a_mean_is_students():
    values = [0.1, 0.4, 0.7, 0.2]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = Interval.of(values)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert interval.mean == pytest.approx(0.35)
    assert Interval.of([3.0]) == Interval(3.0, -math.inf, math.inf) and math.isnan(Interval.of([]).mean)


@pytest.mark.parametrize(
    ("first", "second", "least", "verdict"),
    [
        ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], 0.0, judge.REPRODUCED),  # lower is better
        ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], 0.99, judge.REPRODUCED),  # the differences are all 1: paired
        ([1.0, 1.1, 0.9], [2.0, 2.1, 1.9], 1.01, judge.NOT),
        ([2.0, 2.1, 1.9], [1.0, 1.2, 0.9], 0.0, judge.NOT),
        ([1.0, 3.0, 2.0], [2.0, 2.0, 2.0], 0.0, judge.UNDECIDED),
        ([2.0, 2.1, 1.9], [1.0, 1.2, 0.9], -1.5, judge.REPRODUCED),  # hardly worse
        ([1.0], [9.0], 0.0, judge.UNDECIDED),
        ([], [9.0, 9.0, 9.0], 0.0, judge.UNDECIDED),
    ],
)
def test_verdicts(first, second, least, verdict):
    whole = declare(claims=(Claim("a", "b", "A is better.", least),))
    measured = [record("a", i, x) for i, x in enumerate(first)] + [record("b", i, x) for i, x in enumerate(second)]
    (judged,) = judge.verdicts(whole, judge.rows(whole, measured))
    assert judged.verdict == verdict and judged.seeds == min(len(first), len(second))


def test_only_seeds_of_both_rows_are_compared():
    whole = declare()
    measured = [record("a", 0, 1.0), record("a", 2, 1.0), record("b", 2, 4.0), record("b", 1, 9.0)]
    (judged,) = judge.verdicts(whole, judge.rows(whole, measured))
    assert judged.seeds == 1 and judged.difference.mean == 3.0


def test_tuning_is_no_result_and_divergence_is_one():
    measured = [record("a", 0, 1.0), record("a", 0, 5.0, chosen=False)]
    lost = Record("a", 1, {}, True, True, 1.0, {}, {})
    assert judge.rows(declare(diverged=7.0), [*measured, lost])[0].values == {0: 1.0, 1: 7.0}
    row = judge.rows(declare(), [*measured, lost])[0]
    assert row.values == {} and row.diverged == 1  # the other seeds alone would flatter it
    assert judge.rows(declare(), measured)[0].values == {0: 1.0}


VERSIONS = dict.fromkeys(environment.versions(), "0.0.1")


@pytest.fixture
def folder(tmp_path):
    """Returns results of the tiny experiment, narrow only."""
    whole, recipe = load("tests/experiments/tiny.py:cpu")
    for seed in whole.seeds:
        workdir = tmp_path / "run" / Cell("narrow", seed).folder
        workdir.mkdir(parents=True)
        (workdir / "config.json").write_text(config_lib.to_json(cell_config(whole, Cell("narrow", seed))))
        machine = {"processor": "9 cores of Babbage", "devices": "1 x abacus", "versions": VERSIONS}
        results_of = {"step": 3, "results": {"test": {"accuracy": 0.25}, "validation": {"accuracy": 0.5}}} | machine
        (workdir / "results.json").write_text(json.dumps(results_of))
        rows = [{"step": 1, "split": "gradients", "layer/head": 2.0, "time/x": [1.0]}, {"step": 1, "split": "train"}]
        (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        CellFiles(workdir).add_seconds(61.5)
    results.write(tmp_path / "run", whole, recipe, "python -m experiments.run", str(tmp_path / "tfds"))
    return tmp_path / "run"


def test_results_are_written_and_read(folder):
    (one,), meta = results.read(folder)
    metrics = {"test/accuracy": 0.25, "validation/accuracy": 0.5}
    parameters = 64 * 2 + 2 + 2 * 10 + 10  # of one hidden layer of two units, on 8 x 8 digits
    assert one == Record("narrow", 0, {}, True, False, 61.5, metrics, {"head": 2.0}, parameters)
    assert meta["hardware"] == "9 cores of Babbage; 1 x abacus" and meta["rows"]["wide"]["model.widths"] == [16]
    assert meta["versions"] == VERSIONS  # of the runs, not of the machine that writes the table
    with pytest.raises(UserError, match="does not contain the results"):
        results.read(folder / "narrow")


def test_the_table_has_ours_and_the_papers(folder, capsys):
    table.write(folder)
    text = (folder / "table.md").read_text()
    assert "| row | test/accuracy (higher is better) | seeds | parameters | seconds per run | paper: " in text
    assert "| narrow | 0.25 | 1 | 160 | 62 |  |" in text and "| wide | not run | 0 |  |  | 3 |" in text
    assert "| Wide is better. | wide > narrow | 0 |  | undecided |" in text and "1 minutes" in text
    assert "Changed declarations" not in text and "not run" in capsys.readouterr().out
    from PIL import Image

    for name in ("table.png", "gradients.png"):
        pixels = np.asarray(Image.open(folder / name).convert("RGB"))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20 and pixels[0, 0].tolist() == [255, 255, 255]


def test_a_runs_seconds_are_the_median_of_those_that_did_not_diverge(folder):
    measured = table.Measured.of(folder)
    seconds = {1: 10.0, 2: 11.0, 3: 30.0}
    measured.records[:] = [record("narrow", seed, 1.0, seconds=x, parameters=1234) for seed, x in seconds.items()]
    measured.records.append(record("narrow", 4, 1.0, seconds=0.1, diverged=True))
    measured.records.append(record("narrow", 5, 1.0, seconds=0.1, chosen=False))
    assert measured.lines[0][3:5] == ["1,234", "11"]


def test_data_that_are_gone_leave_parameters_unknown():
    whole, _ = load("tests/experiments/tiny.py:cpu")
    whole.base.data.name = "csv:gone.csv"
    assert set(results._parameters(whole, ["narrow"], None).values()) == {0}


def test_recalled_numbers_are_marked(folder):
    measured = table.Measured.of(folder)
    paper = dataclasses.replace(measured.experiment.paper, recalled=("wide",))
    measured = dataclasses.replace(measured, experiment=dataclasses.replace(measured.experiment, paper=paper))
    assert measured.lines[1][-1] == "3 (unverified)"


def test_what_the_file_declares_otherwise_by_now_is_said(folder):
    meta = json.loads((folder / "meta.json").read_text())
    assert results.changes(meta, tiny.get_config()) == []
    meta["rows"]["wide"]["model.widths"] = [32]
    assert results.changes(meta, tiny.get_config()) == ["wide model.widths: [32] -> [16]"]


def test_a_changed_table_names_the_change(folder):
    meta = json.loads((folder / "meta.json").read_text())
    whole = changed(tiny.get_config(), ["train.steps=7"])
    meta |= {"changes": whole.change_texts, "rows": json.loads(json.dumps(declared(whole)))}
    (folder / "meta.json").write_text(json.dumps(meta))
    table.write(folder)
    text = (folder / "table.md").read_text()
    assert text.startswith("# tiny, cpu, train.steps=7\n\nChanged in all rows: `train.steps=7`.")
    assert "Changed declarations" not in text


@pytest.mark.parametrize("meta", ["{}", "[]", ""])
def test_damaged_results_are_named(meta, folder):
    (folder / "meta.json").write_text(meta)
    with pytest.raises(UserError, match="does not contain the results of an experiment"):
        table.Measured.of(folder)


def test_the_matrix_is_that_of_the_suite(folder):
    table.write(folder)
    with pytest.raises(UserError, match=r"holds results of .*tiny.py:cpu, not of experiments/suite.py"):
        matrix.main(["matrix", str(folder)])


def test_results_that_are_kept_are_in_the_readme(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(table, "README", tmp_path / "README.md")
    table.write(folder)
    table.main(["table", str(folder)])
    assert (tmp_path / "results/tiny-cpu/table.png").exists()
    text = table.readme(tmp_path / "results", tmp_path)
    assert "## tiny, cpu" in text and "(results/tiny-cpu/table.png)" in text
    shutil.copy("tests/experiments/tiny.py", tmp_path)
    overview = table.readme(tmp_path / "results", tmp_path)
    assert (
        "Of 1 claims of 1 experiments, 0 are reproduced, 0 not, 1 undecided." in overview
        and "| `tiny.py:cpu` | A paper | 1 undecided |" in overview
        and "| `tiny.py:full` | A paper | not run |" in overview
    )


def test_the_readme_is_that_of_the_results():
    assert table.README.read_text() == table.readme(), "stale: python -m experiments.table"


def test_the_projects_readme_counts_the_same_claims():
    counts = re.search(r"Of \d+ claims[^.]*\.", table.README.read_text())[0].removeprefix("Of ")
    assert counts.rstrip(".") in " ".join((table.HERE.parent / "README.md").read_text().split())


def test_what_is_declared_is_no_default():
    assert declared(tiny.get_config())["wide"] == declared(tiny.get_config("full"))["wide"]
    assert "model.activation" in declared(tiny.get_config())["wide"]
    assert "parallel.strategy" not in declared(tiny.get_config())["wide"]


def test_a_ladder_has_the_gain_of_each_row_over_the_row_before():
    whole = declare(ladder=True)
    values = {"a": (3.0, 3.4, 2.9), "b": (2.5, 2.8, 2.5)}  # of a loss
    measured = judge.rows(whole, [record(row, i, x) for row, of_row in values.items() for i, x in enumerate(of_row)])
    lines = table.Measured(whole, {}, [], measured, []).lines
    half = stats.t.ppf(0.975, 2) * stats.sem([0.5, 0.6, 0.4])
    assert [line[2] for line in lines[:2]] == ["", f"0.5 ± {half:.2g}"]
