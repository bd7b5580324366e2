"""DETR (`arch.detr.DETR`) with a ResNet: the folders of transformers' DetrForObjectDetection, and their
model.safetensors alone as "torch:FILE".

Source: modeling_detr.py, configuration_detr.py and conversion_mapping.py of transformers 5.24. The names are those of
files; those of its modules are read, too. The backbone is one of timm or of transformers; the export writes the latter.
Its images are normalised with the statistics of ImageNet, and a short side of 800 pixels: `configs/detection.py:coco`.
transformers has one more dropout in training, before the encoder. Its `auxiliary_loss` makes another network, in which
each block of the decoder reads the norm of the one before, and is refused; the field `auxiliary` changes no output.
"""

import re
from collections.abc import Iterable, Iterator
from types import SimpleNamespace

from arch.pretrained import resnet
from arch.pretrained.family import (
    FREE,
    Change,
    Choice,
    Classes,
    Config,
    Family,
    Fields,
    Fixed,
    Part,
    Shapes,
    Value,
    Weight,
    arguments,
    dense,
    norm,
    refusal,
)
from arch.pretrained.gpt import ACTIVATIONS
from arch.pretrained.table import Network, Table
from arch.pretrained.transformer import OfBothSides, side_rows
from core import names
from core.errors import nearest

POINTWISE = Change(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])  # a 1x1 convolution as a dense layer
BACKBONE = "model.backbone.conv_encoder.model."
FROZEN = "layers.norm.frozen_batch_norm(epsilon=1e-05)"
TIMM = {  # name -> config.json of the same network in transformers
    f"resnet{layers}": {
        "layer_type": "basic" if layers < 50 else "bottleneck",
        "depths": depths,
        "hidden_sizes": [width * 2**stage for stage in range(4)],
    }
    for layers, depths, width in (
        (18, [2, 2, 2, 2], 64),
        (34, [3, 4, 6, 3], 64),
        (50, [3, 4, 6, 3], 256),
        (101, [3, 4, 23, 3], 256),
        (152, [3, 8, 36, 3], 256),
    )
}


class Backbone(Part):
    """The ResNet: `backbone_config` of transformers' or timm's, or in older files timm's name alone."""

    def read(self, config: Config) -> Fields:
        found = config.get(self.theirs) or {}
        if found.get("model_type") == "timm_backbone" or (not found and config.get("use_timm_backbone", True)):
            name = found.get("backbone") or config.get("backbone") or "resnet50"
            if (plain := name.partition(".")[0]) not in TIMM:  # behind the point is the name of its weights
                raise refusal("backbone", name, nearest(plain, TIMM))
            found = found | TIMM[plain] | {"model_type": "resnet"}
        last = len(found.get("depths", (3, 4, 6, 3)))
        stages = found.get("out_features") or found.get("out_indices") or [last]
        if not str(stages[-1]).endswith(str(last)):
            raise refusal("out_features", stages, f"only those that end with the last, stage{last}")
        return super().read({self.theirs: found})

    def write(self, fields: Fields) -> Config:
        written = super().write(fields)[self.theirs]
        last = {"out_features": [f"stage{len(written['depths'])}"]} if "depths" in written else {}
        return {self.theirs: written | last, "use_timm_backbone": False}


def _module(name: str) -> str:
    """Returns the name in transformers' modules of a name in its files."""
    name = name.replace("backbone.conv_encoder", "backbone").replace("out_proj", "o_proj")
    return re.sub(r"(layers\.\d+)\.fc", r"\1.mlp.fc", name)


def _rows(network: Network) -> Iterator[Weight]:
    """Returns the rows with timm's names of the backbone, if it is a ResNet."""
    return _with_modules([*_backbone_rows(network.backbone(), resnet.TORCHVISION), *_transformer_rows(network)])


