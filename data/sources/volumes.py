"""Volumes of medical imaging, and their label maps, in NIfTI files."""

from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from core.errors import UserError
from core.info import Key
from data.sources.files import Columns, existing_folder, files_below, paired, reason, split_folders
from data.sources.source import FileSource

# d: depth, h: height, w: width, c: channels

SUFFIXES = (".nii.gz", ".nii")


class Nifti(FileSource):
    """`nifti:DIR`: DIR/volumes/a.nii.gz, and perhaps DIR/masks/a.nii.gz; DIR/SPLIT/... gives several splits.

    Keys: `volume` float32 [d, h, w, c], in the units of the file, its axes from inferior to superior, posterior to
    anterior, left to right; a fourth axis of the file is the channels. `label_map` int32 [d, h, w, 1], class ids, for
    which all masks are read at the start. Needs the package nibabel.
    """

    def __init__(self, path: str, config: ConfigDict, state: Any = None):
        _nibabel()
        self.folder = existing_folder(path)
        is_flat = (self.folder / "volumes").is_dir()
        splits = {"train": self.folder} if is_flat else split_folders(self.folder)
        has_masks = (splits["train"] / "masks").is_dir()
        pairs = {split: _pairs(root, has_masks) for split, root in splits.items()}
        self.files = [file for found in pairs.values() for pair in found for file in pair]
        self.keys = {"volume": Key(role="volume")}
        columns = {split: {"volume": ([pair[0] for pair in found], read_volume)} for split, found in pairs.items()}
        if has_masks:
            highest = max(int(_read_mask(pair).max()) for found in pairs.values() for pair in found)
            self.state = state or {"classes": [str(number) for number in range(highest + 1)]}
            if highest >= len(self.state["classes"]):
                raise UserError(
                    f"{path}: masks have class {highest}, but classes are {', '.join(self.state['classes'])}"
                )
            self.keys["label_map"] = Key(role="label_map", classes=tuple(self.state["classes"]))
            for split, found in pairs.items():
                columns[split]["label_map"] = (found, _read_mask)
        self.rows = {split: Columns(found) for split, found in columns.items()}


def _pairs(root: Path, has_masks: bool) -> list[tuple[Path, ...]]:
    volumes = existing_folder(root / "volumes")
    if has_masks:
        return paired(volumes, root / "masks", SUFFIXES)
    found = [(file,) for file in files_below(volumes, SUFFIXES)]
    if not found:
        raise UserError(f"{volumes} has no files of the types {', '.join(SUFFIXES)}")
    return found


def read_volume(path: str | Path) -> np.ndarray:
    """Returns the volume of a NIfTI file, float32 [d, h, w, c]. Raises UserError for other files and for NaN."""
    values = _read(path)
    if not np.isfinite(values).all():
        raise UserError(f"{path} has values that are NaN or infinite")
    return values.astype(np.float32)


def _read_mask(pair: tuple[Path, ...]) -> np.ndarray:
    volume, mask = pair
    labels = _read(mask)
    if not (np.equal(labels, np.round(labels)).all() and labels.min() >= 0 and labels.shape[-1] == 1):
        raise UserError(f"{mask} is not a map of class ids: it must hold whole numbers from 0 on, one per voxel")
    shape = _shape(volume)
    if labels.shape[:3] != shape[:3]:
        raise UserError(f"{mask} has the shape {labels.shape[:3]}, but {volume} has {shape[:3]}")
    return labels.astype(np.int32)


def _shape(path: Path) -> tuple[int, ...]:
    image = _open(path)
    return image.shape[2::-1] + image.shape[3:]


def _read(path: str | Path) -> np.ndarray:
    """Returns [d, h, w, c]; a file's axes are x, y, z and perhaps channels, with x from left to right."""
    try:
        values = np.asarray(_open(path).dataobj)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is broken: {reason(error)}") from error
    values = values[..., None] if values.ndim == 3 else values
    return values.transpose(2, 1, 0, 3)


def _open(path: str | Path) -> Any:
    """Returns the image of a file, turned so that its axes point right, anterior and superior."""
    nibabel = _nibabel()
    try:
        image = nibabel.load(path)
        if image.ndim not in (3, 4):
            raise UserError(f"{path} has the shape {image.shape}: a volume has three axes and perhaps channels")
        return nibabel.as_closest_canonical(image)
    except UserError:
        raise
    except Exception as error:  # nibabel raises any type for a broken file
        raise UserError(f"{path} is not a readable NIfTI file: {reason(error)}") from error


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError:
        raise UserError("NIfTI volumes need the extra `volumes`: pip install -e '.[volumes]'") from None
    return nibabel
