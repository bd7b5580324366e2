"""Memory, the adding problem (Hochreiter 1997): python -m experiments.run --config=experiments/memory_adding.py:cpu

Elman's network, LSTM and GRU with the same number of parameters, 13 thousand, or 70 thousand at the paper's scale,
against the number of steps to remember. The constant prediction 1 has a mean squared error of 0.167.
"""

from configs import sequences
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

CELLS = {"elman": "layers.recurrent.Elman", "lstm": "layers.recurrent.LSTM", "gru": "layers.recurrent.GRU"}
UNITS = {"elman": 112, "lstm": 56, "gru": 64}
PAPER_UNITS = {"elman": 263, "lstm": 131, "gru": 151}
LENGTHS, PAPER_LENGTH = (50, 100), 600


def row(cell: str, units: int, length: int) -> dict:
    return {"model.cell": CELLS[cell], "model.widths": (units,), "data.name": f"adding/{length}"}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    small = {f"{cell}-{length}": row(cell, UNITS[cell], length) for length in LENGTHS for cell in CELLS}
    large = {f"{cell}-{PAPER_LENGTH}": row(cell, PAPER_UNITS[cell], PAPER_LENGTH) for cell in CELLS}
    return experiment(
        arg,
        metric="-test/mse",
        rows=small | large,
        scales={
            "cpu": Scale(base=base(3_000), minutes=10.0, rows=tuple(small)),
            "full": Scale(base=base(20_000), rows=tuple(large)),
        },
        curves=Curves(
            "steps to remember", {f"{cell}-{length}": (cell, length) for length in LENGTHS for cell in CELLS}
        ),
        paper=Paper(
            title="An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling",
            arxiv="1803.01271",
            table="Table 1",
            metric="mean squared error, 600 steps, 70 thousand parameters",
            values={"lstm-600": 0.164, "gru-600": 5.3e-5, "elman-600": 0.177},
        ),
        claims=(
            Claim("gru-50", "elman-50", "Over 50 steps GRU solves the problem and Elman's network does not.", 0.1),
            Claim("lstm-50", "elman-50", "Over 50 steps so does LSTM (Hochreiter 1997).", 0.1),
            Claim("gru-100", "elman-100", "Over 100 steps GRU solves the problem and Elman's network does not.", 0.1),
            Claim("lstm-100", "elman-100", "Over 100 steps so does LSTM.", 0.1),
            Claim("gru-600", "lstm-600", "Over 600 steps GRU solves the problem and LSTM does not.", 0.1),
            Claim("gru-600", "elman-600", "Over 600 steps Elman's network does not solve it either.", 0.1),
        ),
    )


def base(steps: int):
    """Returns the recipe of the adding problem, evaluated at the end."""
    config = sequences.get_config("adding")
    config.train.steps = steps
    config.eval.every = 0.0
    return config
