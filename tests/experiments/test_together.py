"""Cells that one process trains: which they are, and that they go on where they were killed."""

import json

import numpy as np
import pytest

from experiments.engine import cells, together
from experiments.engine.bases import digits_mlp
from experiments.engine.cells import CellFiles, Group, Outcome
from experiments.engine.experiment import Cell, Scale, cell_config
from tests.experiments import tiny
from tests.experiments.runs import RECIPE, declared, runner, steps, wait_until
from tests.training import commands
from training.side_by_side import SideBySide

pytestmark = pytest.mark.slow


def left(workdir):
    """Returns what a run left, but for how long it took."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    timings = ("seconds", "examples_per_second", "data_wait")
    rows = [{key: x for key, x in row.items() if key not in timings} for row in rows]
    results = json.loads((workdir / "results.json").read_text())
    return rows, results["step"], results["results"], (workdir / "config.json").read_text()


def test_seeds_killed_together_go_on_bit_for_bit(tmp_path):
    whole, killed = (tmp_path / name / "run" for name in ("whole", "killed"))
    data_dir, row = f"--data_dir={tmp_path / 'tfds'}", (f"--config={RECIPE}:full", "--cell=wide", "--cell=wide,seed=1")
    code, _, err = commands.run(*row, data_dir, f"--outdir={whole}", script="-mexperiments.engine.together")
    assert code == 0, err
    process = commands.start(*row, data_dir, f"--outdir={killed}", script="-mexperiments.engine.together")
    wait_until(lambda: (killed / "wide/together-0-1/checkpoints/40").exists(), process)
    process.kill()
    process.communicate()
    begun = steps(killed / "wide/1")
    assert begun and begun[-1] < 300 and not (killed / "wide/1/results.json").exists()

    rest = f"--config={RECIPE}:full", data_dir, f"--outdir={killed}"
    code, out, err = commands.run(*rest, script="-mexperiments.run")
    assert code == 0 and "2/2" in out, err
    assert "continuing from step" in CellFiles(killed / "wide/1").beside("out").read_text()
    for seed in "01":
        assert left(whole / "wide" / seed) == left(killed / "wide" / seed)
        assert CellFiles(killed / "wide" / seed).seconds() > 0 and (whole / "wide" / seed / "checkpoints/300").is_dir()
    assert not (killed / "wide/together-0-1").exists() and "seed=1" in (killed / "wide/compare.html").read_text()
    records = [json.loads(line) for line in (killed / "results.jsonl").read_text().splitlines()]
    assert [record["seed"] for record in records] == [0, 1] and all(record["gradients"] for record in records)


def test_a_seed_that_diverges_is_a_result_and_the_others_finish(tmp_path, monkeypatch):
    whole = tiny.get_config("full")
    whole.base.train.steps = 3
    members = [Cell("wide", 0), Cell("wide", 1)]
    place = cells.together(tmp_path / "run", members)
    original = SideBySide.batches

    def broken(self, *streams):
        for batch in original(self, *streams):
            broken_mask = batch["mask"] * np.array([[1], [np.nan]], np.float32)
            yield {**batch, "mask": broken_mask} if len(streams) > 1 else batch

    monkeypatch.setattr(SideBySide, "batches", broken)
    together.train(whole, members, tmp_path / "run", str(tmp_path / "tfds"))
    outcomes = [
        cells.ended(place, cell_config(whole, Cell("wide", seed)), 0) for seed, place in enumerate(place.members)
    ]
    assert outcomes[0].metrics.keys() >= {"test/accuracy"} and outcomes[1] == Outcome(diverged=True)


def test_the_seeds_of_a_row_are_one_job_where_its_config_allows_that(tmp_path):
    whole = declared(rows={"a": {}, "alone": {"parallel.cpu_devices": 2}, "b": {}})
    one = runner(whole, tmp_path, lambda cell: 0.5, together=True)
    one.run()
    expected = [[Cell("a", 0), Cell("a", 1)], [Cell("alone", 0)], [Cell("alone", 1)], [Cell("b", 0), Cell("b", 1)]]
    assert one.launcher.jobs == expected and not any(outcome.failed for outcome in one.outcomes.values())
    seconds = [CellFiles(tmp_path / f"b/{seed}").beside("seconds").read_text() for seed in (0, 1)]
    assert seconds[0] == seconds[1] and len(one.outcomes) == 6
    again = runner(whole, tmp_path / "again", lambda cell: 0.5)
    again.run()
    assert [len(job) for job in again.launcher.jobs] == [1] * 6


@pytest.mark.parametrize(("tokenizer", "jobs"), [("words()", [1, 1, 2]), ("start(words())", [1, 1, 1, 1])])
def test_seeds_whose_starts_have_their_own_tokenizers_run_alone(tokenizer, jobs, tmp_path):
    rows = {"b": {}, "a": {"data.preprocess": (f"tokenize('text', {tokenizer})",)}}
    one = runner(declared(rows=rows, starts={"a": "b"}), tmp_path, lambda cell: 0.5, together=True)
    one.run()
    assert [len(job) for job in one.launcher.jobs] == jobs


@pytest.mark.parametrize(
    ("key", "grid", "optimizer", "jobs"),
    [
        ("optimizer.learning_rate", (0.1, 0.2), "sgd", [2, 2]),
        ("optimizer.learning_rate", (0.1, 0.2), "adafactor", [2, 2]),
        ("optimizer.weight_decay", (0.1, 0.2), "sgd", [2, 2]),
        ("optimizer.weight_decay", (0.0, 0.2), "sgd", [1, 1, 2]),
        ("train.batch_size", (4, 8), "sgd", [1, 1, 2]),
    ],
)
def test_numbers_are_tried_together_as_are_further_seeds(key, grid, optimizer, jobs, tmp_path):
    base = digits_mlp(steps=10, batch_size=8)
    base.optimizer.name = optimizer
    whole = declared(
        rows={"a": {}},
        tune={key: grid},
        scales={"cpu": Scale(base=base, seeds=3)},
    )
    one = runner(whole, tmp_path, lambda cell: dict(cell.values)[key], together=True)
    one.run()
    assert [len(job) for job in one.launcher.jobs] == jobs
    assert one.launcher.jobs[-1][1] == Cell("a", 2, ((key, grid[1]),))


def test_what_was_begun_alone_or_together_goes_on_so(tmp_path):
    each = [Cell("a", seed) for seed in range(5)]
    (tmp_path / "a/1/checkpoints/20").mkdir(parents=True)
    (tmp_path / "a/together-1-2-3/checkpoints/7").mkdir(parents=True)
    (tmp_path / "a/together-0-4/checkpoints/7.orbax-checkpoint-tmp").mkdir(parents=True)  # not whole
    groups = cells.groups(declared(), [each[0], each[1], each[3]], tmp_path, lambda cell: True)
    assert groups == [Group((each[0],)), Group((each[1],)), Group((each[3],), tuple(each[1:4]))]
    place = groups[-1].files(tmp_path)
    assert place == CellFiles(tmp_path / "a/together-1-2-3", (CellFiles(tmp_path / "a/2"), CellFiles(tmp_path / "a/3")))
    groups = cells.groups(declared(), [each[0], each[2], each[4]], tmp_path, lambda cell: True)
    assert groups == [Group((each[0], each[4]), (each[0], each[4])), Group((each[2],), tuple(each[1:4]))]


def test_a_failed_group_is_reported_for_each_cell(tmp_path, capsys):
    whole = declared()
    one = runner(whole, tmp_path, lambda cell: "error: out of memory" if cell.row == "a" else 0.5, together=True)
    one.run()
    assert {cell for cell, outcome in one.outcomes.items() if outcome.failed} == {Cell("a", 0), Cell("a", 1)}
    said = capsys.readouterr().out
    assert all(f"a seed {seed}: FAILED: error: out of memory" in said for seed in (0, 1)) and len(one.outcomes) == 4
