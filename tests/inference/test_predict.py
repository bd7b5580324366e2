"""predict.py gives the labels that evaluation gave, from files and tables, and names what does not fit."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import data
from configs import tabular
from core.errors import UserError
from inference import inputs
from inference.predict import WRITERS, check_output, predict, write
from tests.training import commands, small
from training.main import train
from training.overrides import override

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory, data_dir):
    workdir = tmp_path_factory.mktemp("runs") / "digits"
    config = small.get_config()
    config.model.widths, config.train.steps, config.augment.ops = (64,), 200, ("normalise()",)
    config.optimizer.learning_rate = 1e-2
    train(config, str(workdir), data_dir, "")
    return workdir


@pytest.fixture(scope="module")
def images(tmp_path_factory, data_dir):
    """Returns 12 test images as files, and their labels."""
    folder = tmp_path_factory.mktemp("images")
    batch = data.load(small.get_config().data, data_dir)[0]["test"].batch(np.arange(12))
    paths = []
    for number, image in enumerate(batch["image"]):
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(image[..., 0]).save(paths[-1])
    return paths, batch["label"]


def test_images_to_labels_and_probabilities(digits_run, images, tmp_path):
    paths, labels = images
    output = f"--output={tmp_path / 'out.csv'}"
    code, out, err = commands.run(f"--workdir={digits_run}", output, *paths, script="predict.py")
    assert code == 0, err
    lines = out.strip().splitlines()
    assert [line.split("\t")[0] for line in lines] == paths
    assert np.mean([line.split("\t")[1] == str(label) for line, label in zip(lines, labels, strict=True)]) >= 0.75
    write(str(tmp_path / "out.jsonl"), predict(str(digits_run), paths))
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    table = list(csv.DictReader((tmp_path / "out.csv").open()))
    for row, flat in zip(rows, table, strict=True):
        assert sum(row["probability"].values()) == pytest.approx(1, abs=1e-5)
        assert max(row["probability"], key=row["probability"].get) == row["prediction"] == flat["prediction"]
        assert float(flat[f"p({row['prediction']})"]) == pytest.approx(row["probability"][row["prediction"]])


TOKENS = {
    "model.name": "ft_transformer.FTTransformer(depth=1, width=16, heads=2, mlp_width=16)",
    "data.preprocess": ("features(scaling='quantile', bins=4)",),
}


@pytest.mark.parametrize("changes", [{"model.width": 32}, TOKENS], ids=["numbers", "a token per column"])
def test_a_table_of_ones_own_from_training_to_prediction(changes, tmp_path):
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"size": random.normal(50, 9, 300), "colour": random.choice(["red", "blue", None], 300)})
    frame["price"] = 3 * frame["size"] + 40 * (frame["colour"] == "red") + random.normal(0, 1, 300)
    frame.loc[::17, "size"] = np.nan
    frame.to_csv(tmp_path / "houses.csv", index=False)
    config = tabular.get_config("number")
    config.data.name, config.data.target = f"csv:{tmp_path / 'houses.csv'}", "price"
    config.train.epochs, config.train.batch_size, config.eval.every = 20.0, 16, 0.5
    config, _ = override(config, changes)
    results = train(config, str(tmp_path / "run"), None).results
    assert results["test"]["r2"] > 0.7
    (tmp_path / "houses.csv").unlink()
    known = frame.dropna(subset=["size"]).head(20)
    known.drop(columns="price").to_csv(tmp_path / "new.csv", index=False)
    rows = predict(str(tmp_path / "run"), [str(tmp_path / "new.csv")]).rows
    assert np.corrcoef([row["prediction"] for row in rows], known["price"])[0, 1] > 0.9
    known.drop(columns=["price", "size"]).to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(UserError, match="'size'"):
        predict(str(tmp_path / "run"), [str(tmp_path / "short.csv")])


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["nothing to predict"]),
        (["IMAGE", "--output=out.txt"], ["out.txt", ".csv", ".jsonl"]),
        (["IMAGE", "--beams=3"], ["--beams", "--prompt"]),
        (["IMAGE", "--config.task.beams=3"], ["--config", "--init_from"]),
        (["IMAGE", "--temperature=-1"], ["temperature=-1"]),
    ],
    ids=str,
)
def test_slips_on_the_command_line(arguments, words, digits_run, images):
    arguments = [images[0][0] if argument == "IMAGE" else argument for argument in arguments]
    code, out, err = commands.run(f"--workdir={digits_run}", *arguments, script="predict.py")
    assert code == 2 and err.count("\n") == 1 and not out
    assert all(word in err for word in words), err


def test_slips(digits_run):
    with pytest.raises(UserError, match=r"missing\.png"):
        predict(str(digits_run), ["missing.png"])
    with pytest.raises(UserError, match=r"setup\.cfg.*image|image.*setup\.cfg"):
        predict(str(digits_run), ["setup.cfg"])
    with pytest.raises(UserError, match="/nowhere"):
        check_output("/nowhere/out.csv", tuple(WRITERS))


def test_a_workdir_without_a_run(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        predict(str(tmp_path), ["image.png"])


def test_a_folder_is_answered_with_its_files(tmp_path):
    with pytest.raises(UserError, match=r"is a folder: name its files, such as .*/\*\.png"):
        inputs._check_file(str(tmp_path))
