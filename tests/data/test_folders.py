"""Folders of images and of sounds per class, pairs of images and masks, and clips as folders of frames."""

import numpy as np
import pytest
from PIL import Image

import data
from core.errors import UserError
from data.sources.folders import Folder
from data.sources.frames import Frames
from data.sources.masks import Masks
from data.splits import StreamSplit
from tests.data.drawn import draw, play
from tests.data.infos import class_names, shapes


def every(source, split="train"):
    examples = source.examples(split, ordered=True)
    return examples.chunk(np.arange(len(examples)))


def test_folder(config, tmp_path):
    for label, name in enumerate(("cat", "dog")):
        for i in range(10):
            draw(tmp_path / name / f"{i}.png", 100 * label + i)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    splits, info = data.load(config(f"folder:{tmp_path}", train="train[:75%]", test="train[75%:]"))
    assert class_names(info) == ("cat", "dog")
    assert info.sizes == {"train": 15, "test": 5}
    assert shapes(info) == {"image": ((4, 6, 1), "uint8"), "label": ((), "int32")}
    for split in splits.values():
        np.testing.assert_array_equal(split.arrays["image"][:, 0, 0, 0] >= 100, split.arrays["label"] == 1)
    assert set(splits["train"].arrays["label"]) == {0, 1}  # shuffled: the last quarter is not all dogs
    assert set(splits["test"].arrays["label"]) == {0, 1}
    streamed, streamed_info = data.load(config(f"folder:{tmp_path}", train="train[:75%]", memory_gb=0.0))
    assert isinstance(streamed["train"], StreamSplit)
    np.testing.assert_array_equal(streamed["train"].batch(np.arange(15))["image"], splits["train"].arrays["image"])
    assert streamed_info.keys["image"].statistics == info.keys["image"].statistics


def test_folder_with_splits_colours_and_sizes(config, tmp_path):
    draw(tmp_path / "train" / "a" / "1.png", 255)
    draw(tmp_path / "train" / "b" / "1.jpg", (255, 0, 0), size=(9, 9), mode="RGB")
    draw(tmp_path / "val" / "a" / "1.png", 0)
    draw(tmp_path / "test" / "b" / "1.png", 0)
    name = f"folder:{tmp_path}"
    with pytest.raises(UserError, match=r"has different shapes, such as .*add 'resize"):
        data.load(config(name))
    splits, info = data.load(config(name, validation="validation", test="test", preprocess=("resize(5, 7)",)))
    assert shapes(info)["image"] == ((5, 7, 3), "uint8")
    assert class_names(info) == ("a", "b")
    np.testing.assert_array_equal(splits["test"].arrays["label"], [1])
    np.testing.assert_array_equal(splits["validation"].arrays["label"], [0])


def test_nested_folders_belong_to_the_class_above(config, tmp_path):
    draw(tmp_path / "cat" / "1.png", 1)
    draw(tmp_path / "cat" / "black" / "old" / "1.png", 2)
    draw(tmp_path / "dog" / "big" / "1.PNG", 3)
    chunk = every(Folder(str(tmp_path), config("")))
    assert [int(image[0, 0, 0]) for image in chunk["image"]] == [1, 2, 3]
    assert list(chunk["label"]) == [0, 0, 1]


def test_a_class_may_be_called_train(config, tmp_path):
    for name in ("bus", "train"):
        draw(tmp_path / name / "side" / "1.png", 0)
    source = Folder(str(tmp_path), config(""))
    assert list(source.splits) == ["train"] and source.keys["label"].classes == ("bus", "train")
    for name in ("train", "test"):  # folders of files only
        draw(tmp_path / "b" / name / "1.png", 0)
    assert Folder(f"{tmp_path}/b", config("")).keys["label"].classes == ("test", "train")


