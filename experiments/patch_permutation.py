"""Images whose patches or pixels change places, in the same way in all (Tolstikhin et al. 2021, section 3.4):
    python -m experiments.run --config=experiments/patch_permutation.py:cpu --data_dir=DIR

Rows NETWORK-patches move patches, and pixels within a patch: ViT, Mixer and gMLP do not depend on their order.
NETWORK-pixels move all pixels. The 8 x 8 digits without augmentation; the paper has JFT-300M.
"""

from experiments.engine.experiment import Claim, Paper, Scale, experiment
from experiments.vit_positions import small

NETWORKS = {
    "vit": {},
    "mixer": {"model": {"name": "mixer.Mixer"}},
    "gmlp": {"model": {"name": "gmlp.GMLP", "mlp_width": 256}},
    "resnet": {"model": {"name": "resnet.CifarResNet", "depth": 8}, "optimizer": {"learning_rate": 3e-3}},
}
PATCHES = {"model.depth": 4, "model.width": 64, "model.patch": (2, 2), "model.drop_path": 0.1}
ORDERS = {"plain": (), "patches": ("shuffle(patch=2)",), "pixels": ("shuffle(patch=1)",)}


def get_config(arg: str = ""):
    """Returns the experiment, or one cell of it."""
    rows = {
        f"{network}-{order}": {**_network(network), "augment.ops": (*ops, "normalise()")}
        for network in NETWORKS
        for order, ops in ORDERS.items()
    }
    return experiment(
        arg,
        metric="test/accuracy",
        rows=rows,
        scales={"cpu": Scale(base=small("vit"), minutes=10.0)},
        paper=Paper(
            title="MLP-Mixer: An all-MLP Architecture for Vision", arxiv="2105.01601", table="Figure 4, no numbers"
        ),
        claims=(
            *(
                Claim(f"{name}-patches", f"{name}-plain", f"{name} is at most 0.01 worse with moved patches.", -0.01)
                for name in ("vit", "mixer", "gmlp")
            ),
            Claim("resnet-plain", "resnet-patches", "A convolutional network is worse with moved patches."),
            Claim("resnet-plain", "resnet-pixels", "It is worse with moved pixels."),
            Claim("mixer-pixels", "resnet-pixels", "Mixer is better than it with moved pixels."),
        ),
    )


def _network(name: str) -> dict:
    changes = {} if name in ("vit", "resnet") else PATCHES
    groups = NETWORKS[name].items()
    return changes | {f"{group}.{key}": value for group, fields in groups for key, value in fields.items()}
