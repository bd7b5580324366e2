"""Plain against residual networks by depth (He 2016):
    python -m experiments.run --config=experiments/plain_residual.py:cpu

The paper's networks for small images, with and without shortcuts: deeper plain networks are worse, even in training.
"""

from configs import digits, images
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

DEPTHS = (8, 20, 56)
SHORTCUTS = {"plain": "none", "residual": "A"}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/accuracy",
        rows={
            f"{name}-{depth}": {"model.depth": depth, "model.shortcut": shortcut}
            for depth in DEPTHS
            for name, shortcut in SHORTCUTS.items()
        },
        scales={"cpu": Scale(base=small(), minutes=10.0), "full": Scale(base=images.get_config("cifar10"))},
        curves=Curves("layers", {f"{name}-{depth}": (name, depth) for depth in DEPTHS for name in SHORTCUTS}),
        paper=Paper(
            title="Deep Residual Learning for Image Recognition",
            arxiv="1512.03385",
            table="Table 6; plain networks in Figure 6 only",
            metric="test error in % on CIFAR-10",
            values={"residual-20": 8.75, "residual-56": 6.97},
        ),
        claims=(
            Claim("plain-20", "plain-56", "Deeper plain networks are worse (sec. 4.2, Fig. 6 left)."),
            Claim("residual-56", "plain-56", "Shortcuts overcome it (Fig. 6 middle)."),
            Claim("residual-56", "residual-20", "Deeper residual networks are at most 0.01 worse.", -0.01),
        ),
    )


def small():
    """Returns the digits' recipe for narrow networks, which evaluates the last weights."""
    config = digits.get_config()
    config.model.width = 8
    config.optimizer.warmup_steps = 0.0826
    config.train.epochs = 12.0
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config
