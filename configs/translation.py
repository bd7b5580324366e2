"""German to English, Multi30k: python train.py --config=configs/translation.py --workdir=runs/multi30k --data_dir=DIR

A bidirectional GRU and a decoder with additive attention (Bahdanau 2014, arXiv 1409.0473), on byte pairs. Arguments:
bahdanau, luong (general attention, arXiv 1508.04025), fixed (no attention: the decoder gets only the last state).
Another pair: --config.data.name=multi30k/en-de. Translate with
    python predict.py --workdir=runs/multi30k --attention=attention.png < LINES

bahdanau: BLEU 40.4 (sacreBLEU, 13a, cased) and chrF 59.4 on the 2016 test set, seed 0, in 48 min; fixed: 13.6 and 30.8
in 35 min; luong: 39.7 and 58.1 in 24 min; one CPU core shared with other work, jax 0.10.2.
"""

from training.config import default
from training.overrides import variant

VARIANTS = {
    "bahdanau": {"model.attention": "layers.recurrent_attention.Additive", "model.query": "previous"},
    "luong": {"model.attention": "layers.recurrent_attention.General", "model.query": "current"},
    "fixed": {"model.attention": None},
}


def get_config(arg: str = "bahdanau"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.name = "multi30k/de-en"
    config.data.splits.validation = "validation"
    config.data.splits.test = "test_2016"
    config.data.preprocess = ("tokenize(('source', 'target'), bpe(size=4000))",)
    config.data.buckets = 16
    config.task.name = "generation.Generation"
    config.task.inputs = ("source", "source_lengths", "target")
    config.task.beams = 4
    config.task.label_smoothing = 0.1
    config.model.name = "seq2seq.Seq2Seq"
    config.model.cell = "layers.recurrent.GRU"
    config.model.widths = (256,)
    config.model.dropout = 0.3
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 0.0734
    config.optimizer.clip_norm = 1.0
    config.train.epochs = 6.0
    config.train.batch_size = 64
    config.eval.every = 0.1654
    config.eval.batch_size = 64
    config.checkpoint.best = "-validation/loss"
    return variant(config, VARIANTS, arg)
