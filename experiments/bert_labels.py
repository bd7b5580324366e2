"""Pretraining by the number of labels (Devlin 2019):
    python -m experiments.run --config=experiments/bert_labels.py:cpu --data_dir=DIR

An encoder pretrained on the masked tokens of the 5,600 news items, without their topics, is fine-tuned on the topics of
a part of them, against the same encoder from scratch. Both train for the same number of steps. `full` has BERT-mini.
"""

from configs import bert
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment
from tasks.masked import MaskedTokens

LABELS = (100, 400, 1600, 5600)
START = "pretrained"


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    points = {f"{start}-{n}": (start, n) for n in LABELS for start in ("scratch", "transfer")}
    rows = {label: {"data.splits.train": f"train[:{n}]"} for label, (_, n) in points.items()}
    return experiment(
        arg,
        metric="test/accuracy",
        rows={START: pretraining()} | rows,
        starts={label: START for label in points if label.startswith("transfer")},
        scales={"cpu": Scale(base=base("tiny", 300), minutes=10.0), "full": Scale(base=base("mini", 2000))},
        curves=Curves("labels", points, log=True),
        paper=Paper(
            title="BERT",
            arxiv="1810.04805",
            table="Table 1, which compares with networks without pretraining: GLUE, no curve by the number of labels",
        ),
        claims=(
            Claim("transfer-100", "scratch-100", "With few labels pretraining is better.", 0.02),
            Claim("transfer-5600", "scratch-5600", "With all labels pretraining is not worse than by 0.01.", -0.01),
        ),
    )


def base(size: str, steps: int):
    """Returns the recipe of fine-tuning."""
    config = bert.get_config("finetune,ag_news")
    config.model.variant = size
    config.data.preprocess = ("tokenize('text', start(wordpiece(4000)), max_length=64)",)
    config.train.epochs = 0.0
    config.train.steps = steps
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config


def pretraining() -> dict:
    """Returns what differs in the recipe of pretraining."""
    config = bert.get_config("pretrain,ag_news")
    return {
        "task.name": config.task.name,
        "task.inputs": MaskedTokens().inputs,
        "model.head": config.model.head,
        "data.target": "",
        "data.preprocess": ("tokenize('text', start(wordpiece(4000)), special=False)", "passages('text', 64)"),
        "augment.ops": config.augment.ops,
        "optimizer.learning_rate": config.optimizer.learning_rate,
        "train.steps": 3000,
    }
