"""Speed of input alone against PyTorch's DataLoader and tf.data with the same work, interleaved in one run.

    python -m benchmarks.input            # makes its own data; the extras `bench` and `tfds` bring the peers

In memory: batches of a fresh shuffle of images, gathered. PNG, JPEG: records on disk, shuffled, decoded, batched. WAV:
files, to log-mel frames, padded. Text: encoded, padded. Also: seconds by which a start of a text recipe with a warm
cache exceeds one of `digits`, and the peak memory of streaming 4 GB of images.
"""

import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import app, flags, logging
from PIL import Image
from scipy.io import wavfile

import data
from benchmarks.input_peers import PEERS, Work
from data.batches import train_batches
from data.builders import BUILDERS
from data.splits import Batch
from training.config import default

BATCH = 128
WORKERS = 2
ROUNDS = 5
SECONDS = 2.0  # of a contender in a round
SOUNDS, RATE = 512, 8000
TEXTS = 20_000

_ONLY = flags.DEFINE_list("only", [], "names of the works to measure; all by default")


class MadeUp(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """A few encoded pictures of smooth noise, repeated."""

    name = "made_up"
    VERSION = tfds.core.Version("1.0.0")
    SIZES = {"png": (32, 5_000), "jpeg": (224, 2_000), "large": (224, 28_000)}  # pixels of a side, images
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=name, version="1.0.0") for name in SIZES]

    @property
    def encoding(self) -> str:
        return "png" if self.builder_config.name == "png" else "jpeg"

    def _info(self) -> tfds.core.DatasetInfo:
        side = self.SIZES[self.builder_config.name][0]
        image = tfds.features.Image(shape=(side, side, 3), encoding_format=self.encoding)
        features = {"image": image, "label": tfds.features.ClassLabel(num_classes=10)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
        side, count = self.SIZES[self.builder_config.name]
        encoded = [_encoded(_picture(seed, side), self.encoding) for seed in range(64)]
        for i in range(count):
            yield i, {"image": encoded[i % 64], "label": i % 10}


def _picture(seed: int, side: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = np.kron(rng.normal(size=(side // 8, side // 8, 3)), np.ones((8, 8, 1)))
    return np.clip(128 + 40 * coarse + 4 * rng.normal(size=coarse.shape), 0, 255).astype(np.uint8)


def _encoded(image: np.ndarray, encoding: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, encoding)
    return file.getvalue()


def _sounds(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(SOUNDS):
        path = folder / f"class{i % 2}" / f"{i}.wav"
        path.parent.mkdir(exist_ok=True, parents=True)
        wavfile.write(path, RATE, (3000 * rng.normal(size=rng.integers(RATE // 2, RATE))).astype(np.int16))


def _texts(file: Path) -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("etaoinshrdlu"), rng.integers(2, 9))) for _ in range(2_000)]
    rows = [{"text": " ".join(rng.choice(words, rng.integers(5, 40))), "label": i % 2} for i in range(TEXTS)]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def _config(name: str, memory_gb: float = 0.0, *preprocess: str):
    config = default().data
    config.name, config.memory_gb, config.preprocess = name, memory_gb, preprocess
    config.splits = {"train": "train"}
    return config


def _ours(config: Any, folder: Path, workers: int = 0) -> Iterator[Batch]:
    train = data.load(config, str(folder))[0]["train"]
    return train_batches(train, seed=0, batch_size=BATCH, start=0, stop=10**7, workers=workers)


def _works(folder: Path) -> dict[str, tuple[Callable[[], Iterator[Batch]], Work]]:
    """Returns name -> (our batches, what the peers read)."""
    text = "tokenize('text', bpe(2000), max_length=64)"
    recipes = {
        "memory": (_config("made_up/png", 4.0), 0, "records"),
        "png": (_config("made_up/png"), WORKERS, "records"),
        "jpeg": (_config("made_up/jpeg"), WORKERS, "records"),
        "wav": (_config(f"folder:{folder}/sounds", 0.0, f"log_mel(rate={RATE}, bands=40)"), WORKERS, "sounds"),
        "text": (_config(f"jsonl:{folder}/texts.jsonl", 0.0, text), WORKERS, "texts"),
    }
    return {
        name: ((lambda config=config, workers=workers: _ours(config, folder, workers)), Work(name, kind, folder, BATCH))
        for name, (config, workers, kind) in recipes.items()
    }


def main(_: list[str]) -> None:
    """Prints one row per contender: median examples/s, range, and the ratio of ours to it."""
    logging.set_verbosity(logging.ERROR)
    BUILDERS[MadeUp.name] = MadeUp
    versions = ", ".join(f"{package} {version(package)}" for package in ("numpy", "opencv-python-headless", "pillow"))
    print(f"batch {BATCH}, {os.cpu_count()} cores, {WORKERS} workers, {ROUNDS} rounds, {versions}")
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        _sounds(folder / "sounds")
        _texts(folder / "texts.jsonl")
        for name, (ours, work) in _works(folder).items():
            if not _ONLY.value or name in _ONLY.value:
                _compare(name, {"ours": ours(), **_peers(work)})
        if not _ONLY.value or "start" in _ONLY.value:
            text = _config(f"jsonl:{folder}/texts.jsonl", 2.0, "tokenize('text', bpe(2000), max_length=64)")
            _load_time(text, folder)  # fills the cache
            times = {name: _load_time(config, folder) for name, config in (("t", text), ("d", _config("digits", 2.0)))}
            print(f"start of a text recipe, warm cache: {times['t'] - times['d']:.2f} s above digits")
        if not _ONLY.value or "peak" in _ONLY.value:
            print(f"peak memory of streaming {_gigabytes():.1f} GB: {_peak(folder):.2f} GB")


def _peers(work: Work) -> dict[str, Iterator[Any]]:
    found = {}
    for name, make in PEERS.items():
        try:
            found[name] = make(work)
        except ModuleNotFoundError as error:
            print(f"{name} is not compared: {error.name} is missing")
        except NotImplementedError:
            pass
    return found


def _compare(name: str, contenders: Mapping[str, Iterator[Any]]) -> None:
    rates: dict[str, list[float]] = {who: [] for who in contenders}
    for batches in contenders.values():  # start workers, fill caches
        next(itertools.islice(batches, 20, None))
    for _ in range(ROUNDS):
        for who, batches in contenders.items():
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < SECONDS:
                next(batches)
                count += BATCH
            rates[who].append(count / (time.perf_counter() - start))
    for who, values in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], values, strict=True))
        print(
            f"{name:8} {who:10} {statistics.median(values):12,.0f} /s   ({min(values):,.0f} to {max(values):,.0f})"
            + (f"   ours / {who} = {ratio:.2f}" if who != "ours" else "")
        )


CHILD = """
import json, sys, time
start = time.perf_counter()
import data
from benchmarks.input import MadeUp
from data.builders import BUILDERS
from data.batches import train_batches
BUILDERS[MadeUp.name] = MadeUp
from training.config import from_json
train = data.load(from_json(sys.argv[1]), sys.argv[2])[0]["train"]
for batch in train_batches(train, seed=0, batch_size=128, start=0, stop=int(sys.argv[3])):
    pass
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps([time.perf_counter() - start, int(peak)]))
"""


def _child(config: Any, folder: Path, steps: int) -> tuple[float, int]:
    """Returns seconds and the peak memory in KiB of a process that loads a set and reads batches."""
    command = [sys.executable, "-c", CHILD, json.dumps(config.to_dict()), str(folder), str(steps)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(json.loads(result.stdout.splitlines()[-1]))


def _load_time(config: Any, folder: Path) -> float:
    return min(_child(config, folder, 1)[0] for _ in range(3))


def _gigabytes() -> float:
    side, count = MadeUp.SIZES["large"]
    return side * side * 3 * count / 1e9


def _peak(folder: Path) -> float:
    return _child(_config("made_up/large", 2.0), folder, 50)[1] * 1024 / 1e9


if __name__ == "__main__":
    app.run(main)
