"""Blocks of a magnetic resonance image of a brain with the voxels of the brain marked, and patches of tissues."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import Float, Int, Num, UInt8

from core.errors import UserError
from data.builders.raw import FromFiles, RawFile

COMMIT = "5918756215dfde86ef37d670c906b172b679880b"
ADDRESS = f"https://raw.githubusercontent.com/fepegar/torchio-data/{COMMIT}/data/fernando"
VOLUME = RawFile(
    "t2.nii.gz", f"{ADDRESS}/t2.nii.gz", "e8a969a37148df211ddedae5b2477b1a1c68ef22da0c5ee95612c98c20d3b9cb"
)
LABELS = RawFile(
    "t1_seg_gif.nii.gz",
    f"{ADDRESS}/t1_seg_gif.nii.gz",
    "503604aade00ecb5ad30ccd846547a9eeab4e71f180d343297e0ea88b30bc666",
)
OUTSIDE = 4  # ids up to this one are not of the brain
LAYERS, SIDE = 24, 40  # voxels of a block from below to above, and along both other axes
CLASSES = ("outside", "brain")
SLABS = {"train": (0, 1, 2, 4, 6), "validation": (7, 3), "test": (5,)}  # from the back to the front
TISSUES = {  # ids of the parcellation, whose numbers are those of Neuromorphometrics, Inc.
    "around the brain": range(1, OUTSIDE + 1),
    "cortex": range(101, 209),  # of the cerebrum
    "white matter": range(81, 95),
}
PATCH = (5, 16, 16)  # layers, and voxels along both other axes
EACH = {"train": 1_500, "validation": 200, "test": 400}  # patches of each tissue


class BrainMRI(FromFiles, skip_registration=True):
    """Blocks of one T2 image of a head, `brain_mri`: `volume` float32 [24, 40, 40, 1] and `label_map` uint8 [24, 40,
    40, 1], 1 where the brain is.

    The image has 26 layers of 320 x 320 voxels, 5.4 mm high and 0.75 mm wide, of which the first 24 are used. Its eight
    slabs from the back to the front are cut into eight blocks each: five slabs for training, two for validation, one in
    the middle for testing. The labels, made from another image of the same head, are those of the nearest voxel by the
    coordinates of both files; structures of the brain are one class. Reading the files needs the package nibabel.

    Source: F. Perez-Garcia, torchio-data, https://github.com/fepegar/torchio-data. Licence: MIT.
    """

    name = "brain_mri"

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (LAYERS, SIDE, SIDE, 1)
        features = {
            "volume": tfds.features.Tensor(shape=shape, dtype=np.float32, encoding="zlib"),
            "label_map": tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="zlib"),
        }
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage="https://github.com/fepegar/torchio-data",
            metadata=tfds.core.MetadataDict(classes={"label_map": list(CLASSES)}),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        volume, ids = _aligned(self._read(dl_manager, (VOLUME, LABELS)))
        labels = (ids > OUTSIDE).astype(np.uint8)
        return {split: blocks(volume, labels, slabs) for split, slabs in SLABS.items()}


class BrainTissues(FromFiles, skip_registration=True):
    """Patches of the image of `brain_mri` and the tissue in their middle, `brain_tissues`: `volume` float32
    [5, 16, 16, 1], `label`.

    The voxel at [2, 8, 8] is around the brain, in the cortex or in the white matter of the cerebrum: a third of the
    patches each, at random places. A patch lies within one slab of `brain_mri`, in the same split, so that no voxel is
    in two splits; within a split, patches overlap. 4,500 for training, 600 and 1,200.

    Raw files: those of `brain_mri`, in its folder.

    Source: that of `brain_mri`, under the same licence.
    """

    name = "brain_tissues"

    def _info(self) -> tfds.core.DatasetInfo:
        volume = tfds.features.Tensor(shape=(*PATCH, 1), dtype=np.float32, encoding="zlib")
        label = tfds.features.ClassLabel(names=list(TISSUES))
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict({"volume": volume, "label": label}),
            homepage="https://github.com/fepegar/torchio-data",
        )

    def _folder(self, dl_manager: Any) -> Path:
        return super()._folder(dl_manager).with_name(BrainMRI.name)

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        volume, ids = _aligned(self._read(dl_manager, (VOLUME, LABELS)))
        random = np.random.default_rng(0)
        return {split: patches(volume, ids, slabs, EACH[split], random) for split, slabs in SLABS.items()}


def _aligned(contents: dict[str, bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the voxels of the image, and their ids."""
    (volume, space), (ids, ids_space) = (_image(contents[file.name]) for file in (VOLUME, LABELS))
    return volume, nearest(ids, ids_space, volume.shape, space)


