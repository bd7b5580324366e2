"""Data sets with made-up examples, prepared without TensorFlow or network and read as the real ones are."""

import contextlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data import builders
from data.builders.raw import FromFiles
from data.builders.sequences import Procedural
from data.sources.tfds import Official


def prepare(name: str, data_dir: str, sizes: Mapping[str, int]) -> None:
    """Prepares the official set `name` under `data_dir`: its own features, random examples whose labels can be learnt.

    `sizes` gives the number of examples of each split. Images are brighter the higher the label.
    """
    builder = tfds.builder(name, data_dir=data_dir, file_format="array_record")
    splits = {split: _examples(builder.info.features, size) for split, size in sizes.items()}
    with (
        mock.patch.object(builder, "_split_generators", lambda manager: splits),
        mock.patch.object(tfds.features.Image, "encode_example", _png),  # TFDS's own needs TensorFlow
    ):
        builder.download_and_prepare()


def few_examples(patch: Any) -> None:
    """Gives the procedural sets of `data.builders` few examples.

    Args:
        patch: pytest's MonkeyPatch.
    """
    for builder in builders.BUILDERS.values():
        if issubclass(builder, Procedural) and hasattr(builder, "SIZES"):
            patch.setattr(builder, "SIZES", dict.fromkeys(builder.SIZES, 600))
        module = sys.modules[builder.__module__]
        if not issubclass(builder, FromFiles) and hasattr(module, "SPLITS"):
            patch.setattr(module, "SPLITS", dict.fromkeys(module.SPLITS, 300))


def _examples(features: Any, size: int) -> Iterator[tuple[int, dict[str, Any]]]:
    rng = np.random.default_rng(0)
    classes = features["label"].num_classes if "label" in features else 3
    for i in range(size):
        label = i % classes
        level = 255 * (label + 0.5) / classes
        yield i, {key: _value(key, feature, label, level, rng) for key, feature in features.items()}


def _value(key: str, feature: Any, label: int, level: float, rng: np.random.Generator) -> Any:
    if isinstance(feature, tfds.features.Image):
        shape = (30 if side is None else side for side in feature.shape)
        return np.clip(rng.normal(level, 10, tuple(shape)), 0, 255).astype(np.uint8)
    if isinstance(feature, tfds.features.ClassLabel):
        return label % feature.num_classes
    if isinstance(feature, tfds.features.Sequence):  # objects
        return [{"bbox": tfds.features.BBox(0.1, 0.2, 0.5, 0.6), "label": label}]
    return f"{key}{label}"


