"""The runner: what is finished is not run again, a killed one goes on, a failed cell stops no other."""

import json
import signal
import time

import pytest
from absl.flags import FLAGS
from absl.testing import flagsaver

from core.errors import Stopped, UserError
from experiments import run
from experiments.engine import cells
from experiments.engine.cells import CellFiles, Outcome
from experiments.engine.experiment import Cell, changed
from tests.experiments.runs import RECIPE, command, declared, locked, runner, steps, wait_until
from tests.training import commands

pytestmark = pytest.mark.slow


def test_two_cells_with_kills_in_between(tmp_path):
    outdir = tmp_path / "run"
    narrow, wide = CellFiles(outdir / "narrow/0"), CellFiles(outdir / "wide/0")
    process = commands.start(*command(outdir), script="-mexperiments.run")
    wait_until(lambda: any((place.workdir / "checkpoints/20").exists() for place in (narrow, wide)), process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == Stopped.EXIT_CODE and "the same command continues" in out, err
    assert not locked(narrow) and not narrow.workdir.joinpath("results.json").exists()

    process = commands.start(*command(outdir), script="-mexperiments.run")
    wait_until(
        lambda: narrow.beside("out").exists() and b"continuing from step" in narrow.beside("out").read_bytes(), process
    )
    process.kill()  # its cells do not notice
    process.communicate()

    code, out, err = commands.run(*command(outdir), script="-mexperiments.run")
    assert code == 0, err
    for place in (narrow, wide):
        assert steps(place.workdir) == list(range(10, 301, 10))
    assert "undecided" in out and "narrow" in (outdir / "table.md").read_text()
    assert (outdir / "table.png").stat().st_size > 1000 and (outdir / "gradients.png").stat().st_size > 1000
    records = [json.loads(line) for line in (outdir / "results.jsonl").read_text().splitlines()]
    whole = json.loads((wide.workdir / "results.json").read_text())["results"]["test"]["accuracy"]
    assert [record["row"] for record in records] == ["narrow", "wide"] and records[1]["metrics"][
        "test/accuracy"
    ] == whole
    meta = json.loads((outdir / "meta.json").read_text())
    assert meta["config"] == f"{RECIPE}:cpu" and "jax" in meta["hardware"]
    assert meta["command"] == f"python -m experiments.run --config={RECIPE} --data_dir=DIR"  # without this user's own

    while locked(narrow):  # its process still writes the report
        time.sleep(0.05)
    before = narrow.beside("out").stat().st_mtime_ns
    code, out, _ = commands.run(*command(outdir), script="-mexperiments.run")
    assert code == 0 and "2 of 2 cells are finished already" in out
    assert narrow.beside("out").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--config=tests/experiments/tiny.py:cpuu",), ["'cpuu'", "did you mean 'cpu'"]),
        (("--config=tests/experiments/tiny.py:cpu,wide",), ["one cell", "train.py"]),
        (("--config=configs/digits.py",), ["not an experiment"]),
        (("--config=tests/experiments/tiny.py", "--rows=wid"), ["'wid'", "did you mean 'wide'"]),
        (("--config=tests/experiments/tiny.py", "--outdir=setup.cfg"), ["--outdir", "is a file"]),
        ((), ["--config is missing"]),
        (("--config=tests/experiments/tiny.py", "--set=model.widths=(3,)"), ["model.widths", "--rows"]),
        (("--config=tests/experiments/tiny.py", "--set=train.stps=3"), ["train.stps", "train.steps"]),
        (("--config=tests/experiments/tiny.py", "--set=model.dropuot=0.1"), ["model.dropuot", "'dropout'"]),
        (("--config=tests/experiments/tiny.py", "--set=optimizer.b3=0.1"), ["optimizer.b3", "optax.sgd"]),
        (("--config=tests/experiments/tiny.py", "--outdir=/proc/x"), ["--outdir", "/proc", "not writable"]),
    ],
)
def test_slips(flags, words):
    with flagsaver.flagsaver(config=None, outdir=None, rows=[], set=[], seeds=0), pytest.raises(UserError) as refusal:
        FLAGS(["run", *flags])
        run.main(["run"])
    assert all(word in str(refusal.value) for word in words), refusal.value


