"""Transfer by the number of labels (Kornblith 2018):
    python -m experiments.run --config=experiments/transfer_labels.py:full --data_dir=DIR

A ResNet-20 pretrained on CIFAR-100 is fine-tuned on CIFAR-10 with a new head, against one trained from scratch, for the
same number of steps; training from scratch uses He's rate, fine-tuning a tenth of it. The paper pretrains on ImageNet.
`transfer_wine.py` and `transfer_music.py` are small enough for a CPU.
"""

from configs import images
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

LABELS = (400, 1600, 6400, 50_000)
RATES = {"scratch": 0.1, "transfer": 0.01}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    points = {f"{start}-{n}": (start, n) for n in LABELS for start in ("scratch", "transfer")}
    rows = {
        label: {"data.splits.train": f"train[:{n}]", "train.steps": 8_000, "optimizer.learning_rate": RATES[start]}
        for label, (start, n) in points.items()
    }
    return experiment(
        arg,
        metric="test/accuracy",
        rows={"cifar100": {"data.name": "cifar100"}} | rows,
        starts={label: "cifar100" for label in points if label.startswith("transfer")},
        scales={"full": Scale(base=images.get_config("cifar10"))},
        curves=Curves("labels", points, log=True),
        paper=Paper(
            title="Do Better ImageNet Models Transfer Better?",
            arxiv="1805.08974",
            table="Figure 9, accuracy against the number of examples per class, from ImageNet: curves",
        ),
        claims=(
            Claim("transfer-400", "scratch-400", "With few labels transfer is better.", 0.1),
            Claim("scratch-50000", "transfer-50000", "The gain fades: with all labels it is at most 0.05.", -0.05),
        ),
    )
