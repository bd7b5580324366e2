"""Sublayers that mix the tokens of one trunk:
    python -m experiments.run --config=experiments/token_mixers.py:cpu --data_dir=DIR

A trunk over the 16 patches of an 8 x 8 digit, 64 wide, with learned positions and the mean of its tokens before the
head. Its first sublayer is attention, gMLP's, Mixer's, a causal convolution or recurrence in row-major order, or one
more feed-forward layer, with which tokens meet in the mean alone.
"""

from experiments.engine.experiment import Claim, Paper, Scale, experiment
from experiments.vit_positions import small

MIXERS = {
    "attention": None,
    "gate": "gmlp.GatedMLP(width=128)",
    "token_mlp": "mixer.TokenMLP(width=32)",
    "convolution": "layers.mixers.Convolution(size=6)",
    "recurrence": "layers.mixers.Recurrence",
    "nothing": "layers.feedforward.FeedForward(width=128, activation=layers.feedforward.gelu_tanh)",
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    base = small("vit")
    base.model.pool = "mean"
    return experiment(
        arg,
        metric="test/accuracy",
        rows={label: {"model.mixer": name} if name else {} for label, name in MIXERS.items()},
        scales={"cpu": Scale(base=base, minutes=10.0)},
        paper=Paper(
            title="MetaFormer Is Actually What You Need for Vision", arxiv="2111.11418", table="Table 5, other mixers"
        ),
        claims=tuple(
            Claim(row, "nothing", f"{row} is better than tokens that do not meet in the trunk.")
            for row in MIXERS
            if row != "nothing"
        ),
    )
