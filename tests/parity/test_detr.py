"""DETR against transformers: the loss terms on random inputs, and the network on random weights, with timm's backbone
and with that of transformers. They need PyTorch, timm and transformers (`make parity`)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import load_file

from arch.detr import DETR
from arch.layers.norm import frozen_batch_norm
from arch.layers.trunk import Block
from arch.pretrained.family import families
from arch.pretrained.table import tables
from arch.resnet import BasicBlock, ResNet
from inference.export import _fields, write
from inference.predict import load
from tasks.detection import Detection
from tests.parity.torchvision_models import torch
from training.config import default
from training.overrides import override, recipe

transformers = pytest.importorskip("transformers")

CLASSES, QUERIES, LAYERS, BOXES = 4, 9, 3, (3, 0, 5)


def test_loss_terms_are_those_of_transformers():
    """Three images, one without boxes; every block of the decoder is scored."""
    from transformers.loss.loss_for_object_detection import HungarianMatcher, ImageLoss

    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, LAYERS, QUERIES, CLASSES + 1)).astype(np.float32)
    raw = rng.normal(size=(3, LAYERS, QUERIES, 4)).astype(np.float32)
    centres, sizes = rng.uniform(0.3, 0.7, (3, 5, 2)), rng.uniform(0.05, 0.5, (3, 5, 2))
    labels = rng.integers(0, CLASSES, (3, 5))
    edges = np.concatenate([centres - sizes / 2, centres + sizes / 2], -1)[..., [1, 0, 3, 2]].astype(np.float32)
    task = Detection(queries=QUERIES, classes=tuple("abcd"))
    batch = {"objects/bbox": edges, "objects/label": labels, "mask": np.ones(3, np.float32)}
    batch["objects/bbox_mask"] = (np.arange(5) < np.array(BOXES)[:, None]).astype(np.float32)
    score, weights = (
        task.score({"logits": jnp.asarray(logits), "boxes": jax.nn.sigmoid(raw)}, batch),
        task.weights(batch),
    )

    matcher = HungarianMatcher(class_cost=1, bbox_cost=5, giou_cost=2)
    criterion = ImageLoss(matcher, CLASSES, eos_coef=0.1, losses=["labels", "boxes"])
    centred = torch.tensor(np.concatenate([centres, sizes], -1), dtype=torch.float32)
    targets = [
        {"class_labels": torch.tensor(labels[i, :count]), "boxes": centred[i, :count]} for i, count in enumerate(BOXES)
    ]
    outputs = [
        {"logits": torch.tensor(logits[:, layer]), "pred_boxes": torch.tensor(raw[:, layer]).sigmoid()}
        for layer in range(LAYERS)
    ]
    theirs = criterion({**outputs[-1], "auxiliary_outputs": outputs[:-1]}, targets)
    for ours, name in {"class_loss": "loss_ce", "box_loss": "loss_bbox", "giou_loss": "loss_giou"}.items():
        expected = sum(float(value) for key, value in theirs.items() if key.startswith(name))
        assert float(score.losses[ours] / weights[ours]) == pytest.approx(expected, rel=1e-5)


TIMM = {"model_type": "timm_backbone", "backbone": "resnet18", "features_only": True, "use_pretrained_backbone": False}
SMALL = {
    "model_type": "resnet",
    "embedding_size": 6,
    "hidden_sizes": [24, 48],
    "depths": [1, 2],
    "out_features": ["stage2"],
}
SIZES = {"layers": 2, "attention_heads": 3, "ffn_dim": 40}
BACKBONES = {
    "timm": {"backbone_config": TIMM | {"out_indices": [1, 2, 3, 4]}},
    "transformers": {"backbone_config": SMALL, "position_embedding_type": "learned", "activation_function": "gelu"},
}


class Theirs:
    """A saved DETR of transformers with random weights and statistics, two images on one canvas, and its outputs for
    them. The last third of the rows and the last half of the columns of the first image are padding."""

    def __init__(self, name, folder):
        torch.manual_seed(0)
        sizes = {f"{side}_{key}": value for side in ("encoder", "decoder") for key, value in SIZES.items()}
        options = BACKBONES[name] | sizes | {"num_queries": QUERIES, "num_labels": CLASSES, "dropout": 0.0}
        config = transformers.DetrConfig(**options, d_model=24, use_timm_backbone=name == "timm")
        self.model, self.folder = transformers.DetrForObjectDetection(config).eval(), folder / "theirs"
        with torch.no_grad():
            for key, array in [*self.model.named_parameters(), *self.model.named_buffers()]:
                if key.endswith("running_var"):
                    array.uniform_(0.5, 1.5)
                elif array.dim() < 2:
                    array.add_(0.1 * torch.randn_like(array))
        self.model.save_pretrained(self.folder)
        rng = np.random.default_rng(0)
        self.images = rng.normal(size=(2, 96, 128, 3)).astype(np.float32)
        self.region = np.array([[0, 0, 64 / 96, 64 / 128], [0, 0, 1, 1]], np.float32)
        self.mask = np.ones((2, 96, 128), bool)
        self.mask[0, 64:], self.mask[0, :, 64:] = False, False
        self.images[~self.mask] = 0

    def __call__(self, **labels):
        pixels, mask = torch.tensor(self.images).permute(0, 3, 1, 2), torch.tensor(self.mask).long()
        return self.model(pixels, pixel_mask=mask, **labels)

    def config(self, **changes):
        """Returns the recipe that predicts with the folder, for images of the size of these."""
        changes = {"init_from": f"hf:{self.folder}", "data.preprocess": ("letterbox(96, 128)",)} | changes
        return override(recipe("configs/detection.py:coco"), changes | {"task.queries": QUERIES})[0]


@pytest.fixture(scope="module", params=BACKBONES)
def theirs(request, tmp_path_factory):
    return Theirs(request.param, tmp_path_factory.mktemp("detr"))


def test_every_block_and_the_outputs_are_those_of_transformers(theirs):
    outputs = []
    blocks = [*theirs.model.model.encoder.layers, *theirs.model.model.decoder.layers]
    hooks = [block.register_forward_hook(lambda _, inputs, output: outputs.append(output)) for block in blocks]
    with torch.no_grad():
        expected = theirs()
    for hook in hooks:
        hook.remove()
    run = load(theirs.config())
    is_block = lambda module, method: isinstance(module, Block) and method == "__call__"  # noqa: E731
    apply = functools.partial(run.model.apply, train=False, capture_intermediates=is_block, mutable=["intermediates"])
    ours, captured = jax.jit(apply)(run.variables, theirs.images, theirs.region)
    found = flatten_dict(captured["intermediates"], sep="/")
    found = {path: x for path, x in found.items() if path.endswith("__call__")}
    order = sorted(found, key=lambda path: ("decoder" in path, path))
    assert len(order) == len(outputs) == 4
    for path, output in zip(order, outputs, strict=True):
        output = output if isinstance(output, torch.Tensor) else output[0]
        block = np.asarray(found[path][0][0])
        assert block.shape == output.shape
        if path.startswith("encoder"):
            block, output = block[1], output[1]  # padding of the other image may hold anything
        np.testing.assert_allclose(block, output, atol=1e-4, err_msg=path)
    np.testing.assert_allclose(ours["logits"][:, 0], expected.logits, atol=1e-4)
    whole = [[64 / 128, 64 / 96] * 2, [1] * 4]  # their boxes are fractions of the part that is not padding
    np.testing.assert_allclose(ours["boxes"][:, 0] / np.array(whole)[:, None], expected.pred_boxes, atol=1e-4)


def test_transformers_loads_the_export_and_its_import_is_the_same(theirs, tmp_path):
    run = load(theirs.config())
    write(run, tmp_path / "ours")
    again = load(theirs.config(init_from=f"hf:{tmp_path / 'ours'}"))
    assert not families()["detr"].differences(_fields(again.model), _fields(run.model)) and again.task == run.task
    assert jax.tree.all(jax.tree.map(np.array_equal, again.variables, run.variables))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "ours")
    pixels = np.random.default_rng(2).integers(0, 256, (96, 128, 3), np.uint8)
    prepared = processor(pixels, return_tensors="pt").pixel_values.permute(0, 2, 3, 1)
    batch = {"image": jnp.asarray(pixels)[None], "index": jnp.arange(1)}
    np.testing.assert_allclose(run.transform(None, batch)["image"], prepared, atol=1e-5)
    before = theirs.model
    theirs.model, report = transformers.DetrForObjectDetection.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values()), report
    with torch.no_grad():
        found = theirs()
        theirs.model = before
        expected = theirs()
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.pred_boxes, expected.pred_boxes, rtol=0, atol=1e-6)
    written, stored = (load_file(folder / "model.safetensors") for folder in (tmp_path / "ours", theirs.folder))
    if theirs.model.config.backbone_config.model_type == "resnet":
        assert written.keys() == stored.keys()
        assert all(np.array_equal(written[name], stored[name]) for name in stored)


def test_ten_steps_of_sgd_give_the_same_losses(tmp_path):
    """The backbone stays: transformers trains a part of it or nothing, which depends on its names."""
    theirs = Theirs("transformers", tmp_path)
    rng, rate = np.random.default_rng(1), 0.01
    centres, sizes = rng.uniform(0.3, 0.7, (2, 3, 2)), rng.uniform(0.1, 0.4, (2, 3, 2))
    labels = rng.integers(0, CLASSES, (2, 3))
    edges = np.concatenate([centres - sizes / 2, centres + sizes / 2], -1)[..., [1, 0, 3, 2]].astype(np.float32)
    edges = edges * np.tile(theirs.region[:, 2:], 2)[:, None]  # as fractions of the canvas
    batch = {"objects/bbox": edges, "objects/label": labels, "mask": np.ones(2, np.float32)}
    batch["image_region"] = theirs.region
    centred = torch.tensor(np.concatenate([centres, sizes], -1), dtype=torch.float32)
    targets = [{"class_labels": torch.tensor(labels[i]), "boxes": centred[i]} for i in range(2)]
    trained = [x for name, x in theirs.model.named_parameters() if ".backbone." not in name]
    expected = []
    for _ in range(10):
        loss = theirs(labels=targets).loss
        gradients = torch.autograd.grad(loss, trained)
        with torch.no_grad():
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter -= rate * gradient
        expected.append(loss.item())
    run = load(theirs.config(**{"task.crowd": "", "model.auxiliary": False}))
    constant = {"image_network": run.variables["params"]["image_network"]}
    inputs = jnp.asarray(theirs.images), jnp.asarray(theirs.region)

    def loss_of(params, inputs):
        variables = run.variables | {"params": params | constant}
        outputs = run.model.apply(variables, *inputs, train=True, rngs={"dropout": jax.random.key(0)})
        score, weights = run.task.score(outputs, batch), run.task.weights(batch)
        return run.task.total({name: loss / weights[name] for name, loss in score.losses.items()})

    @jax.jit
    def step(params, inputs):
        loss, gradient = jax.value_and_grad(loss_of)(params, inputs)
        return jax.tree.map(lambda x, g: x - rate * g, params, gradient), loss

    params = {name: tree for name, tree in run.variables["params"].items() if name not in constant}
    losses = []
    for _ in range(10):
        params, loss = step(params, inputs)
        losses.append(float(loss))
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    assert expected[-1] < expected[0] - 0.1


NETWORK = DETR(
    num_classes=CLASSES,
    queries=QUERIES,
    backbone=functools.partial(ResNet, block=BasicBlock, blocks=(2, 2, 2, 2), norm=frozen_batch_norm),
    depth=2,
    decoder_depth=2,
    width=24,
    heads=3,
    mlp_width=40,
)


def test_the_file_alone_is_read_and_written_back(tmp_path):
    theirs = Theirs("timm", tmp_path)
    arrays, (table,) = load_file(theirs.folder / "model.safetensors"), tables()["detr.DETR"]
    found, unknown = table.read(arrays, NETWORK)
    assert not [name for name in unknown if ".fc." not in name]
    of_folder = load(theirs.config()).variables
    assert jax.tree.all(
        jax.tree.map(np.array_equal, {name: unflatten_dict(flat, sep="/") for name, flat in found.items()}, of_folder)
    )
    written = table.write(found, NETWORK)
    assert written.keys() == arrays.keys() - set(unknown)
    for name, array in written.items():
        np.testing.assert_array_equal(array, arrays[name])
    state = {name: x.numpy() for name, x in theirs.model.state_dict().items()}
    of_modules, _ = table.read(state, NETWORK)
    assert {k: v.keys() for k, v in of_modules.items()} == {k: v.keys() for k, v in found.items()}


@pytest.mark.parametrize("kind", ["basic", "bottleneck"])
def test_resnets_that_classify_are_those_of_transformers(kind, tmp_path):
    channels = [5, 10] if kind == "basic" else [20, 40]
    sizes = {"layer_type": kind, "embedding_size": 5, "hidden_sizes": channels, "depths": [2, 1], "num_labels": 3}
    torch.manual_seed(0)
    theirs = transformers.ResNetForImageClassification(transformers.ResNetConfig(**sizes))
    images = torch.randn(4, 3, 64, 48)
    theirs.train()(images)  # moves the statistics
    theirs.eval().save_pretrained(tmp_path)
    ops = {"augment.ops": ("normalise(mean=(0.5,), std=(0.5,))",), "task.name": "classification.Classification"}
    run = load(override(default(), {"init_from": f"hf:{tmp_path}"} | ops)[0])
    with torch.no_grad():
        expected = theirs(images).logits
    ours = run.model.apply(run.variables, jnp.asarray(images.permute(0, 2, 3, 1).numpy()), train=False)
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert run.task.classes == ("LABEL_0", "LABEL_1", "LABEL_2")
