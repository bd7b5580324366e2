"""Time series to forecast."""

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.signal
import tensorflow_datasets as tfds
from jaxtyping import Float64

from data.builders.raw import FromFiles, RawFile
from data.builders.sequences import Columns, Procedural

ADDRESS = (
    "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small/{}.csv"
)
SHA256 = {
    "ETTh1": "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066",
    "ETTh2": "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b",
}
CHANNELS = ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
ROWS = {"train": (0, 8_640), "validation": (8_640, 11_520), "test": (11_520, 14_400)}  # 12, 4, 4 months of 30 days


@dataclasses.dataclass(kw_only=True, eq=False)
class Series(tfds.core.BuilderConfig):
    """`file`; `history`: rows before their own period that validation and test start with."""

    file: str
    history: int


class ETT(FromFiles, skip_registration=True):
    """Electricity transformers, hourly, `ett/h1` and `ett/h2`: each split is one example, `series` float32 [hours, 7].

    Six loads and the oil temperature (`OT`), unscaled; the channels' names are in the metadata. As in Informer and
    Autoformer, 12 months train, 4 validate, 4 test, and validation and test begin `history` hours early, so that the
    first forecast covers their first hour: 96 in `ett/h1` and `ett/h2`; `ett/h1_336` has 336; _192, _512 and _720 exist
    too. With a window as long as the history, a test of horizon h has 2,881 - h windows, as published.

    Source: H. Zhou and others, Informer, arXiv 2012.07436; splits of H. Wu and others, Autoformer, arXiv 2106.13008.
    Licence: CC BY-ND 4.0.
    """

    name = "ett"
    BUILDER_CONFIGS = [
        Series(name=f"h{i}" + (f"_{history}" if history != 96 else ""), file=f"ETTh{i}", history=history)
        for history in (96, 192, 336, 512, 720)
        for i in (1, 2)
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        series = tfds.features.Tensor(shape=(None, len(CHANNELS)), dtype=np.float32, encoding="bytes")
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"series": series}),
            homepage="https://github.com/zhouhaoyi/ETDataset",
            metadata=tfds.core.MetadataDict(channels=list(CHANNELS), history=self.builder_config.history),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        file, history = self.builder_config.file, self.builder_config.history
        raw = RawFile(f"{file}.csv", ADDRESS.format(file), SHA256[file])
        content = self._read(dl_manager, [raw])[raw.name]
        series = pd.read_csv(io.BytesIO(content))[list(CHANNELS)].to_numpy(np.float32)
        return {
            split: iter([(0, {"series": series[max(0, start - history) : stop]})])
            for split, (start, stop) in ROWS.items()
        }


class Seasons(Procedural, skip_registration=True):
    """A generated series, `seasons`: each split is one example, `series` float32 [hours, 4].

    A day and a week whose amplitudes wander, with noise; the same half a day later; a logistic function of the product
    of day and week; and a random walk that returns to its mean. 3,000 hours for training, 1,000 and 1,000, one after
    the other.

    Source: generated: no licence.
    """

    name = "seasons"
    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {}
    SIZES = {"train": 3_000, "validation": 1_000, "test": 1_000}
    DAY, WEEK = 24, 168  # hours

    def _info(self) -> tfds.core.DatasetInfo:
        return self._described({"series": tfds.features.Tensor(shape=(None, 4), dtype=np.float32, encoding="bytes")})

    def _draw(self, random: np.random.Generator, size: int) -> Columns:
        delay = self.DAY // 2
        walks = [_returning(random, size + delay, memory) for memory in (0.999, 0.999, 0.97)]
        angle = 2 * np.pi * np.arange(size + delay)
        day, week = ((1 + 0.3 * walks[i]) * np.sin(angle / hours) for i, hours in enumerate((self.DAY, self.WEEK)))
        noise = 0.1 * random.standard_normal((2, size))
        share = 1 / (1 + np.exp(-4 * (day * week)[delay:]))
        cycles = day + week
        return {"series": np.stack([cycles[delay:] + noise[0], cycles[:-delay] + noise[1], share, walks[2][delay:]], 1)}

    def _generate_examples(self, columns: Columns, start: int, stop: int) -> Iterator[tuple[int, dict[str, Any]]]:
        yield 0, {"series": columns["series"][start:stop].astype(np.float32)}


def _returning(random: np.random.Generator, size: int, memory: float) -> Float64[np.ndarray, " size"]:
    """Returns an autoregressive series of order one and variance one."""
    steps = np.sqrt(1 - memory**2) * random.standard_normal(size)
    return scipy.signal.lfilter([1.0], [1.0, -memory], steps)
