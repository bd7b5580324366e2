"""The trace of some steps: which operations cost most, under the names of their layers; training is unchanged."""

import json
import shutil

import pytest

from tests.training import small
from training import main
from training.profile import Operation, costs, operation


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "jit(step)/jvp(GPT)/GPT._read/trunk/block12/out/dot_general",
            ("GPT/trunk/block*/out", "dot_general", "forward"),
        ),
        ("jit(_fun)/transpose(jvp(MLP))/head/transpose", ("MLP/head", "transpose", "backward")),
        ("jit(f)/vmap(transpose(jvp(MLP)))/while/body/closed_call/jit(relu)/max", ("MLP", "max", "backward")),
        ("jit(_fun)/optimizer/log1p", ("optimizer", "log1p", "")),
        ("jit(_fun)/transpose(jvp())/dot_general", ("", "dot_general", "backward")),
        ("copy", ("", "copy", "")),
    ],
)
def test_an_operation_has_the_name_of_its_layer(source, expected):
    assert operation(source) == Operation(*expected)


def test_costs_are_those_of_layers_and_leave_out_what_contains_others():
    program = """ENTRY %main {
  %copy.1 = f32[2]{0} copy(%p)
  %dot.1 = f32[2]{0} dot(%p, %q), lhs_contracting_dims={0}, metadata={op_name="jit(f)/jvp(M)/layer1/dot_general" id=1}
  ROOT %fusion.2 = f32[2]{0} fusion(%dot.1), calls=%c, metadata={op_name="jit(f)/jvp(M)/layer2/dot_general" id=2}
}"""
    spent = {"dot.1": 3.0, "fusion.2": 4.0, "copy.1": 0.5, "while.3": 90.0}
    events = [{"ph": "X", "dur": dur, "args": {"hlo_op": name}} for name, dur in spent.items()]
    events += [events[0], {**events[0], "dur": 1e6}]  # two more steps; one is interrupted
    events += [{"ph": "M", "args": {"name": "python"}}, {"ph": "X", "dur": 50.0, "name": "wait"}]
    assert costs(events, program) == {
        Operation("M/layer*", "dot_general", "forward"): 13.0,
        Operation("", "copy", ""): 0.5,
    }


@pytest.mark.slow
def test_a_profile_leaves_the_run_as_it_is_and_may_be_repeated(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("training.profile.ROWS", 1000)
    config = small.get_config()
    config.train.steps, config.eval.every, config.checkpoint.every, config.checkpoint.best = 4, 0.0, 2.0, ""
    config.optimizer.warmup_steps = 1.0
    plain = main.train(config, str(tmp_path / "plain"), None)
    capsys.readouterr()
    config.log.profile = 2
    traced = main.train(config, str(tmp_path / "traced"), None)
    shown = capsys.readouterr().out
    assert "optimizer" in shown and "MLP/Dense_*" in shown and "backward" in shown and str(tmp_path / "traced") in shown
    assert traced.results == plain.results
    rows = [json.loads(line) for line in (tmp_path / "traced/metrics.jsonl").read_text().splitlines()]
    assert max(row["step"] for row in rows) == 4
    folder = tmp_path / "traced/profile"
    first = set(folder.rglob("*.trace.json.gz"))
    assert len(first) == 1
    for path in (tmp_path / "traced/checkpoints").glob("4*"):  # as after a kill
        shutil.rmtree(path)
    again = main.train(config, str(tmp_path / "traced"), None)
    assert again.results == plain.results
    assert len(set(folder.rglob("*.trace.json.gz")) - first) == 1
