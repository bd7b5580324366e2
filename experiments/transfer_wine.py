"""Transfer by the number of labels, in a table (after Kornblith 2018):
    python -m experiments.run --config=experiments/transfer_wine.py:cpu --data_dir=DIR

A tabular ResNet that has learnt the quality of white wines goes on with 32, 128 or all 1,119 red ones, against one that
starts from scratch, both with as many steps. The paper's finding is of images (`transfer_labels.py`).
"""

from configs import tabular
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

LABELS = (32, 128, 1119)


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    points = {f"{start}-{n}": (start, n) for n in LABELS for start in ("scratch", "transfer")}
    rows = {label: {"data.splits.train": f"train[:{n}]"} for label, (_, n) in points.items()}
    return experiment(
        arg,
        metric="-test/rmse",
        rows={"white": {"data.name": "wine_quality/white"}} | rows,
        starts={f"transfer-{n}": "white" for n in LABELS},
        scales={"cpu": Scale(base=red(600), minutes=10.0), "full": Scale(base=red(6_000))},
        curves=Curves("labels", points, log=True),
        paper=Paper(
            title="Do Better ImageNet Models Transfer Better?",
            arxiv="1805.08974",
            table="Figure 9, images, accuracy by the number of examples a class: curves",
        ),
        claims=(
            Claim("transfer-32", "scratch-32", "With 32 red wines it is better to have learnt white ones."),
            Claim("transfer-128", "scratch-128", "And with 128."),
            Claim("scratch-1119", "transfer-1119", "With all of them it gains at most 0.02.", -0.02),
        ),
    )


def red(steps: int):
    """Returns the recipe of the white wines for the red ones; the best of the evaluations counts."""
    config = tabular.get_config("wine_quality")
    config.data.name = "wine_quality/red"
    config.train.epochs = 0.0
    config.train.steps = steps
    config.train.batch_size = 32
    config.eval.every = 1 / 12
    config.checkpoint.every = 0.5
    return config
