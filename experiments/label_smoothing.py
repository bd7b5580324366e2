"""Label smoothing of the Transformer (Vaswani 2017, section 5.4):
    python -m experiments.run --config=experiments/label_smoothing.py:cpu --data_dir=DIR

The setting of experiments/transformer_ablation.py; its perplexity is there, and the metric here is the accuracy of the
next token.
"""

from experiments.engine.experiment import Claim, Paper, Scale, experiment
from experiments.transformer_ablation import small


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/accuracy",
        rows={"smoothing": {}, "no_smoothing": {"task.label_smoothing": 0.0}},
        scales={"cpu": Scale(base=small(600), minutes=10.0)},
        paper=Paper(
            title="Attention Is All You Need",
            arxiv="1706.03762",
            table="Section 5.4 and table 3, row D",
            metric="BLEU on newstest2013",
            values={"smoothing": 25.8, "no_smoothing": 25.3},
        ),
        claims=(Claim("smoothing", "no_smoothing", "The accuracy with smoothing is worse by at most 0.005.", -0.005),),
    )
