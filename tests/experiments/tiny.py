"""An experiment of seconds."""

from experiments.engine.bases import digits_mlp
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment


def get_config(arg: str = ""):
    base = digits_mlp(steps=300, batch_size=32)
    base.model.widths, base.eval.batch_size = (8,), 72
    base.checkpoint.every, base.log.every, base.log.gradients = 20, 10, 300
    return experiment(
        arg,
        metric="test/accuracy",
        rows={"narrow": {"model.widths": (2,)}, "wide": {"model.widths": (16,)}},
        scales={"cpu": Scale(base=base, seeds=1), "full": Scale(base=base, seeds=2, rows=("wide",))},
        curves=Curves("units", {"narrow": ("MLP", 2), "wide": ("MLP", 16)}),
        paper=Paper(title="A paper", arxiv="0000.00000", table="Table 1", metric="error in %", values={"wide": 3.0}),
        claims=(Claim("wide", "narrow", "Wide is better."),),
    )
