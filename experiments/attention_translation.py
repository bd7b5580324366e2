"""Attention against one fixed vector in translation (Bahdanau 2014):
    python -m experiments.run --config=experiments/attention_translation.py:full --data_dir=DIR

German to English on Multi30k, whose captions of 12 words are short; the paper's is English to French on WMT 2014.
"""

from configs import translation
from experiments.experiment import Claim, Paper, Scale, experiment

KINDS = {"fixed_vector": "fixed", "attention": "bahdanau"}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/bleu",
        rows={
            label: {f"model.{key}": value for key, value in translation.ATTENTION[name].items()}
            for label, name in KINDS.items()
        },
        scales={"full": Scale(base=translation.get_config(), seeds=3)},
        paper=Paper(
            title="Neural Machine Translation by Jointly Learning to Align and Translate",
            arxiv="1409.0473",
            table="Table 1, RNNencdec-30 and RNNsearch-30, all sentences",
            metric="BLEU, English to French",
            values={"fixed_vector": 13.93, "attention": 21.50},
        ),
        claims=(Claim("attention", "fixed_vector", "Attention is better than a fixed vector.", 1.0),),
    )
