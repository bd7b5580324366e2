"""The input pipelines that `benchmarks.input` compares: PyTorch's DataLoader and tf.data."""

import dataclasses
import io
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORKERS = 2
PREFETCH = 4  # batches: the same number as two of our workers hold
FRAME, HOP, BANDS = 200, 80, 40  # samples of a window and a step at 8 kHz


@dataclasses.dataclass(frozen=True)
class Work:
    """The input that our pipeline and its peers read.

    Attributes:
        name: "memory", "png", "jpeg", "wav" or "text".
        kind: of the data: "records", "sounds" or "texts".
        folder: where they lie.
    """

    name: str
    kind: str
    folder: Path
    batch: int

    @property
    def records(self) -> list[tuple[bytes, int]]:
        """The encoded images and labels of the set that ours reads from disk."""
        from data.sources.tfds import Official, tf_example_pb2

        config = "jpeg" if self.name == "jpeg" else "png"
        source = Official(f"made_up/{config}", str(self.folder)).examples("train").records.data_source
        parsed = [tf_example_pb2.Example.FromString(source[i]).features.feature for i in range(len(source))]
        return [(x["image"].bytes_list.value[0], x["label"].int64_list.value[0]) for x in parsed]


def torch_batches(work: Work) -> Iterator[Any]:
    """Returns the batches of a DataLoader; those in memory are gathered, the others made by two workers."""
    import torch

    read, count, collate = READERS[work.kind](work)
    if work.name == "memory":
        images = torch.tensor(np.stack([read(i)[0] for i in range(count)]))
        labels = torch.tensor([read(i)[1] for i in range(count)])
        loader = torch.utils.data.DataLoader(
            Gathered(images, labels), sampler=_batches(count, work.batch), batch_size=None
        )
    else:
        loader = torch.utils.data.DataLoader(
            Items(read, count), work.batch, shuffle=True, drop_last=True, num_workers=WORKERS, collate_fn=collate
        )
    return itertools.chain.from_iterable(itertools.repeat(loader))


def _batches(count: int, batch: int) -> Any:
    import torch

    return torch.utils.data.BatchSampler(torch.utils.data.RandomSampler(range(count)), batch, drop_last=True)


@dataclasses.dataclass(frozen=True)
class Gathered:
    """A data set whose item is a batch."""

    images: Any
    labels: Any

    def __getitem__(self, indices: list[int]) -> tuple:
        return self.images[indices], self.labels[indices]


@dataclasses.dataclass(frozen=True)
class Items:
    """A data set whose items are read one by one."""

    read: Callable[[int], tuple]
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple:
        return self.read(index)


def _read_records(work: Work) -> tuple[Callable, int, None]:
    records = work.records

    def read(index: int) -> tuple[np.ndarray, int]:
        encoded, label = records[index]
        return np.array(Image.open(io.BytesIO(encoded))), label

    return read, len(records), None


def _read_sounds(work: Work) -> tuple[Callable, int, Callable]:
    import torch
    from scipy.io import wavfile

    files = sorted((work.folder / "sounds").rglob("*.wav"))
    bands = torch.rand(FRAME // 2 + 1, BANDS)  # any filter bank takes as long
    window = torch.hann_window(FRAME)

    def read(index: int) -> tuple[Any, int]:
        wave = torch.tensor(wavfile.read(files[index])[1] / 32768, dtype=torch.float32)
        spectrum = torch.stft(wave, FRAME, HOP, window=window, return_complex=True).abs().square()
        return torch.log(spectrum.T @ bands + 1e-6), index % 2

    return read, len(files), _padded


def _read_texts(work: Work) -> tuple[Callable, int, Callable]:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    rows = [json.loads(line) for line in (work.folder / "texts.jsonl").read_text().splitlines()]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.train_from_iterator((row["text"] for row in rows), trainers.BpeTrainer(vocab_size=2000))
    tokenizer.enable_truncation(64)

    def read(index: int) -> tuple[Any, int]:
        return torch.tensor(tokenizer.encode(rows[index]["text"]).ids), rows[index]["label"]

    return read, len(rows), _padded


def _padded(items: list[tuple]) -> tuple:
    import torch

    return torch.nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True), torch.tensor([y for _, y in items])


READERS = {"records": _read_records, "sounds": _read_sounds, "texts": _read_texts}


def tf_batches(work: Work) -> Iterator[Any]:
    """Returns the fastest known pipelines of tf.data for images: gathering after batching; parallel decoding."""
    if work.kind != "records":
        raise NotImplementedError(work.kind)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    records = work.records
    shape = np.asarray(Image.open(io.BytesIO(records[0][0]))).shape

    def decode(encoded: Any, label: Any) -> tuple:
        image = (tf.io.decode_jpeg if work.name == "jpeg" else tf.io.decode_png)(encoded, channels=3)
        return tf.ensure_shape(image, shape), label

    encoded, labels = [x for x, _ in records], np.array([y for _, y in records], np.int32)
    if work.name == "memory":
        images = tf.constant(np.stack([np.asarray(Image.open(io.BytesIO(x))) for x in encoded]))
        indices = tf.data.Dataset.range(len(labels)).shuffle(len(labels)).repeat().batch(work.batch)
        batches = indices.map(lambda i: (tf.gather(images, i), tf.gather(labels, i)), tf.data.AUTOTUNE)
    else:
        path = str(work.folder / f"{work.name}.tfrecord")
        with tf.io.TFRecordWriter(path) as writer:  # the same images, in the format that tf.data reads
            for x, y in zip(encoded, labels, strict=True):
                feature = {
                    "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[x])),
                    "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[y])),
                }
                writer.write(tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString())
        features = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}

        def parse(record: Any) -> tuple:
            example = tf.io.parse_single_example(record, features)
            return decode(example["image"], example["label"])

        records = tf.data.TFRecordDataset(path).shuffle(len(labels)).repeat()
        batches = records.map(parse, tf.data.AUTOTUNE).batch(work.batch, drop_remainder=True)
    return batches.prefetch(PREFETCH).as_numpy_iterator()


PEERS = {"DataLoader": torch_batches, "tf.data": tf_batches}
