"""Networks of patches against transformers and timm: random weights, in both directions. They need PyTorch and both
packages (`make parity`)."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from arch.gmlp import GMLP
from arch.layers import grids
from arch.layers.feedforward import gelu_exact
from arch.layers.trunk import Block
from arch.mixer import Mixer
from arch.vit import ViT
from core.info import Key
from inference.export import write
from inference.predict import Trained
from tests.data.infos import pixels
from tests.parity import sgd
from tests.parity.torchvision_models import torch
from training import build, torch_file
from training.config import default
from training.pretrained import published

timm = pytest.importorskip("timm")
transformers = pytest.importorskip("transformers")

CLASSES, SIZE = 5, 12
SMALL = {"num_classes": CLASSES, "img_size": SIZE, "patch_size": 4}
WIDE = SMALL | {"embed_dim": 24, "depth": 3, "num_heads": 3}
MIXER = SMALL | {"embed_dim": 24, "num_blocks": 3}
VIT = {"num_classes": CLASSES, "patch": (4, 4), "width": 24, "depth": 3, "heads": 3, "activation": gelu_exact}
HF = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 36, "patch_size": 4}
HF |= {"image_size": SIZE, "num_labels": CLASSES}


def of_timm(name: str, **fields) -> Callable[[], torch.nn.Module]:
    return lambda: getattr(timm.models, name)(**fields)


def of_hf(**fields) -> Callable[[], torch.nn.Module]:
    config = transformers.ViTConfig(**HF | fields)
    config._attn_implementation = "eager"
    return lambda: transformers.ViTForImageClassification(config)


@dataclasses.dataclass(frozen=True)
class Case:
    """Their network and ours; None: that of config.json."""

    theirs: Callable[[], torch.nn.Module]
    ours: nn.Module | None = None


CASES = {
    "timm's ViT": Case(of_timm("VisionTransformer", **WIDE), ViT(**VIT)),
    "timm's ViT with norms of queries, layer scale and a pre-training head": Case(
        of_timm("VisionTransformer", **WIDE, qk_norm=True, init_values=0.3, qkv_bias=False),
        ViT(**VIT, qk_norm=functools.partial(ViT.norm), layer_scale=0.1, qkv_bias=False),
    ),
    "timm's ViT with attention pooling": Case(
        of_timm("VisionTransformer", **WIDE, global_pool="map", class_token=False), ViT(**VIT, pool="map")
    ),
    "timm's Mixer": Case(
        of_timm("MlpMixer", **MIXER), Mixer(CLASSES, patch=(4, 4), width=24, depth=3, activation=gelu_exact)
    ),
    "timm's gMLP": Case(
        of_timm(
            "MlpMixer",
            **MIXER,
            mlp_ratio=6,
            block_layer=timm.models.mlp_mixer.SpatialGatingBlock,
            mlp_layer=timm.layers.GatedMlp,
        ),
        GMLP(CLASSES, patch=(4, 4), width=24, depth=3),
    ),
    "transformers' ViT": Case(of_hf()),
    "transformers' ViT with another activation and epsilon": Case(
        of_hf(hidden_act="gelu_new", layer_norm_eps=1e-3, qkv_bias=False)
    ),
}


class Pair:
    """Their network with random weights and biases, and ours with the arrays of its file."""

    def __init__(self, case: Case, folder):
        torch.manual_seed(0)
        folder.mkdir(parents=True, exist_ok=True)
        self.torch, self.folder = case.theirs(), folder
        with torch.no_grad():
            for parameter in self.torch.parameters():
                parameter.normal_(0, 0.3)
        if case.ours is None:
            self.torch.save_pretrained(folder)
            self.file = folder / "model.safetensors"
            self.published = published(f"hf:{folder}")
            self.model = build.construct(ConfigDict(self.published.model), "arch", num_classes=CLASSES)
            flat, self.unknown = self.published.params()
            self.params = unflatten_dict(flat, sep="/")
        else:
            self.published, self.model, self.file = None, case.ours, folder / "theirs.pth"
            torch.save(self.torch.state_dict(), self.file)
            variables, self.unknown = torch_file.read(f"torch:{self.file}", self.model)
            self.params = variables["params"]
        rng = np.random.default_rng(1)
        self.images = rng.standard_normal((4, SIZE, SIZE, 3), np.float32)
        self.labels = rng.integers(0, CLASSES, 4)

    def theirs(self):
        """Returns their logits."""
        outputs = self.torch(torch.tensor(self.images).permute(0, 3, 1, 2))
        return getattr(outputs, "logits", outputs)


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    return Pair(CASES[request.param], tmp_path_factory.mktemp("patches"))


def test_every_block_and_the_logits_are_equal(pair):
    kinds, outputs, hooks = ("Block", "MixerBlock", "SpatialGatingBlock", "ViTLayer"), [], []
    for module in pair.torch.eval().modules():
        if type(module).__name__ in kinds:
            hooks.append(module.register_forward_hook(lambda module, inputs, output: outputs.append(output)))
    with torch.no_grad():
        expected = pair.theirs().numpy()
    for hook in hooks:
        hook.remove()
    is_block = lambda module, method: isinstance(module, Block) and method == "__call__"  # noqa: E731
    apply = functools.partial(pair.model.apply, train=False, capture_intermediates=is_block, mutable=["intermediates"])
    logits, captured = jax.jit(apply)({"params": pair.params}, jnp.asarray(pair.images))
    found = flatten_dict(captured["intermediates"], sep="/")
    order = sorted(path for path in found if path.endswith("__call__"))
    assert not pair.unknown and len(order) == len(outputs) == 3
    for path, theirs in zip(order, outputs, strict=True):
        np.testing.assert_allclose(found[path][0][0], theirs, atol=1e-4, err_msg=path)
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    assert np.abs(expected).max() > 0.5


def test_ten_steps_of_sgd_give_the_same_losses(pair):
    rate, labels = 1e-3, torch.tensor(pair.labels)
    expected = sgd.losses_of(pair.torch, lambda: torch.nn.functional.cross_entropy(pair.theirs(), labels), rate)

    @jax.jit
    def step(params):
        def loss_of(params):
            logits = pair.model.apply({"params": params}, jnp.asarray(pair.images), train=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, pair.labels).mean()

        loss, gradient = jax.value_and_grad(loss_of)(params)
        return jax.tree.map(lambda x, g: x - rate * g, params, gradient), loss

    params, losses = pair.params, []
    for _ in range(10):
        params, loss = step(params)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    assert expected[-1] < expected[0] - 0.01


def test_they_load_the_export(pair, tmp_path):
    if pair.published:
        config = default()
        config.model = ConfigDict(pair.published.model)
        info = pixels((SIZE, SIZE, 3), label=Key((), "int32", "label", classes=tuple("abcde")))
        transform, task, model = build.parts(config, info)
        write(Trained(config, info, task, model, {"params": pair.params}, transform), tmp_path / "ours")
        file = tmp_path / "ours" / "model.safetensors"
    else:
        flat = {"params": flatten_dict(pair.params, sep="/")}
        file = torch_file.write(f"torch:{tmp_path / 'ours.safetensors'}", flat, pair.model)
    written, stored = torch_file.arrays_of(file), torch_file.arrays_of(pair.file)
    assert written.keys() == stored.keys() and all(np.array_equal(written[name], stored[name]) for name in stored)
    if pair.published:
        with torch.no_grad():
            before, expected = pair.torch, pair.theirs()
            pair.torch = type(before).from_pretrained(tmp_path / "ours", attn_implementation="eager")
            assert torch.equal(pair.theirs(), expected)
            pair.torch = before


@pytest.mark.parametrize(("old", "new"), [((4, 4), (7, 7)), ((5, 3), (2, 6)), ((2, 8), (4, 4)), ((14, 14), (24, 24))])
def test_cubic_resampling_is_pytorchs(old, new):
    table = np.random.default_rng(0).standard_normal((*old, 6)).astype(np.float32)
    rows = torch.tensor(table).permute(2, 0, 1)[None]
    for kind, antialias in ((grids.bicubic, False), (grids.bicubic_antialias, True)):
        expected = torch.nn.functional.interpolate(rows, size=new, mode="bicubic", antialias=antialias)
        np.testing.assert_allclose(kind(table, new), expected[0].permute(1, 2, 0), atol=1e-5)


def test_positions_of_another_resolution_are_those_of_timm_and_transformers(tmp_path):
    """Images of 20 x 20 pixels instead of 12 x 12; ours have other sides, too, as timm's."""
    images = np.random.default_rng(0).standard_normal((2, 20, 20, 3), np.float32)
    tensor = torch.tensor(images).permute(0, 3, 1, 2)
    for name in ("timm's ViT", "transformers' ViT"):
        pair = Pair(CASES[name], tmp_path / name)
        flat = flatten_dict(pair.params, sep="/")
        path = "positions/embedding"
        flat[path] = pair.model.adapt(path, flat[path], jnp.zeros((5, 5, 24)))
        with torch.no_grad():
            if pair.published:
                expected = pair.torch.eval()(tensor, interpolate_pos_encoding=True).logits
            else:
                pair.torch.eval().set_input_size((20, 20))
                expected = pair.torch(tensor)
        logits = pair.model.apply({"params": unflatten_dict(flat, sep="/")}, jnp.asarray(images), train=False)
        np.testing.assert_allclose(logits, expected, atol=1e-4)
