"""predict.py of language models, classifiers of text, translators, recognisers and captioners, against evaluation."""

import json

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import wavfile

from configs import captions, music, sequences, series, sound, speech, text, translation
from core import mu_law
from core.errors import UserError
from data.builders.speech import WORDS as DIGITS
from data.sources.sounds import read_wav
from data.sources.tfds import Official
from inference import recognition
from inference.pictures import draw_attention
from inference.predict import complete, line, load, predict, write
from reporting import attention as attention_figures
from tests.data.infos import class_names
from tests.training import commands

pytestmark = pytest.mark.slow

FEW = 5


def said(one, count=FEW):
    """Returns what evaluation had the model say of the first test examples."""
    key = "generated" if "generated" in one.arrays else "prediction"
    texts = [row[row > 2] for row in one.arrays[key][:count]]
    return [one.run.task.vocabulary.text(ids) for ids in texts]


def joined(*args, **kwargs):
    return "".join(complete(*args, **kwargs))


def raw(one, recipes_dir):
    """Returns the first test examples as they are stored: key -> one value per example."""
    config = one.run.config.data
    return Official(config.name, recipes_dir).examples(config.splits.test).chunk(range(FEW))


@pytest.fixture(scope="module")
def shakespeare(trained):
    return trained(text, "shakespeare")


def test_a_language_model_goes_on_with_a_prompt(shakespeare):
    workdir, prompt = str(shakespeare.workdir), "a man"
    one, again, other = (joined(workdir, prompt, 40, seed) for seed in (0, 0, 1))
    assert one.startswith(prompt) and len(one) == len(other) == len(prompt) + 40
    assert one == again != other
    best = {joined(workdir, prompt, 12, seed, top_k=1) for seed in (0, 1)}
    assert best == {joined(workdir, prompt, 12, beams=1)}


def test_prompts_from_the_command_line(shakespeare):
    command = ["--prompt=two dog", "--length=9", "--temperature=0.7"]
    code, out, err = commands.run(f"--workdir={shakespeare.workdir}", *command, script="predict.py")
    assert code == 0 and out.startswith("two dog") and len(out) == len("two dog") + 9 + 1, err


def test_slips_of_a_prompt(trained):
    workdir = trained(text, "clinc_oos").workdir
    with pytest.raises(UserError, match="BagOfNgrams is not a language model"):
        joined(str(workdir), "a", 5)
    code, out, err = commands.run(f"--workdir={workdir}", "--prompt=a", "a.png", script="predict.py")
    assert code == 2 and err.count("\n") == 1 and "--prompt excludes" in err and not out


def test_runs_are_used_as_they_were_trained(shakespeare, trained):
    intents = str(trained(text, "clinc_oos").workdir)
    with pytest.raises(UserError, match=r"^temperature=-1.0, top_k=0, top_p=1.0: must be above 0"):
        joined(str(shakespeare.workdir), "a", 5, temperature=-1.0)
    with pytest.raises(UserError, match="--prompt is empty"):
        joined(str(shakespeare.workdir), "", 5)
    with pytest.raises(UserError, match="give --prompt"):
        predict(str(shakespeare.workdir), [], ["a man"])
    with pytest.raises(UserError, match=r"this run reads 'text' of clinc_oos: give lines of text"):
        predict(intents, ["setup.cfg"])
    for recipe, name, key in ((music, "jsb", "notes"), (series, "24", "past"), (sequences, "adding", "inputs")):
        for given in ((["setup.cfg"], []), ([], ["a line"])):
            with pytest.raises(UserError, match=f"this run reads '{key}' of .* cannot be given") as refusal:
                predict(str(trained(recipe, name).workdir), *given)
            assert "\n" not in str(refusal.value)


