"""Attention against one fixed vector in translation (Bahdanau 2014):
    python -m experiments.run --config=experiments/attention_translation.py:cpu --data_dir=DIR

German to English on Multi30k, whose captions of 12 words are short; the paper's is English to French on WMT 2014. The
`cpu` scale trains a network of half the width for 420 steps, about one epoch.
"""

from configs import translation
from experiments.engine.experiment import Claim, Paper, Scale, experiment

KINDS = {"fixed_vector": "fixed", "attention": "bahdanau"}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/bleu",
        rows={label: translation.VARIANTS[name] for label, name in KINDS.items()},
        scales={
            "cpu": Scale(base=short(420), minutes=10.0),
            "full": Scale(base=translation.get_config(), seeds=3),
        },
        paper=Paper(
            title="Neural Machine Translation by Jointly Learning to Align and Translate",
            arxiv="1409.0473",
            table="Table 1, RNNencdec-30 and RNNsearch-30, all sentences",
            metric="BLEU, English to French",
            values={"fixed_vector": 13.93, "attention": 21.50},
        ),
        claims=(Claim("attention", "fixed_vector", "Attention is better than a fixed vector.", 1.0),),
    )


def short(steps: int):
    """Returns the recipe with a small network and few steps, evaluated at the end."""
    config = translation.get_config()
    config.data.preprocess = ("tokenize(('source', 'target'), bpe(size=2000))",)
    config.data.buckets = 3
    config.model.widths = (128,)
    config.model.dropout = 0.1
    config.task.beams = 1
    config.optimizer.learning_rate = 4e-3
    config.optimizer.warmup_steps = 0.4762
    config.train.epochs = 0.0
    config.train.steps = steps
    config.eval.every = 0.0
    config.eval.batch_size = 250
    config.checkpoint.best = ""
    return config
