"""Which parts of modern language models gain on a small one:
    python -m experiments.run --config=experiments/modern_gpt.py:cpu --data_dir=DIR

Each row adds one part to the row before: rotary positions (Su 2021), RMSNorm (Zhang 2019), ReLU^2 (So 2021), norms of
queries and keys (Dehghani 2023), and Muon for the hidden matrices (Jordan 2024), in the order of the records of
github.com/KellerJordan/modded-nanogpt. Characters of tiny_shakespeare; the metric is the loss on the whole validation
text, in nats per character.
"""

import itertools

from configs import gpt
from experiments.engine.experiment import Claim, Paper, Scale, experiment

PARTS = {
    "gpt2": {},
    "rotary": {"model.positions": "layers.positions.Rotary"},
    "rms_norm": {"model.norm": "layers.norm.rms_norm"},
    "relu_squared": {"model.activation": "layers.feedforward.relu_squared"},
    "qk_norm": {"model.qk_norm": "layers.norm.rms_norm"},
    "muon": {"optimizer.name": "muon", "optimizer.learning_rate": 2e-2, "optimizer.adam_learning_rate": 1e-3},
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    rows, parts = {}, {}
    for label, part in PARTS.items():
        parts |= part
        rows[label] = dict(parts)
    return experiment(
        arg,
        metric="-validation/loss",
        rows=rows,
        ladder=True,
        scales={
            "cpu": Scale(base=base("shakespeare_cpu", 500), minutes=10.0),
            "full": Scale(base=base("shakespeare", 5000)),
        },
        paper=Paper(
            title="Modded-NanoGPT, records of October and November 2024",
            arxiv="",
            table="github.com/KellerJordan/modded-nanogpt, table of records",
        ),
        claims=tuple(
            Claim(after, before, f"{after} gains over the row before.") for before, after in itertools.pairwise(rows)
        ),
    )


def base(name: str, steps: int):
    """Returns a recipe of nanoGPT, evaluated at the end."""
    config = gpt.get_config(name)
    config.train.steps = steps
    config.optimizer.warmup_steps = 0.1
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config
