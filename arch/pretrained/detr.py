"""DETR (`arch.detr.DETR`) with a ResNet: model.safetensors of transformers' DetrForObjectDetection, as "torch:FILE".

Source: modeling_detr.py and conversion_mapping.py of transformers 5.24. The names are those of files; those of its
modules are read, too. Its images are normalised with the statistics of ImageNet:
`config.augment.ops = ("normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))",)`.
"""

import re
from collections.abc import Iterator

from arch.pretrained import resnet
from arch.pretrained.family import Change, Weight, dense, norm
from arch.pretrained.table import Network, Table
from arch.pretrained.transformer import side_rows

POINTWISE = Change(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])  # a 1x1 convolution as a dense layer
BACKBONE = "model.backbone.conv_encoder.model."


def _module(name: str) -> str:
    """Returns the name in transformers' modules of a name in its files."""
    name = name.replace("backbone.conv_encoder", "backbone").replace("out_proj", "o_proj")
    return re.sub(r"(layers\.\d+)\.fc", r"\1.mlp.fc", name)


def _rows(network: Network) -> Iterator[Weight]:
    for row in _of_files(network):
        names = row.theirs.split("|")
        yield row._replace(theirs="|".join(dict.fromkeys([*names, *map(_module, names)])))


def _of_files(network: Network) -> Iterator[Weight]:
    backbone = network.backbone()
    for row in resnet.rows(backbone) if hasattr(backbone, "blocks") else ():
        theirs = "|".join(f"{BACKBONE}{name}" for name in row.theirs.split("|"))
        yield row._replace(theirs=theirs, ours=tuple(f"image_network/{path}" for path in row.ours))
    yield from dense("model.input_projection", "projection", change=POINTWISE)
    yield Weight("model.query_position_embeddings.weight", ("query_places",))
    for side, depth in {"encoder": network.depth, "decoder": network.decoder_depth}.items():
        for row in side_rows(side):
            theirs = "|".join(f"model.{name}" for name in row.theirs.split("|"))
            yield from (row._replace(theirs=theirs).of_block(i) for i in range(depth))
    yield from norm("model.decoder.layernorm", "decoder/norm")
    yield from dense("class_labels_classifier", "head")
    for i, ours in enumerate(("hidden1", "hidden2", "out")):
        yield from dense(f"bbox_predictor.layers.{i}", f"box_head/{ours}")


TABLE = Table("detr.DETR", _rows, "transformers")
