import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from reporting import report
from reporting.figures import drawing as figures

CLASSES = ["cat", "dog & <fox>", "owl"]
HISTORY = [
    *({"step": step, "split": "train", "loss": 1 / step, "learning_rate": 1e-3} for step in range(1, 200)),
    {"step": 100, "split": "validation", "loss": 0.5, "accuracy": 0.75},
    {"step": 100, "split": "validation_ema", "loss": 0.4, "accuracy": 0.8},
    {"step": 199, "split": "train", "loss": float("nan")},
    {"step": 199, "split": "test", "loss": 0.25, "accuracy": 0.9833},
]


def size_of(figure):
    """Returns an SVG's width and height in points, having checked that it is one, on the page's terms."""
    svg = figure.image.decode()
    assert svg.startswith("<svg") and svg.rstrip().endswith("</svg>")
    assert figures.INK not in svg and not re.search(r'<g id="', svg)
    return tuple(float(re.search(rf'{side}="([\d.]+)pt"', svg)[1]) for side in ("width", "height"))


class Links(HTMLParser):
    """Collects what a page would load, and checks that its elements nest."""

    def __init__(self):
        super().__init__()
        self.loaded, self.open = [], []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)
        self.loaded += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data") and value]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def page_of(tmp_path, **changes):
    arguments = {
        "title": "MLP on <digits>",
        "command": "python train.py --config='a & b'",
        "versions": {"jax": "0.10.2"},
        "summary": {"test": {"accuracy": 0.98333, "loss": float("nan")}, "steps": 3000, "time": "38 s"},
        "history": HISTORY,
        "figures": [],
        "config": {"model": {"name": "mlp.MLP", "widths": (8, 8)}},
    }
    report.write(tmp_path / "report.html", **arguments | changes)
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_report_is_whole_and_loads_nothing(tmp_path):
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 3, 40), rng.integers(0, 3, 40)
    images = rng.integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    png = figures.Figure("A photograph", "c", b"\x89PNG")
    page = page_of(
        tmp_path,
        figures=[
            figures.confusion_matrix(labels, predictions, CLASSES),
            figures.worst_images(images.__getitem__, labels, predictions, rng.random(40), CLASSES),
            figures.image_grid(images[:5], ["a < b"], title="Augmented batch"),
            figures.predicted_against_true(rng.random(3000), rng.random(3000)),
            png,
        ],
    )
    links = Links()
    links.feed(page)
    assert not links.open
    assert all(each.startswith(("data:", "#")) for each in links.loaded)
    assert not re.search(r"@import|url\((?!#)", page) and "<script" not in page
    titles = ["Test", "Run", "Loss", "Accuracy", "Learning rate", "Confusion matrix", "Worst mistakes"]
    titles += ["Augmented batch", "Predicted against true", "A photograph"]
    titles += ["Evaluations ", "Configuration ", "Command", "Versions"]
    assert re.findall(r"<(?:h3|summary)>([^<]*)", page) == titles


def test_report_shows_what_it_was_given(tmp_path):
    page = page_of(tmp_path)
    assert "MLP on &lt;digits&gt;" in page and "<digits>" not in page
    for text in ("98.33%", "3,000", "38 s", "a &amp; b", "0.10.2", "mlp.MLP", "Validation EMA", "98.33%"):
        assert text in page
    assert '<dd class="bad">NaN</dd>' in page
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page


def test_report_of_a_run_that_produced_nothing(tmp_path):
    page = page_of(tmp_path, summary={}, history=[], config=None)
    assert "Learning curves" not in page and "Results" not in page and "Command" in page


def test_curves_are_one_a_metric_evaluated_ones_first():
    drawn = figures.curves(HISTORY)
    assert [each.title for each in drawn] == ["Loss", "Accuracy", "Learning rate"]
    assert drawn[0].caption == "Last: Train 0.005025, Validation 0.5, Validation EMA 0.4, Test 0.25."
    assert drawn[1].caption == "Last: Validation 75.00%, Validation EMA 80.00%, Test 98.33%."
    assert all(size_of(each)[0] < 400 for each in drawn)
    assert figures.curves([{"step": 1, "split": "train", "loss": float("inf")}]) == []


def test_a_long_history_stays_small():
    history = [{"step": step, "split": "train", "loss": 1.0 + step % 7} for step in range(20_000)]
    assert len(figures.curves(history)[0].image) < 100_000


@pytest.mark.parametrize("size", [2, 10, 25, 300])
def test_confusion_matrix_of_any_number_of_classes(size):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, size, 900)
    predictions = np.where(rng.random(900) < 0.7, labels, rng.integers(0, size, 900))
    figure = figures.confusion_matrix(labels, predictions, [f"class {index}" for index in range(size)])
    width, height = size_of(figure)
    assert width < 400 and height < 400
    assert (f">class {size - 1}<" in figure.image.decode()) == (size <= 30)
    assert figure.caption.startswith(f"{(labels == predictions).sum()} of 900 right")


