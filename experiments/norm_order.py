"""Norm before or after the residual sum, with and without warm-up (Xiong 2020):
    python -m experiments.run --config=experiments/norm_order.py:cpu --data_dir=DIR

A language model of eight layers on characters of tiny_shakespeare at a large rate. The paper trains translation and
BERT.
"""

from configs import gpt
from experiments.engine.experiment import Claim, Paper, Scale, experiment

ORDERS = ("pre", "post")
WARMUPS = {"": 0.3, "-no_warmup": 0.0}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="-validation/loss",
        rows={
            f"{order}{end}": {"model.order": order, "optimizer.warmup_steps": warmup}
            for order in ORDERS
            for end, warmup in WARMUPS.items()
        },
        scales={
            "cpu": Scale(base=base("shakespeare_cpu", 300), minutes=10.0),
            "full": Scale(base=base("shakespeare", 5000)),
        },
        diverged=5.0,
        paper=Paper(
            title="On Layer Normalization in the Transformer Architecture",
            arxiv="2002.04745",
            table="Figures 2 and 4",
        ),
        claims=(
            Claim("post", "post-no_warmup", "Post-norm needs warm-up (sec. 3.2).", 0.1),
            Claim("pre-no_warmup", "pre", "Pre-norm without warm-up is worse by at most 0.05 (sec. 4).", -0.05),
            Claim("pre-no_warmup", "post-no_warmup", "Without warm-up pre-norm is better."),
        ),
    )


def base(name: str, steps: int):
    """Returns a recipe of nanoGPT, deeper, at a larger rate, evaluated at the end."""
    config = gpt.get_config(name)
    config.model.depth = 8
    config.model.width = 64 if name == "shakespeare_cpu" else 384
    config.optimizer.learning_rate = 3e-3
    config.optimizer.clip_norm = 0.0
    config.train.steps = steps
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config
