"""The gate of gMLP in masked language models (Liu et al. 2021, section 4.1):
    python -m experiments.run --config=experiments/gmlp_gating.py:cpu --data_dir=DIR

Four gates, the split one with tiny attention, too (aMLP). Masked tokens of ag_news's texts; the paper has C4, 125,000
steps, and networks of 92 to 102 million parameters.
"""

from configs import bert
from experiments.engine.experiment import Claim, Paper, Scale, experiment
from training.overrides import override

GATE = "gmlp.SpatialGate(toeplitz=True, kind={!r})"
KINDS = ("linear", "additive", "multiplicative", "split")


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    rows = {kind: {"model.gate": GATE.format(kind)} for kind in KINDS}
    rows["attention"] = {"model.gate": "gmlp.SpatialGate(toeplitz=True, attention_width=16)"}
    return experiment(
        arg,
        metric="-validation/loss",
        rows=rows,
        scales={"cpu": Scale(base=base(400), minutes=10.0), "full": Scale(base=base(20_000))},
        paper=Paper(
            title="Pay Attention to MLPs",
            arxiv="2105.08050",
            table="Tables 3 and 6",
            metric="perplexity of masked tokens of C4",
            values={"linear": 5.14, "additive": 4.97, "multiplicative": 4.53, "split": 4.35},
            recalled=KINDS,
        ),
        claims=(
            Claim("split", "linear", "A split, multiplied gate is better than a linear one."),
            Claim("split", "additive", "It is better than an additive one."),
            Claim("split", "multiplicative", "It is better than a gate without a split."),
            Claim("attention", "split", "Tiny attention helps (section 4.3)."),
        ),
    )


def base(steps: int):
    """Returns the recipe of masked tokens for a small gMLP, evaluated at the end."""
    config = bert.get_config("pretrain,ag_news")
    model = {"name": "gmlp.MaskedGMLP", "depth": 4, "width": 96, "mlp_width": 384, "context": 64}
    config = override(config, {f"model.{key}": value for key, value in model.items()})[0]
    config.task.inputs = ("tokens", "tokens_lengths", "places")
    config.train.steps = steps
    config.eval.every = 0.0
    return config
