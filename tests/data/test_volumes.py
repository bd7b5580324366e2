"""NIfTI volumes and their label maps."""

import sys

import numpy as np
import pytest

import data
from core.errors import UserError
from data.sources.volumes import Nifti
from tests.data.infos import shapes


def save(path, values, affine=None):
    nibabel = pytest.importorskip("nibabel")
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)


def read(source):
    return source.examples("train", ordered=True).chunk([0])


def test_axes_are_depth_height_width_channels(config, tmp_path):
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)  # x, y, z
    save(tmp_path / "volumes" / "a.nii.gz", values)
    save(tmp_path / "masks" / "a.nii", (values > 10).astype(np.uint8) * 2)
    source = Nifti(str(tmp_path), config(""))
    volume, labels = (read(source)[key][0] for key in ("volume", "label_map"))
    assert volume.shape == (4, 3, 2, 1) and volume[3, 2, 1, 0] == values[1, 2, 3] and volume[0, 0, 1, 0] == 12
    np.testing.assert_array_equal(labels, (volume > 10) * 2)
    assert source.keys["label_map"].classes == ("0", "1", "2")
    _, info = data.load(config(f"nifti:{tmp_path}", preprocess=("resize(6, 4)", "sample_frames(2)")))
    assert shapes(info) == {"volume": ((2, 6, 4, 1), "float32"), "label_map": ((2, 6, 4, 1), "int32")}


def test_volumes_are_turned_to_one_orientation(config, tmp_path):
    values = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    save(tmp_path / "volumes" / "a.nii", values[::-1], affine=np.diag([-1.0, 1, 1, 1]))
    assert read(Nifti(str(tmp_path), config("")))["volume"][0][3, 2, 1, 0] == values[1, 2, 3]


def test_refusals(config, tmp_path):
    pytest.importorskip("nibabel")
    (tmp_path / "volumes").mkdir()
    with pytest.raises(UserError, match="volumes has no files"):
        Nifti(str(tmp_path), config(""))
    (tmp_path / "volumes" / "a.nii").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"a.nii is not a readable NIfTI file"):
        read(Nifti(str(tmp_path), config("")))
    save(tmp_path / "volumes" / "a.nii", np.full((2, 2, 2), np.nan, np.float32))
    with pytest.raises(UserError, match=r"a.nii has values that are NaN"):
        read(Nifti(str(tmp_path), config("")))
    save(tmp_path / "masks" / "a.nii", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(UserError, match=r"masks/a.nii has the shape \(3, 2, 2\), but .*volumes/a.nii has \(2, 2, 2\)"):
        Nifti(str(tmp_path), config(""))
    save(tmp_path / "masks" / "a.nii", np.full((2, 2, 2), 0.5, np.float32))
    with pytest.raises(UserError, match="is not a map of class ids"):
        Nifti(str(tmp_path), config(""))


def test_a_missing_package_is_one_line(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(UserError, match=r"NIfTI volumes need the extra `volumes`: pip install"):
        Nifti(str(tmp_path), config(""))
