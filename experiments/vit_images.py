"""Networks of patches and a residual network by the number of training images (Dosovitskiy et al. 2020, figure 4):
    python -m experiments.run --config=experiments/vit_images.py:cpu --data_dir=DIR

With few images the prior knowledge of convolutions helps, and augmentation makes up for a part of it. "cpu" has the 8 x
8 digits, "full" handwritten Bangla digits. The paper has up to 300 million images, and few-shot accuracy on ImageNet.
"""

from configs import vision_transformer
from experiments.engine.experiment import Claim, Curves, Paper, Scale, experiment
from experiments.vit_positions import small

NETWORKS = {
    "vit": {},
    "mixer": {"model.name": "mixer.Mixer", "model.patch": (2, 2), "model.width": 64, "model.depth": 4},
    "resnet": {"model.name": "resnet.CifarResNet", "model.depth": 8},
}
IMAGES = (100, 400, 1293)
LARGE_NETWORKS = {
    "vit": {},
    "mixer": dict(vision_transformer.VARIANTS["mixer"]),
    "resnet": {"model.name": "resnet.CifarResNet", "model.depth": 20},
}
LARGE_IMAGES = (300, 1000, 5000)


def rows(networks: dict, counts: tuple[int, ...], suffix: str = "") -> dict:
    """Returns the rows: each network with and without augmentation, by the number of images."""
    plain = {"augment.ops": ("normalise()",)}
    return {
        f"{name}-{kind}-{n}{suffix}": network | ops | {"data.splits.train": f"train[:{n}]"}
        for n in counts
        for name, network in networks.items()
        for kind, ops in (("plain", plain), ("augmented", {}))
    }


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    few, many = rows(NETWORKS, IMAGES), rows(LARGE_NETWORKS, LARGE_IMAGES, "-full")
    return experiment(
        arg,
        metric="test/accuracy",
        rows=few | many,
        scales={
            "cpu": Scale(base=base(), minutes=10.0, rows=tuple(few)),
            "full": Scale(base=vision_transformer.get_config("vit"), rows=tuple(many)),
        },
        curves=Curves("images", {label: _point(label) for label in (*few, *many)}, log=True),
        paper=Paper(
            title="An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale",
            arxiv="2010.11929",
            table="Figure 4, by images of JFT: curves",
        ),
        claims=(
            *(
                Claim(f"resnet-{kind}-100", f"{name}-{kind}-100", f"100 images, {kind}: ResNet is better than {name}.")
                for name in ("vit", "mixer")
                for kind in ("plain", "augmented")
            ),
            Claim("vit-augmented-100", "vit-plain-100", "Augmentation helps ViT with few images."),
            Claim("vit-augmented-1293", "resnet-augmented-1293", "With all images ViT is at most 0.01 worse.", -0.01),
        ),
    )


def _point(label: str) -> tuple[str, int]:
    name, kind, n = label.removesuffix("-full").split("-")
    return f"{name}, {kind}", int(n)


def base():
    """Returns the recipe of the digits, shorter."""
    config = small("vit")
    config.train.steps = 300
    return config
