"""Any architecture on any kind of data: python train.py --config=configs/suite.py:images_builtin,transformer \\
        --workdir=runs/suite [--data_dir=DIR]

The argument is MODALITY,ARCHITECTURE. MODALITIES: real data, and with `_builtin` data that need no download. The data,
their preprocessing and the task are those of the modality's own recipe; the optimizer is the same for all.
ARCHITECTURES: networks of about 100 thousand parameters (155 thousand for `text`, most of them in the table of words),
with the dropout of their papers. A pair that makes no sense is refused with the reason.

`experiments/suite.py` compares them at equal parameters and at equal training time.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from configs import digits, images, sequences, series, sound, tabular, text, video
from core.errors import UserError, nearest
from training.overrides import override


@dataclasses.dataclass(frozen=True)
class Modality:
    """Data, task and measure.

    Attributes:
        recipe: returns the config that states data and task.
        metric: of the test split, with a minus if lower is better.
        steps: of a training run.
        changes: overrides of the recipe.
        patch: fields of networks of patches or tokens.
        network: a call that takes the network, {}.
    """

    recipe: Callable[[], ConfigDict]
    metric: str
    steps: int
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    patch: str = ""
    network: str = "{}"


BUILT_IN = "_builtin"
SHAKESPEARE = {  # no state is carried from window to window: all networks read the same 64 characters
    "data.preprocess": ("tokenize('text', characters(), special=False)", "windows('text', 64)"),
    "data.order": "shuffled",
}
HELD_OUT = {"data.splits.train": "train[:90%]", "data.splits.validation": "train[90%:]"}  # to choose the rate
WORDS = {"data.preprocess": ("tokenize('text', words(size=4000, lowercase=True), max_length=64)",)}
TONES = {"data.name": "tones/2048", "data.preprocess": ("waveform(length=2048)", "log_mel(bands=40)")}
SERIES = {"patch": "patch=(8,)", "network": "forecaster.Forecaster(network={}, linear='none')"}
COPYING = {"data.name": "copy_memory/20"}
MODALITIES = {
    "tables": Modality(partial(tabular.get_config, "wine_quality"), "-test/rmse", 1500),
    "tables_builtin": Modality(partial(tabular.get_config, "breast_cancer"), "test/accuracy", 400),
    "images": Modality(partial(images.get_config, "cmaterdb"), "test/accuracy", 400, HELD_OUT, patch="patch=(4, 4)"),
    "images_builtin": Modality(digits.get_config, "test/accuracy", 600, patch="patch=(2, 2)"),
    "text": Modality(partial(text.get_config, "ag_news_recurrent"), "test/accuracy", 400, WORDS, "context=64"),
    "text_builtin": Modality(partial(sequences.get_config, "listops"), "test/accuracy", 600, patch="context=99"),
    "language": Modality(
        partial(text.get_config, "shakespeare"), "-test/bits_per_token", 500, SHAKESPEARE, "context=64"
    ),
    "language_builtin": Modality(
        partial(sequences.get_config, "copy_memory"), "test/accuracy", 600, COPYING, "context=64"
    ),
    "series": Modality(partial(series.get_config, "24"), "-test/mse", 400, **SERIES),
    "series_builtin": Modality(partial(series.get_config, "24"), "-test/mse", 400, {"data.name": "seasons"}, **SERIES),
    "sound": Modality(partial(sound.get_config, "log_mel"), "test/accuracy", 300, patch="patch=(4,), context=100"),
    "sound_builtin": Modality(
        partial(sound.get_config, "log_mel"), "test/accuracy", 300, TONES, "patch=(4,), context=24"
    ),
    "video": Modality(partial(video.get_config, "camvid"), "test/accuracy", 300, patch="patch=(1, 10, 10)"),
    "video_builtin": Modality(
        partial(video.get_config, "moving_digits"), "test/accuracy", 300, patch="patch=(2, 6, 6)"
    ),
    "volumes": Modality(partial(video.get_config, "tissues"), "test/accuracy", 300, patch="patch=(1, 4, 4)"),
    "volumes_builtin": Modality(
        partial(video.get_config, "digit_volumes"), "test/accuracy", 300, patch="patch=(4, 4, 4)"
    ),
}
PROTOCOL = {  # the same for all
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 3e-3,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_steps": 0.1,
    "optimizer.weight_decay": 1e-2,
    "optimizer.decay_mask": (".*kernel", ".*embedding"),
    "optimizer.clip_norm": 1.0,
    "data.buckets": 0,
    "train.batch_size": 64,
    "train.patience": 0,
    "eval.every": 0.0,
    "checkpoint.best": "",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A kind of network.

    Attributes:
        refusal: the reason why it takes no other modality.
        widths: modality -> the width that gives the number of parameters.
        network: the network; {w}, {w2} and {w4} stand for its width and multiples, {patch} for the modality's patches.
        others: modality, without `_builtin` -> another network of this kind.
    """

    refusal: str
    network: str
    widths: Mapping[str, int]
    others: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def on(self, modality: str) -> str:
        """Returns the network for a modality of `widths`."""
        w, of = self.widths[modality], MODALITIES[modality]
        network = self.others.get(modality, self.others.get(modality.removesuffix(BUILT_IN), self.network))
        return of.network.format(network.format(w=w, w2=2 * w, w4=4 * w, patch=of.patch))


