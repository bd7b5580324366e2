"""Attention against one fixed vector, by length (Bahdanau 2014):
    python -m experiments.run --config=experiments/bahdanau_attention.py:cpu

Strings of random letters, with lengths from half the maximum to the maximum of 10, 20 or 30, are reversed; the metric
is the share of exact outputs. Both are bidirectional GRUs with the same widths; the fixed vector is the decoder's first
state.
"""

from configs import translation
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

KINDS = {"attention": translation.VARIANTS["bahdanau"], "fixed_vector": translation.VARIANTS["fixed"]}
LENGTHS = {"-30": 30, "": 20, "-10": 10}  # suffix of the label -> length; the slowest starts first


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/sequence_exact",
        rows={
            f"{kind}{end}": fields | {"data.name": f"string_reversal/{length}", "task.max_length": length + 2}
            for end, length in LENGTHS.items()
            for kind, fields in KINDS.items()
        },
        scales={"cpu": Scale(base=reversal(1_500), minutes=10.0), "full": Scale(base=reversal(20_000))},
        curves=Curves("letters at most", {f"{kind}{end}": (kind, n) for end, n in LENGTHS.items() for kind in KINDS}),
        paper=Paper(
            title="Neural Machine Translation by Jointly Learning to Align and Translate",
            arxiv="1409.0473",
            table="Table 1, all sentences, trained on sentences of up to 30 words",
            metric="BLEU, English to French",
            values={"fixed_vector-30": 13.93, "attention-30": 21.50},
        ),
        claims=(
            Claim("attention", "fixed_vector", "Attention is better than a fixed vector."),
            Claim("attention-30", "fixed_vector-30", "The same holds for the longest strings."),
            Claim("attention-30", "attention-10", "With attention, length costs at most 0.2 (sec. 5.2.2).", -0.2),
            Claim("fixed_vector-10", "fixed_vector-30", "With a fixed vector, length costs more than 0.2.", 0.2),
        ),
    )


def reversal(steps: int):
    """Returns the translation recipe for token ids, with a constant rate."""
    config = translation.get_config()
    config.data.splits.test = "test[:500]"
    config.data.preprocess = ()
    config.data.buckets = 0
    config.task.beams = 1
    config.task.label_smoothing = 0.0
    config.model.widths = (64,)
    config.model.vocab_size = 29
    config.model.dropout = 0.0
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 0.0
    config.train.epochs = 0.0
    config.train.steps = steps
    config.train.batch_size = 64
    config.eval.every = 0.0
    config.eval.batch_size = 250
    config.checkpoint.best = ""
    return config
