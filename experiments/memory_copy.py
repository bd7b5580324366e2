"""Memory, copying (Bai 2018, Table 1): python -m experiments.run --config=experiments/memory_copy.py:cpu

Elman's network, LSTM and GRU with the same number of parameters, 11 thousand, or 16 thousand at the paper's scale. Ten
symbols of eight kinds are repeated after T steps: guessing has a recall of 0.125 and a loss of 10 ln 8 / (T + 20).
"""

from configs import sequences
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

CELLS = {"elman": "layers.recurrent.Elman", "lstm": "layers.recurrent.LSTM", "gru": "layers.recurrent.GRU"}
UNITS = {"elman": 94, "lstm": 45, "gru": 52}
PAPER_UNITS = {"elman": 115, "lstm": 56, "gru": 65}
LENGTHS, PAPER_LENGTH = (20, 100), 1000


def row(cell: str, units: int, length: int) -> dict:
    return {"model.cell": CELLS[cell], "model.widths": (units,), "data.name": f"copy_memory/{length}"}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    small = {f"{cell}-{length}": row(cell, UNITS[cell], length) for length in LENGTHS for cell in CELLS}
    large = {f"{cell}-{PAPER_LENGTH}": row(cell, PAPER_UNITS[cell], PAPER_LENGTH) for cell in CELLS}
    return experiment(
        arg,
        metric="-test/loss",
        rows=small | large,
        scales={
            "cpu": Scale(base=base(2_000), minutes=10.0, rows=tuple(small)),
            "full": Scale(base=base(20_000), rows=tuple(large)),
        },
        curves=Curves(
            "steps to remember", {f"{cell}-{length}": (cell, length) for length in LENGTHS for cell in CELLS}
        ),
        paper=Paper(
            title="An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling",
            arxiv="1803.01271",
            table="Table 1",
            metric="loss in nats, 1000 steps, 16 thousand parameters",
            values={"lstm-1000": 0.0204, "gru-1000": 0.0197, "elman-1000": 0.0202},
        ),
        claims=(
            Claim("gru-20", "elman-20", "Over 20 steps GRU remembers more than Elman's network."),
            Claim("lstm-20", "elman-20", "Over 20 steps LSTM remembers more than Elman's network."),
            Claim(
                "elman-100", "gru-100", "Over 100 steps all fail: GRU gains at most 0.02 of the guess's 0.173.", -0.02
            ),
            Claim("elman-100", "lstm-100", "Over 100 steps LSTM gains at most 0.02, too.", -0.02),
            Claim("elman-1000", "gru-1000", "Over 1000 steps all fail.", -0.001),
        ),
    )


def base(steps: int):
    """Returns the recipe of copy memory, evaluated at the end."""
    config = sequences.get_config("copy_memory")
    config.train.steps = steps
    config.eval.every = 0.0
    return config
