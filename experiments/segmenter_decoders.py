"""Segmenter's linear and mask decoders, by the size of the patches (Strudel 2021):
    python -m experiments.run --config=experiments/segmenter_decoders.py:cpu

In the paper the mask decoder is better, and smaller patches are better with either. Here a small Vision Transformer
learns the drawn shapes from nothing; the paper's are pretrained on ImageNet.
"""

from configs import segmentation
from experiments.engine.experiment import Claim, Paper, Scale, experiment
from training.overrides import override

DECODERS = {"linear": "segmenter.LinearDecoder", "mask": "segmenter.MaskDecoder"}
PATCHES = (4, 8)


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    return experiment(
        arg,
        metric="test/mean_iou",
        rows={
            f"{name}-{patch}": {"model.decoder": decoder, "model.backbone": backbone(patch)}
            for patch in PATCHES
            for name, decoder in DECODERS.items()
        },
        scales={"cpu": Scale(base=small(), minutes=10.0)},
        paper=Paper(
            title="Segmenter: Transformer for Semantic Segmentation",
            arxiv="2105.05633",
            table="Table 3: ADE20K, and the sizes of patches",
            metric="mean IoU in %",
        ),
        claims=(
            *(Claim(f"mask-{p}", f"linear-{p}", f"The mask decoder is better with patches of {p}.") for p in PATCHES),
            *(Claim(f"{name}-4", f"{name}-8", f"Smaller patches are better ({name} decoder).") for name in DECODERS),
        ),
    )


def backbone(patch: int) -> str:
    """Returns a small Vision Transformer."""
    return f"vit.ViT(patch=({patch}, {patch}), depth=4, width=64, heads=4, pool='mean')"


def small():
    """Returns the recipe of drawn shapes for a small Segmenter and a quarter of the pictures."""
    config = override(segmentation.get_config("shapes"), {"model.name": "segmenter.Segmenter"})[0]
    config.model.backbone = backbone(4)
    config.data.splits.train = "train[:25%]"
    config.optimizer.learning_rate = 1e-3
    config.train.epochs = 6.0
    config.eval.every = 0.0
    config.checkpoint.best = ""
    return config
