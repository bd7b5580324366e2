"""A run that is killed between any two of its writes, or whose files are damaged, ends, by the same command, as an
undisturbed one.
"""

import functools
import json
import shutil

import numpy as np
import pandas as pd
import pytest

from configs import tabular
from core.errors import Diverged, UserError
from experiments import run as runner_lib
from experiments.engine import together
from experiments.engine.experiment import Paper, Scale, cell_config, experiment, parse_cell
from reporting import report
from tests.experiments.runs import Job
from tests.training.kills import Recorder
from training import main
from training.checkpoint import read_meta, steps_in
from training.loop import Trainer
from training.run import build_run

pytestmark = pytest.mark.slow

TIMINGS = ("seconds", "examples_per_second", "data_wait")


class Begun(Exception):
    """A run has begun, and nothing was restored."""


@pytest.fixture(scope="module")
def runs():
    return {}


@pytest.fixture(autouse=True)
def compiled_once(runs, monkeypatch):
    """Makes all runs of a config share their parts and compiled functions."""

    def shared_run(config, data_dir, others=()):
        key = json.dumps([each.to_dict() for each in (config, *others)])
        if key not in runs:
            runs[key] = build_run(config, data_dir, others)
            for name in ("train_step", "eval_step", "gradient_norms", "create_states"):
                object.__setattr__(runs[key], name, functools.cache(getattr(runs[key], name)))
        return runs[key]

    monkeypatch.setattr(main, "build_run", shared_run)
    monkeypatch.setattr(main, "model_table", lambda *_: "")


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(draw.normal(size=(80, 3)), columns=list("abc")).assign(y=draw.choice(["p", "q"], 80))
    file = tmp_path_factory.mktemp("data") / "table.csv"
    rows.to_csv(file, index=False)
    return file


@pytest.fixture
def config(table):
    """Returns a run of 4 steps that saves a best checkpoint after 2 and 4, and others after 3 and 4."""
    config = tabular.get_config("class")
    config.data.name, config.data.target = f"csv:{table}", "y"
    config.model = {"name": "mlp.MLP", "widths": (4,), "dropout": 0.3, "norm": "layers.norm.batch_norm"}
    config.optimizer.update(name="sgd", learning_rate=0.1, weight_decay=0.0, warmup_steps=0.0)
    config.train.update(steps=4, epochs=0.0, batch_size=8, patience=0)
    config.eval.every, config.checkpoint.every, config.checkpoint.keep, config.log.every = 2, 3, 2, 2
    config.log.writers, config.checkpoint.best = (), "-validation/loss"
    return config


def outcome(workdir, folders=("checkpoints", "best")):
    """Returns all that must not depend on kills."""
    record = json.loads((workdir / "results.json").read_text())
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    saved = {}
    for folder in folders:
        step = steps_in(workdir / folder)[-1]
        meta = read_meta(workdir / folder / str(step))
        saved[folder] = step, meta["checksums"], meta["members"]
    return (
        {key: record[key] for key in ("step", "results", "seed")},
        [{key: value for key, value in row.items() if key not in TIMINGS} for row in rows],
        saved,
    )


def test_a_run_alone(config, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda shown: [])
    monkeypatch.setattr(report.curves, "of_run", lambda history: [])

    def train(workdir):
        report.write(main.train(config, str(workdir), None), "")

    with Recorder(tmp_path / "run", tmp_path / "states") as recorder:
        train(tmp_path / "run")
    expected = outcome(tmp_path / "run")
    assert expected[2]["best"][0] == expected[2]["checkpoints"][0] == 4 and len(recorder.states) >= 20
    for state in recorder.states:
        if steps_in(state / "checkpoints") or steps_in(state / "best"):
            train(state)
            assert outcome(state) == expected and (state / "report.html").exists(), state
        else:
            begins(lambda state=state: train(state))
            assert not (state / "metrics.jsonl").read_text()
    print(len(recorder.states), "kills")


def begins(train):
    """Asserts that a run starts from its beginning; that it then ends well is known."""

    def streams(trainer, start):
        assert start == 0
        raise Begun

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Begun):
        patch.setattr(Trainer, "_streams", streams)
        train()


