"""A Vision Transformer on few images, with one ingredient of its recipe changed at a time (Steiner et al. 2021):
    python -m experiments.run --config=experiments/vit_ingredients.py:full --data_dir=DIR

5,000 handwritten Bangla digits and the recipe `configs/vision_transformer.py:vit`, shorter. A row lacks one ingredient
of augmentation, regularisation or the network; `plain` has no augmentation and no regularisation; `cutmix` adds CutMix.
What the average of the weights adds is test_ema/accuracy minus test/accuracy of one run. The paper varies augmentation
and regularisation together on ImageNet, without a table of single ingredients. Four hours on one CPU core.
"""

from configs import vision_transformer
from experiments.engine.experiment import Claim, Paper, Scale, experiment

CROPS, ROTATION, NORMALISE = vision_transformer.get_config("vit").augment.ops
REGULARISATION = {
    "no-smoothing": {"task.label_smoothing": 0.0},
    "no-depth": {"model.drop_path": 0.0},
    "no-decay": {"optimizer.weight_decay": 0.0},
}
PLAIN = {"augment.ops": (NORMALISE,)} | {key: 0.0 for row in REGULARISATION.values() for key in row}
ROWS = {
    "complete": {},
    "plain": PLAIN,
    "no-crops": {"augment.ops": (ROTATION, NORMALISE)},
    "no-rotation": {"augment.ops": (CROPS, NORMALISE)},
    **REGULARISATION,
    "cutmix": {"augment.ops": (CROPS, ROTATION, "cutmix(alpha=1.0)", NORMALISE)},
    "learned": {"model.positions": "layers.grids.LearnedGrid"},
    "token": {"model.pool": "token"},
}
CLAIMS = {
    "plain": "Augmentation and regularisation help.",
    "no-crops": "Crops help.",
    "no-rotation": "Rotations help.",
    "no-smoothing": "Label smoothing helps.",
    "no-depth": "Stochastic depth helps.",
    "no-decay": "Weight decay helps.",
    "learned": "Sinusoidal positions are better than learned ones (2205.01580).",
    "token": "The mean of the patches is better than a class token (2205.01580).",
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/accuracy",
        rows=ROWS,
        scales={"full": Scale(base=base())},
        paper=Paper(
            title="How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers",
            arxiv="2106.10270",
            table="Section 4.3, augmentation and regularisation with little data: figures",
        ),
        claims=(
            *(Claim("complete", row, text) for row, text in CLAIMS.items()),
            Claim("cutmix", "complete", "CutMix helps."),
        ),
    )


def base():
    """Returns the recipe, shorter and evaluated at the end."""
    config = vision_transformer.get_config("vit")
    config.train.steps = 1500
    config.eval.every = 0.0
    return config
