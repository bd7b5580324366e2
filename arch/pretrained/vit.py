"""ViT (`arch.vit.ViT`) of transformers and of timm.

Source: modeling_vit.py, configuration_vit.py and conversion_mapping.py of transformers 5.24. The names are those of
files, which differ from those of its modules. The images of its folders are square, and normalised with mean and
standard deviation 0.5: `config.augment.ops = ("normalise(mean=0.5, std=0.5)",)`. timm's names are those of
timm/models/vision_transformer.py of timm 1.0.31, for networks with `model.activation="layers.feedforward.gelu_exact"`;
its networks with the mean of the patches have their last norm behind the mean, and are not these.
"""

import math
from collections.abc import Iterator

import numpy as np

from arch.pretrained.family import (
    FREE,
    Argument,
    Change,
    Choice,
    Classes,
    Config,
    Family,
    Fields,
    Key,
    Parts,
    Shapes,
    Value,
    Weight,
    dense,
    norm,
    refusal,
)
from arch.pretrained.gpt import ACTIVATIONS
from arch.pretrained.table import Network, Table, conv
from core.errors import UserError

ATTENTION, FEED_FORWARD = "trunk/block{}/attention", "trunk/block{}/feed_forward"


def _grid(positions: np.ndarray) -> np.ndarray:
    """Returns the positions [h w, d] of a square image as [h, w, d]."""
    side = math.isqrt(len(positions))
    if side * side != len(positions):
        raise UserError(f"the {len(positions)} positions are not those of a square image: their grid is unknown")
    return positions.reshape(side, side, -1)


TOKEN_AND_GRID = Parts(
    lambda x, count: (x[0, :1], _grid(x[0, 1:])),
    lambda parts: np.concatenate([parts[0], parts[1].reshape(-1, parts[1].shape[-1])])[None],
)
GRID = Change(lambda x: _grid(x[0]), lambda x: x.reshape(1, -1, x.shape[-1]))


def token_and_positions(token: str, positions: str) -> tuple[Weight, ...]:
    """Returns the rows of the class token and of the learned positions, whose first is that of the class token."""
    ours = ("positions/others", "positions/embedding")
    return Weight(token, ("class_token",)), Weight(positions, ours, parts=TOKEN_AND_GRID)


class PatchSize(Key):
    """The side of a patch, which is square."""

    def read(self, config: Config) -> Fields:
        size = config.get("patch_size", 16)
        sides = {size} if isinstance(size, int) else set(size)
        if len(sides) != 1:
            raise refusal("patch_size", size, "only square patches")
        return {"patch": (*sides, *sides)}

    def write(self, fields: Fields) -> Config:
        return {"patch_size": fields["patch"][0]}


def _of_shapes(shapes: Shapes, config: Config) -> Config:
    *_, channels, _ = shapes["patches/kernel"]
    rows, columns, _ = shapes["positions/embedding"]
    if rows != columns:
        raise refusal("image_size", tuple(config["patch_size"] * n for n in (rows, columns)), "only square images")
    return {"image_size": config["patch_size"] * rows, "num_channels": channels}


VIT = Family(
    model_type="vit",
    architecture="ViTForImageClassification",
    model="vit.ViT",
    reads=(),
    image=lambda config: (*(config.get("image_size", 224),) * 2, config.get("num_channels", 3)),
    prefix="vit.",
    headed=("classifier.weight", "classifier.bias"),
    weights=(
        *token_and_positions("embeddings.cls_token", "embeddings.position_embeddings"),
        *conv("embeddings.patch_embeddings.projection", "patches"),
        *norm("encoder.layer.{}.layernorm_before", f"{ATTENTION}/norm"),
        *dense("encoder.layer.{}.attention.attention.query", f"{ATTENTION}/layer/query"),
        *dense("encoder.layer.{}.attention.attention.key", f"{ATTENTION}/layer/key"),
        *dense("encoder.layer.{}.attention.attention.value", f"{ATTENTION}/layer/value"),
        *dense("encoder.layer.{}.attention.output.dense", f"{ATTENTION}/layer/out"),
        *norm("encoder.layer.{}.layernorm_after", f"{FEED_FORWARD}/norm"),
        *dense("encoder.layer.{}.intermediate.dense", f"{FEED_FORWARD}/layer/hidden"),
        *dense("encoder.layer.{}.output.dense", f"{FEED_FORWARD}/layer/out"),
        *norm("layernorm", "trunk/norm"),
        *dense("classifier", "head"),
    ),
    keys=(
        Value("hidden_size", ("width",), 768),
        Value("num_hidden_layers", ("depth",), 12),
        Value("num_attention_heads", ("heads",), 12),
        Value("intermediate_size", ("mlp_width",), 3072),
        Value("hidden_dropout_prob", ("dropout",), 0.0),
        Value("attention_probs_dropout_prob", ("attention_dropout",), 0.0),
        Value("qkv_bias", ("qkv_bias",), True),
        Choice("hidden_act", "activation", "gelu", ACTIVATIONS),
        Argument("layer_norm_eps", "norm", 1e-12, "layers.norm.layer_norm", "epsilon"),
        PatchSize(),
        Classes(),
    ),
    fields={"resampling": "layers.grids.bicubic"},
    missing={"mlp_width": lambda fields: 4 * fields["width"]},
    free=FREE | {"num_classes", "resampling", "patch_init", "head_init"},
    of_shapes=_of_shapes,
)


def _timm(network: Network) -> Iterator[Weight]:
    if network.pool == "token":
        yield from token_and_positions("cls_token", "pos_embed")
    else:
        yield Weight("pos_embed", ("positions/embedding",), GRID)
    yield from conv("patch_embed.proj", "patches")
    for block in range(network.depth):
        theirs, attention, mlp = f"blocks.{block}", ATTENTION.format(block + 1), FEED_FORWARD.format(block + 1)
        yield from norm(f"{theirs}.norm1", f"{attention}/norm")
        yield from dense(f"{theirs}.attn.qkv", *(f"{attention}/layer/{part}" for part in ("query", "key", "value")))
        yield from norm(f"{theirs}.attn.q_norm", f"{attention}/layer/query_norm")
        yield from norm(f"{theirs}.attn.k_norm", f"{attention}/layer/key_norm")
        yield from dense(f"{theirs}.attn.proj", f"{attention}/layer/out")
        yield Weight(f"{theirs}.ls1.gamma", (f"{attention}/layer_scale",))
        yield from norm(f"{theirs}.norm2", f"{mlp}/norm")
        yield from dense(f"{theirs}.mlp.fc1", f"{mlp}/layer/hidden")
        yield from dense(f"{theirs}.mlp.fc2", f"{mlp}/layer/out")
        yield Weight(f"{theirs}.ls2.gamma", (f"{mlp}/layer_scale",))
    yield from norm("norm", "trunk/norm")
    yield Weight("attn_pool.latent", ("attention_pool/query",))
    yield from dense("attn_pool.q", "attention_pool/attention/query")
    yield from dense("attn_pool.kv", "attention_pool/attention/key", "attention_pool/attention/value")
    yield from dense("attn_pool.proj", "attention_pool/attention/out")
    yield from norm("attn_pool.norm", "attention_pool/norm")
    yield from dense("attn_pool.mlp.fc1", "attention_pool/feed_forward/hidden")
    yield from dense("attn_pool.mlp.fc2", "attention_pool/feed_forward/out")
    yield from dense("head", "head")


TIMM = Table("vit.ViT", _timm, "timm")
