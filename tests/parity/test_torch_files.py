"""Files of PyTorch against torchvision: networks with random weights and statistics, in both directions. They need
PyTorch and torchvision (`make parity`)."""

import copy
import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from arch.alexnet import AlexNet
from arch.convnext import ConvNeXt
from arch.densenet import DenseNet
from arch.layers.norm import batch_norm
from arch.pretrained.table import tables
from arch.resnet import BasicBlock, ResNet
from arch.vgg import VGG
from arch.video_resnet import FactorisedBlock, VideoResNet
from tests.parity import sgd
from tests.parity.torchvision_models import models, torch
from training import torch_file

CLASSES, BATCH, SIZE = 7, 4, 40


@dataclasses.dataclass(frozen=True)
class Case:
    """A network of torchvision and ours.

    Attributes:
        stages: names of the modules whose outputs are our stages.
        shape: of the input, channels last.
    """

    theirs: Callable[[], torch.nn.Module]
    ours: nn.Module
    stages: tuple[str, ...]
    shape: tuple[int, ...] = (BATCH, SIZE, SIZE, 3)


def resnet(block: str, *blocks: int) -> Callable[[], torch.nn.Module]:
    return lambda: models.resnet.ResNet(getattr(models.resnet, block), blocks, num_classes=CLASSES)


def video(*convolutions: str) -> torch.nn.Module:
    """Returns a network of videos with one block per stage, by torchvision's names of their convolutions."""
    module = models.video.resnet
    stem = module.R2Plus1dStem if "Conv2Plus1D" in convolutions else module.BasicStem
    makers = [getattr(module, name) for name in convolutions]
    return module.VideoResNet(module.BasicBlock, makers, [1] * 4, stem, num_classes=CLASSES)


LAYERS = ("layer1", "layer2", "layer3", "layer4")


def dense_layers(features: int, *, first_dropout: bool) -> torch.nn.Module:
    """Returns narrow hidden layers in the places of AlexNet's and VGG's."""
    a, b, c = (torch.nn.Linear(*sizes) for sizes in ((features, 12), (12, 14), (14, CLASSES)))
    relu, dropout = torch.nn.ReLU(), torch.nn.Dropout()
    if first_dropout:
        return torch.nn.Sequential(dropout, a, relu, dropout, b, relu, c)
    return torch.nn.Sequential(a, relu, dropout, b, relu, dropout, c)


def alexnet() -> torch.nn.Module:
    network = models.AlexNet(CLASSES)
    network.classifier = dense_layers(256 * 6 * 6, first_dropout=True)
    return network


def vgg(norm: bool) -> torch.nn.Module:
    network = models.VGG(models.vgg.make_layers([8, "M", 10, 10, "M"], batch_norm=norm), CLASSES)
    network.classifier = dense_layers(10 * 7 * 7, first_dropout=False)
    return network


def densenet() -> torch.nn.Module:
    return models.DenseNet(growth_rate=6, block_config=(2, 1, 2), num_init_features=10, num_classes=CLASSES)


def convnext() -> torch.nn.Module:
    sizes = [models.convnext.CNBlockConfig(*stage) for stage in ((8, 16, 1), (16, 32, 2), (32, None, 1))]
    return models.ConvNeXt(sizes, layer_scale=0.5, num_classes=CLASSES)


CLIPS = (BATCH, 6, 20, 20, 3)
FACTORISED = functools.partial(FactorisedBlock, midplanes="torchvision")
SMALL = {"num_classes": CLASSES, "hidden": (12, 14), "dropout": 0.0}
SMALL_VGG = SMALL | {"depths": (1, 2), "widths": (8, 10)}
CASES = {
    "ResNet with basic blocks": Case(
        resnet("BasicBlock", 2, 1, 1, 1), ResNet(CLASSES, block=BasicBlock, blocks=(2, 1, 1, 1)), LAYERS
    ),
    "ResNet with bottlenecks": Case(resnet("Bottleneck", 1, 2, 1, 1), ResNet(CLASSES, blocks=(1, 2, 1, 1)), LAYERS),
    "AlexNet": Case(alexnet, AlexNet(**SMALL), ("features.2", "features.5", "features.12"), (BATCH, 64, 64, 3)),
    "VGG": Case(functools.partial(vgg, norm=False), VGG(**SMALL_VGG), ("features.2", "features.7")),
    "VGG with norms": Case(
        functools.partial(vgg, norm=True), VGG(**SMALL_VGG, norm=batch_norm), ("features.3", "features.10")
    ),
    "DenseNet": Case(
        densenet,
        DenseNet(CLASSES, blocks=(2, 1, 2), growth=6, stem_width=10),
        ("features.denseblock1", "features.denseblock2"),  # an activation follows the third
    ),
    "ConvNeXt": Case(
        convnext,
        ConvNeXt(CLASSES, depths=(1, 2, 1), width=8, layer_scale=0.5),
        ("features.1", "features.3", "features.5"),
    ),
    "R3D": Case(lambda: video(*["Conv3DSimple"] * 4), VideoResNet(CLASSES, blocks=(1,) * 4), LAYERS, CLIPS),
    "MC3": Case(
        lambda: video("Conv3DSimple", *["Conv3DNoTemporal"] * 3),
        VideoResNet(CLASSES, blocks=(1,) * 4, temporal=(True, True, False)),
        LAYERS,
        CLIPS,
    ),
    "R(2+1)D": Case(
        lambda: video(*["Conv2Plus1D"] * 4),
        VideoResNet(CLASSES, blocks=(1,) * 4, block=FACTORISED, stem_midplanes=45),
        LAYERS,
        CLIPS,
    ),
}


