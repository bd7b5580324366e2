"""U-Net without the connections between its two paths (Ronneberger 2015):
    python -m experiments.run --config=experiments/unet_skips.py:cpu

The expanding path then sees the deepest map alone, which loses the places of edges; more poolings lose more.
"""

from configs import segmentation
from experiments.engine.experiment import Claim, Paper, Scale, experiment

DEPTHS = (1, 3)


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/mean_iou",
        rows={
            f"{name}-{depth}": {"model.depth": depth, "model.skips": skips}
            for depth in DEPTHS
            for name, skips in (("skips", True), ("none", False))
        },
        scales={"cpu": Scale(base=small(), minutes=10.0), "full": Scale(base=segmentation.get_config("shapes"))},
        paper=Paper(
            title="U-Net: Convolutional Networks for Biomedical Image Segmentation",
            arxiv="1505.04597",
            table="without a table: section 1 gives the reason for the connections",
        ),
        claims=tuple(
            Claim(f"skips-{depth}", f"none-{depth}", f"Skips are better with {depth} poolings.") for depth in DEPTHS
        ),
    )


def small():
    """Returns the recipe of drawn shapes for a narrow network and a quarter of the pictures."""
    config = segmentation.get_config("shapes")
    config.data.splits.train = "train[:25%]"
    config.model.width = 8
    config.train.epochs = 6.0
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config
