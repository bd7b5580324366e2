"""A Vision Transformer on few images, with each ingredient of its recipe taken away in turn (Steiner et al. 2021):
    python -m experiments.run --config=experiments/vit_ingredients.py:cpu --data_dir=DIR

5,000 handwritten Bangla digits and the recipe `configs/vision_transformer.py:vit`. A row lacks one ingredient of
augmentation or regularisation, `none` lacks them all. What the average of the weights adds is test_ema/accuracy minus
test/accuracy of one run. The paper varies the two together on ImageNet, without a table of single ingredients.
"""

from configs import vision_transformer
from experiments.engine.experiment import Claim, Paper, Scale, experiment

CROPS, ROTATION, CUTMIX, NORMALISE = vision_transformer.get_config("vit").augment.ops
WITHOUT = {
    "crops": {"augment.ops": (ROTATION, CUTMIX, NORMALISE)},
    "rotation": {"augment.ops": (CROPS, CUTMIX, NORMALISE)},
    "cutmix": {"augment.ops": (CROPS, ROTATION, NORMALISE)},
    "smoothing": {"task.label_smoothing": 0.0},
    "depth": {"model.drop_path": 0.0},
    "decay": {"optimizer.weight_decay": 0.0},
}
NONE = {key: value for changes in WITHOUT.values() for key, value in changes.items()} | {"augment.ops": (NORMALISE,)}
GAINS = {
    "no-crops": "Crops help.",
    "no-rotation": "Rotations help.",
    "no-cutmix": "CutMix helps.",
    "no-smoothing": "Label smoothing helps.",
    "no-depth": "Stochastic depth helps.",
    "no-decay": "Weight decay helps.",
    "none": "Together, augmentation and regularisation help.",
}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/accuracy",
        rows={"complete": {}, "none": NONE} | {f"no-{name}": changes for name, changes in WITHOUT.items()},
        scales={"cpu": Scale(base=base(), minutes=120.0)},
        paper=Paper(
            title="How to train your ViT? Data, Augmentation, and Regularization in Vision Transformers",
            arxiv="2106.10270",
            table="Section 4.3, augmentation and regularisation with little data: figures",
        ),
        claims=tuple(Claim("complete", row, text) for row, text in GAINS.items()),
    )


def base():
    """Returns the recipe, evaluated at the end."""
    config = vision_transformer.get_config("vit")
    config.eval.every = 0.0
    return config
