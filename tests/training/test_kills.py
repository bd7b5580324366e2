"""A run that is killed between any two of its writes, or whose files are damaged, ends, by the same command, as an
undisturbed one.
"""

import functools
import json
import re
import shutil

import pytest

from core.errors import Diverged, UserError
from experiments import run as runner_lib
from experiments import table as table_lib
from experiments.engine import together
from experiments.engine.cells import CellFiles
from experiments.engine.experiment import Paper, Scale, cell_config, experiment, parse_cell
from reporting import report
from tests.experiments.runs import Job
from tests.training import commands
from tests.training.killed_runs import compile_once, outcome, small_config, write_table
from tests.training.kills import Recorder
from training import main
from training.checkpoint import steps_in
from training.loop import Trainer
from training.run import build_run

pytestmark = pytest.mark.slow


class Begun(Exception):
    """A run has begun, and nothing was restored."""


@pytest.fixture(scope="module")
def runs():
    return {}


@pytest.fixture(autouse=True)
def compiled_once(runs, monkeypatch):
    compile_once(runs, monkeypatch)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "table.csv"
    write_table(file)
    return file


@pytest.fixture
def config(table):
    return small_config(table)


def figures(workdir):
    return re.findall("<svg.*?</svg>", (workdir / "report.html").read_text(), re.DOTALL)


def test_a_run_alone(config, tmp_path):
    def train(workdir):
        report.write(main.train(config, str(workdir), None), "")

    with Recorder(tmp_path / "run", tmp_path / "states") as recorder:
        train(tmp_path / "run")
    expected, drawn = outcome(tmp_path / "run"), figures(tmp_path / "run")
    assert expected[2]["best"][0] == expected[2]["checkpoints"][0] == 4 and len(recorder.states) >= 20
    assert len(drawn) >= 3
    for state in recorder.states:
        if (state / "results.json").exists():
            train(state)
            assert outcome(state) == expected and figures(state) == drawn, state
        elif steps_in(state / "checkpoints") or steps_in(state / "best"):
            with pytest.MonkeyPatch.context() as patch:  # all states lead to the same figures, which take long
                patch.setattr(report, "draw", lambda shown: [])
                patch.setattr(report.curves, "of_run", lambda history: [])
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


def table_of(outdir):
    """Returns what an experiment writes about its cells."""
    lines = [json.loads(line) for line in (outdir / "results.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and lines[0]["metrics"].keys() >= {"test/accuracy"}
    return lines, (outdir / "table.md").read_text(), (outdir / "table.png").read_bytes()


def test_seeds_side_by_side_and_their_runner(config, tmp_path, monkeypatch):
    config.log.every = 4
    monkeypatch.setattr(runner_lib, "TICK_SECONDS", 0)
    scales = {"cpu": Scale(base=config, seeds=2)}
    whole = experiment("", metric="test/accuracy", rows={"a": {}}, paper=Paper(title="A", arxiv=""), scales=scales)
    monkeypatch.setattr(table_lib, "load", lambda text: (whole, text))
    monkeypatch.setattr(CellFiles, "add_seconds", lambda files, seconds: None)

    def run(outdir):
        runner = runner_lib.Runner(whole, "x.py:cpu", outdir, None, InThisProcess(whole, outdir))
        runner.run()
        return [outcome(outdir / "a" / str(seed)) for seed in (0, 1)], runner

    def write(runner):
        runner_lib.write_results(whole, runner, "command")
        assert (runner.outdir / "a" / "compare.html").read_text().endswith("</html>")
        return table_of(runner.outdir)

    with Recorder(tmp_path / "run", tmp_path / "states") as recorder:
        expected, runner = run(tmp_path / "run")
        table = write(runner)
    assert len(recorder.states) >= 30
    for state in recorder.states:
        if any(state.glob("*/*/checkpoints/[0-9]")):
            is_over = len(list(state.glob("a/*/results.json"))) == 2  # other states lead to this one; tables take long
            found, runner = run(state)
            assert found == expected, state
            assert not is_over or write(runner) == table, state
        else:
            begins(lambda state=state: run(state))
            assert not any(path.read_text() for path in state.glob("a/*/metrics.jsonl"))
    print(len(recorder.states), "kills")


def test_two_hosts(table, tmp_path):
    hosts = commands.start_hosts(
        table, tmp_path, script="tests/training/kills_on_hosts.py", PYTHONPATH=str(commands.ROOT)
    )
    outputs = [host.communicate(timeout=300) for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    count = int(outputs[0][0].split()[-2])
    assert count >= 20
    print(count, "kills")


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
