"""Attention drawn over an image: the grid is that of the backbone, without tokens that have no place."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from arch.captioner import Captioner
from arch.convnet import ConvNet
from arch.vit import ViT
from core.info import Info, Key
from core.vocabulary import Vocabulary
from data.augment.transform import Transform
from inference import pictures
from inference.inputs import Inputs
from inference.predict import Predictions, Trained
from tasks.generation import Generation
from training.decoding import generate

PATCHES = partial(ViT, patch=(4, 4), width=12, depth=1, heads=2)
CELLS = {  # backbone, what the decoder reads, tokens before the cells of an image of 8 x 20 pixels, and its grid
    "class token": (PATCHES, "tokens", 1, (2, 5)),
    "no class token": (partial(PATCHES, pool="mean"), "tokens", 0, (2, 5)),
    "class token that is not read": (PATCHES, "map", 0, (2, 5)),
    "feature map": (partial(ConvNet, widths=(4, 8)), "map", 0, (4, 10)),
}
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 8, 20, 3), np.uint8)


@pytest.fixture
def drawn(monkeypatch):
    """Returns the list of the weights of each picture that is drawn."""
    found = []
    monkeypatch.setattr(pictures.attention_figures, "over_image", lambda *args: found.append(args[-1]))
    return found


def predictions(backbone, memory):
    """Returns a caption of IMAGE by a decoder of ten blocks, whose weights are 0 but for those of the last block: of
    token i of the text, 1 at place i of what it attends to."""
    info = Info("made up", {}, {"image": Key((8, 20, 3), "uint8", "image"), "text": Key((4,), "int32", "tokens")})
    task = Generation(
        ("image", "text"), target="text", conditions=("image",), max_length=9, vocabulary=Vocabulary(9, bos=1, eos=2)
    )
    sizes = {"num_classes": 9, "width": 12, "heads": 3, "mlp_width": 8, "depth": 1, "decoder_depth": 10}
    model, transform = Captioner(backbone=backbone, memory=memory, **sizes), Transform.create((), info)
    batch = {"image": IMAGE, "index": np.zeros(1, np.int32), "mask": np.ones(1, np.float32)}
    image, text = jnp.zeros((1, 8, 20, 3)), jnp.zeros((1, 4), jnp.int32)
    variables = jax.eval_shape(partial(model.init, train=False), jax.random.key(0), image, text)
    decode = partial(generate, model, task=task, capture=("attention",))
    decoded = jax.eval_shape(lambda variables: decode(variables, batch={"image": image}), variables)
    outputs = {path: np.zeros(x.shape, np.float32) for path, x in decoded.captured.items()}
    (last,) = (path for path in outputs if "block10" in path)
    outputs[last][0] = np.eye(*outputs[last].shape[1::2])[:, None]  # [tokens, heads, places]
    outputs |= {"prediction": np.full((1, 9), 3), "lengths": np.array([9])}
    run = Trained(ConfigDict(), info, task, model, variables, transform)
    return Predictions(run, Inputs(["a.png"], batch, {}), outputs, [])


@pytest.mark.parametrize("case", CELLS)
def test_the_grid_has_the_cells_alone(case, drawn):
    backbone, memory, others, grid = CELLS[case]
    pictures.draw_attention("a.png", predictions(backbone, memory))
    (weights,) = drawn
    assert weights.shape == (9, *grid)
    for token in range(9):
        lit = [(int(row), int(column)) for row, column in np.argwhere(weights[token] > 0.5)]
        assert lit == ([divmod(token - others, grid[1])] if token >= others else [])
