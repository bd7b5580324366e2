"""Captions by attention alone against a recurrent network with attention, on drawn scenes:
    python -m experiments.run --config=experiments/captioning_attention.py:cpu

Both have the same convolutional network, about as many parameters in the decoder, and the same number of steps. The
test split has combinations of colour and shape that the training split lacks.
"""

from configs import captions
from experiments.engine.experiment import Claim, Paper, Scale, experiment


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/bleu",
        rows={
            "attention": {},
            "attention-1": {"model.decoder_depth": 1},
            "recurrence": {
                "model.name": "captioning.ShowAttendTell",
                "model.width": 192,
                "model.embedding_width": 192,
                "model.dropout": 0.3,
            },
        },
        scales={"cpu": Scale(base=base(4.0), minutes=10.0), "full": Scale(base=base(24.0))},
        paper=Paper(
            title="Show, Attend and Tell: Neural Image Caption Generation with Visual Attention",
            arxiv="1502.03044",
            table="Table 1, without a Transformer",
        ),
        claims=(Claim("attention", "recurrence", "Attention alone is better than recurrence."),),
    )


def base(epochs: float):
    """Returns the recipe of the Transformer for scenes, evaluated at the end."""
    config = captions.get_config("scenes_transformer")
    config.train.epochs = epochs
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config
