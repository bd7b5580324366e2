"""Drawings of label maps, and the choice of the examples that the report shows."""

import numpy as np
import pytest

from core.info import Info
from reporting.drawings import label_map
from reporting.figures import class_iou, pictures
from reporting.shown import Shown
from tasks.segmentation import Segmentation

TASK = Segmentation(classes=("sky", "road", "car"))


class Axes:
    """Keeps the image that is drawn."""

    def imshow(self, image, **options):
        self.image = image


@pytest.mark.parametrize("volume", [False, True])
def test_classes_are_coloured_and_the_others_stay(volume):
    image = np.full((2, 3, 3), 100, np.uint8)
    labels = np.array([[0, 1, 2], [255, 1, 2]], np.uint8)
    if volume:
        image, labels = np.stack([0 * image, image + np.arange(3, dtype=np.uint8)]), np.stack([0 * labels, labels])
        image = image[..., :1]
    axes = Axes()
    label_map.paint(axes, {"image": image}, {"prediction": labels}, TASK)
    drawn = axes.image
    assert drawn.shape == (2, 3, 3)
    plain = drawn[0, 0]
    assert np.ptp(plain) < 1e-6 and np.array_equal(drawn[1, 0], plain)  # class 0, and no class
    assert np.array_equal(drawn[0, 1], drawn[1, 1]) and np.ptp(drawn[0, 1]) > 0.1
    assert np.abs(drawn[0, 1] - drawn[0, 2]).max() > 0.2


def test_colours_of_classes_differ():
    colours = label_map.colours(20)
    distances = np.abs(colours[:, None] - colours).max(-1) + np.eye(20)
    assert distances.min() > 0.05 and (colours >= 0).all() and (colours <= 1).all()
    np.testing.assert_array_equal(label_map.colours(5), colours[:5])


def test_the_worst_and_the_typical_examples():
    loss = np.array([3.0, 0.1, np.nan, 1.0, 2.0, 0.2, 5.0])
    worst, typical = pictures.chosen(loss, 3)
    assert worst.tolist() == [2, 6, 0] and typical.tolist() == [0, 4, 3]
    assert [part.tolist() for part in pictures.chosen(loss[:2], 3)] == [[0, 1], [0, 1]]


def test_classes_in_the_order_of_their_iou():
    confusion = np.array([[[6, 2, 0], [0, 4, 0], [0, 0, 0]]])
    rows = class_iou.draw(Shown(TASK, Info("made up", {}, {}), lambda indices: {}, {"confusion": confusion})).table
    assert rows[1:] == [
        ("car", "absent", "0.0%", "0.0%"),
        ("road", "0.667", "33.3%", "50.0%"),
        ("sky", "0.750", "66.7%", "50.0%"),
    ]