def both(modality: str, width: int) -> dict[str, int]:
    """Returns the same width for the real and the built-in set of a modality."""
    return {modality: width, modality + BUILT_IN: width}


RECURRENT = "recurrent networks read one row of steps"
LATER = "its tokens see later ones, so that it cannot predict the next one"
VIDEO_RESNET = "video_resnet.VideoResNet(blocks=(1, 1, 1), width={w}"
C3D = "c3d.C3D(groups=(({w},), ({w2},), ({w4},)), mlp_widths=(32,))"
COLUMNS = "ft_transformer.FTTransformer(depth=3, width={w}, heads=4, mlp_width={w}"


def recurrent(cell: str, widths: Mapping[str, int]) -> Architecture:
    """Returns one layer of recurrent units, as an architecture."""
    layer, embedding = f"cell=layers.recurrent.{cell}, widths=({{w}},)", "embedding_width=32"
    others = {
        "text": f"rnn.RecurrentClassifier({layer}, {embedding}, bidirectional=True, pooling='mean')",
        "language": f"rnn.RecurrentNetwork({layer}, {embedding})",
        "sound": f"rnn.RecurrentClassifier({layer}, pooling='mean')",  # a word ends long before its recording
    }
    return Architecture(RECURRENT, f"rnn.RecurrentClassifier({layer})", widths, others)


