"""Moving digits and digits as bodies: order alone tells the motion, and a turn is a turn."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import data
from data.builders.digits import scans
from data.builders.moved_digits import DigitVolumes, MovingDigits
from tests.data.infos import class_names, shapes

IMAGES, DIGITS, PARTS = scans()


def test_every_motion_shows_the_same_frames_in_another_order():
    random = np.random.default_rng(0)
    for image in IMAGES[:20]:
        corner = random.integers((17, 24))
        clips = [MovingDigits.clip(image, corner, motion) for motion in range(4)]
        assert len({tuple(sorted(frame.tobytes() for frame in clip)) for clip in clips}) == 1
        assert len({clip.tobytes() for clip in clips}) == 4
        assert all((clip.sum((1, 2, 3)) == image.sum()).all() for clip in clips)


@pytest.mark.parametrize(("motion", "step"), [(0, -3), (1, 3), (2, -9), (3, 9)])
def test_a_motion_moves_the_digit(motion, step):
    clip = MovingDigits.clip(IMAGES[0], np.array([5, 2]), motion)
    np.testing.assert_array_equal(clip[0, 5:13, 2:10], IMAGES[0])
    for before, after in itertools.pairwise(clip):
        np.testing.assert_array_equal(np.roll(before, step, axis=1), after)


def test_bodies():
    """Along its axis, a body shows the digit; a quarter turn exchanges axes; at any turn it keeps its mass."""
    straight = DigitVolumes.body(IMAGES[3], np.eye(3)).astype(float)[..., 0]
    middle = straight[8]
    centres = np.round((np.arange(8) - 3.5) * DigitVolumes.SCALE + 7.5).astype(int)
    assert np.corrcoef(middle[np.ix_(centres, centres)].ravel(), IMAGES[3].ravel())[0, 1] > 0.9
    assert not straight[:4].any() and not straight[12:].any()
    quarter = Rotation.from_euler("x", 90, degrees=True).as_matrix()  # about the first axis, of depth
    turned = DigitVolumes.body(IMAGES[3], quarter).astype(float)[..., 0]
    assert min(np.abs(turned - np.rot90(straight, k, (1, 2))).max() for k in (1, 3)) <= 1
    tilted = DigitVolumes.body(IMAGES[3], Rotation.from_rotvec([0.5, -0.4, 0.6]).as_matrix()).astype(float)
    np.testing.assert_allclose(tilted.sum(), straight.sum(), rtol=0.05)


@pytest.mark.parametrize(
    ("builder", "key", "shape", "classes"),
    [
        (MovingDigits, "video", (8, 24, 24, 1), ("left", "right", "fast left", "fast right")),
        (DigitVolumes, "volume", (16, 16, 16, 1), tuple("0123456789")),
    ],
)
def test_sets(builder, key, shape, classes, config, tmp_path, monkeypatch):
    monkeypatch.setattr(builder, "SIZES", {"train": 60, "validation": 20, "test": 40})
    splits, info = data.load(config(builder.name, validation="validation", test="test"), str(tmp_path))
    assert info.sizes == {"train": 60, "validation": 20, "test": 40}
    assert shapes(info)[key] == (shape, "uint8") and info.keys[key].role == key and class_names(info) == classes
    values = splits["train"].arrays[key] / 255
    np.testing.assert_allclose(info.keys[key].statistics["mean"], [values.mean()], rtol=1e-6)
    np.testing.assert_allclose(info.keys[key].statistics["std"], [values.std()], rtol=1e-6)
    assert len(np.unique(splits["test"].arrays["label"])) == len(classes)


def test_test_digits_are_unseen():
    """Of the test split; their pixels are a part of every frame."""
    pools = {split: {IMAGES[i].tobytes() for i in part} for split, part in PARTS.items()}
    assert not pools["train"] & pools["test"]
