"""Polyphonic music, predicting which of 88 keys sound next:
    python train.py --config=configs/music.py:jsb --workdir=runs/jsb --data_dir=DIR

jsb (Bach's chorales), nottingham (folk tunes): negative log-likelihood per time step. jsb has the LSTM with 36 units of
Chung 2014 (arXiv 1412.3555, table 1); a GRU with 46 units and an Elman network (tanh) with 100 have the same size:
    --config.model.cell=layers.recurrent.GRU "--config.model.widths=(46,)"
nottingham has an LSTM with a million parameters, as in Bai 2018 (arXiv 1803.01271, table 1). jsb_tcn and nottingham_tcn
have the temporal convolutional networks of that paper, of 0.3 and 1 million parameters.

jsb, test, mean of seeds 0 to 2: LSTM 8.61, GRU 8.68, Elman 8.66, each in under 1 min on one core (Chung 2014, table 2:
8.67, 8.54, 9.10); a baseline in which each key depends on its own last value: 10.49 (benchmarks.baselines).
jsb_tcn, test, seeds 0 to 2: 8.33 (8.32 to 8.35) in 75 s, better than the recurrent networks; Bai 2018 has 8.10: **not
reached**. nottingham_tcn, test, seed 0: 3.03 in 24 min on one busy core (Bai 2018: 3.07); with 4,000 steps 3.36.
nottingham, test, seeds 0 and 1: 3.21, 3.20, in 17 min on one core (Bai 2018: 3.29); the same baseline: 5.15. With 36
units, seeds 0 to 2, 3.93 (3.92 to 3.94) in 4 min, where Chung 2014 has 3.20: **not reached**
    "--config.model.widths=(36,)" --config.model.dropout=0.0 --config.optimizer.learning_rate=5e-3
    --config.train.steps=20000 --config.eval.every=500
"""

from training.config import default
from training.overrides import variant

VARIANTS = {
    "jsb": {
        "data.name": "poly_music/jsb",
        "model.widths": (36,),
        "optimizer.learning_rate": 3e-3,
        "train.steps": 4_000,
        "train.batch_size": 16,
        "eval.every": 0.025,
    },
    "nottingham": {
        "data.name": "poly_music/nottingham",
        "model.widths": (450,),
        "model.dropout": 0.2,
        "optimizer.learning_rate": 2e-3,
        "train.steps": 9_000,
        "train.batch_size": 4,
        "eval.every": 0.0333,
    },
    "jsb_tcn": {
        "data.name": "poly_music/jsb",
        "model.name": "tcn.TCN",
        "model.widths": (150,) * 2,
        "model.size": 3,
        "model.dropout": 0.5,
        "optimizer.learning_rate": 1e-3,
        "optimizer.clip_norm": 0.4,
        "train.steps": 6_000,
        "train.batch_size": 8,
        "eval.every": 0.025,
    },
    "nottingham_tcn": {
        "data.name": "poly_music/nottingham",
        "model.name": "tcn.TCN",
        "model.widths": (150,) * 4,
        "model.size": 6,
        "model.dropout": 0.2,
        "optimizer.learning_rate": 1e-3,
        "optimizer.clip_norm": 0.4,
        "train.steps": 12_000,
        "train.batch_size": 4,
        "eval.every": 0.025,
    },
}


def get_config(arg: str = "jsb"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.splits.validation = "validation"
    config.data.buckets = 4
    config.task.name = "polyphony.Polyphony"
    config.task.inputs = ("notes", "notes_lengths")
    config.model.name = "rnn.RecurrentNetwork"
    config.model.cell = "layers.recurrent.LSTM"
    config.optimizer.name = "adam"
    config.optimizer.clip_norm = 1.0
    config.train.patience = 10
    config.eval.batch_size = 16
    config.checkpoint.best = "-validation/nll"
    return variant(config, VARIANTS, arg)