class Pair:
    """A network of torchvision with random weights, biases and statistics, and ours with the arrays of its file."""

    def __init__(self, case: Case, folder):
        torch.manual_seed(0)
        self.torch, self.model, self.stages = case.theirs(), case.ours, case.stages
        with torch.no_grad():
            for name, x in self.torch.state_dict().items():
                if name.endswith("running_var"):
                    x.uniform_(0.5, 2.0)
                elif x.ndim == 1:  # scales, biases and means
                    x += 0.2 * torch.randn(x.shape)
        self.file = folder / "theirs.pth"
        torch.save(self.torch.state_dict(), self.file)
        self.variables, self.unknown = torch_file.read(f"torch:{self.file}", self.model)
        rng = np.random.default_rng(1)
        self.images = jnp.asarray(rng.standard_normal(case.shape, np.float32))
        self.labels = rng.integers(0, CLASSES, BATCH)

    def theirs(self):
        """Returns the logits of torchvision."""
        return self.torch(torch.tensor(np.asarray(self.images)).movedim(-1, 1))


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    return Pair(CASES[request.param], tmp_path_factory.mktemp("torch"))


def test_every_stage_and_the_logits_are_equal(pair):
    outputs, modules = {}, dict(pair.torch.eval().named_modules())
    for name in pair.stages:
        modules[name].register_forward_hook(lambda module, inputs, output, name=name: outputs.update({name: output}))
    with torch.no_grad():
        expected = pair.theirs().numpy()
    apply = jax.jit(functools.partial(pair.model.apply, train=False, mutable=["intermediates"]))
    logits, captured = apply(pair.variables, pair.images)
    assert not pair.unknown
    for number, name in enumerate(pair.stages, start=1):
        (ours,), theirs = captured["intermediates"][f"stage{number}"], outputs[name].movedim(1, -1)
        np.testing.assert_allclose(ours, theirs, atol=1e-4, err_msg=name)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.1


def test_ten_steps_of_sgd_give_the_same_losses(pair, compile_whole):
    """In training, that is with the statistics of the batch, but without dropout.

    In float64: the gradient of BatchNorm over a batch of four multiplies float32's rounding by ten in each step.
    """
    rate, labels, network = 1e-3, torch.tensor(pair.labels), copy.deepcopy(pair.torch).double().train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    images = torch.tensor(np.asarray(pair.images, np.float64)).movedim(-1, 1)
    expected = sgd.losses_of(network, lambda: torch.nn.functional.cross_entropy(network(images), labels), rate)

    with jax.enable_x64(True):
        variables = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), pair.variables)
        inputs = jnp.asarray(pair.images, jnp.float64)

        @jax.jit
        def step(params):
            def loss_of(params):
                logits, _ = pair.model.apply(
                    {**variables, "params": params}, inputs, train=True, mutable=["batch_stats"]
                )
                return optax.softmax_cross_entropy_with_integer_labels(logits, pair.labels).mean()

            loss, gradient = jax.value_and_grad(loss_of)(params)
            return jax.tree.map(lambda x, g: x - rate * g, params, gradient), loss

        params, losses = variables["params"], []
        for _ in range(10):
            params, loss = step(params)
            losses.append(float(loss))
    np.testing.assert_allclose(losses, expected, atol=1e-7)
    assert expected[-1] < expected[0] - 0.01


def test_torchvision_loads_the_export(pair, tmp_path):
    flat = {name: flatten_dict(tree, sep="/") for name, tree in pair.variables.items()}
    file = torch_file.write(f"torch:{tmp_path / 'ours.safetensors'}", flat, pair.model)
    written = {name: torch.from_numpy(x) for name, x in torch_file.arrays_of(file).items()}
    before = {name: x for name, x in pair.torch.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert written.keys() == before.keys() and all(torch.equal(written[name], before[name]) for name in before)
    pair.torch.load_state_dict(written)  # every name, no other one


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("resnet18", ResNet(**ResNet.VARIANTS["18"])),
        ("resnet50", ResNet()),
        ("alexnet", AlexNet()),
        ("vgg19_bn", VGG(**VGG.VARIANTS["19-bn"])),
        ("densenet121", DenseNet()),
        ("convnext_tiny", ConvNeXt()),
        ("r3d_18", VideoResNet()),
        ("mc3_18", VideoResNet(**VideoResNet.VARIANTS["MC3-18"])),
        ("r2plus1d_18", VideoResNet(**VideoResNet.VARIANTS["R(2+1)D-18 torchvision"])),
    ],
)
def test_names_and_shapes_of_published_networks(name, model):
    with torch.device("meta"):
        theirs = models.get_model(name).state_dict()
    images = jnp.zeros((1, *(64,) * getattr(model, "rank", 2), 3))
    shapes = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), images)
    ours = {
        collection: {path: np.broadcast_to(np.float32(0), x.shape) for path, x in flatten_dict(tree, sep="/").items()}
        for collection, tree in shapes.items()
    }
    cls = type(model)
    (table,) = tables()[f"{cls.__module__.removeprefix('arch.')}.{cls.__name__}"]
    written = {key: x.shape for key, x in table.write(ours, model).items()}
    assert written == {key: tuple(x.shape) for key, x in theirs.items() if not key.endswith("num_batches_tracked")}