def test_confusion_matrix_counts_and_names_the_confusions():
    labels = np.array([0] * 9 + [2, 2, 2, -1])
    predictions = np.array([0] * 5 + [1] * 4 + [2, 2, 0, 0])
    figure = figures.confusion_matrix(labels, predictions, CLASSES)
    assert figure.caption.startswith("7 of 12 right")
    assert "Most often cat taken for dog & <fox> (4); owl taken for cat (1)." in figure.caption
    numbers = re.findall(r"<text[^>]*>(\d+)</text>", figure.image.decode())
    assert sorted(numbers) == ["1", "2", "4", "5"]
    assert figures.confusion_matrix(labels[:0], predictions[:0], CLASSES).image == b""


def test_pooling_keeps_the_greatest_share():
    share = np.zeros((250, 250))
    share[249, 0], share[3, 248] = 0.5, 1.0
    pooled = figures._pooled(share)
    assert pooled.shape == (84, 84)
    assert pooled[83, 0] == 0.5 and pooled[1, 82] == 1.0 and np.count_nonzero(pooled) == 2


def test_predicted_against_true_leaves_out_what_is_not_finite():
    target = np.array([1.0, 2.0, 3.0, 4.0, np.nan], np.float32)
    figure = figures.predicted_against_true(target, np.array([1.0, 2.0, 3.0, 5.0, 1.0], np.float32))
    size_of(figure)
    assert figure.caption.startswith("4 examples: R² 0.800, mean absolute error 0.25.")
    assert "1 examples without a finite value" in figure.caption
    constant = figures.predicted_against_true(np.ones(3, np.float32), np.ones(3, np.float32))
    assert "R²" not in constant.caption and constant.image
    assert figures.predicted_against_true(target[4:], target[4:]).image == b""


def test_worst_images_are_mistakes_highest_loss_first():
    images = np.zeros((5, 4, 4, 3), np.float32)
    labels, losses = np.array([0, 1, 2, 0, 1]), np.array([9.0, 1.0, np.nan, 3.0, 2.0])
    predictions = np.array([0, 0, 0, 1, 2])
    figure = figures.worst_images(images.__getitem__, labels, predictions, losses, CLASSES, count=3)
    assert figure.title == "Worst mistakes" and figure.caption.startswith("4 of 5 are wrong")
    true = re.findall(r">true: ([^<]*)<", figure.image.decode())
    assert true == ["owl", "cat", "dog &amp; &lt;fox&gt;"]
    right = figures.worst_images(images.__getitem__, labels, labels, losses, CLASSES)
    assert right.title == "Hardest examples" and right.image
    assert figures.worst_images(images.__getitem__, labels[:0], labels[:0], losses[:0], CLASSES).image == b""


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_rgb_in_range(channels):
    whole = np.full((2, 2, channels), 51, np.uint8)
    np.testing.assert_allclose(figures._pixels(whole), np.full((2, 2, 3), 0.2))
    wild = np.array([np.nan, -1, 2, 0.5], np.float32).reshape(2, 2, 1).repeat(channels, -1)
    np.testing.assert_allclose(figures._pixels(wild)[..., 0], [[0, 0], [1, 0.5]])


@pytest.mark.parametrize("name", ["$x$", "$", r"\frac{", "$\\frac{$", "a\nb", "\x00", "\ud800", "<&>", ""])
def test_a_class_may_have_any_name(name):
    labels, classes = np.array([0, 1]), [name, "b"]
    matrix = figures.confusion_matrix(labels, labels[::-1], classes)
    images = np.zeros((2, 4, 4, 1), np.uint8)
    worst = figures.worst_images(images.__getitem__, labels, labels[::-1], np.ones(2), classes)
    grid = figures.image_grid(images, classes)
    for figure in (matrix, worst, grid):
        assert size_of(figure)
    if name.startswith("$"):
        assert b"$" in matrix.image and b"$" in grid.image


def test_image_grid_takes_fewer_titles_and_no_images():
    figure = figures.image_grid(np.zeros((6, 8, 8, 1), np.uint8), ["one"], title="Batch", caption="six")
    width, height = size_of(figure)
    assert (figure.title, figure.caption) == ("Batch", "six") and ">one<" in figure.image.decode()
    assert height < width
    assert figures.image_grid(np.zeros((0, 8, 8, 1), np.uint8), []).image == b""


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
    assert figures.number(value, name) == text


def test_matplotlib_is_not_imported_until_something_is_drawn():
    code = "import sys, reporting.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