def test_a_second_folder_is_read_as_the_first(config, tmp_path):
    for name in ("a", "b", "c"):
        draw(tmp_path / "one" / name / "1.png", (9, 9, 9), mode="RGB")
    draw(tmp_path / "two" / "c" / "1.png", 7)
    first = Folder(f"{tmp_path}/one", config(""))
    second = every(Folder(f"{tmp_path}/two", config(""), first.state))
    assert second["image"][0].shape == (4, 6, 3) and list(second["label"]) == [2]
    alone = Folder(f"{tmp_path}/two/c/1.png", config(""), first.state)
    assert list(alone.keys) == ["image"] and every(alone)["image"][0].shape == (4, 6, 3)
    assert len(Folder(f"{tmp_path}/two/c", config(""), first.state).examples("train")) == 1
    draw(tmp_path / "two" / "d" / "1.png", 7)
    with pytest.raises(UserError, match="class 'd' does not exist in training"):
        Folder(f"{tmp_path}/two", config(""), first.state)


def test_images_of_16_bits_keep_their_values(config, tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(values).save(tmp_path / name / "1.png")
    draw(tmp_path / "b" / "2.png", 51, size=(8, 8))
    image = every(Folder(str(tmp_path), config("")))["image"]
    np.testing.assert_allclose(image[0][..., 0], values / 65535, rtol=1e-6)
    np.testing.assert_allclose(image[2], np.full((8, 8, 1), 0.2), rtol=1e-6)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has no files of the types .png.* in folders: sort them into folders named by class"),
        (["1.png"], r"1.png \(1 such files\) has no class"),
        (["cat/1.png", "2.png"], r"2.png \(1 such files\) has no class"),
        (["cat/1.png", "Cat/1.png"], "the classes 'Cat' and 'cat' differ only in case"),
        (["train/cat/1.png", "test/CAT/1.png"], "the classes 'CAT' and 'cat' differ only in case"),
        (["cat/1.png", "dog/1.txt"], "the folder of class 'dog' has no files"),
        (["train/cat/1.png", "test/cat/1.txt"], "the split 'test' has no files"),
        (["train/cat/1.png", "test/1.png"], "test holds no folders, but other splits"),
        (["train/a/1.png", "val/a/1.png", "valid/a/1.png"], "are both the split 'validation'"),
        (
            ["train/a/1.png", "test/a/1.png", "unlabeled/a/1.png"],
            "unlabeled is not a split, but folders beside it are",
        ),
        (["cat/1.png", "dog/1.wav"], "holds images and sounds, such as .*1.png and .*1.wav"),
    ],
)
def test_folder_refusals(files, message, config, tmp_path):
    for name in files:
        if name.endswith(".png"):
            draw(tmp_path / name, 0)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("")
    with pytest.raises(UserError, match=message) as caught:
        Folder(str(tmp_path), config(""))
    assert "\n" not in str(caught.value)


def test_broken_and_missing_files_are_named(config, tmp_path):
    draw(tmp_path / "cat" / "1.png", 0)
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "1.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"dog/1.png is not an image"):
        data.load(config(f"folder:{tmp_path}"))
    with pytest.raises(UserError, match=r"nowhere does not exist"):
        data.load(config(f"folder:{tmp_path}/nowhere"))


@pytest.mark.parametrize(
    ("kind", "name", "advice"),
    [(Folder, "a/1.HEIC", ".png"), (Folder, "a/1.mp3", ".wav"), (Frames, "a/1.mp4", "folders of frames")],
)
def test_types_that_are_not_read_are_named(kind, name, advice, config, tmp_path):
    for i in range(4):
        draw(tmp_path / f"{'ab'[i % 2]}" / f"clip{i}" / "1.png", i)
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=f"{name}: files of this type are not read: convert them to {advice}"):
        kind(str(tmp_path), config("folder:"))


