"""ResNets (`arch.resnet.ResNet`): resnet18 to resnet152, and those of other widths, of torchvision and of transformers.

Sources: torchvision/models/resnet.py of torchvision 0.28; modeling_resnet.py and configuration_resnet.py of
transformers 5.24. The stride of a bottleneck is in its 3x3 convolution in all three. Images are normalised with the
statistics of ImageNet: `config.augment.ops = ("normalise(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))",)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace

from arch.pretrained.family import FREE, Choice, Classes, Config, Family, Fields, Fixed, Key, Weight, dense, refusal
from arch.pretrained.gpt import ACTIVATIONS
from arch.pretrained.table import Network, Table, batch_norm, conv

Names = Mapping[str, str]  # layer of ours -> its name there, with numbers of stage, block and layer, from 0 and from 1

TORCHVISION: Names = {"stem_conv": "conv1", "stem_norm": "bn1", "head": "fc"} | {
    "Conv": "layer{stage}.{block}.conv{layer}",
    "BatchNorm": "layer{stage}.{block}.bn{layer}",
    "shortcut_conv": "layer{stage}.{block}.downsample.0",
    "shortcut_norm": "layer{stage}.{block}.downsample.1",
}
TRANSFORMERS: Names = {
    "stem_conv": "embedder.embedder.convolution",
    "stem_norm": "embedder.embedder.normalization",
    "Conv": "encoder.stages.{stage0}.layers.{block}.layer.{layer0}.convolution",
    "BatchNorm": "encoder.stages.{stage0}.layers.{block}.layer.{layer0}.normalization",
    "shortcut_conv": "encoder.stages.{stage0}.layers.{block}.shortcut.convolution",
    "shortcut_norm": "encoder.stages.{stage0}.layers.{block}.shortcut.normalization",
    "head": "classifier.1",
}


def rows(network: Network, names: Names = TORCHVISION) -> Iterator[Weight]:
    """Returns the rows of a ResNet's table."""
    yield from conv(names["stem_conv"], "stem_conv")
    yield from batch_norm(names["stem_norm"], "stem_norm")
    for stage, count in enumerate(network.blocks):
        for block in range(count):
            numbers, ours = {"stage0": stage, "stage": stage + 1, "block": block}, f"stage{stage + 1}_block{block + 1}"
            for layer in range(3):  # a basic block has two
                at = numbers | {"layer0": layer, "layer": layer + 1}
                yield from conv(names["Conv"].format(**at), f"{ours}/Conv_{layer}")
                yield from batch_norm(names["BatchNorm"].format(**at), f"{ours}/BatchNorm_{layer}")
            yield from conv(names["shortcut_conv"].format(**numbers), f"{ours}/shortcut_conv")
            yield from batch_norm(names["shortcut_norm"].format(**numbers), f"{ours}/shortcut_norm")
    yield from dense(names["head"], "head")


TABLE = Table("resnet.ResNet", rows)


class Stages(Key):
    """The numbers of blocks and channels; each stage has twice the channels of the one before."""

    def read(self, config: Config) -> Fields:
        width, counts = config.get("embedding_size", 64), config.get("depths", (3, 4, 6, 3))
        found, kind = config.get("hidden_sizes", (256, 512, 1024, 2048)), config.get("layer_type", "bottleneck")
        if list(found) != (expected := self._channels(kind, width, counts)):
            raise refusal("hidden_sizes", found, f"only {expected} with embedding_size {width} and depths {counts}")
        return {"width": width, "blocks": tuple(counts)}

    def write(self, fields: Fields) -> Config:
        kind = BLOCK.write(fields)[BLOCK.theirs]
        channels = self._channels(kind, fields["width"], fields["blocks"])
        return {"embedding_size": fields["width"], "hidden_sizes": channels, "depths": list(fields["blocks"])}

    @staticmethod
    def _channels(kind: str, width: int, counts: Sequence[int]) -> list[int]:
        return [width * 2**stage * (4 if kind == "bottleneck" else 1) for stage in range(len(counts))]


BLOCK = Choice(
    "layer_type", "block", "bottleneck", {"bottleneck": "resnet.BottleneckBlock", "basic": "resnet.BasicBlock"}
)
RESNET = Family(
    model_type="resnet",
    architecture="ResNetForImageClassification",
    model="resnet.ResNet",
    reads=(),
    image=lambda config: (224, 224, config.get("num_channels", 3)),
    prefix="resnet.",
    headed=("classifier.1.",),
    weights=lambda fields: rows(SimpleNamespace(**fields), TRANSFORMERS),
    keys=(
        BLOCK,
        Stages(),
        Choice("hidden_act", "activation", "relu", ACTIVATIONS),
        Fixed("downsample_in_first_stage", False),
        Fixed("downsample_in_bottleneck", False),
        Classes(),
    ),
    free=FREE | {"num_classes", "kernel_init", "zero_init"},
    ignored=(r".*\.num_batches_tracked",),
    of_shapes=lambda shapes, config: {"num_channels": shapes["stem_conv/kernel"][-2]},
)
