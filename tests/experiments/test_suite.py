"""The suite: pairs of modality and architecture, equal time, and the picture of made-up results."""

import functools
import json
import math

import jax
import numpy as np
import pytest

from configs import suite
from core.errors import UserError
from data.batches import train_batches
from experiments import matrix, table
from experiments import suite as experiment
from experiments.engine.experiment import load
from experiments.engine.statistics import Interval
from tests.data.fake import prepare_recipes
from training.config import validate
from training.overrides import override
from training.run import build_run
from training.step import train_step

BUILT_IN = [name for name in suite.MODALITIES if name.endswith(suite.BUILT_IN)]


def small(modality: str, name: str):
    """Returns the config of a pair for few examples, with one block."""
    config = suite.get_config(f"{modality},{name}")
    config = override(config, {"train.batch_size": 8, "eval.batch_size": 8, "train.steps": 3})[0]
    config.model.name = config.model.name.replace("depth=3", "depth=1")
    if modality == "series_builtin":
        config = override(config, {f"data.preprocess.forecast.{key}": 8 for key in ("window", "horizon")})[0]
    return validate(config)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("tfds"))
    names = [suite.get_config(f"{name},{suite.architectures(name)[0]}").data.name for name in BUILT_IN]
    prepare_recipes(folder, names)
    return folder


