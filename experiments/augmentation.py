"""Augmentation with little data: mixup (Zhang 2017), CutMix (Yun 2019) and mirroring:
    python -m experiments.run --config=experiments/augmentation.py:cpu

A narrow ResNet-8 on 100 digits, with the same number of steps per row. Mirrored digits are not digits: the claim that
flips help holds for photographs only, and the paper's scale applies flips and crops in every row.
"""

from configs import digits, images
from experiments.engine.experiment import Claim, Paper, Scale, experiment

NORMALISE = "normalise()"
SMALL = {
    "none": (NORMALISE,),
    "flip": ("flip()", NORMALISE),
    "crop": ("padded_crop(padding=1)", NORMALISE),
    "mixup": ("mixup(alpha=1.0)", NORMALISE),
    "cutmix": ("cutmix(alpha=1.0)", NORMALISE),
}
STANDARD = ("padded_crop(padding=4)", "flip()")
LARGE = {
    "standard": (*STANDARD, NORMALISE),
    "mixup": (*STANDARD, *SMALL["mixup"]),
    "cutmix": (*STANDARD, *SMALL["cutmix"]),
}
CLASSES = (10, 100)  # of CIFAR-10 and CIFAR-100


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    small = {name: {"augment.ops": ops} for name, ops in SMALL.items()}
    large = {
        f"{name}-{classes}": {"augment.ops": ops, "data.name": f"cifar{classes}"}
        for classes in CLASSES
        for name, ops in LARGE.items()
    }
    return experiment(
        arg,
        metric="test/accuracy",
        rows=small | large,
        scales={
            "cpu": Scale(base=few_digits(100), minutes=10.0, rows=tuple(small)),
            "full": Scale(base=wide_resnet(), seeds=3, rows=tuple(large)),
        },
        paper=Paper(
            title="mixup: Beyond Empirical Risk Minimization",
            arxiv="1710.09412",
            table="WRN-28-10; CutMix (1905.04899) uses another network: PyramidNet-200 on CIFAR-100, 16.45% without "
            "and 14.47% with it",
            metric="test error in %, WRN-28-10 on CIFAR-10 and CIFAR-100",
            values={"standard-10": 3.8, "mixup-10": 2.7, "standard-100": 19.4, "mixup-100": 17.5},
        ),
        claims=(
            Claim("mixup", "none", "mixup is better than no augmentation."),
            Claim("cutmix", "none", "CutMix is better than no augmentation."),
            Claim("crop", "none", "Crops are better than no augmentation (not from a paper)."),
            Claim("none", "flip", "Mirroring digits is worse than no augmentation (not from a paper)."),
            *(Claim(f"mixup-{n}", f"standard-{n}", f"mixup is better on CIFAR-{n}.") for n in CLASSES),
            *(Claim(f"cutmix-{n}", f"standard-{n}", f"CutMix is better on CIFAR-{n}.") for n in CLASSES),
        ),
    )


def few_digits(examples: int):
    """Returns the digits' recipe with a narrow network and few examples, which evaluates the last weights."""
    config = digits.get_config()
    config.data.splits.train = f"train[:{examples}]"
    config.model.width = 8
    config.optimizer.warmup_steps = 0.025
    config.train.epochs = 0.0
    config.train.steps = 800
    config.train.batch_size = 50
    config.eval.every = 0.0
    config.eval.batch_size = 360
    config.checkpoint.every = 1000.0
    config.checkpoint.best = ""
    return config


def wide_resnet():
    """Returns the paper's network and recipe: WRN-28-10, 200 epochs, the rate divided by 10 after 100 and 150."""
    config = images.get_config("cifar10")
    config.model.name = "resnet.WideResNet"
    config.model.depth = 28
    config.model.width_factor = 10
    config.train.steps = 0
    config.train.epochs = 200.0
    return config