def test_folder_of_sounds(config, tmp_path):
    play(tmp_path / "high" / "1.wav", 1_000)
    play(tmp_path / "low" / "1.wav", 200, rate=16_000, seconds=0.2)
    source = Folder(str(tmp_path), config(""))
    assert source.keys["audio"].role == "wave" and source.state["rate"] == 8_000
    high, low = every(source)["audio"]
    assert high.dtype == np.float32 and (len(high), len(low)) == (800, 1600)
    time = np.arange(1600) / 8_000
    np.testing.assert_allclose(low[100:-100], 0.5 * np.sin(2 * np.pi * 200 * time)[100:-100], atol=5e-3)
    faster = Folder(str(tmp_path), config("", preprocess=("log_mel(rate=16000)",)))
    assert [len(audio) for audio in every(faster)["audio"]] == [1600, 3200]
    splits, info = data.load(config(f"folder:{tmp_path}", preprocess=("log_mel(rate=8000, bands=20)",)))
    assert shapes(info)["frames"] == ((18, 20), "float32")
    assert sorted(splits["train"].lengths["frames"]) == [8, 18]


def mask(path, values, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(values, np.uint8), mode="L")
    if mode == "P":
        image = image.convert("P")
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [7] * 759)
    image.save(path)


def test_masks(config, tmp_path):
    for i, name in enumerate(("a", "b/c")):
        draw(tmp_path / "images" / f"{name}.jpg", (i, i, i), size=(3, 2), mode="RGB")
        mask(tmp_path / "masks" / f"{name}.png", [[0, 1, 2], [i, 255, 0]], mode="P" if i else "L")
    splits, info = data.load(config(f"masks:{tmp_path}"))
    assert shapes(info) == {"image": ((2, 3, 3), "uint8"), "label_map": ((2, 3, 1), "uint8")}
    assert info.keys["label_map"].classes == ("0", "1", "2") and info.keys["label_map"].role == "label_map"
    maps = sorted(splits["train"].arrays["label_map"][..., 0].tolist())
    assert maps == [[[0, 1, 2], [0, 255, 0]], [[0, 1, 2], [1, 255, 0]]]


def test_masks_of_black_and_white_have_two_classes(config, tmp_path):
    draw(tmp_path / "images" / "a.png", 0, size=(3, 1))
    mask(tmp_path / "masks" / "a.png", [[0, 255, 255]])
    source = Masks(str(tmp_path), config(""))
    assert source.keys["label_map"].classes == ("0", "1")
    assert every(source)["label_map"][0].ravel().tolist() == [0, 1, 1]
    mask(tmp_path / "masks" / "a.png", [[0, 0, 255]])  # read as the training files were
    assert every(Masks(str(tmp_path), config(""), source.state))["label_map"][0].ravel().tolist() == [0, 0, 1]


def test_masks_of_black_and_white_may_have_named_classes(config, tmp_path):
    draw(tmp_path / "images" / "a.png", 0, size=(3, 1))
    mask(tmp_path / "masks" / "a.png", [[0, 255, 255]])
    (tmp_path / "classes.txt").write_text("ground\nsky\n")
    source = Masks(str(tmp_path), config(""))
    assert source.keys["label_map"].classes == ("ground", "sky")
    assert every(source)["label_map"][0].ravel().tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("a.jpg", [[0, 255, 255]], "a.jpg is a mask, and JPEG changes its values: save PNG"),
        (
            "a.png",
            [[0, 128, 255]],
            "masks contain the ids 0, 128 only: .* or write 129 names of classes to .*classes.txt",
        ),
    ],
)
def test_masks_of_grey_levels_are_refused(name, values, message, config, tmp_path):
    draw(tmp_path / "images" / "a.png", 0, size=(3, 1))
    mask(tmp_path / "masks" / name, values)
    with pytest.raises(UserError, match=message):
        Masks(str(tmp_path), config(""))


@pytest.mark.parametrize("names", [("Train", "Test"), ("training", "testing"), ("train", "DEV")])
def test_names_of_splits_in_any_case(names, config, tmp_path):
    for name in names:
        for kind in ("cat", "dog"):
            draw(tmp_path / name / kind / "1.png", 0)
    source = Folder(str(tmp_path), config(""))
    assert source.keys["label"].classes == ("cat", "dog") and len(source.rows) == 2