ARCHITECTURES = {
    "mlp": Architecture(
        "a dense network reads a fixed number of values, not tokens",
        "mlp.MLP(widths=({w}, {w}))",
        both("tables", 305)
        | {"images": 32, "images_builtin": 280, "series": 105, "series_builtin": 156, "sound": 25, "sound_builtin": 94}
        | {"video": 7, "video_builtin": 22, "volumes": 73, "volumes_builtin": 24},
    ),
    "convnet": Architecture(
        "plain convolutions are here for images, texts, video and volumes; resnet and tcn read series and sound",
        "convnet.ConvNet(widths=({w}, {w2}, {w4}))",
        both("images", 33)
        | {"text": 68, "text_builtin": 239}
        | both("video", 15)
        | {"volumes": 17, "volumes_builtin": 16},
        {"text": "textcnn.TextCNN(embedding_width=32, filters={w})", "video": C3D, "volumes": C3D},
    ),
    "resnet": Architecture(
        "a residual network reads numbers, not tokens",
        "resnet.CifarResNet(depth=8, width={w})",
        both("tables", 110)
        | both("images", 18)
        | both("series", 56)
        | both("sound", 18)
        | {"video": 10, "video_builtin": 11}
        | both("volumes", 11),
        {
            "tables": "mlp.TabularResNet(width={w})",
            "series": "resnet.WaveResNet(blocks=(1, 1), stem_size=8, width={w})",
            "sound": "resnet.ResNet(block=resnet.BasicBlock, blocks=(1, 1, 1), width={w})",
            "video": VIDEO_RESNET + ")",
            "volumes": VIDEO_RESNET + ")",
        },
    ),
    "resnet_2d": Architecture(
        "it reads frame by frame, or layer by layer",
        VIDEO_RESNET + ", temporal=(False,))",
        both("video", 18) | both("volumes", 18),
    ),
    "convnext": Architecture(
        "ConvNeXt reads images",
        "convnext.ConvNeXt(depths=(2, 2, 2), width={w}, patch=2)",
        {"images": 15, "images_builtin": 32},
        {"images_builtin": "convnext.ConvNeXt(depths=(2, 2), width={w}, patch=2)"},
    ),
    "densenet": Architecture(
        "DenseNet reads images",
        "densenet.DenseNet(blocks=(6, 6, 6), growth={w}, stem_width={w2}, small=True)",
        both("images", 9),
    ),
    "lstm": recurrent(
        "LSTM",
        {"text": 44, "text_builtin": 95, "language": 133, "language_builtin": 141, "series": 135, "series_builtin": 144}
        | both("sound", 138),
    ),
    "gru": recurrent(
        "GRU",
        {"text": 52, "text_builtin": 112, "language": 155, "language_builtin": 165, "series": 153}
        | {"series_builtin": 165}
        | both("sound", 162),
    ),
    "tcn": Architecture(
        "temporal convolutional networks read one row of steps",
        "tcn.TCNClassifier(widths=({w}, {w}, {w}, {w}), size=3)",
        {"text": 33, "text_builtin": 58, "sound": 57, "sound_builtin": 65} | both("language", 64) | both("series", 65),
        {
            "text": "tcn.TCNClassifier(widths=({w}, {w}, {w}, {w}), size=3, embedding_width=32)",
            "text_builtin": "tcn.TCNClassifier(widths=({w}, {w}, {w}, {w}, {w}), size=3, embedding_width=32)",
            "language": "tcn.TCN(widths=({w}, {w}, {w}, {w}), size=3, embedding_width=32)",
            "sound": "tcn.TCNClassifier(widths=({w}, {w}, {w}, {w}, {w}), size=3)",
            "sound_builtin": "tcn.TCNClassifier(widths=({w}, {w}, {w}, {w}), size=3)",
        },
    ),
    "transformer": Architecture(
        "",
        "vit.ViT({patch}, depth=3, width={w}, heads=4, pool='mean')",
        both("tables", 68)
        | both("images", 52)
        | {"text": 32, "text_builtin": 48}
        | both("language", 52)
        | {"series": 48, "series_builtin": 52}
        | both("sound", 48)
        | {"video": 48, "video_builtin": 52}
        | both("volumes", 52),
        {
            "tables": COLUMNS + ")",
            "text": "bert.BERT(head=bert.TextClassifier, {patch}, depth=2, width={w}, heads=4)",
            "text_builtin": "bert.BERT(head=bert.TextClassifier, {patch}, depth=3, width={w}, heads=4)",
            "language": "gpt.GPT({patch}, depth=3, width={w}, heads=4)",
        },
    ),
    "mixer": Architecture(
        LATER,
        "mixer.Mixer({patch}, depth=3, width={w})",
        both("tables", 100)
        | {"images": 59, "images_builtin": 63, "text": 31, "text_builtin": 58, "series": 59}
        | {"series_builtin": 61, "sound": 59, "sound_builtin": 60}
        | {"video": 55, "video_builtin": 59}
        | both("volumes", 59),
        {"tables": COLUMNS + ", mixer=mixer.TokenMLP(width=16))"},
    ),
    "gmlp": Architecture(
        LATER,
        "gmlp.GMLP({patch}, depth=3, width={w}, mlp_width={w2})",
        both("tables", 80)
        | {"images": 94, "images_builtin": 103, "text": 33, "text_builtin": 86, "series": 92}
        | {"series_builtin": 97, "sound": 94, "sound_builtin": 95}
        | {"video": 85, "video_builtin": 93}
        | both("volumes", 93),
        {"tables": COLUMNS + ", mixer=gmlp.GatedMLP(width={w}))"},
    ),
}


def pairs() -> list[tuple[str, str]]:
    """Returns all (modality, architecture) that train."""
    return [(modality, name) for modality in MODALITIES for name in architectures(modality)]


def architectures(modality: str) -> list[str]:
    """Returns the architectures for a modality."""
    return [name for name, architecture in ARCHITECTURES.items() if modality in architecture.widths]


def get_config(arg: str = "images_builtin,transformer"):
    """Returns the config of a pair. Raises UserError with the reason if it makes no sense."""
    modality, _, name = arg.partition(",")
    for part, known in ((modality, MODALITIES), (name, ARCHITECTURES)):
        if part not in known:
            raise UserError(f"{arg!r} is not MODALITY,ARCHITECTURE: unknown {part!r}: {nearest(part, known)}")
    architecture = ARCHITECTURES[name]
    if modality not in architecture.widths:
        raise UserError(
            f"{name} cannot train on {modality}: {architecture.refusal}; possible: {', '.join(architectures(modality))}"
        )
    of = MODALITIES[modality]
    steps = {"train.steps": of.steps, "model.name": architecture.on(modality)}
    return override(of.recipe(), {**PROTOCOL, **of.changes, **steps})[0]
