"""Spoken digits, single ones: python train.py --config=configs/sound.py:waves --workdir=runs/waves --data_dir=DIR

waves: a residual network over the samples. log_mel: one over log-mel frames, as images. Recordings 0 to 4 of each digit
and speaker are the test split, so that all five speakers are known; a new speaker:
    --config.data.name=spoken_digits/by_speaker
wavenet: the distribution of each sample given those before it and the digit, over 256 mu-law codes and a boundary. It
pronounces a digit by
    echo seven | python predict.py --workdir=runs/wavenet --output=seven.wav
and the share of its digits that the classifier hears as such is
    python -m inference.recognition --generator=runs/wavenet --recogniser=runs/waves

Test accuracy, seeds 0 to 2; logistic regression on bands in parts of the sound has 93.2% (benchmarks/baselines.py):
    waves    97.2% (96.4-98.0), 3 min on one of two CPU cores, other work on both; with
             "--config.augment.ops=()" 93.3% (93.2-93.6), on an NVIDIA H200
    log_mel  98.4% (97.2-99.6), 2 min on an NVIDIA H200 beside twelve other runs
    wavenet  3.88 bits per sample (seed 0), 46 min on one busy CPU core; `waves` recognises 25 of 100 generated
             digits, 10 by chance: **most are not intelligible**. One epoch and a receptive field of 64 ms instead of
             256 ms: 5.05 bits, 1 of 20
"""

from training.config import default
from training.overrides import variant

VARIANTS = {
    "waves": {
        "data.preprocess": ("waveform(length=8000)",),
        "augment.ops": ("speed(most=0.15)", "delay(most=0.1)"),
        "task.inputs": ("audio",),
        "model.name": "resnet.WaveResNet",
        "model.blocks": (1, 1, 1, 1),
        "model.width": 32,
    },
    "log_mel": {
        "data.preprocess": ("waveform(length=8000)", "log_mel(bands=40)"),
        "task.inputs": ("frames",),
        "model.name": "resnet.ResNet",
        "model.block": "resnet.BasicBlock",
        "model.blocks": (1, 1, 1),
        "model.width": 32,
    },
    "wavenet": {
        "data.preprocess": ("mu_law()",),
        "data.buckets": 6,
        "task.name": "sound.SoundGeneration",
        "task.inputs": ("label", "codes"),
        "model.name": "wavenet.WaveNet",
        "model.width": 32,
        "model.skip": 64,
        "model.dilations": tuple(2**i for i in range(10)) * 2,
        "model.conditions": 10,
        "optimizer.learning_rate": 2e-3,
        "train.batch_size": 4,
        "eval.batch_size": 25,
        "checkpoint.best": "-validation/loss",
    },
}


def get_config(arg: str = "waves"):
    """Returns the config of one of VARIANTS."""
    config = default()
    config.data.name = "spoken_digits/random"
    config.data.splits.validation = "validation"
    config.task.name = "classification.Classification"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_steps = 0.05
    config.optimizer.weight_decay = 0.05
    config.optimizer.clip_norm = 1.0
    config.train.epochs = 20.0
    config.train.batch_size = 32
    config.eval.every = 0.1
    config.eval.batch_size = 125
    config.checkpoint.best = "validation/accuracy"
    return variant(config, VARIANTS, arg)
