"""Temporal convolutional networks against recurrent ones (Bai 2018):
    python -m experiments.run --config=experiments/tcn_recurrent.py:cpu --data_dir=DIR

Copying, adding, Bach's chorales and folk tunes; each task has networks of one size, of 11 to 22 thousand parameters or
that of the paper. At the small scale 100 steps are remembered; all networks train with Adam at one rate per task.
"""

from configs import sequences
from experiments.engine.experiment import Claim, Paper, Scale, experiment

CELLS = {"lstm": "layers.recurrent.LSTM", "gru": "layers.recurrent.GRU"}
MUSIC = {
    "task.name": "polyphony.Polyphony",
    "task.inputs": ("notes", "notes_lengths"),
    "data.buckets": 4,
    "eval.every": 0.125,
    "checkpoint.best": "-validation/loss",
}
TASKS = {
    "copy": {
        "task.name": "sequence.TokenClassification",
        "task.inputs": ("tokens",),
        "task.metric_mask": "answer_mask",
        "optimizer.learning_rate": 3e-3,
    },
    "adding": {"optimizer.learning_rate": 2e-3},
    "jsb": MUSIC | {"data.name": "poly_music/jsb", "train.batch_size": 16, "optimizer.learning_rate": 3e-3},
    "nottingham": MUSIC
    | {"data.name": "poly_music/nottingham", "train.batch_size": 4, "optimizer.learning_rate": 1e-3},
}
SMALL = {
    "copy": {"data.name": "copy_memory/100"},
    "adding": {"data.name": "adding/100"},
    "jsb": {"train.steps": 600},
    "nottingham": {"train.steps": 600, "optimizer.learning_rate": 3e-3},
}
LARGE = {"copy": {"data.name": "copy_memory/1000"}, "adding": {"data.name": "adding/600"}, "jsb": {}, "nottingham": {}}
WIDTHS = {  # of the TCN's blocks and of the recurrent layers, at the small scale
    "copy": ((12,) * 5, 8, 45, 52),
    "adding": ((15,) * 5, 6, 56, 64),
    "jsb": ((28,) * 2, 3, 36, 46),
    "nottingham": ((16,) * 4, 6, 36, 46),
}
PAPER_WIDTHS = {
    "copy": ((10,) * 8, 8, 56, 65),
    "adding": ((24,) * 8, 8, 131, 151),
    "jsb": ((150,) * 2, 3, 200, 240),
    "nottingham": ((150,) * 4, 6, 450, 530),
}


def rows(tasks: dict, widths: dict, suffix: str = "") -> dict:
    """Returns the rows of each task: a TCN, an LSTM and a GRU."""
    found = {}
    for task, changes in tasks.items():
        blocks, size, *units = widths[task]
        tokens = {"model.vocab_size": 10, "model.embedding_width": 10} if task == "copy" else {}
        kind = "Classifier" if task == "adding" else ""
        tcn = {"model.name": f"tcn.TCN{kind}", "model.widths": blocks, "model.size": size}
        found[f"tcn-{task}{suffix}"] = TASKS[task] | changes | tcn | tokens
        for (cell, name), width in zip(CELLS.items(), units, strict=True):
            recurrent = {"model.name": f"rnn.Recurrent{kind or 'Network'}", "model.cell": name}
            found[f"{cell}-{task}{suffix}"] = TASKS[task] | changes | recurrent | {"model.widths": (width,)} | tokens
    return found


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    small, large = rows(SMALL, WIDTHS), rows(LARGE, PAPER_WIDTHS, "-full")
    return experiment(
        arg,
        metric="-test/loss",
        rows=small | large,
        scales={
            "cpu": Scale(base=base(1_500), minutes=10.0, rows=tuple(small)),
            "full": Scale(base=base(20_000), rows=tuple(large)),
        },
        paper=Paper(
            title="An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence Modeling",
            arxiv="1803.01271",
            table="Table 1",
            metric="loss: nats per position, squared error, nats per step",
            values={
                "tcn-copy-full": 3.5e-5,
                "lstm-copy-full": 0.0204,
                "gru-copy-full": 0.0197,
                "tcn-adding-full": 5.8e-5,
                "lstm-adding-full": 0.164,
                "gru-adding-full": 5.3e-5,
                "tcn-jsb-full": 8.10,
                "lstm-jsb-full": 8.45,
                "gru-jsb-full": 8.43,
                "tcn-nottingham-full": 3.07,
                "lstm-nottingham-full": 3.29,
                "gru-nottingham-full": 3.46,
            },
        ),
        claims=(
            Claim("tcn-copy", "lstm-copy", "The TCN copies over 100 steps, LSTM does not.", 0.1),
            Claim("tcn-copy", "gru-copy", "Nor does GRU.", 0.1),
            Claim("tcn-adding", "lstm-adding", "The TCN adds over 100 steps, LSTM does not within these steps.", 0.05),
            Claim("tcn-adding", "gru-adding", "On adding the TCN is at most 0.01 worse than GRU.", -0.01),
            Claim("tcn-jsb", "lstm-jsb", "On chorales the TCN is better than LSTM."),
            Claim("tcn-jsb", "gru-jsb", "On chorales the TCN is better than GRU."),
            Claim("tcn-nottingham", "lstm-nottingham", "On folk tunes the TCN is better than LSTM."),
            Claim("tcn-nottingham", "gru-nottingham", "On folk tunes the TCN is better than GRU."),
        ),
    )


def base(steps: int):
    """Returns the recipe of the adding problem, evaluated at the end."""
    config = sequences.get_config("adding")
    config.train.steps = steps
    config.eval.every = 0.0
    return config
