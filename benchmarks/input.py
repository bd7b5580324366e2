"""Speed of input alone, in examples/s, against tf.data with the same work, interleaved in one run.

    python -m benchmarks.input --data_dir=DIR     # holds cmaterdb/bangla, prepared as array_record

In memory: batches of a fresh shuffle of decoded images, gathered. Decoding: PNG bytes from disk, shuffled, decoded,
batched.
"""

import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from absl import app, flags, logging
from data.preprocess.examples import Batch

import data
from data.batches import train_batches
from data.sources.tfds import Official
from training.config import default

NAME = "cmaterdb/bangla"
BATCH = 128
ROUNDS = 7
BATCHES = {"in memory": 2000, "decoding": 120}  # per round
PREFETCH = 4  # batches, the same number as two workers hold: few compared with a round

_DATA_DIR = flags.DEFINE_string("data_dir", None, f"folder that contains {NAME}, prepared")


def main(_: list[str]) -> None:
    """Prints one row per contender: median examples/s, range, and the ratio to tf.data."""
    logging.set_verbosity(logging.ERROR)
    versions = ", ".join(f"{package} {version(package)}" for package in ("numpy", "grain", "pillow"))
    print(f"{NAME}, batch {BATCH}, {os.cpu_count()} cores, {ROUNDS} rounds, {versions}")
    contenders = {("in memory", "ours"): _ours(memory_gb=1.0, workers=0)}
    for workers in (0, 1, 2):
        contenders["decoding", f"ours, {workers} workers"] = _ours(memory_gb=0.0, workers=workers)
    with tempfile.TemporaryDirectory() as folder:
        try:
            contenders |= _tensorflow(folder)
        except ModuleNotFoundError:
            print("tf.data is not compared: TensorFlow is missing (pip install -e '.[tfds]')")
        rates = _measure(contenders)
    for (work, who), values in rates.items():
        peer = rates.get((work, "tf.data"))
        ratio = f"{statistics.median(a / b for a, b in zip(values, peer, strict=True)):6.2f} x tf.data" if peer else ""
        low, high = min(values), max(values)
        print(f"{work:10} {who:16} {statistics.median(values):12,.0f} /s   ({low:,.0f} to {high:,.0f}) {ratio}")


def _measure(contenders: dict[tuple[str, str], Iterator[Batch]]) -> dict[tuple[str, str], list[float]]:
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in contenders}
    for batches in contenders.values():  # start workers, fill caches
        next(itertools.islice(batches, 20, None))
    for _ in range(ROUNDS):
        for (work, who), batches in contenders.items():
            start = time.perf_counter()
            examples = sum(len(batch["image"]) for batch in itertools.islice(batches, BATCHES[work]))
            rates[work, who].append(examples / (time.perf_counter() - start))
    return rates


def _ours(memory_gb: float, workers: int) -> Iterator[Batch]:
    config = default().data
    config.name, config.splits, config.memory_gb = NAME, {"train": "train"}, memory_gb
    train = data.load(config, _DATA_DIR.value)[0]["train"]
    return train_batches(train, seed=0, batch_size=BATCH, start=0, stop=10**6, workers=workers)


def _tensorflow(folder: str) -> dict[tuple[str, str], Iterator[Batch]]:
    """Returns the fastest known tf.data pipelines: gathering after batching; decoding in parallel, with prefetch."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    source = Official(NAME, _DATA_DIR.value).examples("train")
    columns = {
        "image": np.stack([example["image"] for example in source]),
        "label": np.array([example["label"] for example in source], np.int32),
    }
    ones = tf.ones(BATCH)
    arrays = {key: tf.constant(values) for key, values in columns.items()}
    path = f"{folder}/train.tfrecord"
    with tf.io.TFRecordWriter(path) as writer:  # the same records, in the format tf.data reads
        for i in range(len(source)):
            writer.write(source.data_source[i])
    features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}

    def gather(indices: Any) -> dict[str, Any]:
        return {**{key: tf.gather(values, indices) for key, values in arrays.items()}, "mask": ones}

    def decode(record: Any) -> dict[str, Any]:
        example = tf.io.parse_single_example(record, features)
        image = tf.ensure_shape(tf.io.decode_png(example["image"], channels=3), columns["image"].shape[1:])
        return {"image": image, "label": tf.cast(example["label"], tf.int32), "mask": 1.0}

    indices = tf.data.Dataset.range(len(source)).shuffle(len(source)).repeat().batch(BATCH, drop_remainder=True)
    gathered = indices.map(gather, num_parallel_calls=tf.data.AUTOTUNE)
    records = tf.data.TFRecordDataset(path).shuffle(len(source)).repeat()
    decoded = records.map(decode, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH, drop_remainder=True)
    return {
        ("in memory", "tf.data"): gathered.prefetch(PREFETCH).as_numpy_iterator(),
        ("decoding", "tf.data"): decoded.prefetch(PREFETCH).as_numpy_iterator(),
    }


if __name__ == "__main__":
    flags.mark_flag_as_required("data_dir")
    app.run(main)
