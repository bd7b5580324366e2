"""SpecAugment with little data (Park et al. 2019):
    python -m experiments.run --config=experiments/spec_augment.py:cpu --data_dir=DIR

Blocks of bands and of frames are hidden in log-mel spectra of spoken digits, by the number of recordings. The paper has
sentences, LibriSpeech and Switchboard, and much larger networks that train for longer.
"""

from configs import sound
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment

OPS = {
    "none": (),
    "bands": ("spec_augment(bands=40, frequency=8, time=0)",),
    "both": ("spec_augment(bands=40, frequency=8, time=10)",),
}
RECORDINGS = (100, 400, 1996)  # the last: all


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    points = {f"{name}-{n}": (name, n) for n in RECORDINGS for name in OPS}
    return experiment(
        arg,
        metric="test/accuracy",
        rows={
            label: {"augment.ops": OPS[name], "data.splits.train": f"train[:{n}]"}
            for label, (name, n) in points.items()
        },
        scales={"cpu": Scale(base=base(600), minutes=10.0), "full": Scale(base=base(1500))},
        curves=Curves("recordings", points, log=True),
        paper=Paper(
            title="SpecAugment: A Simple Data Augmentation Method for Automatic Speech Recognition",
            arxiv="1904.08779",
            table="Tables 3 and 4: word error rates on LibriSpeech and Switchboard",
        ),
        claims=(
            *(Claim(f"both-{n}", f"none-{n}", f"With {n} recordings, SpecAugment helps.") for n in RECORDINGS),
            Claim("both-100", "bands-100", "Hidden frames help beside hidden bands."),
        ),
    )


def base(steps: int):
    """Returns the recipe of the spectra with a narrow network, evaluated at the end."""
    config = sound.get_config("log_mel")
    config.model.width = 16
    config.train.epochs = 0.0
    config.train.steps = steps
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config