def blocks(
    volume: Float[np.ndarray, "x y z"], labels: UInt8[np.ndarray, "x y z"], slabs: tuple[int, ...]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the blocks of slabs; axes of the volume are from left to right, back to front, below to above."""
    for slab in slabs:
        for column in range(volume.shape[0] // SIDE):
            places = (slice(column * SIDE, (column + 1) * SIDE), slice(slab * SIDE, (slab + 1) * SIDE), slice(LAYERS))
            cut = {"volume": volume[places].astype(np.float32), "label_map": labels[places]}
            yield f"{slab}-{column}", {key: x.transpose(2, 1, 0)[..., None] for key, x in cut.items()}


def patches(
    volume: Num[np.ndarray, "x y z"],
    ids: Int[np.ndarray, "x y z"],
    slabs: tuple[int, ...],
    each: int,
    random: np.random.Generator,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields `each` patches of every tissue that lie in one of the slabs; axes as in `blocks`."""
    reach = [side // 2 for side in reversed(PATCH)]  # voxels before the one in the middle
    ends = [side - before for side, before in zip(reversed(PATCH), reach, strict=True)]  # and from it on
    fits = np.zeros(volume.shape, bool)
    for slab in slabs:
        box = (0, volume.shape[0]), (slab * SIDE, (slab + 1) * SIDE), (0, LAYERS)
        sides = zip(box, reach, ends, strict=True)
        fits[tuple(slice(start + before, stop - after + 1) for (start, stop), before, after in sides)] = True
    for label, members in enumerate(TISSUES.values()):
        places = np.argwhere(fits & np.isin(ids, members))
        for place in random.permutation(places)[:each]:
            cut = volume[tuple(slice(i - a, i + b) for i, a, b in zip(place, reach, ends, strict=True))]
            patch = cut.astype(np.float32).transpose(2, 1, 0)[..., None]
            yield "-".join(map(str, place)), {"volume": patch, "label": label}


def nearest(
    ids: np.ndarray, space: Float[np.ndarray, "4 4"], shape: tuple[int, ...], onto: Float[np.ndarray, "4 4"]
) -> np.ndarray:
    """Returns ids on the grid of another image, 0 outside; `space` and `onto` map voxels to the same coordinates."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    move = np.linalg.inv(space) @ onto
    places = np.round(voxels @ move[:3, :3].T + move[:3, 3]).astype(int)
    inside = ((places >= 0) & (places < ids.shape)).all(-1)
    return np.where(inside, ids[tuple(np.moveaxis(np.where(inside[..., None], places, 0), -1, 0))], 0)


def _image(content: bytes) -> tuple[np.ndarray, Float[np.ndarray, "4 4"]]:
    """Returns the voxels of a NIfTI file, and the map from voxels to millimetres; axes point right, front and up."""
    try:
        import nibabel
    except ImportError:
        raise UserError("brain_mri needs the extra `volumes`: pip install -e '.[volumes]'") from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image.nii.gz"
        file.write_bytes(content)
        image = nibabel.as_closest_canonical(nibabel.load(file))
        return np.asarray(image.dataobj), image.affine