def _png(feature: tfds.features.Image, image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(file, format="png")
    return file.getvalue()


WORDS = ("a", "man", "dog", "in", "blue", "red", "plays", "runs", "with", "two")
SIZES = {"train": 32, "validation": 16, "test": 16}


def _sentence(random: np.random.Generator) -> str:
    return " ".join(random.choice(WORDS, random.integers(3, 8))) + "."


def _running_text(random: np.random.Generator) -> dict[str, Any]:
    return {"text": "\n".join(_sentence(random) for _ in range(25))}


def _intent(random: np.random.Generator) -> dict[str, Any]:
    text, i = _sentence(random), int(random.integers(3))
    named = {"intent": i, "intent_name": WORDS[i], "domain": 0, "domain_name": "all"}
    return {"text": f"{WORDS[i]} {WORDS[i]} {text}", **named}


def _news(random: np.random.Generator) -> dict[str, Any]:
    return {"text": _sentence(random), "label": int(random.integers(4))}


def _pair(random: np.random.Generator) -> dict[str, Any]:
    source = _sentence(random)
    return {"source": source, "target": source.upper()}


def _speech(random: np.random.Generator) -> dict[str, Any]:
    """Returns a tone a digit, as much higher as the digit is."""
    digits = random.integers(10, size=random.integers(3, 6), dtype=np.int32)
    tones = [np.sin(np.arange(1_600) * (0.2 + 0.2 * digit)) for digit in digits]
    audio = np.round(8_000 * np.concatenate(tones)).astype(np.int16)
    text = " ".join(builders.speech.WORDS[digit] for digit in digits)
    return {"audio": audio, "text": text, "digits": digits, "speaker": 0}


def _digit(random: np.random.Generator) -> dict[str, Any]:
    """Returns a tone, as much higher as the digit is."""
    label = int(random.integers(10))
    tone = np.sin(np.arange(random.integers(300, 700)) * (0.2 + 0.2 * label))
    return {"audio": np.round(8_000 * tone).astype(np.int16), "label": label, "speaker": 0}


def _music(random: np.random.Generator) -> dict[str, Any]:
    return {"notes": (random.random((random.integers(5, 20), 88)) < 0.05).astype(np.uint8)}


def _series(random: np.random.Generator) -> dict[str, Any]:
    return {"series": random.normal(size=(90, 7)).astype(np.float32).cumsum(0)}


def _picture(random: np.random.Generator) -> dict[str, Any]:
    return {"image": random.integers(0, 256, (50, 200, 3), dtype=np.uint8), "text": _sentence(random)}


def _cased(random: np.random.Generator) -> dict[str, Any]:
    words = _sentence(random).split()
    return {"words": words, "case": [len(word) % 4 for word in words]}


def _spoken(random: np.random.Generator) -> dict[str, Any]:
    words = _sentence(random).split()
    classes = [len(word) % 3 for word in words]
    return {"tokens": words, "pos": classes, "chunks": classes, "ner": classes}


def _wine(random: np.random.Generator) -> dict[str, Any]:
    return {"features": {"alcohol": random.normal(), "pH": random.normal()}, "quality": int(random.integers(10))}


def _question(random: np.random.Generator) -> dict[str, Any]:
    context = _sentence(random)
    answer = context.split()[1]
    return {"question": "which", "context": context, "answer": answer, "answer_start": context.index(answer)}


def _penguin(random: np.random.Generator) -> dict[str, Any]:
    measures = {key: float(random.normal()) for key in builders.penguins.NUMBERS}
    return {key: int(random.integers(-1, 2)) for key in ("island", "sex")} | measures | {"species": random.integers(3)}


def _block(random: np.random.Generator) -> dict[str, Any]:
    labels = random.integers(0, 2, (24, 40, 40, 1), dtype=np.uint8)
    return {"volume": labels + random.normal(size=labels.shape).astype(np.float32), "label_map": labels}


def _clip(random: np.random.Generator) -> dict[str, Any]:
    """Returns a clip that becomes brighter, or darker if it is played backwards."""
    label = int(random.integers(2))
    levels = (np.arange(4) * 50)[:: -1 if label else 1, None, None, None]
    return {"video": (levels + random.integers(0, 100, (4, 60, 80, 3))).astype(np.uint8), "label": label}


def _patch(random: np.random.Generator) -> dict[str, Any]:
    label = int(random.integers(3))
    return {"volume": 100 * label + random.normal(size=(5, 16, 16, 1)).astype(np.float32), "label": label}


RAW = {
    "brain_mri": _block,
    "brain_tissues": _patch,
    "camvid_clips": _clip,
    "palmer_penguins": _penguin,
    "wikitext_small": _running_text,
    "xquad_articles": _question,
    "truecasing": _cased,
    "multi30k/de-en": _pair,
    "ag_news_topics": _news,
    "ett/h1": _series,
    "poly_music/jsb": _music,
    "poly_music/nottingham": _music,
    "joined_digits/random": _speech,
    "joined_digits/by_speaker": _speech,
    "spoken_digits/random": _digit,
    "nlvr": _picture,
}
SPLITS = {"multi30k/de-en": {"train": 32, "validation": 16, "test_2016": 16}, "nlvr": {"train": 80, "test": 16}}
SPLITS["brain_mri"] = {"train": 8, "validation": 8, "test": 8}
SPLITS["palmer_penguins"] = {"train": 32, "test": 16}
SPLITS["bccd"] = {"train": 8, "validation": 4, "test": 4}
SPLITS["conll2003"] = {"train": 32, "dev": 16, "test": 16}
SPLITS["imagenet2012"] = {"train": 80, "validation": 16}
SPLITS["wine_quality/white"] = {"train": 64}
SPLITS |= dict.fromkeys(("tiny_shakespeare", "ett/h1"), dict.fromkeys(SIZES, 1))
TEXT, THREE = tfds.features.Text(), tfds.features.ClassLabel(num_classes=3)
NAMES = tfds.features.ClassLabel(names=["O", "B-PER", "I-PER"])
TAGGED = {"pos": THREE, "chunks": THREE, "ner": NAMES}
STORED = {  # sets whose official builder is not asked once they are prepared
    "tiny_shakespeare": ({"text": TEXT}, _running_text),
    "clinc_oos": (
        {"text": TEXT, "intent": np.int32, "intent_name": TEXT, "domain": np.int32, "domain_name": TEXT},
        _intent,
    ),
    "wine_quality/white": (
        {
            "features": tfds.features.FeaturesDict(dict.fromkeys(("alcohol", "pH"), np.float32)),
            "quality": np.int32,
        },
        _wine,
    ),
    "conll2003": (
        {"tokens": tfds.features.Sequence(TEXT), **{key: tfds.features.Sequence(of) for key, of in TAGGED.items()}},
        _spoken,
    ),
}


def prepare_recipes(data_dir: str, names: Iterable[str]) -> None:
    """Prepares under `data_dir` a small set of the same keys and shapes for each named set, without any raw file."""
    tfds.disable_progress_bar()
    for name in names:
        base, _, config = name.partition("/")
        builder = builders.BUILDERS.get(base)
        if name in STORED:
            features, draw = STORED[name]
            configs = [tfds.core.BuilderConfig(name=config, version="1.0.0")] if config else []
            fields = {"name": base, "FEATURES": features, "BUILDER_CONFIGS": configs}
            _make(type(base, (_Stored,), fields, skip_registration=True), name, draw, data_dir)
        elif name in RAW:
            _make(builder, name, RAW[name], data_dir)
        elif builder is None:
            prepare(name, data_dir, SPLITS.get(name, {"train": 80, "test": 16}))
        else:
            with _fewer_examples(builder, config):
                Official(name, data_dir)
    tfds.enable_progress_bar()


def _fewer_examples(builder: type, config: str) -> contextlib.AbstractContextManager:
    """Makes a builder that draws its examples draw few of them."""
    holders = [(builder, "SIZES"), (sys.modules[builder.__module__], "SPLITS")]
    holders += [(found, "sizes") for found in builder.builder_configs.values() if found.name == config]
    for holder, attribute in holders:
        if hasattr(holder, attribute):
            return mock.patch.object(holder, attribute, SIZES)
    return contextlib.nullcontext()


class _Stored(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    VERSION = tfds.core.Version("1.0.0")
    FEATURES: Mapping[str, Any]

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(self.FEATURES))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        raise NotImplementedError("replaced by _make")

    def _generate_examples(self) -> None:
        raise NotImplementedError("replaced by _make")


def _make(cls: type, name: str, draw: Callable[[np.random.Generator], dict[str, Any]], data_dir: str) -> None:
    config = name.partition("/")[2]
    builder = cls(config=config or None, data_dir=data_dir, file_format="array_record")
    random = np.random.default_rng(0)
    splits = {split: iter([(i, draw(random)) for i in range(size)]) for split, size in SPLITS.get(name, SIZES).items()}
    with mock.patch.object(builder, "_split_generators", lambda manager: splits):
        builder.download_and_prepare()
