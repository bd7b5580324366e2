"""Transformer against LSTM by sequence length, with equal parameters and with equal time:
    python -m experiments.run --config=experiments/transformer_lstm.py:cpu --data_dir=DIR

Language models of characters of tiny_shakespeare, 0.4 million parameters, windows of 32, 128 or 512 characters, 4,096
characters per step. `lstm-LENGTH-time` trains for the time that `gpt-LENGTH` takes on two CPU cores: its steps are
multiplied by the ratio of the two step times.
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
TIME = {32: 1.0, 128: 1.0, 512: 1.0}  # step time of the Transformer / that of the LSTM
STEPS = 300


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    rows = {}
    for length in LENGTHS:
        window = {"data.preprocess.windows.size": str(length), "train.batch_size": 4096 // length}
        rows[f"gpt-{length}"] = window | {"model.context": length}
        rows[f"lstm-{length}"] = window | LSTM
        rows[f"lstm-{length}-time"] = window | LSTM | {"train.steps": round(STEPS * TIME[length])}
    return experiment(
        arg,
        metric="-validation/bits_per_token",
        rows=rows,
        scales={"cpu": Scale(base=base(STEPS), minutes=10.0), "full": Scale(base=base(10 * STEPS), seeds=3)},
        curves=Curves("characters", {label: (kind(label), int(label.split("-")[1])) for label in rows}),
        paper=Paper(title="Attention Is All You Need", arxiv="1706.03762", table="Section 4, no measured table"),
        claims=tuple(
            claim
            for length in LENGTHS
            for claim in (
                Claim(f"gpt-{length}", f"lstm-{length}", f"With {length} characters and equal parameters and steps."),
                Claim(f"gpt-{length}", f"lstm-{length}-time", f"With {length} characters and equal time."),
            )
        ),
    )


def kind(label: str) -> str:
    """Returns the curve of a row: its label without the length."""
    name, _, *rest = label.split("-")
    return "-".join([name, *rest])


def base(steps: int):
    """Returns the recipe of the Transformer, 96 wide, evaluated at the end."""
    config = gpt.get_config("shakespeare_cpu")
    config.model.width = 96
    config.optimizer.warmup_steps = 0.1
    config.train.steps = steps
    config.eval.every = 0.0
    config.eval.batch_size = 16
    return config
