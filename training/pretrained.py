"""Published weights in Hugging Face's format as the start of a run: `config.init_from = "hf:FOLDER"`.

The folder has config.json, model.safetensors (or its parts and model.safetensors.index.json), and tokenizer.json.
"""

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from arch.pretrained.family import Family, class_names, families
from core.errors import UserError, nearest
from core.info import Info
from core.vocabulary import Vocabulary, load_tokenizer
from training.torch_file import read_safetensors

# endings of classes of transformers
CLASSIFIERS = tuple(
    f"For{kind}" for kind in ("SequenceClassification", "TokenClassification", "ImageClassification", "ObjectDetection")
)
PREFIX = "hf:"
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
INDEX = f"{WEIGHTS}.index.json"
IMAGES = "preprocessor_config.json"
SOURCE_PIECES = "source.spm"
DOWNLOADED = ("*.json", "*.safetensors", "*.spm")


def is_published(path: str) -> bool:
    """Whether a value of `config.init_from` names a folder of Hugging Face's format."""
    return path.startswith(PREFIX)


@dataclasses.dataclass(frozen=True)
class Published:
    """A folder of Hugging Face's format. All methods raise UserError for files that are missing or do not fit.

    Attributes:
        config: the content of config.json.
    """

    folder: Path
    config: dict[str, Any]
    family: Family

    @functools.cached_property
    def fields(self) -> dict[str, Any]:
        """The fields of the architecture, as values of a config."""
        try:
            return self.family.read_config(self.config)
        except UserError as error:
            raise UserError(f"{self.folder}: {error}") from error

    @property
    def model(self) -> dict[str, Any]:
        """The group `config.model`."""
        return {"name": self.family.model, **self.fields}

    def params(self) -> tuple[dict[str, np.ndarray], list[str]]:
        """Returns the parameters and batch statistics by path, and the names of arrays that have no place in the
        model."""
        arrays = {}
        for file in self._files():
            arrays |= read_safetensors(file)
        return self.family.read_weights(arrays, self.fields)

    def fitted(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, np.ndarray], list[str]]:
        """Returns the parameters and batch statistics for a model with these shapes by path, and the names that have no
        place in it.

        Arrays of another shape, or which the model lacks, are returned too.
        """
        params, unknown = self.params()
        return {path: self._padded(x, shapes.get(path, x.shape)) for path, x in params.items()}, unknown

    def _padded(self, x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Returns an array with zeros for tokens that only the parameter of this shape has (`pad_vocabulary`)."""
        size = self.fields.get("vocab_size")
        if len(shape) != x.ndim or not all(n == m or m == size < n for n, m in zip(shape, x.shape, strict=True)):
            return x
        return np.pad(x, [(0, n - m) for n, m in zip(shape, x.shape, strict=True)])

    def _files(self) -> list[Path]:
        if (self.folder / WEIGHTS).exists():
            return [self.folder / WEIGHTS]
        if (self.folder / INDEX).exists():
            return [self.folder / name for name in sorted(set(_json(self.folder / INDEX)["weight_map"].values()))]
        raise UserError(f"{self.folder} has no {WEIGHTS}: transformers writes it with save_pretrained")

    def tokenizer(self) -> Tokenizer | None:
        """Returns the tokenizer of tokenizer.json; None without that file."""
        path = self.folder / TOKENIZER
        return load_tokenizer(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes of a classifier's head; () for another head."""
        name = (self.config.get("architectures") or [self.family.architecture])[0]
        return class_names(self.config) if name.endswith(CLASSIFIERS) else ()

    @property
    def statistics(self) -> dict[str, Any]:
        """Mean and standard deviation of each channel, by which preprocessor_config.json normalises images; {} without
        that file, or if it does not."""
        path = self.folder / IMAGES
        found = _json(path) if path.exists() else {}
        is_normalised = found.get("do_normalize", True) and {"image_mean", "image_std"} <= found.keys()
        return {"mean": found["image_mean"], "std": found["image_std"]} if is_normalised else {}

    def preprocess(self, of_recipe: tuple[str, ...]) -> tuple[str, ...]:
        """Returns the ops that make the model's inputs of texts: those of the recipe, `config.data.preprocess`, or for
        models with one kind of inputs their own.

        A running text begins with the tokens that the tokenizer itself puts there, such as Llama's.
        """
        if not self.family.reads:
            return of_recipe
        path = str(self.folder / TOKENIZER)
        tokenizer = self.tokenizer()
        if tokenizer is None and (self.folder / SOURCE_PIECES).exists():
            return tuple(f"tokenize({key!r}, marian({str(self.folder)!r}, {key!r}))" for key in self.family.reads)
        if tokenizer is None:
            raise UserError(f"{self.folder} has no {TOKENIZER}: transformers writes it with save_pretrained")
        if len(self.family.reads) > 1:
            return (f"tokenize({self.family.reads!r}, file({path!r}), shared=True)",)
        special, ends = tokenizer.num_special_tokens_to_add(is_pair=False) > 0, Vocabulary.of(tokenizer).eos is not None
        (key,) = self.family.reads
        windows = f"windows({key!r}, {self.fields['context']}, documents={ends})"
        return f"tokenize({key!r}, file({path!r}), special={special})", windows

    def has_tokens_of(self, info: Info) -> bool:
        """Whether the token ids of a data set are those of tokenizer.json, if that exists.

        Raises UserError if a vocabulary of the set has more tokens than the model.
        """
        tokens = {key: record.vocabulary for key, record in info.keys.items() if record.vocabulary}
        for key, vocabulary in tokens.items():
            if vocabulary.size > (size := self.fields.get("vocab_size", self.fields.get("num_classes"))):
                hint = f"tokenize with file('{self.folder / TOKENIZER}')"
                raise UserError(f"{key!r} has {vocabulary.size} tokens, and {self.folder} {size}: {hint}")
        own = self.tokenizer()
        ours = [load_tokenizer(record.tokenizer) for record in tokens.values() if record.tokenizer]
        return own is None or all(tokenizer.get_vocab() == own.get_vocab() for tokenizer in ours)


def published(path: str) -> Published:
    """Returns the folder of "hf:FOLDER", or of "hf:NAME" on the Hugging Face Hub, which is downloaded.

    Raises UserError, which names the folder, for a missing or damaged config.json, and an unknown `model_type`.
    """
    folder = _folder(path.removeprefix(PREFIX))
    config = _json(folder / CONFIG)
    kind = str(config.get("model_type"))
    if kind not in families():
        raise UserError(f"{folder / CONFIG}: model_type {kind!r} is unknown: {nearest(kind, families())}")
    return Published(folder, config, families()[kind])


def _folder(name: str) -> Path:
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(f"folder {name} does not exist (names on the Hub need the package huggingface_hub)") from None
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise UserError(f"folder {name} does not exist")
    try:
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=list(DOWNLOADED)))
    except Exception as error:  # without a network, for an unknown name, without permission
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{name} is neither a folder nor can it be downloaded: {reason}") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is damaged: it holds no object {{...}}")
    return found
