"""The page of a run: complete, escaped, and without anything to load."""

import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict

from core.info import Info, Key
from core.names import available
from data.augment.transform import Transform
from reporting import figures, page, report
from reporting.drawing import Figure
from tasks.classification import Classification
from tasks.task import Task
from tests.reporting.pages import check
from training.main import Finished

HISTORY = [
    *({"step": step, "split": "train", "loss": 1 / step, "seconds": step} for step in range(1, 100)),
    {"step": 50, "split": "validation", "loss": 0.5, "accuracy": 0.75},
    {"step": 50, "split": "validation_ema", "loss": 0.4, "accuracy": 0.8},
    {"step": 1, "split": "gradients", "layer/a": 1.0, "layer/b": 2.0},
    {"step": 99, "split": "test", "loss": float("nan"), "accuracy": 0.9833},
]


@pytest.fixture
def finished(tmp_path):
    """Returns a classifier's run that has ended."""
    config = {"seed": 0, "model": {"name": "mlp.MLP"}, "augment": {"ops": ()}}
    images, labels = np.zeros((4, 8, 8, 1), np.uint8), np.array([0, 1, 2, 1])
    split = SimpleNamespace(batch=lambda indices: {"image": images[indices]}, text=lambda key, indices: [])
    info = Info("<animals>", {}, {"image": Key((8, 8, 1), "uint8", "image")})
    task = Classification(classes=("cat", "dog & <fox>", "owl"))
    parts = {"info": info, "task": task, "transform": Transform(), "splits": {"test": split}}
    run = SimpleNamespace(config=ConfigDict(config), **parts)
    arrays = {"label": labels, "prediction": np.array([0, 2, 2, 1]), "loss": np.array([1.0, np.nan, 3.0, 4.0])}
    results = {"test": {"accuracy": 0.75, "loss": float("nan")}, "validation": {"accuracy": 0.8}}
    workdir = SimpleNamespace(path=tmp_path, rows=HISTORY)
    return Finished(run, workdir, results, {"validation": {}, "test": arrays}, 99, "best/99")


def write(finished):
    report.write(finished, "python train.py --config='a & b'")
    assert [each.name for each in finished.workdir.path.iterdir()] == ["report.html"]
    return (finished.workdir.path / "report.html").read_text(encoding="utf-8")


def test_report_is_complete_and_loads_nothing(finished, capsys):
    text = write(finished)
    check(text)
    titles = ["Test", "Validation", "Loss", "Accuracy", "Confusion matrix", "Worst mistakes", "Gradient norm by layer"]
    titles += ["Evaluations ", "Configuration ", "Command", "Versions"]
    assert re.findall(r"<(?:h3|summary)>([^<]*)", text) == titles
    assert "best/99" in capsys.readouterr().out


def test_report_shows_names_and_numbers_escaped(finished):
    text = write(finished)
    assert "mlp.MLP on &lt;animals&gt;" in text and "<animals>" not in text and "<fox>" not in text
    for shown in ("75.00%", "98.33%", "a &amp; b", "&#34;mlp.MLP&#34;", "Validation EMA", "jaxlib"):
        assert shown in text
    assert '<dd class="bad">NaN</dd>' in text and '<td class="bad">NaN</td>' in text


def test_report_of_a_run_without_evaluation(finished):
    text = write(finished._replace(results={}, arrays={}, workdir=SimpleNamespace(path=finished.workdir.path, rows=[])))
    check(text)
    assert "Learning curves" not in text and "Results" not in text and "Confusion" not in text and "Command" in text


def test_an_unknown_figure_is_named(finished, monkeypatch):
    monkeypatch.setattr(type(finished.run.task), "figures", ("confusion_matrixx",))
    with pytest.raises(ValueError, match=r"figures: 'confusion_matrixx' does not exist: did you mean 'confusion_matr"):
        write(finished)


def test_every_figure_that_a_task_names_exists():
    folder, tasks = Path(figures.__file__).parent, [Task]
    for file, _ in available("tasks"):
        importlib.import_module(f"tasks.{file}")
    for task in tasks:
        tasks += task.__subclasses__()
        assert all((folder / f"{name}.py").exists() for name in task.figures), task
    assert len(tasks) > 5


def test_pictures_are_part_of_the_page():
    assert page.picture(Figure("A", "c", b"\x89PNG")) == '<img alt="A" src="data:image/png;base64,iVBORw==">'
    assert page.picture(Figure('"', "c", b"<svg><svg/></svg>")) == '<svg role="img" aria-label="&#34;"><svg/></svg>'
    assert page.picture(Figure("A", "c")) == ""


def test_matplotlib_is_not_imported_until_something_is_drawn():
    code = "import sys, reporting.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
