"""An experiment of one cell, or of two trained together, that takes seconds after its first checkpoint, so that it can
be interrupted.
"""

from experiments.engine.bases import digits_mlp
from experiments.engine.experiment import Paper, Scale, experiment

STEPS = 3000


def get_config(arg: str = ""):
    base = digits_mlp(steps=STEPS, batch_size=32)
    base.model.widths, base.eval.batch_size = (2,), 72
    base.checkpoint.every = base.log.every = 50
    return experiment(
        arg,
        metric="test/accuracy",
        rows={"only": {}},
        scales={"cpu": Scale(base=base, seeds=1), "full": Scale(base=base, seeds=2)},
        paper=Paper(title="A paper", arxiv="0000.00000"),
    )
