"""Which architecture for which data:
    python -m experiments.run --config=experiments/suite.py:images_builtin [--data_dir=DIR]

A scale for each modality of configs/suite.py, with its architectures at equal parameters (rows NAME), and at equal
training time (rows NAME-time): as many steps as fit into the median time of the rows at equal parameters. The times of
a step are those of suite.json, which `python -m benchmarks.suite` measures, with the simple baselines.

The complete answer, one table and one picture: python -m experiments.matrix
"""

import json
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs import suite
from experiments.engine.experiment import Claim, Paper, Scale, experiment

MEASURED = Path(__file__).with_name("suite.json")  # {"ms": {modality: {architecture: x}}, "baselines": ...}
RATES = (1e-3, 3e-3, 1e-2)
SECONDS = 40.0  # most time in training steps; a run also compiles and evaluates
TIME = "-time"  # ending of the rows at equal time
ADVICE = {  # of the discussion that this comparison settles; not for volumes of language_builtin, which tests memory
    "tables": "mlp",
    "images": "resnet",
    "text": "lstm",
    "language": "lstm",
    "series": "lstm",
    "sound": "resnet",
    "video": "resnet",
    "volumes": "resnet",
}
LATELY = ("transformer", "mixer", "gmlp")


def get_config(arg: str = ""):
    """Returns the experiment of a modality, or one cell of it."""
    asked = (arg or "images_builtin").partition(",")[0]
    modality = asked if asked in suite.MODALITIES else "images_builtin"  # `experiment` refuses another one
    rows = {name: _row(modality, name) for name in suite.architectures(modality)}
    rows |= {f"{name}{TIME}": rows[name] | {"train.steps": steps} for name, steps in _equal_time(modality).items()}
    return experiment(
        arg or modality,
        metric=suite.MODALITIES[modality].metric,
        rows=rows,
        scales={name: Scale(base=suite.get_config(f"{name},{suite.architectures(name)[0]}")) for name in _modalities()},
        tune={"optimizer.learning_rate": RATES},
        paper=Paper(title="Which architecture for which data", arxiv=""),
        claims=tuple(_claims(modality, rows)),
    )


def _modalities() -> list[str]:
    return sorted(suite.MODALITIES, key=lambda name: name != "images_builtin")  # the default first


def _row(modality: str, name: str) -> dict[str, Any]:
    return {"model.name": suite.ARCHITECTURES[name].on(modality)}


def _equal_time(modality: str) -> dict[str, int]:
    """Returns the steps of each architecture whose step was measured."""
    ms = json.loads(MEASURED.read_text())["ms"].get(modality, {})
    if not ms:
        return {}
    budget = min(SECONDS * 1e3, suite.MODALITIES[modality].steps * statistics.median(ms.values()))
    return {name: max(1, round(budget / ms[name])) for name in suite.architectures(modality) if name in ms}


def _claims(modality: str, rows: dict[str, Any]) -> Iterator[Claim]:
    advised = ADVICE[modality.removesuffix("_builtin")]
    for ending, terms in (("", "parameters"), (TIME, "time")):
        for other in LATELY:
            if {advised + ending, other + ending} <= rows.keys():
                sentence = f"On {modality}, {advised} is better than {other} at equal {terms}."
                yield Claim(advised + ending, other + ending, sentence)