class InThisProcess:
    """A launcher whose cells are trained at once."""

    def __init__(self, whole, outdir):
        self.whole, self.outdir, self.free = whole, outdir, [0]

    def start(self, command, files):
        if named := [text.removeprefix("--cell=") for text in command if text.startswith("--cell=")]:
            members = [parse_cell(self.whole, text.split(",")) for text in named]
            together.train(self.whole, members, self.outdir, None)
        else:
            (argument,) = (text.partition(":cpu,")[2] for text in command if ":cpu," in text)
            cell = parse_cell(self.whole, argument.split(","))
            main.train(cell_config(self.whole, cell, self.outdir), str(files.workdir), None)
        return Job(0)

    def ended(self, job):
        pass


def test_seeds_side_by_side_and_their_runner(config, tmp_path, monkeypatch):
    config.log.every = 4
    monkeypatch.setattr(runner_lib, "TICK_SECONDS", 0)
    scales = {"cpu": Scale(base=config, seeds=2)}
    whole = experiment("", metric="test/accuracy", rows={"a": {}}, paper=Paper(title="A", arxiv=""), scales=scales)

    def run(outdir):
        runner_lib.Runner(whole, "x.py:cpu", outdir, None, InThisProcess(whole, outdir)).run()
        return [outcome(outdir / "a" / str(seed)) for seed in (0, 1)]

    with Recorder(tmp_path / "run", tmp_path / "states") as recorder:
        expected = run(tmp_path / "run")
    assert len(recorder.states) >= 30
    for state in recorder.states:
        if any(state.glob("*/*/checkpoints/[0-9]")):
            assert run(state) == expected, state
        else:
            begins(lambda state=state: run(state))
            assert not any(path.read_text() for path in state.glob("a/*/metrics.jsonl"))
    print(len(recorder.states), "kills")


def flip(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def append(file, text):
    file.write_text(file.read_text() + text)


def test_damages(config, table, tmp_path, capsys, monkeypatch):
    main.train(config, str(tmp_path / "run"), None)
    expected = outcome(tmp_path / "run")

    def flip_all(folder):
        for file in folder.rglob("d/*"):
            flip(file)

    damages = [
        ("checkpoints/4 is damaged", lambda run: flip_all(run / "checkpoints/4")),
        ("checkpoints/4 is damaged", lambda run: flip(run / "checkpoints/4/meta/metadata")),
        (
            "continuing from best/4",
            lambda run: [file.write_text("") for file in run.glob("checkpoints/*/meta/metadata")],
        ),
        ("best/4 is damaged", lambda run: flip_all(run / "best/4")),
        ("continuing from step 4", lambda run: append(run / "metrics.jsonl", '{"step')),
    ]
    for number, (words, damage) in enumerate(damages):
        run = tmp_path / str(number)
        shutil.copytree(tmp_path / "run", run)
        damage(run)
        capsys.readouterr()
        main.train(config, str(run), None)
        assert words in capsys.readouterr().out
        found = outcome(run) if words != "best/4 is damaged" else outcome(run, ("checkpoints",))
        assert found[:2] == expected[:2] and found[2].items() <= expected[2].items(), words
    (tmp_path / "0" / "metrics.jsonl").write_bytes(b"\0" * 99)
    main.train(config, str(tmp_path / "0"), None)
    assert "metrics.jsonl is damaged: 4 lines are lost" in capsys.readouterr().out

    shutil.copy(table, tmp_path / "kept.csv")
    table.write_text(table.read_text().replace(",p\n", ",q\n", 1))
    monkeypatch.setattr(main, "build_run", build_run)
    for again in (functools.partial(main.train, config), main.evaluate_only):
        with pytest.raises(UserError, match="the content of the data has changed"):
            again(str(tmp_path / "1"), None)
    shutil.copy(tmp_path / "kept.csv", table)


def test_weights_that_are_not_finite_are_never_saved(config, tmp_path):
    config.optimizer.learning_rate, config.train.steps = 3e38, 1
    config.optimizer.lr_multipliers = ((".*", 1e30),)
    with pytest.raises(Diverged, match=r"step 1: params/.* is not finite after the update; stopped, no checkpoint"):
        main.train(config, str(tmp_path), None)
    assert not steps_in(tmp_path / "checkpoints") and not steps_in(tmp_path / "best")
