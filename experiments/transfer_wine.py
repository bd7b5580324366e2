"""Transfer by the number of labels, on tables (after Kornblith 2018):
    python -m experiments.run --config=experiments/transfer_wine.py:cpu --data_dir=DIR

A tabular ResNet pretrained on the quality of white wines is fine-tuned on 32, 128 or all 1,119 red ones, against one
trained from scratch, for the same number of steps. The paper's finding concerns images (`transfer_labels.py`).
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
            table="Figure 9, images, accuracy against the number of examples per class: curves",
        ),
        claims=(
            Claim("transfer-32", "scratch-32", "With 32 red wines, pretraining on white ones helps."),
            Claim("transfer-128", "scratch-128", "With 128 red wines, pretraining helps."),
            Claim("scratch-1119", "transfer-1119", "With all red wines, it gains at most 0.02.", -0.02),
        ),
    )


def red(steps: int):
    """Returns the recipe of the white wines for the red ones, which keeps the best evaluation."""
    config = tabular.get_config("wine_quality")
    config.data.name = "wine_quality/red"
    config.train.epochs = 0.0
    config.train.steps = steps
    config.train.batch_size = 32
    config.eval.every = 1 / 12
    config.checkpoint.every = 0.5
    return config
