"""The drawn captioning set: captions against the things drawn, pixels against both, and what only the test has."""

import itertools
import re

import numpy as np
import pytest

from data.builders import scenes
from data.builders.scenes import COLOURS, SHAPES, SIZES, UNSEEN, Thing, captions, draw, draw_things
from data.sources.tfds import Official
from tests.data.rows import listed

pytestmark = pytest.mark.slow

THING = re.compile(rf"a ({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Returns the examples of a small version of the set, by split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "SPLITS", {"train": 60, "validation": 20, "test": 30})
        source = Official("scenes", str(tmp_path_factory.mktemp("scenes")))
        return {split: listed(source.examples(split)) for split in ("train", "validation", "test")}


def kinds(example):
    return {(colour, shape) for _, colour, shape in THING.findall(example["references"])}


def test_only_the_test_has_the_unseen_pairs(small):
    assert {split: len(examples) for split, examples in small.items()} == {"train": 60, "validation": 20, "test": 30}
    for example in small["train"] + small["validation"]:
        assert not kinds(example) & UNSEEN
    for example in small["test"]:
        assert kinds(example) & UNSEEN


def test_every_colour_and_shape_is_in_training():
    seen = set(itertools.product(COLOURS, SHAPES)) - UNSEEN
    assert {colour for colour, _ in seen} == set(COLOURS) and {shape for _, shape in seen} == set(SHAPES)
    random = np.random.default_rng(0)
    drawn = {(thing.colour, thing.shape) for _ in range(300) for thing in draw_things(random, unseen=False)}
    assert drawn == seen


def test_examples_hold_one_of_three_references(small):
    for example in itertools.chain(*small.values()):
        references = example["references"].split("\n")
        assert len(set(references)) == 3 and example["text"] in references
        named = [sorted(THING.findall(reference)) for reference in references]
        assert named[0] == named[1] == named[2] and 1 <= len(named[0]) <= 3
        assert example["image"].shape == (48, 48, 3) and example["image"].dtype == np.uint8
    images = [example["image"].tobytes() for example in itertools.chain(*small.values())]
    assert len(set(images)) > 0.95 * len(images)


def test_the_same_scenes_every_time():
    one, two = (
        [(captions(things), draw(things, random)) for things in (draw_things(random, unseen=True) for _ in range(5))]
        for random in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert [texts for texts, _ in one] == [texts for texts, _ in two]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(one, two, strict=True))


def test_captions_are_true_of_the_things():
    random = np.random.default_rng(1)
    counts = set()
    for _ in range(300):
        things = draw_things(random, unseen=bool(random.integers(2)))
        counts.add(len(things))
        by_text = {str(thing): thing for thing in things}
        if len(by_text) < len(things):  # two alike: order cannot be told apart
            continue
        for caption in captions(things):
            named = [by_text["a " + " ".join(words)] for words in THING.findall(caption)]
            if len(named) == 1:
                assert scenes.ROWS[named[0].row] in caption and scenes.COLUMNS[named[0].column] in caption
            for one, other in itertools.pairwise(named):
                assert true_of(caption, one, other), caption
    assert counts == {1, 2, 3}


def true_of(caption, one: Thing, other: Thing) -> bool:
    if re.search("from left to right| left of ", caption):
        return one.column < other.column
    if re.search("from right to left| right of ", caption):
        return one.column > other.column
    if re.search("from top to bottom| above ", caption):
        return one.row < other.row
    return bool(re.search("from bottom to top| below ", caption)) and one.row > other.row


@pytest.mark.parametrize("colour", COLOURS)
def test_pixels_show_the_thing_where_it_is(colour):
    random = np.random.default_rng(0)
    areas = {}
    for shape, size, (row, column) in itertools.product(SHAPES, SIZES, [(0, 2), (1, 1), (2, 0)]):
        image = draw([Thing(colour, shape, size, row, column)], random).astype(int)
        near = np.abs(image - COLOURS[colour]).max(axis=-1) < 40
        inside = near[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        assert inside.sum() == near.sum() > 0
        areas.setdefault((shape, size), []).append(inside.sum() / (2 * SIZES[size]) ** 2)
    expected = {"circle": np.pi / 4, "square": 1, "triangle": 1 / 2}  # of the square around it
    for (shape, _), shares in areas.items():
        np.testing.assert_allclose(np.mean(shares), expected[shape], atol=0.15)
