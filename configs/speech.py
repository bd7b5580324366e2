"""Spoken digits, 3 to 5 joined: python train.py --config=configs/speech.py:random --workdir=runs/digits --data_dir=DIR

A bidirectional LSTM over log-mel frames, trained by connectionist temporal classification (Graves 2006). The test split
of `random` has combinations of digits and recordings that the training split lacks, that of `by_speaker` also a new
speaker. Transcribe with
    python predict.py --workdir=runs/digits SOUND.wav

random: word error rate 1.4%, seed 0, in 23 min; one CPU core shared with other work, jax 0.10.2.
by_speaker: 27.3% (24.8-28.7 over seeds 0 to 2) on a fifth speaker (validation, known speakers: 3.7-4.6%), in 17 min.
With one new speaker, seeds differ by several points; c714d0c had 21.9 and 27.1% with seeds 0 and 1.
"""

from training.config import default
from training.overrides import variant

VARIANTS = {
    "random": {"data.name": "joined_digits/random"},
    "by_speaker": {  # with four voices to learn from
        "data.name": "joined_digits/by_speaker",
        "augment.ops": ("vocal_tract(bands=40, most=0.2)", "spec_augment(bands=40, frequency=8, time=8)"),
        "checkpoint.best": "-validation/wer",  # continues to fall after the loss has begun to rise
    },
}


def get_config(arg: str = "random"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.splits.validation = "validation"
    config.data.preprocess = ("log_mel(rate=8000, bands=40, stack=3)", "tokenize('text', characters())")
    config.data.buckets = 6
    config.task.name = "transcription.Transcription"
    config.task.inputs = ("frames", "frames_lengths")
    config.model.name = "ctc.CTCEncoder"
    config.model.cell = "layers.recurrent.LSTM"
    config.model.widths = (128, 128)
    config.model.dropout = 0.3
    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 0.0354
    config.optimizer.clip_norm = 1.0
    config.train.epochs = 15.0
    config.train.batch_size = 32
    config.eval.every = 0.1066
    config.eval.batch_size = 100
    config.checkpoint.best = "-validation/loss"
    return variant(config, VARIANTS, arg)
