"""Figures: their captions, their sizes, and names of any length and script."""

import dataclasses
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

from core.info import Info, Key
from core.vocabulary import Vocabulary
from data.augment.op import parse_op
from reporting import curves
from reporting.drawing import INK, fit, number, pixels, shorten
from reporting.figures import confusion_matrix, forecasts, image_mistakes, predicted_against_true, text_mistakes
from reporting.figures.run import augmented_batch, gradient_norms
from reporting.shown import Shown
from tasks.classification import Classification
from tasks.forecasting import Forecasting
from tasks.regression import Regression

CLASSES = ["cat", "dog & <fox>", "owl"]
HISTORY = [
    *({"step": step, "split": "train", "loss": 1 / step, "learning_rate": 1e-3} for step in range(1, 200)),
    {"step": 100, "split": "validation", "loss": 0.5, "accuracy": 0.75, "seconds": 1.0},
    {"step": 100, "split": "validation_ema", "loss": 0.4, "accuracy": 0.8},
    {"step": 199, "split": "train", "loss": float("nan")},
    {"step": 199, "split": "test", "loss": 0.25, "accuracy": 0.9833},
]


class Letters(Vocabulary):
    """Every id is a code point."""

    def text(self, ids):
        return "".join(map(chr, ids))


def classifier(labels, predictions, classes=CLASSES, losses=None, **batch):
    """Returns a classifier's predictions, of images or of texts as in `batch`."""
    labels, predictions = np.array(labels, int), np.array(predictions, int)
    arrays = {"label": labels, "prediction": predictions}
    arrays |= {"loss": np.zeros(len(labels)) if losses is None else np.asarray(losses, float)}
    arrays |= {"probability": np.full((len(labels), len(classes)), 1 / len(classes))}
    task = Classification(inputs=tuple(batch), classes=tuple(classes))
    keys = {key: Key((), "int32", {"text": "tokens", "image": "image"}[key], vocabulary=Letters(128)) for key in batch}
    info = Info("made up", {}, keys)
    return Shown(task, info, lambda indices: {key: values[indices] for key, values in batch.items()}, arrays)


def size_of(figure):
    """Returns an SVG's width and height in points, having checked that it is one, in the page's ink."""
    svg = figure.image.decode()
    assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
    assert INK not in svg and not re.search(r'<g id="', svg)
    return tuple(float(re.search(rf'{side}="([\d.]+)pt"', svg)[1]) for side in ("width", "height"))


def test_a_run_has_a_figure_per_metric_evaluated_ones_first():
    drawn = curves.of_run(HISTORY)
    assert [each.title for each in drawn] == ["Loss", "Accuracy", "Learning rate"]
    assert drawn[0].caption == "Last: Train 0.005025, Validation 0.5, Validation EMA 0.4, Test 0.25."
    assert drawn[1].caption == "Last: Validation 75.00%, Validation EMA 80.00%, Test 98.33%."
    assert all(size_of(each)[0] < 400 for each in drawn)
    assert curves.of_run([{"step": 1, "split": "train", "loss": float("inf")}]) == []


def test_a_long_history_stays_small():
    history = [{"step": step, "split": "train", "loss": 1.0 + step % 7} for step in range(20_000)]
    assert len(curves.of_run(history)[0].image) < 100_000


@pytest.mark.parametrize("size", [2, 10, 25, 300])
def test_confusion_matrix_of_any_number_of_classes(size):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, size, 900)
    predictions = np.where(rng.random(900) < 0.7, labels, rng.integers(0, size, 900))
    figure = confusion_matrix.draw(classifier(labels, predictions, [f"class {index}" for index in range(size)]))
    width, height = size_of(figure)
    assert width < 400 and height < 400
    assert (f">class {size - 1}<" in figure.image.decode()) == (size <= 30)
    assert figure.caption.startswith(f"{(labels == predictions).sum()} of 900 right")


def test_confusion_matrix_counts_and_names_the_confusions():
    labels = np.array([0] * 9 + [2, 2, 2, -1])
    predictions = np.array([0] * 5 + [1] * 4 + [2, 2, 0, 0])
    figure = confusion_matrix.draw(classifier(labels, predictions))
    assert figure.caption.startswith("7 of 12 right")
    assert "Most often cat taken for dog & <fox> (4); owl taken for cat (1)." in figure.caption
    numbers = re.findall(r"<text[^>]*>(\d+)</text>", figure.image.decode())
    assert sorted(numbers) == ["1", "2", "4", "5"]
    assert confusion_matrix.draw(classifier(labels[:0], predictions[:0])).image == b""


def test_pooling_keeps_the_greatest_share():
    share = np.zeros((250, 250))
    share[249, 0], share[3, 248] = 0.5, 1.0
    pooled = confusion_matrix._pooled(share)
    assert pooled.shape == (84, 84)
    assert pooled[83, 0] == 0.5 and pooled[1, 82] == 1.0 and np.count_nonzero(pooled) == 2


