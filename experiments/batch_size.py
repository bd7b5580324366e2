"""Batch sizes and the learning rates that work with each (Masters 2018):
    python -m experiments.run --config=experiments/batch_size.py:cpu

As in the paper: SGD without momentum, the same number of epochs for all, and the base rate r of an update by r times
the sum of the batch's gradients, which is m r here, where gradients are averaged. Fewer base rates work with larger
batches.
"""

from experiments.engine.bases import digits_mlp
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

SIZES = (2, 8, 32, 128, 512)
RATES = tuple(2.0**-k for k in (12, 9, 6, 3))  # base rates


def label(size: int, rate: float) -> str:
    return f"m{size}-r{rate:.1e}"


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    grid = [(size, rate) for size in SIZES for rate in RATES]
    _, low, middle, _ = RATES
    return experiment(
        arg,
        metric="test/accuracy",
        rows={
            label(size, rate): {"train.batch_size": size, "optimizer.learning_rate": rate * size} for size, rate in grid
        },
        scales={"cpu": Scale(base=base(20.0), minutes=10.0), "full": Scale(base=base(200.0))},
        curves=Curves(
            "base learning rate", {label(size, rate): (f"m = {size}", rate) for size, rate in grid}, log=True
        ),
        diverged=0.1,
        paper=Paper(
            title="Revisiting Small Batch Training for Deep Neural Networks",
            arxiv="1804.07612",
            table="Abstract: best with m between 2 and 32, on CIFAR and ImageNet; the abstract gives no value",
        ),
        claims=(
            Claim(label(8, middle), label(512, middle), "A base rate that works with m = 8 is too large for m = 512."),
            Claim(label(32, middle), label(512, middle), "The same holds for m = 32."),
            Claim(label(8, middle), label(512, low), "The best of m = 8 is at most 0.01 behind m = 512's.", -0.01),
            Claim(
                label(32, low), label(512, low), "With a rate that works for all, m = 32 is at most 0.01 behind.", -0.01
            ),
        ),
    )


def base(epochs: float):
    """Returns two hidden layers of 64 units on digits, SGD without momentum."""
    config = digits_mlp(batch_size=32)
    config.model.widths = (64, 64)
    config.optimizer.momentum = 0.0
    config.train.epochs = epochs
    return config
