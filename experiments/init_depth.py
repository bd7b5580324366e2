"""Initialisation by depth (He 2015): python -m experiments.run --config=experiments/init_depth.py:cpu

Dense ReLU networks without normalisation, SGD with momentum: He's variance 2/n against Xavier's 1/n. With Adam the
effect vanishes, and at a learning rate of 1e-2 He's deepest networks diverge, so the rate is tuned per row.
"""

from configs import images
from experiments.engine.bases import digits_mlp
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

DEPTHS = (22, 30, 50)  # hidden layers
INITS = {"he": "nn.initializers.he_normal()", "xavier": "nn.initializers.glorot_normal()"}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/accuracy",
        rows={
            f"{name}-{depth}": {"model.kernel_init": init, "model.widths": (64,) * depth}
            for depth in DEPTHS
            for name, init in INITS.items()
        },
        scales={
            "cpu": Scale(base=digits_mlp(steps=3_000, batch_size=64), minutes=10.0),
            "full": Scale(base=mnist(), rows=("he-30", "xavier-30", "he-50", "xavier-50")),
        },
        tune={"optimizer.learning_rate": (1e-3, 3e-3, 1e-2)},
        curves=Curves("hidden layers", {f"{name}-{depth}": (name, depth) for depth in DEPTHS for name in INITS}),
        diverged=0.1,
        paper=Paper(
            title="Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet Classification",
            arxiv="1502.01852",
            table="Figures 2 and 3: curves, no values",
        ),
        claims=(
            Claim("he-30", "xavier-30", "With 30 layers He converges and Xavier stalls (Fig. 3).", 0.2),
            Claim("he-50", "xavier-50", "The same holds for 50 layers.", 0.2),
            Claim("xavier-22", "he-22", "With 22 layers both converge (Fig. 2): Xavier is at most 0.1 behind.", -0.1),
        ),
    )


def mnist():
    """Returns the dense network on MNIST; the paper's networks are convolutional, on ImageNet."""
    config = digits_mlp(steps=20_000, batch_size=128)
    config.data = images.get_config("mnist").data
    config.data.splits.train = "train[:90%]"
    config.data.splits.validation = "train[90%:]"
    config.checkpoint.every = 0.25
    return config