def _family_rows(fields: Fields) -> Iterator[Weight]:
    """Returns the rows with transformers' names of the backbone, and timm's as others."""
    backbone = SimpleNamespace(**arguments(names.resolve(fields["backbone"], "arch", "config.model.backbone")))
    both = zip(*(_backbone_rows(backbone, kind) for kind in (resnet.TRANSFORMERS, resnet.TORCHVISION)), strict=True)
    aliases = [row._replace(theirs=f"{row.theirs}|{other.theirs}") for row, other in both]
    return _with_modules([*aliases, *_transformer_rows(SimpleNamespace(**fields))])


def _with_modules(rows: Iterable[Weight]) -> Iterator[Weight]:
    for row in rows:
        theirs = row.theirs.split("|")
        yield row._replace(theirs="|".join(dict.fromkeys([*theirs, *map(_module, theirs)])))


def _backbone_rows(backbone: Network, kind: resnet.Names) -> Iterator[Weight]:
    for row in resnet.rows(backbone, kind) if hasattr(backbone, "blocks") else ():
        theirs = "|".join(f"{BACKBONE}{name}" for name in row.theirs.split("|"))
        yield row._replace(theirs=theirs, ours=tuple(f"image_network/{path}" for path in row.ours))


def _transformer_rows(network: Network) -> Iterator[Weight]:
    yield from dense("model.input_projection", "projection", change=POINTWISE)
    for theirs, ours in {"row": "rows", "column": "columns"}.items():
        places = (f"model.{owner}position_embedding.{theirs}_embeddings.weight" for owner in ("", "backbone."))
        yield Weight("|".join(places), (f"places/{ours}",))
    yield Weight("model.query_position_embeddings.weight", ("query_places",))
    for side, depth in {"encoder": network.depth, "decoder": network.decoder_depth}.items():
        for row in side_rows(side):
            theirs = "|".join(f"model.{name}" for name in row.theirs.split("|"))
            yield from (row._replace(theirs=theirs).of_block(i) for i in range(depth))
    yield from norm("model.decoder.layernorm", "decoder/norm")
    yield from dense("class_labels_classifier", "head")
    for i, ours in enumerate(("hidden1", "hidden2", "out")):
        yield from dense(f"bbox_predictor.layers.{i}", f"box_head/{ours}")


def _of_shapes(shapes: Shapes, config: Config) -> Config:
    channels = {"num_channels": shapes["image_network/stem_conv/kernel"][-2]}
    return channels | {"backbone_config": config["backbone_config"] | channels}


TABLE = Table("detr.DETR", _rows, "transformers")
DETR = Family(
    model_type="detr",
    architecture="DetrForObjectDetection",
    model="detr.DETR",
    reads=(),
    image=lambda config: (800, 800, config.get("num_channels", 3)),
    processor="DetrImageProcessor",
    prefix="",
    weights=_family_rows,
    keys=(
        Backbone("backbone_config", "backbone", resnet.RESNET, {"norm": FROZEN}),
        Value("num_queries", ("queries",), 100),
        Value("d_model", ("width",), 256),
        Value("encoder_layers", ("depth",), 6),
        Value("decoder_layers", ("decoder_depth",), 6),
        OfBothSides("attention_heads", "heads", 8),
        OfBothSides("ffn_dim", "mlp_width", 2048),
        Value("dropout", ("dropout",), 0.1),
        Value("attention_dropout", ("attention_dropout",), 0.0),
        Value("activation_dropout", ("activation_dropout",), 0.0),
        Choice("activation_function", "activation", "relu", ACTIVATIONS),
        Choice("position_embedding_type", "positions", "sine", {"sine": "detr.Sines", "learned": "detr.LearnedSides"}),
        Fixed("auxiliary_loss", False),
        Fixed("dilation", False),
        Fixed("encoder_layerdrop", 0.0),
        Fixed("decoder_layerdrop", 0.0),
        Classes(),
    ),
    fields={"norm": "layers.norm.layer_norm(epsilon=1e-05)", "order": "post"},
    free=FREE | {"num_classes", "auxiliary"},
    ignored=(r".*\.num_batches_tracked", r"model\.backbone\..*\.fc\.(weight|bias)"),
    of_shapes=_of_shapes,
)
