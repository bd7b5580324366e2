"""WaveNet's dilations and gates at equal numbers of parameters:
    python -m experiments.run --config=experiments/wavenet_ablation.py:cpu

Tones whose frequency stays, rises, falls or swings, as mu-law codes: bits per sample. All networks have eight blocks
and 29 (gated) or 30 thousand parameters; without dilations they see 10 samples, with them 257.
"""

from configs import sound
from experiments.engine.experiment import Claim, Paper, Scale, experiment

DILATED, UNDILATED = tuple(2**i for i in range(8)), (1,) * 8


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="-test/bits_per_token",
        rows={
            "dilated-gated": {"model.dilations": DILATED},
            "undilated-gated": {"model.dilations": UNDILATED},
            "dilated-relu": {"model.dilations": DILATED, "model.gated": False, "model.width": 20},
            "undilated-relu": {"model.dilations": UNDILATED, "model.gated": False, "model.width": 20},
        },
        scales={
            "cpu": Scale(base=tones(400, "tones/512"), minutes=10.0),
            "full": Scale(base=tones(20_000, "tones/2048")),
        },
        paper=Paper(
            title="WaveNet: A Generative Model for Raw Audio", arxiv="1609.03499", table="Sections 2.1 and 2.3"
        ),
        claims=(
            Claim("dilated-gated", "undilated-gated", "Dilations lower the bits per sample (section 2.1)."),
            Claim("dilated-relu", "undilated-relu", "They do without gates, too."),
            Claim("dilated-gated", "dilated-relu", "Gates work better than ReLU (section 2.3)."),
        ),
    )


def tones(steps: int, name: str):
    """Returns the recipe of WaveNet for generated tones, without a condition, evaluated at the end."""
    config = sound.get_config("wavenet")
    config.data.name, config.data.buckets = name, 0
    config.model.width, config.model.skip, config.model.conditions = 16, 32, 0
    config.train.epochs, config.train.steps, config.train.batch_size = 0.0, steps, 8
    config.eval.every, config.checkpoint.best = 0.0, ""
    return config
