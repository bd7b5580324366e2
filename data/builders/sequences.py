"""Procedural sequence sets, the classical tests of memory and order: drawn from a fixed seed at preparation."""

import dataclasses
import itertools
import string
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

Columns = dict[str, Sequence[Any] | np.ndarray]  # key -> one value per example
PAD, BOS, EOS = 0, 1, 2  # padding, begin and end of a sequence


class Procedural(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Base class of procedural sets: one draw from a fixed seed, cut into splits of SIZES examples."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {"1.1.0": "the metadata describe the vocabularies"}
    SIZES: dict[str, int]

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        """Returns `size` examples."""
        raise NotImplementedError

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        sizes = self._sizes()
        columns = self._draw(np.random.default_rng(0), sum(sizes.values()))
        bounds = itertools.pairwise([0, *np.cumsum(list(sizes.values())).tolist()])
        return {split: self._generate_examples(columns, *part) for split, part in zip(sizes, bounds, strict=True)}

    def _generate_examples(self, columns: Columns, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
        for i in range(start, stop):
            yield i, {key: values[i] for key, values in columns.items()}

    def _sizes(self) -> dict[str, int]:
        return self.SIZES

    def _described(self, features: dict[str, Any], **vocabularies: dict[str, int]) -> tfds.core.DatasetInfo:
        """Returns TFDS's description; `vocabularies` holds the fields of `core.vocabulary.Vocabulary` per key."""
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(vocabularies=vocabularies) if vocabularies else None,
        )


def integers(*shape: int | None) -> tfds.features.Tensor:
    """Returns the feature of an int32 array; an axis of None varies."""
    return tfds.features.Tensor(shape=shape, dtype=np.int32)


@dataclasses.dataclass(kw_only=True, eq=False)
class Length(tfds.core.BuilderConfig):
    """`length`: the builder's T or N, in positions."""

    length: int


def of_lengths(*lengths: int) -> list[Length]:
    """Returns the configs named after these lengths."""
    return [Length(name=str(length), length=length) for length in lengths]


class Adding(Procedural, skip_registration=True):
    """The adding problem, `adding/T`: `inputs` float32 [T, 2], `target` the sum of the two marked values, in [0, 2].

    Channel 0 is uniform in [0, 1], channel 1 is 1 at two different uniformly drawn positions and 0 elsewhere. This is
    the convention of Bai 2018 (after Le 2015); Hochreiter 1997 has values in [-1, 1], ends marked with -1 and a scaled
    sum. The constant prediction 1 has a mean squared error of 1/6. 50,000 for training, as Bai, 1,000 and 1,000.

    Source: S. Hochreiter and J. Schmidhuber, Long Short-Term Memory, 1997, section 5.4; Q. Le, N. Jaitly, G. Hinton,
    arXiv 1504.00941, section 4.1; S. Bai, J. Kolter, V. Koltun, arXiv 1803.01271, section 4. Generated: no licence.
    """

    name = "adding"
    BUILDER_CONFIGS = of_lengths(20, 50, 100, 200, 400, 600, 1000)
    SIZES = {"train": 50_000, "validation": 1_000, "test": 1_000}

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (self.builder_config.length, 2)  # encoded as bytes: read twice as fast as a list of numbers
        inputs = tfds.features.Tensor(shape=shape, dtype=np.float32, encoding="bytes")
        return self._described({"inputs": inputs, "target": np.float32})

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        length = self.builder_config.length
        values = random.random((size, length), dtype=np.float32)
        first = random.integers(length, size=size)
        second = (first + random.integers(1, length, size=size)) % length
        markers = np.zeros_like(values)
        rows = np.arange(size)
        markers[rows, first] = markers[rows, second] = 1
        return {"inputs": np.stack([values, markers], axis=-1), "target": (values * markers).sum(1)}


class CopyMemory(Procedural, skip_registration=True):
    """Copy memory, `copy_memory/T`: `tokens` and `labels` int32 [T + 20], `answer_mask` bool [T + 20].

    Ten symbols of 1..8, T - 1 blanks (0), eleven delimiters (9). The labels are blank except at the last ten positions,
    which repeat the symbols: `answer_mask` is true there. Predicting blanks and guessing the symbols has a loss of
    10 ln 8 / (T + 20) nats per position. 10,000 for training, as Bai, 1,000 and 1,000.

    Source: S. Hochreiter and J. Schmidhuber, 1997; M. Arjovsky, A. Shah, Y. Bengio, arXiv 1511.06464; in
    the layout of S. Bai, J. Kolter, V. Koltun, arXiv 1803.01271, section 4. Generated: no licence.
    """

    name = "copy_memory"
    BUILDER_CONFIGS = of_lengths(20, 50, 100, 200, 500, 1000)
    SIZES = {"train": 10_000, "validation": 1_000, "test": 1_000}
    SYMBOLS, DELIMITER, MEMORY = 8, 9, 10

    def _info(self) -> tfds.core.DatasetInfo:
        length = self.builder_config.length + 2 * self.MEMORY
        answer = tfds.features.Tensor(shape=(length,), dtype=np.bool_)
        features = {"tokens": integers(length), "labels": integers(length), "answer_mask": answer}
        vocabulary = {"size": self.DELIMITER + 1}
        return self._described(features, tokens=vocabulary, labels=vocabulary)

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        length = self.builder_config.length
        symbols = random.integers(1, self.SYMBOLS + 1, (size, self.MEMORY), dtype=np.int32)
        blanks = np.zeros((size, length), np.int32)
        delimiters = np.full((size, self.MEMORY + 1), self.DELIMITER, np.int32)
        labels = np.concatenate([np.zeros_like(symbols), blanks, symbols], axis=1)
        answer = np.arange(length + 2 * self.MEMORY) >= length + self.MEMORY
        return {
            "tokens": np.concatenate([symbols, blanks[:, 1:], delimiters], axis=1),
            "labels": labels,
            "answer_mask": np.broadcast_to(answer, labels.shape),
        }


@dataclasses.dataclass(kw_only=True, eq=False)
class Order(tfds.core.BuilderConfig):
    """`windows`: (first, last) position of each relevant symbol."""

    windows: tuple[tuple[int, int], ...]


class TemporalOrder(Procedural, skip_registration=True):
    """Temporal order, `temporal_order/6a` and `6b`: `tokens` int32 [100 to 110], `label` (4 or 8 classes).

    E, then distractors of a, b, c, d, then B; two (6a: at 10-20 and 50-60) or three (6b: at 10-20, 33-43 and 66-76) of
    them are replaced by X or Y, and the class is their order, "XY". Tokens: 0 padding, then E B a b c d X Y.
    50,000 for training, 1,000 and, as published, 2,560.

    Source: S. Hochreiter and J. Schmidhuber, Long Short-Term Memory, 1997, section 5.6. Generated: no licence.
    """

    name = "temporal_order"
    BUILDER_CONFIGS = [
        Order(name="6a", windows=((10, 20), (50, 60))),
        Order(name="6b", windows=((10, 20), (33, 43), (66, 76))),
    ]
    SIZES = {"train": 50_000, "validation": 1_000, "test": 2_560}
    SYMBOLS = "EBabcdXY"

    def _info(self) -> tfds.core.DatasetInfo:
        names = ["".join(order) for order in itertools.product("XY", repeat=len(self.builder_config.windows))]
        label = tfds.features.ClassLabel(names=names)
        vocabulary = {"size": len(self.SYMBOLS) + 1, "pad": PAD}
        return self._described({"tokens": integers(None), "label": label}, tokens=vocabulary)

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        windows = self.builder_config.windows
        token = {symbol: i for i, symbol in enumerate(self.SYMBOLS, 1)}
        lengths = random.integers(100, 110, size, endpoint=True, dtype=np.int32)
        tokens = random.integers(token["a"], token["d"], (size, 110), endpoint=True, dtype=np.int32)
        rows, label = np.arange(size), np.zeros(size, np.int64)
        tokens[:, 0], tokens[rows, lengths - 1] = token["E"], token["B"]
        for window in windows:
            is_y = random.integers(2, size=size)
            tokens[rows, random.integers(*window, size, endpoint=True)] = token["X"] + is_y
            label = 2 * label + is_y
        return {"tokens": _cut(tokens, lengths), "label": label}


class StringReversal(Procedural, skip_registration=True):
    """String reversal, `string_reversal/N`: random strings of N/2 to N letters, to be reversed.

    `source` int32 [N/2 to N], `target` begin-of-sequence, the letters reversed, end-of-sequence. Tokens: 0
    padding, 1 begin, 2 end, then a to z. 20,000 for training, 1,000 and 1,000.

    Source: the sequence-to-sequence test of order after I. Sutskever, O. Vinyals, Q. Le, arXiv 1409.3215, section 3.3,
    and D. Bahdanau, K. Cho, Y. Bengio, arXiv 1409.0473 (a fixed vector fails on long strings). Generated: no licence.
    """

    name = "string_reversal"
    BUILDER_CONFIGS = of_lengths(10, 20, 30, 40)
    SIZES = {"train": 20_000, "validation": 1_000, "test": 1_000}

    def _info(self) -> tfds.core.DatasetInfo:
        vocabulary = {"size": EOS + 1 + len(string.ascii_lowercase), "pad": PAD, "bos": BOS, "eos": EOS}
        features = {"source": integers(None), "target": integers(None)}
        return self._described(features, source=vocabulary, target=vocabulary)

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        longest = self.builder_config.length
        lengths = random.integers(longest // 2, longest, size, endpoint=True, dtype=np.int32)
        letters = random.integers(EOS + 1, EOS + 1 + len(string.ascii_lowercase), (size, longest), dtype=np.int32)
        source = _cut(letters, lengths)
        target = [np.concatenate([[BOS], string[::-1], [EOS]], dtype=np.int32) for string in source]
        return {"source": source, "target": target}


def _cut(rows: np.ndarray, lengths: np.ndarray) -> list[np.ndarray]:
    return [row[:length] for row, length in zip(rows, lengths, strict=True)]
