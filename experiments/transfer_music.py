"""Transfer by the amount of data, in music (after Kornblith 2018):
    python -m experiments.run --config=experiments/transfer_music.py:cpu --data_dir=DIR

A GRU pretrained on folk tunes is fine-tuned on 10, 50 or all 229 of Bach's chorales, against one trained from scratch,
for the same number of steps. The targets are the next notes, so no annotation is needed, and the amount of data is
counted in chorales. The paper's finding concerns images (`transfer_labels.py`): the gain fades with more labels.
"""

from configs import music
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

CHORALES = (10, 50, 229)


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    points = {f"{start}-{n}": (start, n) for n in CHORALES for start in ("scratch", "transfer")}
    rows = {label: {"data.splits.train": f"train[:{n}]"} for label, (_, n) in points.items()}
    return experiment(
        arg,
        metric="-test/nll",
        rows={"folk-tunes": {"data.name": "poly_music/nottingham", "data.buckets": 4}} | rows,
        starts={f"transfer-{n}": "folk-tunes" for n in CHORALES},
        scales={"cpu": Scale(base=chorales(600), minutes=10.0), "full": Scale(base=chorales(4_000))},
        curves=Curves("chorales", points, log=True),
        paper=Paper(
            title="Do Better ImageNet Models Transfer Better?",
            arxiv="1805.08974",
            table="Figure 9, images, accuracy against the number of examples per class: curves",
        ),
        claims=(
            Claim("transfer-10", "scratch-10", "With 10 chorales, pretraining on folk tunes helps."),
            Claim("transfer-50", "scratch-50", "With 50 chorales, pretraining helps."),
            Claim("scratch-229", "transfer-229", "With all chorales, it gains at most 0.1 nats.", -0.1),
        ),
    )


def chorales(steps: int):
    """Returns the recipe of the chorales with a GRU, which keeps the best evaluation."""
    config = music.get_config("jsb")
    config.model.cell = "layers.recurrent.GRU"
    config.model.widths = (46,)
    config.data.buckets = 0  # ten pieces do not fill a batch per length
    config.optimizer.learning_rate = 1e-2
    config.train.steps = steps
    config.train.batch_size = 10
    config.train.patience = 0
    config.eval.every = 1 / 12
    config.checkpoint.every = 0.5
    return config
