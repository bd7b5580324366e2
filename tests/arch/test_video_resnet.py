"""Residual networks of videos: what reads time, planes, shapes of the stages."""

import functools

import jax
import numpy as np
import pytest

from arch.resnet import BasicBlock, BottleneckBlock, PreActivationBlock
from arch.video_resnet import FactorisedBlock, VideoResNet

pytestmark = pytest.mark.slow

CLIPS = np.random.default_rng(0).normal(size=(2, 4, 8, 8, 3)).astype(np.float32)


def kernels(model: VideoResNet) -> dict[str, tuple[int, ...]]:
    """Returns the shape of each convolution's kernel by its path."""
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), CLIPS)
    leaves = jax.tree.leaves_with_path(variables["params"])
    shapes = {"/".join(part.key for part in path[:-1]): leaf.shape for path, leaf in leaves}
    return {path: shape for path, shape in shapes.items() if len(shape) == 5}


def outputs(model: VideoResNet, clips: np.ndarray) -> np.ndarray:
    variables = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), clips)
    return np.asarray(jax.jit(functools.partial(model.apply, train=False))(variables, clips))


@pytest.mark.parametrize(("fields", "reads_order"), [({"temporal": (False,)}, False), ({}, True)])
def test_a_network_of_single_frames_does_not_see_their_order(fields, reads_order):
    model = VideoResNet(num_classes=3, blocks=(1, 1), width=4, **fields)
    straight, shuffled = outputs(model, CLIPS), outputs(model, CLIPS[:, [2, 0, 3, 1]])
    assert (np.abs(straight - shuffled).max() > 1e-4) == reads_order


def test_mixed_networks_read_time_in_the_groups_that_their_name_tells():
    """Group 1 is the stem; MC3 is 2-D from group 3 on, rMC3 before it (1711.11248, sec. 3.3 and 3.4)."""
    for name, expected in {"MC3-18": [3, 3, 1, 1, 1], "rMC3-18": [1, 1, 3, 3, 3], "R3D-18": [3] * 5}.items():
        shapes = kernels(VideoResNet(**VideoResNet.VARIANTS[name]))
        shapes = {path: shape for path, shape in shapes.items() if "shortcut" not in path}
        groups = ["stem", *(f"stage{number}" for number in range(1, 5))]
        depths = [{shape[0] for path, shape in shapes.items() if path.startswith(group)} for group in groups]
        assert depths == [{depth} for depth in expected], name


@pytest.mark.parametrize(("midplanes", "second"), [("paper", 288), ("torchvision", 230)])
def test_planes_between_space_and_time(midplanes, second):
    """64 to 128 channels: floor(27 * 64 * 128 / (9 * 64 + 3 * 128)) = 230; 128 to 128: 288."""
    fields = VideoResNet.VARIANTS["R(2+1)D-18"] | {"block": functools.partial(FactorisedBlock, midplanes=midplanes)}
    shapes = kernels(VideoResNet(**fields))
    assert [shape for path, shape in shapes.items() if path.startswith("stage2_block1/Conv")] == [
        (1, 3, 3, 64, 230),
        (3, 1, 1, 230, 128),
        (1, 3, 3, 128, second),
        (3, 1, 1, second, 128),
    ]
    assert shapes["stem_space_conv"] == (1, 7, 7, 3, 45) and shapes["stem_conv"] == (3, 1, 1, 45, 64)


@pytest.mark.parametrize("temporal", [(True,), (True, True, True, False), (False,)])
@pytest.mark.parametrize("block", [BasicBlock, BottleneckBlock, PreActivationBlock, FactorisedBlock])
def test_every_block_halves_space_and_time_where_its_stage_reads_time(block, temporal):
    model = VideoResNet(num_classes=3, blocks=(1, 1, 1), width=4, block=block, temporal=temporal, stem_midplanes=2)
    features = functools.partial(model.init_with_output, train=False, method="features")
    stages, _ = jax.eval_shape(features, jax.random.key(0), np.zeros((1, 8, 32, 32, 1), np.float32))
    times = {1: [8, 4, 2], 4: [8, 4, 4]}[len(temporal)] if temporal[0] else [8, 8, 8]
    assert [x.shape[1:4] for x in stages.values()] == list(zip(times, (16, 8, 4), (16, 8, 4), strict=True))
