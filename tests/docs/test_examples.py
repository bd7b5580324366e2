"""The worked examples of docs/ are run as they are printed."""

import importlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import arch
import configs
import data.preprocess
import tasks
from arch.gpt import GPT
from core import names
from tests.arch import test_decoders
from training import main
from training.config import default
from training.overrides import override

DOCS = Path(__file__).resolve().parents[2] / "docs"


def code(document: str) -> list[str]:
    """Returns the Python of a document, block by block."""
    return re.findall(r"```python\n(.*?)```", (DOCS / document).read_text(), re.DOTALL)


@pytest.fixture
def add(tmp_path, monkeypatch):
    """Returns a function that adds a file to a package for the time of a test: (package, file, text)."""

    def add_file(package, name: str, text: str) -> None:
        folder = tmp_path / package.__name__
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.py").write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        importlib.invalidate_caches()
        monkeypatch.delitem(importlib.sys.modules, f"{package.__name__}.{name}", raising=False)

    return add_file


def short(config, **changes):
    few = {"train.steps": 3, "train.batch_size": 16, "eval.batch_size": 0, "checkpoint.best": "", "train.patience": 0}
    return override(config, few | changes)[0]


@pytest.mark.slow
def test_a_block_a_network_and_a_recipe(add, tmp_path):
    *blocks, recipe = code("add-a-block.md")
    add(arch, "mine", "\n\n".join(blocks))
    add(configs, "mine", recipe)
    from configs import digits

    config = short(digits.get_config(), **{"model.block": "mine.SqueezeExcitation(reduction=2)", "model.width": 4})
    finished = main.train(config, str(tmp_path / "block"), str(tmp_path / "data"))
    assert np.isfinite(finished.results["test"]["loss"])

    config = short(importlib.import_module("configs.mine").get_config("long"))
    assert config.optimizer.learning_rate == 3e-4
    assert np.isfinite(main.train(config, str(tmp_path / "network"), str(tmp_path / "data")).results["test"]["loss"])


@pytest.mark.slow
def test_a_mixer(add, tmp_path):
    *blocks, _ = code("add-a-block.md")
    add(arch, "mine", "\n\n".join(blocks))
    from configs import gpt

    (tmp_path / "text.txt").write_text("to be or not to be, that is the question\n" * 40)
    changes = {"model.mixer": "mine.Mixer(distance=2)", "model.depth": 1, "model.width": 16}
    changes |= {"data.name": f"text:{tmp_path / 'text.txt'}", "data.splits.train": "train[:80%]"}
    config = short(gpt.get_config("shakespeare_cpu"), **changes, **{"data.splits.validation": "train[80%:]"})
    finished = main.train(config, str(tmp_path / "run"), str(tmp_path / "data"))
    assert np.isfinite(finished.results["validation"]["loss"])

    mixer = names.resolve("mine.Mixer(distance=2)", "arch", "config.model.mixer")
    case = test_decoders.Case(GPT, "test", {"mixer": mixer})
    test_decoders.test_decoding_computes_the_full_forward_pass(case, [5, 1, test_decoders.LENGTH - 6])
    test_decoders.test_conditions_of_unequal_length_generate_what_each_generates_alone(case)


@pytest.mark.slow
def test_a_task_with_a_gathered_metric(add, tmp_path):
    (task,) = code("add-a-task.md")
    add(tasks, "quantile", task)
    from configs import tabular

    changes = {"task.name": "quantile.Quantile", "task.quantile": 0.9}
    config = short(tabular.get_config("diabetes"), **changes | {"checkpoint.best": "-validation/median_error"})
    finished = main.train(config, str(tmp_path / "run"), str(tmp_path / "data"))
    arrays, results = finished.arrays["test"], finished.results["test"]
    errors = np.abs(arrays["target"] - arrays["prediction"])
    assert results["median_error"] == pytest.approx(np.median(errors))
    assert results["coverage"] == pytest.approx(np.mean(arrays["target"] <= arrays["prediction"]))


def test_a_preprocess_op(add, tmp_path):
    (op,) = code("add-data.md")
    add(data.preprocess, "outliers", op)
    names.subclasses.cache_clear()
    prices = np.random.default_rng(0).normal(size=200)
    table = pd.DataFrame({"price": np.where(np.arange(200) == 7, 1e6, prices), "y": np.where(prices > 0, "a", "b")})
    table.to_csv(tmp_path / "table.csv", index=False)
    changes = {"data.name": f"csv:{tmp_path / 'table.csv'}", "data.target": "y"}
    changes["data.preprocess"] = ("clip('price', share=0.1)", "features()")
    from configs import tabular

    config = short(tabular.get_config("class"), **changes, **{"data.splits.validation": ""})
    splits, _ = data.load(config.data)
    names.subclasses.cache_clear()
    features = np.concatenate([splits[name].batch(np.arange(len(splits[name])))["features"] for name in splits])
    assert features.max() < 3 and (features == features.max()).mean() > 0.05


def test_the_block_of_the_readme(add):
    (block,) = re.findall(r"```python\n(.*?)```", (DOCS.parent / "README.md").read_text(), re.DOTALL)
    add(arch, "mine", block)
    config = override(default(), {"model.name": "resnet.CifarResNet", "model.block": "mine.WideMiddle"})[0]
    from core.names import resolve

    assert resolve(config.model.block, "arch", "config.model.block").__name__ == "WideMiddle"
