"""timm's MLP-Mixer (`arch.mixer.Mixer`) and gMLP (`arch.gmlp.GMLP`).

Source: timm/models/mlp_mixer.py of timm 1.0.31. Its Mixer has `model.activation="layers.feedforward.gelu_exact"`.
"""

from collections.abc import Iterator

from arch.pretrained.family import Weight, dense, norm
from arch.pretrained.table import Network, Table, conv


def _mixer(network: Network) -> Iterator[Weight]:
    yield from conv("stem.proj", "patches")
    for block in range(network.depth):
        for number, name in enumerate(("tokens", "channels"), start=1):
            theirs, ours = f"blocks.{block}", f"trunk/block{block + 1}/{name}"
            yield from norm(f"{theirs}.norm{number}", f"{ours}/norm")
            yield from dense(f"{theirs}.mlp_{name}.fc1", f"{ours}/layer/hidden")
            yield from dense(f"{theirs}.mlp_{name}.fc2", f"{ours}/layer/out")
    yield from norm("norm", "trunk/norm")
    yield from dense("head", "head")


def _gmlp(network: Network) -> Iterator[Weight]:
    yield from conv("stem.proj", "patches")
    for block in range(network.depth):
        theirs, ours = f"blocks.{block}.mlp_channels", f"trunk/block{block + 1}/gated_mlp"
        yield from norm(f"blocks.{block}.norm", f"{ours}/norm")
        yield from dense(f"{theirs}.fc1", f"{ours}/layer/hidden")
        yield from norm(f"{theirs}.gate.norm", f"{ours}/layer/gate/norm")
        yield from dense(f"{theirs}.gate.proj", f"{ours}/layer/gate")
        yield from dense(f"{theirs}.fc2", f"{ours}/layer/out")
    yield from norm("norm", "trunk/norm")
    yield from dense("head", "head")


MIXER = Table("mixer.Mixer", _mixer, "timm")
GMLP = Table("gmlp.GMLP", _gmlp, "timm")
