"""DETR against transformers: the loss terms on random inputs, and the network on random weights. They need PyTorch and
transformers (`make parity`)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from safetensors.numpy import load_file

from arch.detr import DETR
from arch.layers.norm import frozen_batch_norm
from arch.pretrained.table import tables
from arch.resnet import BasicBlock, ResNet
from tasks.detection import Detection
from tests.parity.torchvision_models import torch

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
    score, weights = task.score({"logits": jnp.asarray(logits), "boxes": jnp.asarray(raw)}, batch), task.weights(batch)

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


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A DETR of transformers with ResNet-18 and random weights and statistics, and the file that it writes."""
    torch.manual_seed(0)
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in SIZES.items()}
    config = transformers.DetrConfig(
        backbone_config={"model_type": "timm_backbone", "backbone": "resnet18", "features_only": True}
        | {"use_pretrained_backbone": False, "out_indices": [1, 2, 3, 4]},
        num_queries=QUERIES,
        num_labels=CLASSES,
        d_model=24,
        **sizes,
    )
    model = transformers.DetrForObjectDetection(config).eval()
    with torch.no_grad():
        for name, array in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                array.uniform_(0.5, 1.5)
            elif array.dim() < 2:
                array.add_(0.1 * torch.randn_like(array))
    folder = tmp_path_factory.mktemp("detr")
    model.save_pretrained(folder)
    return model, folder / "model.safetensors"


SIZES = {"layers": 2, "attention_heads": 3, "ffn_dim": 40}
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


def test_outputs_are_those_of_transformers_and_the_file_is_written_back(theirs):
    """Two images padded to one canvas; the second half of the rows and columns of one is padding."""
    model, path = theirs
    arrays, (table,) = load_file(path), tables()["detr.DETR"]
    found, unknown = table.read(arrays, NETWORK)
    assert not [name for name in unknown if ".fc." not in name]
    variables = {collection: unflatten_dict(flat, sep="/") for collection, flat in found.items()}
    variables = jax.tree.map(jnp.asarray, variables)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 96, 128, 3)).astype(np.float32)
    mask = np.ones((2, 96, 128), bool)
    mask[0, 64:], mask[0, :, 64:] = False, False
    images[~mask] = 0
    with torch.no_grad():
        expected = model(torch.tensor(images).permute(0, 3, 1, 2), pixel_mask=torch.tensor(mask).long())
    ours = NETWORK.apply(variables, jnp.asarray(images), jnp.asarray(mask), train=False)
    np.testing.assert_allclose(ours["logits"][:, 0], expected.logits, atol=1e-4)
    np.testing.assert_allclose(1 / (1 + np.exp(-ours["boxes"][:, 0])), expected.pred_boxes, atol=1e-4)
    written = table.write(found, NETWORK)
    assert written.keys() == arrays.keys() - set(unknown)
    for name, array in written.items():
        np.testing.assert_array_equal(array, arrays[name])
    of_modules, _ = table.read({name: x.numpy() for name, x in model.state_dict().items()}, NETWORK)
    assert {k: v.keys() for k, v in of_modules.items()} == {k: v.keys() for k, v in found.items()}
