"""Activations by depth (Glorot 2010): python -m experiments.run --config=experiments/activation_depth.py:cpu

Dense networks under SGD with momentum, with the rate tuned per row. `standard` is the usual initialisation of the time,
U[-1/sqrt n, 1/sqrt n], the others are normalised (eq. 16). A second figure shows the gradient norm of every layer at
the first step.
"""

from configs import images
from experiments.engine.bases import digits_mlp
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

DEPTHS = (1, 5, 10)  # hidden layers
ACTIVATIONS = {"sigmoid": "nn.sigmoid", "tanh": "jnp.tanh", "relu": "nn.relu"}
STANDARD = f"nn.initializers.variance_scaling({1 / 3}, 'fan_in', 'uniform')"
NORMALISED = "nn.initializers.glorot_uniform()"


def row(activation: str, init: str, depth: int) -> dict:
    return {"model.activation": activation, "model.kernel_init": init, "model.widths": (64,) * depth}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    rows = {
        f"{name}-{depth}": row(activation, NORMALISED, depth)
        for name, activation in ACTIVATIONS.items()
        for depth in DEPTHS
    }
    rows |= {
        "tanh-5-standard": row("jnp.tanh", STANDARD, 5),
        "tanh-10-standard": row("jnp.tanh", STANDARD, 10),
        "softsign-5": row("nn.soft_sign", NORMALISED, 5),
        "softsign-5-standard": row("nn.soft_sign", STANDARD, 5),
    }
    return experiment(
        arg,
        metric="test/accuracy",
        rows=rows,
        scales={
            "cpu": Scale(base=base(digits_mlp(steps=1_500, batch_size=64)), minutes=10.0),
            "full": Scale(base=mnist()),
        },
        tune={"optimizer.learning_rate": (3e-3, 1e-2, 5e-2)},
        curves=Curves("hidden layers", {f"{name}-{depth}": (name, depth) for name in ACTIVATIONS for depth in DEPTHS}),
        diverged=0.1,
        paper=Paper(
            title="Understanding the difficulty of training deep feedforward neural networks",
            arxiv="",
            table="Table 1, MNIST (proceedings.mlr.press/v9/glorot10a.html)",
            metric="test error in % on MNIST, 5 hidden layers",
            values={
                "sigmoid-5": 2.21,
                "tanh-5": 1.64,
                "tanh-5-standard": 1.76,
                "softsign-5": 1.72,
                "softsign-5-standard": 1.64,
            },
        ),
        claims=(
            Claim("tanh-5", "sigmoid-5", "A deep network of tanh units trains, one of sigmoids hardly does."),
            Claim("tanh-10", "sigmoid-10", "The same holds for ten layers."),
            Claim("sigmoid-1", "sigmoid-5", "Depth is the cause: one hidden layer of sigmoids trains."),
            Claim("tanh-10", "tanh-10-standard", "Normalised initialisation is better than the standard one."),
        ),
    )


def base(config):
    """Adds the gradient norms of the first step."""
    config.log.gradients = config.train.steps
    return config


def mnist():
    """Returns the paper's networks and batches: 1000 units per layer, batches of 10."""
    config = base(digits_mlp(steps=100_000, batch_size=10))
    config.data = images.get_config("mnist").data
    config.data.splits.train = "train[:90%]"
    config.data.splits.validation = "train[90%:]"
    config.checkpoint.every = 0.1
    return config