def test_lines_are_classified(trained, recipes_dir, tmp_path):
    one = trained(text, "clinc_oos")
    texts = list(raw(one, recipes_dir)["text"])
    predictions = predict(str(one.workdir), [], texts)
    assert [row["input"] for row in predictions.rows] == texts
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "texts.csv", index=False)
    table = predict(str(one.workdir), [str(tmp_path / "texts.csv")]).rows
    assert [row["probability"] for row in table] == [row["probability"] for row in predictions.rows]
    for row, expected in zip(predictions.rows, one.arrays["prediction"], strict=False):
        assert row["prediction"] == class_names(one.run.info)[expected]
        assert row["probability"].keys() == set(class_names(one.run.info))
        assert sum(row["probability"].values()) == pytest.approx(1, abs=1e-5)
        assert line(row).startswith(f"{row['input']}\t{row['prediction']}\t{row['prediction']} 0.")
    with pytest.raises(UserError, match="BagOfNgrams does not attend"):
        draw_attention("a.png", predictions)


def test_every_word_of_a_line_is_tagged(trained, recipes_dir, tmp_path):
    one = trained(text, "truecasing")
    lines = [" ".join(words) for words in raw(one, recipes_dir)["words"]]
    predictions = predict(str(one.workdir), [], [*lines, ""])
    rows = predictions.rows
    model, test = load(str(one.workdir)), one.run.splits["test"].batch(np.arange(FEW))
    inputs = (jnp.asarray(test[key]) for key in one.run.task.inputs)
    logits = model.model.apply(model.variables, *inputs, train=False)
    for i, row in enumerate(rows[:FEW]):
        expected = np.argmax(logits[i], -1)[test["case_mask"][i] > 0]
        assert row["prediction"] == [class_names(one.run.info)[k] for k in expected]
        assert len(row["prediction"]) == len(lines[i].split())
    assert rows[FEW]["prediction"] == []
    write(str(tmp_path / "tags.csv"), predictions)
    with pytest.raises(UserError, match=r"tags.wav: this run does not generate sounds"):
        write(str(tmp_path / "tags.wav"), predictions)
    frame = pd.read_csv(tmp_path / "tags.csv", keep_default_na=False)
    assert frame["input"].tolist() == [*lines, ""]
    assert [json.loads(cell) for cell in frame["prediction"]] == [row["prediction"] for row in rows]


def test_lines_are_translated_in_order(trained, recipes_dir, tmp_path):
    one = trained(translation, "bahdanau")
    texts = list(raw(one, recipes_dir)["source"])
    predictions = predict(str(one.workdir), [], [*texts, ""])
    assert [row["input"] for row in predictions.rows] == [*texts, ""]
    assert [row["prediction"] for row in predictions.rows[:FEW]] == said(one)
    assert any(said(one))
    draw_attention(str(tmp_path / "words.png"), predictions)
    with Image.open(tmp_path / "words.png") as picture:
        assert min(picture.size) > 200
    drawn = predictions.outputs["decoder/attention"][0, : predictions.outputs["lengths"][0]]
    np.testing.assert_allclose(drawn.sum(1), 1, rtol=1e-4)


def test_lines_come_from_standard_input(trained):
    """Only "\\n" ends a line; an empty line is a text. A byte order mark at the start is removed."""
    workdir, texts = trained(translation, "bahdanau").workdir, "a man.\n\ntwo\u2028dog.\n"
    process = commands.start(f"--workdir={workdir}", script="predict.py", stdin=True)
    out, err = process.communicate(f"\ufeff{texts}", timeout=300)
    assert process.returncode == 0, err
    assert [row.split("\t")[0] for row in out.split("\n")[:-1]] == ["a man.", "", "two\u2028dog."]


def test_sounds_are_transcribed(trained, recipes_dir, tmp_path):
    one, paths = trained(speech, "random"), []
    for number, audio in enumerate(raw(one, recipes_dir)["audio"]):
        paths.append(str(tmp_path / f"{number}.wav"))
        wavfile.write(paths[-1], 8_000, audio)
    assert [row["prediction"] for row in predict(str(one.workdir), paths).rows] == said(one)
    twice = np.interp(np.arange(2 * len(audio)) / 2, np.arange(len(audio)), audio).astype(np.int16)
    wavfile.write(tmp_path / "other.wav", 16_000, twice)
    other = predict(str(one.workdir), [paths[-1], str(tmp_path / "other.wav")])
    assert len(set(other.inputs.batch["frames_lengths"])) == 1
    assert np.corrcoef(*other.inputs.batch["frames"].reshape(2, -1))[0, 1] > 0.8