def test_impossible_pairs_are_refused_with_the_reason():
    assert len(suite.pairs()) > 100
    real = {name for name in suite.MODALITIES if name not in BUILT_IN}
    assert {name + suite.BUILT_IN for name in real} == set(BUILT_IN) and len(real) == 8
    for modality in suite.MODALITIES:
        assert len(suite.architectures(modality)) >= 4
    with pytest.raises(UserError, match=r"mixer cannot train on language: its tokens see later ones.*: lstm"):
        suite.get_config("language,mixer")
    with pytest.raises(UserError, match=r"mlp cannot train on text: .* not tokens"):
        suite.get_config("text,mlp")
    for wrong in ("imagse,mlp", "images,mpl", "images"):
        with pytest.raises(UserError, match="is not MODALITY,ARCHITECTURE"):
            suite.get_config(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("modality", BUILT_IN)
def test_two_architectures_of_a_modality_train(modality, data_dir):
    for name in (suite.architectures(modality)[0], suite.architectures(modality)[-1]):
        run = build_run(small(modality, name), data_dir)
        parts = {"model": run.model, "task": run.task, "transform": run.transform, "optimizer": run.optimizer}
        batches = train_batches(run.train_split, batch_size=8, seed=0, start=0, stop=3)
        stacked = jax.tree.map(lambda *of: np.stack(of), *batches)
        step = functools.partial(train_step, **parts)
        losses = jax.jit(functools.partial(losses_of, run.create_state, step))(stacked)
        assert np.isfinite(losses).all() and losses[-1] != losses[0], name  # the rate of the first step is 0


def losses_of(create_state, step, batches):
    """Returns the sum of the losses in each step."""
    _, metrics = jax.lax.scan(step, create_state(), batches)
    return metrics["loss"][0]


@pytest.mark.slow
def test_architectures_have_equally_many_parameters(data_dir):
    for name in ("mlp", "resnet", "transformer", "gmlp"):
        config = suite.get_config(f"images_builtin,{name}")
        config = validate(override(config, {"train.batch_size": 8, "eval.batch_size": 8})[0])
        state = jax.eval_shape(build_run(config, data_dir).create_state)
        assert sum(leaf.size for leaf in jax.tree.leaves(state.params)) == pytest.approx(1e5, rel=0.08), name


def test_rows_at_equal_time_take_the_same_time(monkeypatch, tmp_path):
    ms = {"mlp": 1.0, "resnet": 10.0, "transformer": 4.0}
    monkeypatch.setattr(experiment, "MEASURED", tmp_path / "suite.json")
    (tmp_path / "suite.json").write_text(json.dumps({"ms": {"images_builtin": ms}}))
    whole = experiment.get_config("images_builtin")
    steps = {name: whole.rows[f"{name}-time"]["train.steps"] for name in ms}
    assert steps == {"mlp": 2400, "resnet": 240, "transformer": 600} and "gmlp-time" not in whole.rows
    assert {claim.better for claim in whole.claims} == {"resnet", "resnet-time"}
    with pytest.raises(UserError, match="unknown scale 'imagse'"):
        experiment.get_config("imagse")


def made_up(name: str, metric: str) -> matrix.Column:
    values = {"mlp": 0.9, "resnet": 0.98, "gmlp-time": 0.5, matrix.BASELINE: 0.95}
    intervals = {row: Interval(x, x - 0.01, x + 0.01) for row, x in values.items()}
    return matrix.Column(name, metric, intervals, dict.fromkeys(intervals, ("100,000", "7")))


def test_the_place_of_a_row_in_its_column():
    higher, lower = made_up("images", "test/accuracy"), made_up("tables", "-test/rmse")
    assert higher.shares("") == pytest.approx({"mlp": 0.0, "resnet": 1.0, matrix.BASELINE: 0.625})
    assert lower.shares("") == pytest.approx({"mlp": 1.0, "resnet": 0.0, matrix.BASELINE: 0.375})
    assert lower.shares("-time") == {"gmlp": 1.0, matrix.BASELINE: 0.0}  # a single one
    alike = {row: Interval(x, x - 0.04, x + 0.04) for row, x in {"mlp": 0.9, "resnet": 0.98}.items()}
    noisy = matrix.Column("images", "test/accuracy", alike, {})
    assert noisy.shares("") == pytest.approx({"mlp": 0.6, "resnet": 1.0})  # the intervals overlap: not the worst colour
    lines = matrix.text([higher, lower]).splitlines()
    assert "| mlp | 0.9 ± 0.01 | **0.9 ± 0.01** |" in lines and "| gmlp | **0.5 ± 0.01** | **0.5 ± 0.01** |" in lines
    assert "| resnet | 100,000, 7 | 100,000, 7 |" in lines


def test_the_picture_of_made_up_results(tmp_path):
    from PIL import Image

    matrix.draw([made_up("images", "test/accuracy"), made_up("tables", "-test/rmse")], tmp_path / "suite.png")
    pixels = np.asarray(Image.open(tmp_path / "suite.png").convert("RGB")).astype(int)
    assert (pixels[..., 1] - pixels[..., 0] > 60).sum() > 500  # cells of the best
    assert (pixels[..., 0] - pixels[..., 1] > 60).sum() > 500  # and of the worst


def test_results_become_a_column(tmp_path, monkeypatch):
    record = {"values": {"optimizer.learning_rate": 0.003}, "chosen": True, "diverged": False, "seconds": 3.0}
    record |= {"row": "mlp", "gradients": {}, "parameters": 99_690}
    lines = [record | {"seed": i, "metrics": {"test/accuracy": 0.9 + 0.01 * i}} for i in range(3)]
    folder = tmp_path / "suite-images_builtin"
    folder.mkdir()
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "meta.json").write_text(json.dumps({"config": "experiments/suite.py:images_builtin"}))
    (of,) = [matrix.column(table.Measured.of(folder), {"images_builtin": {"value": 0.96}})]
    assert of.intervals["mlp"].mean == pytest.approx(0.91) and of.intervals[matrix.BASELINE].mean == 0.96
    assert of.cost["mlp"] == ("99,690", "3") and math.isinf(of.intervals[matrix.BASELINE].high)
    matrix.main(["matrix", str(folder)])
    assert (tmp_path / "suite.png").exists() and "| mlp | **0.91 ± " in (tmp_path / "suite.md").read_text()
    assert load("experiments/suite.py:video")[0].scale == "video"
