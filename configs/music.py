"""Polyphonic music, which of 88 keys sound next:
    python train.py --config=configs/music.py:jsb --workdir=runs/jsb --data_dir=DIR

jsb (Bach's chorales), nottingham (folk tunes): negative log-likelihood a time step, with the LSTM of 36 units of Chung
2014 (arXiv 1412.3555, table 1). Others of the same size: GRU with 46 units, Elman (tanh) with 100.
    --config.model.cell=layers.recurrent.GRU "--config.model.widths=(46,)"

jsb, test, mean of seeds 0 to 2: LSTM 8.61, GRU 8.68, Elman 8.66, each in under 1 min on one core (Chung 2014, table 2:
8.67, 8.54, 9.10); keys that depend on their own last value alone: 10.49 (benchmarks.baselines). nottingham: LSTM 3.93
(3.92 to 3.94) in 4 min; published 3.20, so **not reached**; own last value alone: 5.15. A larger LSTM, seed 0, 3.53 in
18 min on two cores, above the 3.29 of one of a million parameters (Bai 2018, arXiv 1803.01271, table 1), with
    "--config.model.widths=(450,)" --config.model.dropout=0.2 --config.train.batch_size=8 --config.train.steps=5000
    --config.optimizer.learning_rate=1e-3 --config.eval.every=250 --config.parallel.cpu_devices=0
"""

from data.errors import UserError, nearest
from training.config import default

# argument -> (steps, examples a batch, learning rate)
SETS = {"jsb": (4_000, 16, 3e-3), "nottingham": (20_000, 4, 5e-3)}


def get_config(name: str = "jsb"):
    """Returns the config for one of SETS."""
    if name not in SETS:
        raise UserError(f"configs/music.py:{name}: {nearest(name, SETS)}")
    config = default()
    config.data.name = f"poly_music/{name}"
    config.data.splits.validation = "validation"
    config.data.buckets = 4
    config.task.name = "polyphony.Polyphony"
    config.task.inputs = ("notes", "notes_lengths")
    config.model.name = "rnn.RecurrentNetwork"
    config.model.cell = "layers.recurrent.LSTM"
    config.model.widths = (36,)
    config.optimizer.name = "adam"
    config.train.steps, config.train.batch_size, config.optimizer.learning_rate = SETS[name]
    config.optimizer.clip_norm = 1.0
    config.train.patience = 10
    config.eval.every, config.eval.batch_size = config.train.steps // 40, 16
    config.checkpoint.best = "-validation/nll"
    return config
