"""Attention against one fixed vector, by length (Bahdanau 2014):
    python -m experiments.run --config=experiments/bahdanau_attention.py:cpu

Strings of up to 10, 20 and 30 random letters, half as many at least, to be written backwards; the share that is written
without a mistake. Both are bidirectional GRUs with the same widths; the fixed vector is the decoder's first state.
"""

from configs import translation
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

KINDS = {"attention": translation.VARIANTS["bahdanau"], "fixed_vector": translation.VARIANTS["fixed"]}
LENGTHS = {"-30": 30, "": 20, "-10": 10}  # of labels' ends; what takes longest begins first


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
            table="Table 1, all sentences, trained on those of up to 30 words",
            metric="BLEU, English to French",
            values={"fixed_vector-30": 13.93, "attention-30": 21.50},
        ),
        claims=(
            Claim("attention", "fixed_vector", "Attention is better than a fixed vector."),
            Claim("attention-30", "fixed_vector-30", "So it is for the longest."),
            Claim("attention-30", "attention-10", "With attention, length costs at most 0.2 (sec. 5.2.2).", -0.2),
            Claim("fixed_vector-10", "fixed_vector-30", "With a fixed vector it costs more.", 0.2),
        ),
    )


def reversal(steps: int):
    """Returns the recipe of translation for tokens, on a constant rate."""
    config = translation.get_config()
    config.data.splits.test = "test[:500]"
    config.data.text = ()
    config.data.tokenizer = ""
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
