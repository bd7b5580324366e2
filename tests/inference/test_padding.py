"""Label maps of images that a canvas pads: the padding does not appear in what predict.py writes."""

import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from core.info import Info
from data.augment.transform import Transform
from inference.inputs import Inputs
from inference.predict import Predictions, Trained, write
from tasks.segmentation import Segmentation
from tests.arch.architectures import architectures


def test_label_maps_are_those_of_the_image(tmp_path):
    Image.new("RGB", (6, 8)).save(tmp_path / "tall.png")
    labels = np.zeros((1, 4, 6), np.uint8)
    labels[0, 1, 2], labels[0, :, 3:] = 1, 2  # the right half is padding
    batch = {"image": np.zeros((1, 4, 6, 3), np.uint8), "image_region": np.array([[0, 0, 1, 0.5]], np.float32)}
    task, info = Segmentation(classes=("ground", "thing", "sky")), Info("made up", {}, {})
    run = Trained(ConfigDict(), info, task, architectures()["unet.UNet"](), {}, Transform.create((), info))
    predictions = Predictions(run, Inputs([str(tmp_path / "tall.png")], batch, {}), {"prediction": labels}, [{}])
    write(str(tmp_path / "map.png"), predictions)
    expected = np.zeros((8, 6), np.uint8)
    expected[2:4, 4:] = 1
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "map.png")), expected)
    row = task.row({key: x[0] for key, x in batch.items()}, {"prediction": labels[0]}, info)
    assert row == {"prediction": {"ground": 11 / 12, "thing": 1 / 12}}
