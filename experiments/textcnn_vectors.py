"""Vectors of words in a convolutional classifier (Kim 2014, table 2):
    python -m experiments.run --config=experiments/textcnn_vectors.py:cpu --data_dir=DIR

The vectors are random at the start, or come from a recurrent language model of the same news items without their
topics, and then stay ("static") or train ("non-static"). The paper has vectors of 100 billion words, which are not
available here, so that its gains are not to be expected.
"""

from configs import text
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

WIDTH, WORDS = 64, "start(words(size=10000, lowercase=True))"
LABELS = (100, 1000, 5600)
START = "vectors"
KINDS = {"random": {}, "static": {"optimizer.frozen": ("embedding/.*",)}, "non-static": {}}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    points = {f"{kind}-{n}": (kind, n) for n in LABELS for kind in KINDS}
    rows = {label: KINDS[kind] | {"data.splits.train": f"train[:{n}]"} for label, (kind, n) in points.items()}
    return experiment(
        arg,
        metric="test/accuracy",
        rows={START: language_model()} | rows,
        starts={label: START for label, (kind, _) in points.items() if kind != "random"},
        scales={"cpu": Scale(base=base(300), minutes=10.0), "full": Scale(base=base(2000))},
        curves=Curves("labels", points, log=True),
        paper=Paper(
            title="Convolutional Neural Networks for Sentence Classification",
            arxiv="1408.5882",
            table="Table 2, CNN-rand, CNN-static, CNN-non-static on MR",
            metric="accuracy on MR in %, 10,662 sentences",
            values={"random-5600": 76.1, "static-5600": 81.0, "non-static-5600": 81.5},
        ),
        claims=(
            Claim("non-static-100", "random-100", "With few labels vectors help."),
            Claim("static-5600", "random-5600", "With all labels static vectors help."),
            Claim("non-static-5600", "static-5600", "Vectors that train are better than static ones."),
        ),
    )


def base(steps: int):
    """Returns the recipe of the classifier."""
    config = text.get_config("ag_news_recurrent")
    for key in list(config.model):
        del config.model[key]
    config.model.name = "textcnn.TextCNN"
    config.model.embedding_width = WIDTH
    config.data.preprocess = (f"tokenize('text', {WORDS}, max_length=64)",)
    config.data.buckets = 0
    config.optimizer.warmup_steps = 0.1
    config.train.epochs = 0.0
    config.train.steps = steps
    config.train.batch_size = 50
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config


def language_model() -> dict:
    """Returns what differs in the recipe of the vectors."""
    return {
        "data.target": "",
        "data.preprocess": (f"tokenize('text', {WORDS}, special=False)", "windows('text', 32)"),
        "task.name": "sequence.TokenClassification",
        "task.inputs": ("tokens",),
        "model.name": "rnn.RecurrentNetwork",
        "model.cell": "layers.recurrent.GRU",
        "model.widths": (WIDTH,),
        "model.embedding_width": WIDTH,
        "train.steps": 600,
    }
