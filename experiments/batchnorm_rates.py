"""Batch normalisation and the learning rates that it allows (Bjorck 2018, after Ioffe 2015):
    python -m experiments.run --config=experiments/batchnorm_rates.py:cpu

Dense ReLU networks of eight hidden layers under SGD with momentum, with the same number of steps at every rate. Without
normalisation, the larger rates diverge or stay at chance. The paper's network is a ResNet-110.
"""

from configs import images
from experiments.engine.bases import digits_mlp
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

NORMS = {"plain": "layers.norm.identity", "batchnorm": "layers.norm.batch_norm"}
RATES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
PAPER_RATES = (1e-4, 3e-3, 1e-1)


def label(norm: str, rate: float) -> str:
    return f"{norm}-{rate:g}"


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    grid = {label(norm, rate): (norm, rate) for norm in NORMS for rate in sorted({*RATES, *PAPER_RATES})}
    return experiment(
        arg,
        metric="test/accuracy",
        rows={row: {"model.norm": NORMS[norm], "optimizer.learning_rate": rate} for row, (norm, rate) in grid.items()},
        scales={
            "cpu": Scale(base=dense(800), minutes=10.0, rows=tuple(label(norm, x) for norm in NORMS for x in RATES)),
            "full": Scale(base=resnet(), rows=tuple(label(norm, x) for norm in NORMS for x in PAPER_RATES)),
        },
        curves=Curves("learning rate", grid, log=True),
        diverged=0.1,
        paper=Paper(
            title="Understanding Batch Normalization",
            arxiv="1806.02375",
            table="Figure 1: curves, no values; Ioffe 2015 (1502.03167), Inception on ImageNet: 72.2% without, 72.7% "
            "with it at the same rate, 73.0% at 5 times and 74.8% at 30 times the rate",
        ),
        claims=(
            Claim("batchnorm-1", "plain-1", "Normalisation trains at a rate that is too large without it.", 0.2),
            Claim("batchnorm-0.1", "plain-0.1", "Normalisation is better at a tenth of that rate."),
            Claim("batchnorm-0.1", "batchnorm-0.001", "With normalisation, 100 times the smallest rate is better."),
            Claim("plain-0.01", "plain-1", "Without normalisation, that rate is too large.", 0.2),
            Claim("plain-0.01", "batchnorm-0.01", "At a rate for both, the plain one is at most 0.03 behind.", -0.03),
        ),
    )


def dense(steps: int):
    """Returns eight hidden layers of 64 units on digits."""
    config = digits_mlp(steps=steps, batch_size=64)
    config.model.widths = (64,) * 8
    return config


def resnet():
    """Returns a ResNet-110 on CIFAR-10 by He's recipe."""
    config = images.get_config("cifar10")
    config.model.depth = 110
    return config
