"""GRU, LSTM and Elman's network with equal numbers of parameters (Chung 2014):
    python -m experiments.run --config=experiments/gru_lstm.py:cpu --data_dir=DIR

Bach's chorales and folk tunes; each network has 18 to 19 thousand recurrent parameters. The paper trains with RMSProp
and weight noise, at a rate found per network by random search; here all use Adam, at 1e-2 at the small scale and at the
recipe's 3e-3 at the paper's scale.
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
            metric="negative log-likelihood per time step",
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
            Claim("lstm-jsb", "elman-jsb", "On chorales LSTM is better than Elman's network."),
            Claim("gru-jsb", "lstm-jsb", "On chorales GRU is better than LSTM; other papers found the opposite."),
            Claim("elman-nottingham", "gru-nottingham", "On folk tunes Elman's network is better than GRU."),
            Claim("elman-nottingham", "lstm-nottingham", "On folk tunes Elman's network is better than LSTM."),
        ),
    )


def at_larger_rate(steps: int):
    """Returns the music recipe at a larger rate, which keeps the best evaluation."""
    config = music.get_config("jsb")
    config.optimizer.learning_rate = 1e-2
    config.train.steps = steps
    config.train.patience = 0
    config.eval.every = 0.125
    config.checkpoint.every = 0.5
    return config