def test_digits_are_spoken(trained, tmp_path):
    one = trained(sound, "wavenet")
    lines, path = ["seven", "zero"], str(tmp_path / "spoken.wav")
    predictions = predict(str(one.workdir), [], lines, seed=1)
    again, other = (predict(str(one.workdir), [], lines, seed=seed) for seed in (1, 2))
    np.testing.assert_array_equal(again.outputs["prediction"], predictions.outputs["prediction"])
    assert (other.outputs["prediction"] != predictions.outputs["prediction"]).any()
    write(path, predictions)
    for i, row in enumerate(predictions.rows, start=1):
        samples, rate = read_wav(tmp_path / f"spoken-{i}.wav")
        assert rate == 8_000 and row["prediction"] == f"{len(samples) / 8_000:.2f} s"
        tokens = predictions.outputs["prediction"][i - 1, : predictions.outputs["lengths"][i - 1]]
        expected = mu_law.decode(tokens[tokens < 256])
        np.testing.assert_allclose(samples, expected, atol=1e-4)
    with pytest.raises(UserError, match=r"'sevn' is not a class of spoken_digits/random: did you mean 'seven'"):
        predict(str(one.workdir), [], ["sevn"])


def test_spoken_digits_are_recognised(trained, monkeypatch):
    """The share that is heard as what was said, by a classifier that hears every second sound as "seven"."""
    speaker, listener = (str(trained(sound, name).workdir) for name in ("wavenet", "waves"))
    shares = recognition.recognised(speaker, listener, count=2)
    assert set(shares) == set(DIGITS) and set(shares.values()) <= {0.0, 0.5, 1.0}

    def heard(workdir, files, lines=None, seed=0, **choice):
        predictions = predict(workdir, files, lines, seed, **choice)
        for row in predictions.rows[::2] if files else ():
            row["prediction"] = "seven"
        for row in predictions.rows[1::2] if files else ():
            row["prediction"] = "none"
        return predictions

    monkeypatch.setattr(recognition, "predict", heard)
    assert recognition.recognised(speaker, listener, count=2) == dict.fromkeys(DIGITS, 0.0) | {"seven": 0.5}
    with pytest.raises(UserError, match=r"waves.*: the run does not draw sounds given a class"):
        recognition.recognised(listener, listener, count=1)


def test_pictures_are_captioned(trained, recipes_dir, tmp_path):
    one, paths = trained(captions, "scenes"), []
    for number, image in enumerate(raw(one, recipes_dir)["image"]):
        paths.append(str(tmp_path / f"{number}.png"))
        Image.fromarray(image).save(paths[-1])
    predictions = predict(str(one.workdir), paths)
    assert [row["prediction"] for row in predictions.rows] == said(one)
    draw_attention(str(tmp_path / "places.png"), predictions)
    with Image.open(tmp_path / "places.png") as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape[1] >= 1_500 and pixels.std() > 20


def test_a_picture_is_pale_where_the_model_did_not_look(tmp_path):
    weights = np.zeros((4, 4, 4))
    weights[:, 0, 0] = 1  # the upper left corner
    image = np.full((8, 8, 1), 20, np.uint8)
    image[7, 7] = 255  # or all would be drawn the same
    attention_figures.over_image(str(tmp_path / "a.png"), image, ["$a", "b$", "$\\c$", "<eos>"], weights)
    with Image.open(tmp_path / "a.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    second = pixels[60:, 310:590]  # below its title; five places are 300 pixels each
    assert second[:30, :30].mean() + 100 < second[120:180, 120:180].mean()
