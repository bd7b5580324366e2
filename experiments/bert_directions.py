"""Reading in both directions (Devlin 2019, section 5.1) on a blank whose filling stands on one side of it:
    python -m experiments.run --config=experiments/bert_directions.py:cpu --data_dir=DIR

The same encoder, of two layers, with and without a causal mask. The paper compares left-to-right and bidirectional
pretraining by tasks that need the right context, such as SQuAD (F1 77.8 and 88.5); here the text is generated, so that
the side of the answer is known: `cloze/right` and `cloze/left`.
"""

from experiments.engine.experiment import Claim, Paper, Scale, experiment
from training.config import default

CAUSAL = {"model.mixer": "layers.attention.SelfAttention(heads=4, causal=True)"}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    rows = {
        f"{name}-{side}": {"data.name": f"cloze/{side}"} | mixer
        for side in ("right", "left")
        for name, mixer in (("both", {}), ("causal", CAUSAL))
    }
    return experiment(
        arg,
        metric="test/accuracy",
        rows=rows,
        scales={"cpu": Scale(base=base(), minutes=10.0)},
        paper=Paper(
            title="BERT",
            arxiv="1810.04805",
            table="Table 5, SQuAD F1: bidirectional without next sentences, left-to-right",
            values={"both-right": 87.9, "causal-right": 77.8},
        ),
        claims=(
            Claim("both-right", "causal-right", "An answer to the right needs both directions.", 0.3),
            Claim("causal-left", "both-left", "For an answer to the left one direction suffices.", -0.05),
        ),
    )


def base():
    """Returns the recipe of the bidirectional encoder."""
    config = default()
    config.data.splits.validation = "validation"
    config.augment.ops = ()
    config.task.name = "sequence.TokenClassification"
    config.task.inputs = ("tokens",)
    config.model.name = "bert.BERT"
    config.model.head = "bert.TokenClassifier"
    config.model.depth = 2
    config.model.width = 64
    config.model.heads = 4
    config.model.context = 24
    config.model.dropout = 0.0
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 0.1
    config.optimizer.clip_norm = 1.0
    config.train.batch_size = 64
    config.train.steps = 1500
    return config
