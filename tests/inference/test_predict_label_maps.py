"""predict.py writes the label map of an image and draws it."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import segmentation
from core.errors import UserError
from inference.predict import predict, write
from reporting import drawings
from tasks.regression import Regression
from tests.training import commands
from training.main import train
from training.overrides import override

pytestmark = pytest.mark.slow

SIDE = 12


def picture(random):
    """Returns an image and its label map: a bright rectangle is class 1, a column at the edge has no class."""
    image = random.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    top, left = random.integers(0, 6, 2)
    image[top : top + 5, left : left + 5] += 150
    labels[top : top + 5, left : left + 5] = 1
    labels[:, -1] = 255
    return image, labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Returns a run on a folder of masks, and two new images with their label maps."""
    folder, random = tmp_path_factory.mktemp("masks"), np.random.default_rng(0)
    for kind in ("images", "masks", "new"):
        (folder / kind).mkdir()
    for i in range(40):
        image, labels = picture(random)
        Image.fromarray(image).save(folder / "images" / f"{i}.png")
        Image.fromarray(labels).save(folder / "masks" / f"{i}.png")
    (folder / "classes.txt").write_text("dark\nbright\n")
    new = [picture(random) for _ in range(2)]
    for i, (image, _) in enumerate(new):
        Image.fromarray(image).save(folder / "new" / f"{i}.png")
    changes = {"data.name": f"masks:{folder}", "data.preprocess": (), "train.epochs": 0.0, "train.steps": 60}
    changes |= {"model.width": 8, "model.depth": 1, "train.batch_size": 16, "task.dice": 1.0}
    changes |= {"eval.every": 0.0, "checkpoint.best": ""}
    config, _ = override(segmentation.get_config("masks"), changes)
    finished = train(config, str(folder / "run"), None)
    assert finished.results["test"]["mean_iou"] > 0.9
    return folder, [str(folder / "new" / f"{i}.png") for i in range(2)], [labels for _, labels in new]


def test_label_maps_are_written_and_drawn(run, tmp_path):
    folder, paths, labels = run
    arguments = [f"--workdir={folder / 'run'}", f"--output={tmp_path / 'map.png'}", f"--draw={tmp_path / 'drawn.png'}"]
    code, out, err = commands.run(*arguments, *paths, script="predict.py")
    assert code == 0, err
    for number, (line, path, true) in enumerate(zip(out.strip().splitlines(), paths, labels, strict=True), start=1):
        found = np.asarray(Image.open(tmp_path / f"map-{number}.png"))
        known = true != 255
        assert found.shape == (SIDE, SIDE) and (found == true)[known].mean() > 0.95
        name, shares = line.split("\t")
        assert name == path and json.loads(shares)["bright"] == pytest.approx((found == 1).mean())
    assert Image.open(tmp_path / "drawn.png").size[0] > 2 * SIDE


def test_a_label_map_has_the_size_of_its_file(run, tmp_path):
    folder, paths, _ = run
    large = Image.open(paths[0]).resize((3 * SIDE, 2 * SIDE), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    predictions = predict(str(folder / "run"), [str(tmp_path / "large.png")])
    write(str(tmp_path / "map.png"), predictions)
    write(str(tmp_path / "map.npy"), predictions)
    found, small = np.asarray(Image.open(tmp_path / "map.png")), np.load(tmp_path / "map.npy")
    np.testing.assert_array_equal(found, small.repeat(2, 0).repeat(3, 1))


def test_a_task_without_pictures_is_refused():
    with pytest.raises(UserError, match="Regression draws no pictures"):
        drawings.painter(Regression())
