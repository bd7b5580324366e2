"""New inputs go through the stored ops, whichever way they are given; the data set itself is not needed."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import wavfile

import data
from core.errors import UserError
from core.info import Info
from inference.inputs import encode, text_lines
from tasks.classification import Classification
from training.config import default

TEXTS = ["he runs", "a dog", "two men here", "he plays", "dogs run", "no"]


def loaded(name, *ops, **options):
    """Returns the config, the splits and Info as a checkpoint has it."""
    config = default()
    config.data.update(name=name, preprocess=ops, splits={"train": "train", "validation": "", "test": ""}, **options)
    splits, info = data.load(config.data)
    return config, splits["train"], Info.from_json(json.loads(json.dumps(info.to_json())))


def encoded(config, info, key, files=(), lines=(), target="label"):
    return encode(config, info, Classification(inputs=(key,), target=target), list(map(str, files)), list(lines))


def texts(tmp_path, *ops, **columns):
    """Returns what `loaded` returns of a table of texts, whose file is then removed."""
    file = tmp_path / "texts.csv"
    pd.DataFrame({"text": TEXTS, "label": list("abcabc")} | columns).to_csv(file, index=False)
    result = loaded(f"csv:{file}", *ops)
    file.unlink()
    return result


def test_lines_without_a_byte_order_mark():
    assert text_lines(["\ufeffa\n", "\ufeffb\n", "\n", "c"]) == ["a", "\ufeffb", "", "c"]
    assert text_lines([]) == []
    with pytest.raises(UserError, match="standard input is not utf-8"):
        text_lines(io.TextIOWrapper(io.BytesIO("é".encode("latin-1")), "utf-8"))


@pytest.mark.parametrize("suffix", ["csv", "CSV", "jsonl", "parquet"])
def test_texts_in_lines_and_tables(suffix, tmp_path):
    config, split, info = texts(tmp_path, "tokenize('text', words())")
    frame, file = pd.DataFrame({"text": TEXTS[::-1], "label": "new"}), tmp_path / f"new.{suffix}"
    {
        "csv": lambda: frame.to_csv(file, index=False),
        "jsonl": lambda: frame.to_json(file, orient="records", lines=True),
        "parquet": lambda: frame.to_parquet(file),
    }[suffix.lower()]()
    given, lines = encoded(config, info, "text", [file]), encoded(config, info, "text", lines=TEXTS[::-1])
    assert given.names == [f"{file}:{row}" for row in range(1, 7)] and lines.names == TEXTS[::-1]
    known = {info.keys["text"].vocabulary.text(ids): ids for ids in split.batch(np.arange(6))["text"]}
    for found in (given.batch, lines.batch):
        assert found.keys() == {"text", "text_mask", "text_lengths", "mask", "index"}
        np.testing.assert_array_equal(found["text"], [known[text] for text in TEXTS[::-1]])
        np.testing.assert_array_equal(found["text_mask"].sum(1), found["text_lengths"])
        assert found["text"].dtype == np.int32 and found["mask"].tolist() == [1] * 6


def test_a_renamed_text(tmp_path):
    config, _, info = texts(tmp_path, "rename(review='text')", "tokenize('review', words())")
    lines = encoded(config, info, "review", lines=["he runs here"]).batch
    assert lines["review_lengths"].tolist() == [5]


def test_words_have_starts(tmp_path):
    tags = [" ".join("x" for _ in text.split()) for text in TEXTS]
    config, _, info = texts(tmp_path, "drop('label')", "tokenize_words('text', 'tags', bpe(262))", tags=tags)
    pd.DataFrame({"text": ["he runs", "a b c d"], "tags": ["y", None]}).to_csv(tmp_path / "new.csv", index=False)
    lines = encoded(config, info, "text", lines=["he runs", "a b c d"], target="tags").batch
    table = encoded(config, info, "text", [tmp_path / "new.csv"], target="tags").batch
    for found in (lines, table):
        assert found["text_starts"].dtype == bool and found["text_starts"].shape == found["text"].shape
        assert found["text_starts"].sum(1).tolist() == [2, 4]


@pytest.mark.parametrize(("ops", "samples"), [((), 4_000), (("log_mel(rate=4000, bands=5)",), 4_000)], ids=str)
def test_sounds_of_any_rate(ops, samples, tmp_path):
    for i, name in enumerate("ab"):
        (tmp_path / "set" / name).mkdir(parents=True)
        tone = np.sin(np.arange(samples + 100 * i) * (0.2 + 0.2 * i)).astype(np.float32)
        wavfile.write(tmp_path / "set" / name / "1.wav", 8_000, tone)
    config, split, info = loaded(f"folder:{tmp_path / 'set'}", *ops)
    row = split.batch(np.arange(2))["label"].tolist().index(0)
    shutil.rmtree(tmp_path / "set")
    wavfile.write(tmp_path / "new.WAV", 16_000, np.sin(np.arange(2 * samples) * 0.1).astype(np.float32))
    key = "frames" if ops else "audio"
    found, known = encoded(config, info, key, [tmp_path / "new.WAV"]).batch, split.batch(np.array([row]))
    assert found[f"{key}_lengths"] == known[f"{key}_lengths"]
    real = known[f"{key}_mask"] > 0
    assert np.corrcoef(found[key].ravel(), known[key][real].ravel())[0, 1] > 0.9


def test_images_in_the_depth_and_size_of_the_set(tmp_path):
    for i, name in enumerate("ab"):
        (tmp_path / "set" / name).mkdir(parents=True)
        Image.fromarray(np.full((6, 6), 20_000 * i, np.uint16)).save(tmp_path / "set" / name / "1.png")
    config, _, info = loaded(f"folder:{tmp_path / 'set'}", "resize(4, 5)")
    shutil.rmtree(tmp_path / "set")
    Image.new("RGB", (9, 7), "white").save(tmp_path / "new.PNG")
    found = encoded(config, info, "image", [tmp_path / "new.PNG"]).batch
    np.testing.assert_array_equal(found["image"], np.ones((1, 4, 5, 1), np.float32))
    (tmp_path / "new.csv").write_text("image\na\n")
    with pytest.raises(UserError, match=r"this run reads 'image' of folder:.*: give image files, not .*new\.csv"):
        encoded(config, info, "image", [tmp_path / "new.csv"])
    with pytest.raises(UserError, match=r"give image files, not lines"):
        encoded(config, info, "image", lines=["a"])


@pytest.mark.parametrize("ops", [(), ("rename(picture='photo')",)], ids=["plain", "renamed"])
def test_images_and_tables_of_paths(ops, tmp_path):
    for i in range(2):
        Image.fromarray(np.full((6, 6, 3), 100 * i, np.uint8)).save(tmp_path / f"{i}.png")
    pd.DataFrame({"photo": ["0.png", "1.png"], "label": ["a", "b"]}).to_csv(tmp_path / "set.csv", index=False)
    key = "picture" if ops else "photo"
    config, _, info = loaded(f"csv:{tmp_path / 'set.csv'}", *ops, f"read_image('{key}')", "resize(4, 5)")
    Image.new("L", (9, 7), 40).save(tmp_path / "new.png")
    (tmp_path / "new.csv").write_text("photo\n1.png\nnew.png\n")
    found = encoded(config, info, "image", [tmp_path / "new.png", tmp_path / "new.csv"])
    assert found.names == [str(tmp_path / "new.png"), f"{tmp_path / 'new.csv'}:1", f"{tmp_path / 'new.csv'}:2"]
    assert found.batch["image"].shape == (3, 4, 5, 3) and found.batch["image"].dtype == np.uint8
    assert found.batch["image"].mean((1, 2, 3)).tolist() == [40, 100, 40]
    with pytest.raises(UserError, match=r"give image files or \.csv, .*, not .*new\.wav"):
        (tmp_path / "new.wav").write_bytes(b"RIFF")
        encoded(config, info, "image", [tmp_path / "new.wav"])


def test_sounds_and_tables_of_paths(tmp_path):
    for name, rate in (("a", 8000), ("b", 8000), ("new", 4000)):
        wavfile.write(tmp_path / f"{name}.wav", rate, np.full(rate, 1000, np.int16))
    pd.DataFrame({"sound": ["a.wav", "b.wav"], "label": ["a", "b"]}).to_csv(tmp_path / "set.csv", index=False)
    config, _, info = loaded(f"csv:{tmp_path / 'set.csv'}", "read_sound('sound', rate=4000)")
    (tmp_path / "new.csv").write_text("sound\na.wav\n")
    found = encoded(config, info, "audio", [tmp_path / "new.wav", tmp_path / "new.csv"]).batch
    assert found["audio_lengths"].tolist() == [4000, 4000]


def test_a_text_run_refuses_images(tmp_path):
    config, _, info = texts(tmp_path, "tokenize('text', words())")
    Image.new("RGB", (9, 7)).save(tmp_path / "new.png")
    wanted = r"give lines of text on standard input or \.csv, \.jsonl, \.parquet, not .*new\.png"
    with pytest.raises(UserError, match=wanted):
        encoded(config, info, "text", [tmp_path / "new.png"])


def test_columns_of_a_table(tmp_path):
    rows = {"size": np.arange(8.0), "colour": ["red", "blue"] * 4, "price": np.arange(8) * 2.0}
    pd.DataFrame(rows).to_csv(tmp_path / "houses.csv", index=False)
    options = {"target": "price", "target_type": "number"}
    config, split, info = loaded(f"csv:{tmp_path / 'houses.csv'}", "features()", **options)
    known = split.batch(np.arange(8))
    pd.DataFrame(rows)[::-1].drop(columns="price").to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    pd.DataFrame(rows | {"price": np.nan, "more": "x"}).to_csv(tmp_path / "b.csv", index=False)
    found = encoded(config, info, "features", [tmp_path / "a.jsonl", tmp_path / "b.csv"], target="target").batch
    price = known["target"] + info.keys["target"].statistics["offset"]
    in_order = known["features"][np.argsort(price)]
    np.testing.assert_array_equal(found["features"], np.concatenate([in_order[::-1], in_order]))
    assert found.keys() == {"features", "mask", "index"}


@pytest.mark.parametrize("role", ["video", "volume"])
def test_a_video_is_a_folder_or_an_array_and_a_volume_an_array(role, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (5, 4, 3, 4, 1)).astype(np.uint8)
    np.savez(tmp_path / "set.npz", **{role: frames, "label": np.arange(5) % 2})
    config, _, info = loaded(f"npz:{tmp_path}/set.npz")
    assert info.keys[role].role == role
    (tmp_path / "clip").mkdir()
    for i, frame in enumerate(frames[1]):
        Image.fromarray(frame[..., 0]).save(tmp_path / "clip" / f"{i}.png")
    np.save(tmp_path / "clip.npy", frames[1, ..., 0])
    given = [tmp_path / "clip.npy", *([tmp_path / "clip"] if role == "video" else [])]
    batch = encoded(config, info, role, given).batch
    np.testing.assert_array_equal(batch[role], np.stack([frames[1]] * len(given)))
    if role == "volume":
        with pytest.raises(UserError, match=r"clip is a folder: name its files"):
            encoded(config, info, role, [tmp_path / "clip"])
    for values, message in {
        (2, 3, 4): r"the input has 2 frames, .*s of .*set.npz have 4",
        (4, 3, 4, 3): r"the input has 3 channels, .*s of .*set.npz have 1",
        (4, 3): r"clip.npy has the shape \(4, 3\), not \(t, h, w\) or \(t, h, w, c\)",
    }.items():
        np.save(tmp_path / "clip.npy", np.zeros(values, np.uint8))
        with pytest.raises(UserError, match=message):
            encoded(config, info, role, [tmp_path / "clip.npy"])
    for values, message in (
        (np.full((4, 3, 4), 255), "holds int64, but the run was trained on uint8"),
        (np.full((4, 3, 4), np.nan), "values that are not finite numbers"),
        (np.zeros((0, 3, 4), np.uint8), "is empty, or"),
    ):
        np.save(tmp_path / "clip.npy", values)
        with pytest.raises(UserError, match=message):
            encoded(config, info, role, [tmp_path / "clip.npy"])
    with pytest.raises(UserError, match=r"give (folders of frames, \.npy|\.nii\.gz, \.nii, \.npy), not .*set\.npz"):
        encoded(config, info, role, [tmp_path / "set.npz"])


def test_frames_of_another_size_and_of_another_number(tmp_path):
    for clip, count in (("a/x", 3), ("b/y", 5)):
        (tmp_path / "set" / clip).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (6, 4), 10 * i).save(tmp_path / "set" / clip / f"{i}.png")
    config, _, info = loaded(f"frames:{tmp_path / 'set'}", "sample_frames(2)")
    (tmp_path / "new").mkdir()
    for i in range(7):
        Image.new("RGB", (12, 8), (i, i, i)).save(tmp_path / "new" / f"{i}.png")
    video = encoded(config, info, "video", [tmp_path / "new"]).batch["video"]
    assert video.shape == (1, 2, 4, 6, 1) and video[0, :, 0, 0, 0].tolist() == [1, 5]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no frames, such as 1.png"):
        encoded(config, info, "video", [tmp_path / "empty"])
