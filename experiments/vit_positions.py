"""Positions of the Vision Transformer (Dosovitskiy et al. 2020, appendix D.4):
    python -m experiments.run --config=experiments/vit_positions.py:cpu --data_dir=DIR

Without positions a network reads a bag of patches, and any encoding is better; among encodings there is no difference.
"cpu" has 16 patches of the 8 x 8 digits, "full" 64 patches of handwritten Bangla digits; the paper has images of JFT.
"""

from configs import vision_transformer
from experiments.engine.experiment import Claim, Paper, Scale, experiment

POSITIONS = {
    "none": "layers.positions.Positions",
    "1d": "layers.grids.LearnedGrid",
    "2d": "layers.grids.LearnedAxes",
    "sincos2d": "layers.grids.SinusoidGrid",
    "relative": "layers.grids.RelativeGrid",
}
EQUAL = 0.01


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/accuracy",
        rows={label: {"model.positions": name} for label, name in POSITIONS.items()},
        scales={
            "cpu": Scale(base=small("vit"), minutes=10.0),
            "full": Scale(base=vision_transformer.get_config("vit")),
        },
        paper=Paper(
            title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
            arxiv="2010.11929",
            table="Table 8",
            metric="accuracy, 5-shot linear on ImageNet",
            values={"none": 0.61382, "1d": 0.64206, "2d": 0.64001, "relative": 0.64032},
        ),
        claims=(
            *(Claim(row, "none", f"Positions {row} are better than none.") for row in POSITIONS if row != "none"),
            *(
                Claim(a, b, f"Positions {a} are at most {EQUAL} worse than {b}.", -EQUAL)
                for a, b in (("1d", "2d"), ("2d", "1d"), ("1d", "relative"), ("relative", "1d"))
            ),
        ),
    )


def small(name: str):
    """Returns the recipe for the digits that ship inside scikit-learn, narrow, with patches of 2 x 2."""
    config = vision_transformer.get_config(name)
    config.augment.ops = ("padded_crop(padding=1)", "normalise()")
    config.data.name = "digits"
    config.data.splits.train = "train[:90%]"
    config.data.splits.validation = "train[90%:]"
    config.model.depth = 4
    config.model.width = 64
    config.model.patch = (2, 2)
    config.train.ema_decay = 0.0
    config.train.steps = 600
    config.eval.every = 0.0
    return config
