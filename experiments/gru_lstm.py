"""GRU, LSTM and Elman's network with as many parameters (Chung 2014):
    python -m experiments.run --config=experiments/gru_lstm.py:cpu --data_dir=DIR

Bach's chorales and folk tunes, 18 to 19 thousand recurrent parameters each. The paper trains by RMSProp with weight
noise, at a rate chosen for each by random search; here all have Adam's 1e-2 at the small scale and the recipe's 3e-3 at
the paper's.
"""

from configs import music
from experiments.engine.experiment import Claim, Paper, Scale, experiment

CELLS = {
    "elman": ("layers.recurrent.Elman", 100),
    "gru": ("layers.recurrent.GRU", 46),
    "lstm": ("layers.recurrent.LSTM", 36),
}
SETS = ("jsb", "nottingham")


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="-test/nll",
        rows={
            f"{name}-{music_set}": {
                "model.cell": cell,
                "model.widths": (units,),
                "data.name": f"poly_music/{music_set}",
            }
            for music_set in SETS
            for name, (cell, units) in CELLS.items()
        },
        scales={"cpu": Scale(base=at_larger_rate(400), minutes=10.0), "full": Scale(base=at_larger_rate(20_000))},
        paper=Paper(
            title="Empirical Evaluation of Gated Recurrent Neural Networks on Sequence Modeling",
            arxiv="1412.3555",
            table="Table 2, test",
            metric="negative log-likelihood a time step",
            values={
                "elman-jsb": 9.10,
                "gru-jsb": 8.54,
                "lstm-jsb": 8.67,
                "elman-nottingham": 3.13,
                "gru-nottingham": 3.23,
                "lstm-nottingham": 3.20,
            },
        ),
        claims=(
            Claim("gru-jsb", "elman-jsb", "On chorales GRU is better than Elman's network."),
            Claim("lstm-jsb", "elman-jsb", "And so is LSTM."),
            Claim("gru-jsb", "lstm-jsb", "GRU is better than LSTM there; others have found the opposite."),
            Claim("elman-nottingham", "gru-nottingham", "On folk tunes gates do not help: GRU is no better."),
            Claim("elman-nottingham", "lstm-nottingham", "Nor is LSTM."),
        ),
    )


def at_larger_rate(steps: int):
    """Returns the recipe of music at a larger rate; the best of the evaluations counts."""
    config = music.get_config("jsb")
    config.optimizer.learning_rate = 1e-2
    config.train.steps = steps
    config.train.patience = 0
    config.eval.every = 0.125
    config.checkpoint.every = 0.5
    return config
