"""Transformer against LSTM by sequence length, with equal numbers of parameters, at equal steps and at equal time:
    python -m experiments.run --config=experiments/transformer_lstm.py:cpu --data_dir=DIR

Language models of characters of tiny_shakespeare, 0.4 million parameters, windows of 32, 128 or 512 characters, 1,024
characters per step, 200 steps: a short training, in which the LSTM learns faster. In the rows `time`, the LSTM trains
as long as the Transformer does.
"""

from configs import gpt
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

LENGTHS = (512, 128, 32)  # the slowest starts first
LSTM = {
    "model.name": "rnn.RecurrentNetwork",
    "model.cell": "layers.recurrent.LSTM",
    "model.widths": (288,),
    "model.embedding_width": 64,
    "optimizer.learning_rate": 4e-3,
    "optimizer.weight_decay": 0.0,
}
STEPS = 200
# Time of the LSTM's step, relative to the Transformer's, on two cores beside other work, jax 0.10.2:
#   python -m benchmarks.rows --config=experiments/transformer_lstm.py:cpu --data_dir=DIR --rounds=3 --steps=3
TIME = {512: 0.30, 128: 0.56, 32: 0.57}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    rows = {}
    for length in LENGTHS:
        window = {"data.preprocess.windows.size": str(length), "train.batch_size": 1024 // length}
        rows[f"gpt-{length}"] = window | {"model.context": length}
        rows[f"lstm-{length}"] = window | LSTM
        rows[f"lstm-{length}-time"] = window | LSTM | {"train.steps": round(STEPS / TIME[length])}
    return experiment(
        arg,
        metric="-validation/bits_per_token",
        rows=rows,
        scales={
            "cpu": Scale(base=base(STEPS), minutes=10.0),
            "full": Scale(base=base(10 * STEPS), seeds=3, rows=tuple(row for row in rows if not row.endswith("time"))),
        },
        curves=Curves("characters", {f"{kind}-{n}": (kind, n) for n in LENGTHS for kind in ("gpt", "lstm")}),
        paper=Paper(title="Attention Is All You Need", arxiv="1706.03762", table="Section 4, no measured table"),
        claims=tuple(
            Claim(f"gpt-{n}", f"lstm-{n}{end}", f"With {n} characters the Transformer is better at equal {what}.")
            for n in LENGTHS
            for end, what in {"": "steps", "-time": "time"}.items()
        ),
    )


def base(steps: int):
    """Returns the recipe of the Transformer, 96 wide, evaluated at the end."""
    config = gpt.get_config("shakespeare_cpu")
    config.model.width = 96
    config.optimizer.warmup_steps = 0.1
    config.train.steps = steps
    config.eval.every = 0.0
    config.eval.batch_size = 16
    return config
