"""Clipping the gradient's norm (Pascanu 2013):
    python -m experiments.run --config=experiments/clipping.py:cpu --data_dir=DIR

Elman's network on folk tunes under plain SGD; the rate is tuned with and without clipping, since clipping allows larger
steps on steep error surfaces. The paper's third row, a regulariser against vanishing gradients, is left out.
"""

from configs import music
from experiments.engine.experiment import Claim, Paper, Scale, experiment


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="-test/nll",
        rows={"sgd": {"optimizer.clip_norm": 0.0}, "sgd-clipped": {"optimizer.clip_norm": 1.0}},
        scales={"cpu": Scale(base=tunes(600), minutes=10.0), "full": Scale(base=tunes(20_000))},
        tune={"optimizer.learning_rate": (0.01, 0.03, 0.1, 0.3)},
        paper=Paper(
            title="On the difficulty of training Recurrent Neural Networks",
            arxiv="1211.5063",
            table="Table 1, test, Nottingham",
            metric="negative log-likelihood per time step on Nottingham",
            values={"sgd": 3.80, "sgd-clipped": 3.48},
        ),
        claims=(Claim("sgd-clipped", "sgd", "Clipping helps."),),
    )


def tunes(steps: int):
    """Returns the recipe of the folk tunes with Elman's network and SGD, which evaluates the last weights."""
    config = music.get_config("jsb")
    config.data.name = "poly_music/nottingham"
    config.model.cell = "layers.recurrent.Elman"
    config.model.widths = (100,)
    config.optimizer.name = "sgd"
    config.optimizer.schedule = "constant"
    config.train.steps = steps
    config.train.batch_size = 16
    config.train.patience = 0
    config.eval.every = 0.0
    config.checkpoint.best = ""
    config.checkpoint.every = 0.5
    return config