def regression(target, prediction):
    info = Info("made up", {}, {"features": Key((1,), "float32", "features"), "target": Key((), "float32", "target")})
    arrays = {"target": np.array(target, np.float32), "prediction": np.array(prediction)}
    return Shown(Regression(), info, dict, arrays)


def test_predicted_against_true_leaves_out_what_is_not_finite():
    target = [1.0, 2.0, 3.0, 4.0, np.nan]
    figure = predicted_against_true.draw(regression(target, [1.0, 2.0, 3.0, 5.0, 1.0]))
    size_of(figure)
    assert figure.caption.startswith("4 examples: R² 0.800, mean absolute error 0.25.")
    assert "1 examples without a finite value" in figure.caption
    constant = predicted_against_true.draw(regression(np.ones(3), np.ones(3)))
    assert "R²" not in constant.caption and constant.image
    assert predicted_against_true.draw(regression([np.nan], [1.0])).image == b""
    assert predicted_against_true.draw(classifier([0], [0])) is None


def test_image_mistakes_are_shown_highest_loss_first():
    images = np.zeros((5, 4, 4, 3), np.float32)
    labels, losses = [0, 1, 2, 0, 1], [9.0, 1.0, np.nan, 3.0, 2.0]
    figure = image_mistakes.draw(classifier(labels, [0, 0, 0, 1, 2], losses=losses, image=images), count=3)
    assert figure.title == "Worst mistakes" and figure.caption.startswith("4 of 5 are wrong")
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", figure.image.decode())
    assert texts == ["cat", "owl", "dog &amp; &lt;fox&gt;", "cat", "owl", "dog &amp; &lt;fox&gt;"]
    right = image_mistakes.draw(classifier(labels, labels, losses=losses, image=images))
    assert right.title == "Hardest examples" and right.image
    assert image_mistakes.draw(classifier([], [], image=images)).image == b""
    assert image_mistakes.draw(classifier(labels, labels)) is None


def test_text_mistakes_are_listed_with_classes_and_probabilities():
    texts = np.array([[ord(letter) for letter in text] for text in ("aaaa", "b<b>", "日本語字")])
    shown = classifier([0, 1, 2], [0, 2, 1], losses=[9.0, 1.0, 2.0], text=texts)
    shown.arrays["probability"][2] = [0.125, 0.75, 0.125]
    figure = text_mistakes.draw(shown)
    assert figure.caption.startswith("2 of 3 are wrong") and figure.image == b""
    assert list(figure.table) == [
        ("text", "predicted", "true"),
        ("日本語字", "dog & <fox> (75.0%)", "owl (12.5%)"),
        ("b<b>", "owl (33.3%)", "dog & <fox> (33.3%)"),
    ]
    assert text_mistakes.draw(classifier([0], [0], text=texts)).table == ()
    assert text_mistakes.draw(classifier([0], [0], image=texts)) is None
    long = classifier([0], [1], text=np.full((1, 1000), ord("x")))
    assert text_mistakes.draw(long).table[1][0] == "x" * 400 + "…"


def forecaster(channels, past_channels, horizon=3, count=6):
    rng = np.random.default_rng(0)
    past, future = rng.random((count, 20, past_channels)), rng.random((count, horizon, channels))
    arrays = {"prediction": future.reshape(count, -1) + np.arange(count)[:, None], "loss": np.arange(count) ** 2.0}
    return Shown(
        Forecasting(),
        Info("made up", {}, {}),
        lambda indices: {"past": past[indices], "future": future[indices]},
        arrays,
    )


def test_forecasts_show_typical_and_worst_windows():
    drawn = forecasts.draw(forecaster(2, 2))
    assert [each.title.split()[0] for each in drawn] == ["A", "A", "One", "One"]
    assert [each.caption.split(":")[0] for each in drawn] == [f"Window {index} of 6" for index in (2, 3, 5, 4)]
    assert "error 25." in drawn[2].caption and "0 to 1 of 2" in drawn[2].caption
    assert all(f">{name}</text>" in drawn[0].image.decode() for name in ("past", "truth", "forecast"))
    assert size_of(drawn[0])


@pytest.mark.parametrize(("channels", "past_channels", "horizon", "count"), [(1, 3, 1, 1), (12, 2, 3, 2)])
def test_forecasts_of_any_shape(channels, past_channels, horizon, count):
    drawn = forecasts.draw(forecaster(channels, past_channels, horizon, count))
    assert len(drawn) == count and all(size_of(each) for each in drawn)


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_rgb_in_range(channels):
    whole = np.full((2, 2, channels), 51, np.uint8)
    np.testing.assert_allclose(pixels(whole), np.full((2, 2, 3), 0.2))
    wild = np.array([np.nan, -1, 2, 0.5], np.float32).reshape(2, 2, 1).repeat(channels, -1)
    np.testing.assert_allclose(pixels(wild)[..., 0], [[0, 0], [1, 0.5]])


