"""Sound becomes frames, several texts of an example become rows, on made-up data of the recipes' sets."""

import numpy as np
import pytest

import data
from core.errors import UserError
from data.preprocess import text
from data.preprocess.audio import LogMel
from data.preprocess.tokenizers import vocabulary, words
from data.sources.tfds import Official
from tests.data import fake
from tests.data.infos import shapes

FEATURES = "LogMel(rate=8000, bands=20, stack=2)"


@pytest.fixture(scope="module")
def recipes_dir(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("made_up"))
    fake.prepare_recipes(folder, ("joined_digits/random", "scenes"))
    return folder


@pytest.mark.parametrize("keys", [{}, {"text": ("text",), "tokenizer": "characters()"}], ids=["alone", "text"])
def test_sound_becomes_frames(keys, config, recipes_dir):
    splits, info = data.load(config("joined_digits/random", test="test", audio=FEATURES, **keys), recipes_dir)
    assert "audio" not in info.keys and shapes(info)["frames"][0][1] == 40
    longest = 0
    for name, split in splits.items():
        arrays = split.arrays
        for i, example in enumerate(Official("joined_digits/random", recipes_dir).examples(name)):
            frames = LogMel(rate=8_000, bands=20, stack=2)(example["audio"])
            length, longest = arrays["frames_lengths"][i], max(longest, len(frames))
            assert length == len(frames) == arrays["frames_mask"][i].sum()
            np.testing.assert_array_equal(arrays["frames"][i, :length], frames)
            assert not arrays["frames"][i, length:].any()
            assert ("text" in arrays) == bool(keys)
    assert shapes(info)["frames"] == ((longest, 40), "float32")


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("LogMels(rate=8000)", "config.data.audio 'LogMels' does not exist: did you mean 'LogMel'"),
        ("LogMel(rates=8000)", "rates"),
        ("LogMel(bands=0)", "bands must be at least 1"),
    ],
)
def test_unknown_frames_are_refused_before_any_data_is_read(audio, message, config):
    with pytest.raises(UserError, match=message) as refusal:
        data.load(config("joined_digits/random", audio=audio), "/nowhere")
    assert "\n" not in str(refusal.value)


def test_references_are_the_rows_of_an_example(config, recipes_dir):
    keys = {"text": ("text",), "tokenizer": "words()", "references": "references"}
    splits, info = data.load(config("scenes", test="test", **keys), recipes_dir)
    detokenize = info.keys["text"].vocabulary.text
    for name, split in splits.items():
        stored = [example["references"].decode() for example in Official("scenes", recipes_dir).examples(name)]
        arrays = split.arrays["references"]
        assert arrays.shape == (len(stored), 3, shapes(info)["references"][0][1])
        known = {word for text in splits["train"].arrays["text"] for word in text.tolist()}
        for ids, lines in zip(arrays, stored, strict=True):
            if set(ids.ravel().tolist()) <= known:  # the words of the training captions
                assert [detokenize(row) for row in ids] == lines.split("\n")
    assert info.keys["references"].vocabulary == info.keys["text"].vocabulary


def test_texts_with_fewer_lines_have_rows_of_zeros():
    tokenizer = text.fit(words(), {"text": ["a b c"]})["text"]
    ids = text.encode_lines(tokenizer, {"train": ["a b\nc", "b"], "test": ["a b c\na\nb"]})
    assert ids["train"].shape == (2, 3, 5) and ids["test"].shape == (1, 3, 5)
    assert ids["train"].dtype == np.int32
    assert (ids["train"].any(-1)).tolist() == [[True, True, False], [True, False, False]]
    assert vocabulary(tokenizer).text(ids["train"][0, 1]) == "c"
