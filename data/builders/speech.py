"""Speech: recordings of single spoken digits, and sequences joined from them."""

import dataclasses
import io
import re
import tarfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from scipy.io import wavfile

from data.builders.raw import FromFiles, RawFile

ARCHIVE = RawFile(
    "free-spoken-digit-dataset-1.0.9.tar.gz",
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz",
    "8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0",
)
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = ("george", "jackson", "nicolas", "theo", "yweweler")
RATE = 8_000  # samples per second
LONGEST = RATE  # of a recording, in samples; the few longer ones are mostly silence
DIGITS = (3, 5)  # least and most digits per sequence
GAP = (400, 2_000)  # samples of silence between two digits: 50 to 250 ms
NOISE = 2.0  # standard deviation of the added noise, in int16 steps: recordings are never perfectly silent
RECORDINGS = {"train": range(10, 50), "validation": range(5, 10), "test": range(5)}
SIZES = {"train": 6_000, "validation": 400, "test": 600}
Recordings = Mapping[tuple[int, str, int], np.ndarray]  # (digit, speaker, number) -> int16 [samples]


@dataclasses.dataclass(kw_only=True, eq=False)
class Speakers(tfds.core.BuilderConfig):
    """`tested`: the speakers held out for the test; with () the test has the speakers of training."""

    tested: tuple[str, ...] = ()


class _Digits(FromFiles, skip_registration=True):
    """Base class of sets made of the recordings."""

    BUILDER_CONFIGS = [Speakers(name="random"), Speakers(name="by_speaker", tested=("yweweler",))]

    def _described(self, **features: Any) -> tfds.core.DatasetInfo:
        """Returns TFDS's description; `features` are those beside the sound and the speaker."""
        features |= {  # audio as bytes: a list of numbers would take five times the space
            "audio": tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes"),
            "speaker": tfds.features.ClassLabel(names=SPEAKERS),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage="https://github.com/Jakobovski/free-spoken-digit-dataset",
            metadata=tfds.core.MetadataDict(rate=RATE),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[Any, dict[str, Any]]]]:
        recordings = _recordings(self._read(dl_manager, [ARCHIVE])[ARCHIVE.name])
        tested, generators = self.builder_config.tested, {}
        for split in SIZES:
            speakers, numbers = [name for name in SPEAKERS if name not in tested], RECORDINGS[split]
            if split == "test" and tested:
                speakers, numbers = list(tested), range(50)
            generators[split] = self._examples(split, recordings, speakers, numbers)
        return generators

    def _examples(
        self, split: str, recordings: Recordings, speakers: Sequence[str], numbers: range
    ) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Yields the examples of a split from the recordings of some speakers with these numbers."""
        raise NotImplementedError


class SpokenDigits(_Digits, skip_registration=True):
    """Single spoken digits, `spoken_digits/random` and `spoken_digits/by_speaker`.

    `audio` int16 [samples] at 8 kHz, 0.43 s on average; `label`, one of ten words; `speaker`, one of five. Recordings 0
    to 4 of each digit and speaker test, as in the data set, 5 to 9 validate, the others train: 250, 250 and about
    2,000. In `by_speaker` one speaker speaks the complete test split, all 50 recordings of each digit, and no other
    split. Recordings longer than a second (4 of 2,500) are left out.

    Source: Z. Jackson and others, Free Spoken Digit Dataset v1.0.9, github.com/Jakobovski/free-spoken-digit-dataset.
    Licence: CC BY-SA 4.0.
    """

    name = "spoken_digits"

    def _info(self) -> tfds.core.DatasetInfo:
        return self._described(label=tfds.features.ClassLabel(names=WORDS))

    def _examples(self, split, recordings, speakers, numbers):
        for (digit, name, number), audio in recordings.items():
            if name in speakers and number in numbers:
                yield f"{digit}_{name}_{number}", {"audio": audio, "label": digit, "speaker": name}


class JoinedDigits(_Digits, skip_registration=True):
    """Sequences of 3 to 5 spoken digits of one speaker, `joined_digits/random` and `joined_digits/by_speaker`.

    `audio` int16 [samples] at 8 kHz: recordings of the Free Spoken Digit Dataset with 50 to 250 ms of silence between
    them, before and after, and faint noise; `text` the spoken words ("seven two five"), `digits` int32 [3 to 5] the
    same as numbers, `speaker` one of five. 6,000 sequences for training, 400 for validation, 600 for testing.

    A sequence of digits is in one split only, by the CRC-32 of its digits ("725") modulo 10: 0 test, 1 validation.
    A recording is in one split only too: numbers 0 to 4 of each digit and speaker test, as in the data set, 5 to 9
    validate, the others train. In `by_speaker` one speaker speaks the complete test split and no other split.
    Recordings longer than a second (4 of 2,500) are left out.

    Source: Z. Jackson and others, Free Spoken Digit Dataset v1.0.9, github.com/Jakobovski/free-spoken-digit-dataset.
    Licence: CC BY-SA 4.0.
    """

    name = "joined_digits"

    def _info(self) -> tfds.core.DatasetInfo:
        return self._described(text=tfds.features.Text(), digits=tfds.features.Tensor(shape=(None,), dtype=np.int32))

    def _examples(self, split, recordings, speakers, numbers):
        seed = list(SIZES).index(split)
        return _sequences(split, recordings, speakers, numbers, np.random.default_rng(seed))


def _recordings(archive: bytes) -> Recordings:
    recordings = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            if match := re.search(r"recordings/(\d)_(\w+)_(\d+)\.wav$", member.name):
                audio = wavfile.read(io.BytesIO(tar.extractfile(member).read()))[1]
                if len(audio) <= LONGEST:
                    recordings[int(match[1]), match[2], int(match[3])] = audio
    return recordings


def _sequences(
    split: str, recordings: Recordings, speakers: Sequence[str], numbers: range, random: np.random.Generator
) -> Iterator[tuple[int, dict[str, Any]]]:
    takes = {
        (digit, name): [recordings[key] for number in numbers if (key := (digit, name, number)) in recordings]
        for digit in range(10)
        for name in speakers
    }
    for i in range(SIZES[split]):
        digits = random.integers(10, size=random.integers(*DIGITS, endpoint=True), dtype=np.int32)
        while split_of(digits) != split:
            digits = random.integers(10, size=len(digits), dtype=np.int32)
        name = speakers[random.integers(len(speakers))]
        spoken = [takes[digit, name][random.integers(len(takes[digit, name]))] for digit in digits.tolist()]
        text = " ".join(WORDS[digit] for digit in digits)
        yield i, {"audio": _joined(spoken, random), "text": text, "digits": digits, "speaker": name}


def split_of(digits: Sequence[int] | np.ndarray) -> str:
    """Returns the split of a sequence of digits."""
    part = zlib.crc32("".join(map(str, digits)).encode()) % 10
    return {0: "test", 1: "validation"}.get(part, "train")


def _joined(spoken: Sequence[np.ndarray], random: np.random.Generator) -> np.ndarray:
    gaps = [np.zeros(size) for size in random.integers(*GAP, len(spoken) + 1)]
    parts = [gaps[0], *(part for pair in zip(spoken, gaps[1:], strict=True) for part in pair)]
    audio = np.concatenate(parts)
    audio = np.round(audio + random.normal(0, NOISE, len(audio)))
    return np.clip(audio, np.iinfo(np.int16).min, np.iinfo(np.int16).max).astype(np.int16)