def test_a_slip_is_one_line():
    code, out, err = commands.run("--config=experiments/init_dept.py", script="-mexperiments.run")
    assert code == 2 and out == "" and err.count("\n") == 1 and "did you mean 'experiments/init_depth.py'" in err


def test_a_failed_cell_stops_no_other_and_is_tried_again(tmp_path, capsys):
    whole = declared()
    one = runner(whole, tmp_path, lambda cell: "error: no such thing" if cell == Cell("a", 1) else 0.5)
    one.run()
    assert {cell for cell, outcome in one.outcomes.items() if outcome.failed} == {Cell("a", 1)}
    assert one.outcomes[Cell("a", 1)].reason == "error: no such thing" and len(one.launcher.started) == 4
    assert "a seed 1: FAILED: error: no such thing" in capsys.readouterr().out
    again = runner(whole, tmp_path, lambda cell: 0.5)
    place = CellFiles(tmp_path / "a/1")
    place.beside("err").unlink()
    (place.workdir / "config.json").unlink()
    place.workdir.rmdir()
    again.run()
    assert again.launcher.started == [Cell("a", 1)] and not again.outcomes[Cell("a", 1)].failed


def test_divergence_is_a_result_that_is_not_run_again(tmp_path):
    whole = declared()
    one = runner(whole, tmp_path, lambda cell: "diverged")
    one.run()
    assert all(outcome == Outcome(diverged=True) for outcome in one.outcomes.values()) and len(one.outcomes) == 4
    again = runner(whole, tmp_path, lambda cell: 0.5)
    again.run()
    assert again.launcher.started == [] and again.outcomes == one.outcomes


def test_each_row_is_tuned_on_validation_before_its_other_seeds(tmp_path):
    whole = declared(tune={"optimizer.learning_rate": (0.1, 0.2)})
    better = {"a": 0.1, "b": 0.2}
    one = runner(
        whole, tmp_path, lambda cell: 0.9 if dict(cell.values)["optimizer.learning_rate"] == better[cell.row] else 0.1
    )
    one.run()
    assert len(one.outcomes) == cells.count(whole) == 6
    for row, rate in better.items():
        assert cells.choose(whole, row, one.outcomes) == (("optimizer.learning_rate", rate),)
        assert Cell(row, 1, (("optimizer.learning_rate", rate),)) in one.outcomes


def test_a_workdir_of_another_config_is_refused(tmp_path):
    runner(declared(), tmp_path, lambda cell: 0.5).run()
    other = declared(rows={"a": {"optimizer.momentum": 0.1}, "b": {}})
    with pytest.raises(UserError, match=r"a/0 was run with another config \(optimizer.momentum: 0.9 -> 0.1"):
        runner(other, tmp_path, lambda cell: 0.5).run()


def test_one_cell_prepares_the_data_before_others_read_it(tmp_path):
    whole = declared()
    one = runner(whole, tmp_path, lambda cell: 0.5)
    one.launcher.free = [0, 1, 2]
    waiting = cells.wanted(whole, {})
    one._start(waiting)
    assert one.launcher.started == waiting[:1]
    (one._files(waiting[0]).workdir / "status.json").write_text('{"state": "training"}')
    one._start(waiting[1:])
    assert one.launcher.started == waiting


def test_cells_of_a_changed_table_are_trained_with_the_change(tmp_path):
    whole = changed(declared(), ["train.steps=7"])
    one = runner(whole, tmp_path, lambda cell: 0.5)
    assert "--set=train.steps=7" in one._command(cells.Group((Cell("a", 0),)), CellFiles(tmp_path / "a/0"))
    one.run()  # whose launcher writes the configs that `cell_config` gives
    assert not any(outcome.failed for outcome in one.outcomes.values())