def test_masks_have_named_classes(config, tmp_path):
    draw(tmp_path / "images" / "a.png", 0, size=(3, 1))
    mask(tmp_path / "masks" / "a.png", [[0, 1, 1]])
    (tmp_path / "classes.txt").write_text("ground\nsky\n\n")
    assert Masks(str(tmp_path), config("")).keys["label_map"].classes == ("ground", "sky")
    mask(tmp_path / "masks" / "a.png", [[0, 1, 7]])
    with pytest.raises(UserError, match=r"masks/a.png has a pixel of class 7, but classes are from 0 to 1"):
        every(Masks(str(tmp_path), config("")))


def test_masks_refusals(config, tmp_path):
    draw(tmp_path / "images" / "a.png", 0, size=(3, 2))
    with pytest.raises(UserError, match="masks does not exist"):
        Masks(str(tmp_path), config(""))
    mask(tmp_path / "masks" / "b.png", [[0, 1]])
    with pytest.raises(UserError, match=r"a.png has no partner of the same name in .*masks"):
        Masks(str(tmp_path), config(""))
    (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / "a.png")
    with pytest.raises(UserError, match=r"masks/a.png has the size \(1, 2\), but .*images/a.png has \(2, 3\)"):
        every(Masks(str(tmp_path), config("")))
    draw(tmp_path / "masks" / "a.png", (1, 2, 3), mode="RGB")
    with pytest.raises(UserError, match=r"masks/a.png holds colours"):
        Masks(str(tmp_path), config(""))


def test_frames(config, tmp_path):
    for clip, count in (("x", 3), ("y", 11)):
        for i in range(count):
            draw(tmp_path / "run" / clip / f"frame{i}.png", i)
    draw(tmp_path / "walk" / "z" / "0.png", 77)
    splits, info = data.load(config(f"frames:{tmp_path}"))
    assert shapes(info)["video"] == ((11, 4, 6, 1), "uint8") and info.keys["video"].role == "video"
    assert class_names(info) == ("run", "walk")
    arrays = splits["train"].arrays
    longest = arrays["video_lengths"].argmax()
    assert arrays["video"][longest, :, 0, 0, 0].tolist() == list(range(11))  # frame10 after frame9
    assert sorted(arrays["video_lengths"]) == [1, 3, 11]
    resized = data.load(config(f"frames:{tmp_path}", preprocess=("resize(2, 3)",)))[1]
    assert shapes(resized)["video"] == ((11, 2, 3, 1), "uint8")
    splits, sampled = data.load(config(f"frames:{tmp_path}", preprocess=("sample_frames(4)",)))
    assert shapes(sampled)["video"] == ((4, 4, 6, 1), "uint8") and not sampled.keys["video"].ragged
    assert sampled.keys["video"].statistics and "video_mask" not in sampled.keys
    seen = {tuple(clip[:, 0, 0, 0].tolist()) for clip in splits["train"].arrays["video"]}
    assert seen == {(0, 1, 1, 2), (1, 4, 6, 9), (77, 77, 77, 77)}  # the frame in the middle of each quarter


def test_frames_with_splits(config, tmp_path):
    for split in ("train", "test"):
        draw(tmp_path / split / "run" / "x" / "1.png", 0)
    assert list(Frames(str(tmp_path), config("")).splits) == ["train", "test"]
    for name in ("train", "test"):  # classes of these names
        draw(tmp_path / "b" / name / "x" / "1.png", 0)
    assert Frames(f"{tmp_path}/b", config("")).keys["label"].classes == ("test", "train")


def test_frames_refusals(config, tmp_path):
    with pytest.raises(UserError, match="the split 'train' has no clips"):
        Frames(str(tmp_path), config(""))
    draw(tmp_path / "run" / "x" / "1.png", 0)
    draw(tmp_path / "run" / "x" / "2.png", 0, size=(9, 9))
    with pytest.raises(UserError, match=r"2.png has the size \(9, 9\), but .*1.png has \(4, 6\)"):
        every(Frames(str(tmp_path), config("")))
    draw(tmp_path / "run" / "3.png", 0)
    with pytest.raises(UserError, match=r"3.png .*put the frames of each clip into a folder"):
        Frames(str(tmp_path), config(""))