NAMES = [
    "$x$",
    "$",
    r"\frac{",
    "$\\frac{$",
    "a\nb",
    "\x00",
    "\ud800",
    "<&>",
    "",
    "_hidden",
    "漢字かな한글" * 4,
    "W" * 40,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_class_may_have_any_name(name):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    shown = classifier([0, 1], [1, 0], [name, "b"], image=images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        matrix, mistakes = confusion_matrix.draw(shown), image_mistakes.draw(shown)
        rows = [{"step": step, "split": "validation", "loss": step / 2} for step in (1, 2)]
        (lines,) = curves.of_runs({name: rows, "b": rows})
    assert all(map(size_of, (matrix, mistakes, lines)))
    if name.startswith("$"):
        assert all(b"$" in each.image for each in (matrix, mistakes, lines))
    if name == "_hidden":
        assert b"_hidden" in lines.image


def test_names_of_many_classes_do_not_overlap():
    classes = [f"a_rather_long_name_of_an_intent_{index}" for index in range(150)]
    labels = np.arange(150)
    shown = classifier(labels, np.where(labels < 3, 149, labels), classes, image=np.zeros((150, 8, 8, 1), np.uint8))
    matrix, mistakes = confusion_matrix.draw(shown), image_mistakes.draw(shown)
    assert b"intent" not in matrix.image and [row[2] for row in matrix.table] == ["examples", "1", "1", "1"]
    assert matrix.table[1][:2] == (classes[0], classes[149])
    lines = re.findall(r"<text[^>]*>([^<]*)</text>", mistakes.image.decode())
    assert lines and max(map(len, lines)) <= 12  # letters of 9 points that are as wide as an image


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cat", "cat"),
        ("great white shark", "great white\nshark"),
        ("hammerhead_shark", "hammerhead_\nshark"),
        ("abcdefghijklmnopqrstuvwx", "abcdefghijkl\nmnopqrstuvwx"),
        ("abcdefghijklmnopqrstuvwxyz", "abcdefghijk…\nopqrstuvwxyz"),
        ("漢字漢字漢字仮名", "漢字漢字漢字\n仮名"),
    ],
)
def test_names_are_fitted_to_an_image(name, text):
    assert fit(name) == text


def test_the_middle_of_a_long_name_is_left_out():
    assert shorten("image_of_class_0123", 9) == "imag…0123" and shorten("abc", 3) == "abc"


def test_gradient_norms_are_drawn_by_layer_and_by_time():
    rows = [
        {"step": step, "split": "gradients", "layer/a": 1.0, "layer/b": 2.0, "time/x": [1.0, 2.0]} for step in (1, 9)
    ]
    drawn = gradient_norms.draw(Shown(Regression(), Info("made up", {}, {}), dict, {}, rows))
    assert [each.title for each in drawn] == ["Gradient norm by layer", "Gradient norm by time step, x"]
    assert "2 times and 2 times" in drawn[0].caption and "1 at the first position, 2 at the last" in drawn[1].caption
    assert all(map(size_of, drawn)) and gradient_norms.draw(classifier([0], [0])) == []


class Augmented:
    """A run with three training images, which augmentation makes white."""

    def __init__(self, *ops):
        self.config = SimpleNamespace(augment=SimpleNamespace(ops=ops), seed=0)
        self.splits, self.transform, self.ops = {"train": self}, self, tuple(map(parse_op, ops))

    def __len__(self):
        return 3

    def batch(self, indices):
        return {"image": np.zeros((len(indices), 4, 4, 1), np.uint8)}

    def augmented(self, key, batch):
        return {"image": np.ones_like(batch["image"], np.float32) * batch["mask"][:, None, None, None]}


def test_an_augmented_batch_is_drawn_if_there_is_augmentation():
    shown = classifier([0], [0], image=np.zeros((1, 4, 4, 1), np.uint8))
    figure = augmented_batch.draw(dataclasses.replace(shown, run=Augmented("flip()", "normalise()")))
    assert "flip()." in figure.caption and figure.image.count(b"<image") == 3
    assert augmented_batch.draw(dataclasses.replace(shown, run=Augmented("normalise()"))) is None
    assert augmented_batch.draw(dataclasses.replace(regression([1.0], [1.0]), run=Augmented("flip()"))) is None


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        (0.98333, "accuracy", "98.33%"),
        (0.0, "loss", "0"),
        (1234567, "parameters", "1,234,567"),
        (20864.6, "examples_per_second", "20,865"),
        (0.123456, "loss", "0.1235"),
        (float("-inf"), "loss", "-∞"),
        ("cpu", "device", "cpu"),
        (True, "ema", "True"),
    ],
)
def test_numbers_are_written_for_people(value, name, text):
    assert number(value, name) == text
