"""Detection: matching, the losses on hand-made boxes, and average precision."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from core.errors import UserError
from core.info import Info, Key
from tasks.detection import MATCHINGS, Detection, average_precision, greedy, overlaps
from training.evaluate import _in_order
from training.step import mean_metrics

TASK = Detection(queries=4, classes=("a", "b", "c"))
BOXES = np.array([[[0.1, 0.2, 0.5, 0.8], [0.5, 0.5, 0.9, 1.0], [0.0, 0.0, 0.3, 0.3]]], np.float32)
LABELS = np.array([[2, 0, 1]])


@functools.cache
def optimal(shape):
    """Returns the matching of many matrices, compiled once per shape."""
    return jax.jit(jax.vmap(MATCHINGS["optimal"]))


@pytest.mark.parametrize("shape", [(9, 5), (3, 6), (4, 4)])
def test_matching_costs_as_little_as_scipys(shape):
    rng = np.random.default_rng(0)
    costs = np.concatenate([rng.normal(size=(150, *shape)), rng.integers(0, 3, (150, *shape))]).astype(np.float32)
    rows, columns = optimal(shape)(costs)
    for cost, row, column in zip(costs, np.asarray(rows), np.asarray(columns), strict=True):
        assert len({*row}) == len({*column}) == min(shape)
        assert cost[row, column].sum() == pytest.approx(cost[linear_sum_assignment(cost)].sum(), abs=1e-4)


def test_greedy_matching_takes_the_cheapest_free_query():
    cost = jnp.array([[0.0, 0.1], [1.0, 9.0], [2.0, 5.0]])
    queries, boxes = greedy(cost)
    assert queries.tolist() == [0, 2] and boxes.tolist() == [0, 1]  # the optimal one is 1 and 0, with the cost 1.1
    assert cost[MATCHINGS["optimal"](cost)].sum() == pytest.approx(1.1)


def test_overlaps_of_boxes_by_hand():
    one, other = jnp.array([0.0, 0.0, 2.0, 2.0]), jnp.array([0.0, 1.0, 2.0, 5.0])
    np.testing.assert_allclose(overlaps(one, other), (2 / 10, 2 / 10 - 0), atol=1e-6)
    apart = jnp.array([0.0, 3.0, 2.0, 4.0])
    np.testing.assert_allclose(overlaps(one, apart), (0, -2 / 8), atol=1e-6)


def batch_of(boxes=BOXES, labels=LABELS, **others):
    return {"objects/bbox": boxes, "objects/label": labels, "mask": np.ones(len(boxes), np.float32), **others}


def outputs_for(boxes, labels, order=(2, 0, 3), sure=9.0):
    """Returns outputs whose queries `order` predict these boxes, and whose other query predicts nothing."""
    top, left, bottom, right = np.moveaxis(np.clip(boxes, 1e-4, 1 - 1e-4), -1, 0)
    centred = np.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], -1)
    places = np.full((len(boxes), 1, 4, 4), 0.5, np.float32)
    logits = np.zeros((len(boxes), 1, 4, 4), np.float32)
    logits[..., 3] = sure
    for i, query in enumerate(order[: boxes.shape[1]]):
        places[:, 0, query] = centred[:, i]
        logits[:, 0, query] = sure * np.eye(4)[labels[:, i]]
    return {"logits": jnp.asarray(logits), "boxes": jnp.asarray(places)}


def test_right_boxes_in_any_order_have_no_loss_and_average_precision_one():
    score = TASK.score(outputs_for(BOXES, LABELS), batch_of())
    assert score.losses["box_loss"] == pytest.approx(0, abs=2e-3) == score.losses["giou_loss"]
    assert score.losses["class_loss"] / TASK.weights(batch_of())["class_loss"] == pytest.approx(3 * np.exp(-9), rel=0.1)
    assert {name: total / weight for name, (total, weight) in score.metrics.items()} == pytest.approx(
        {"accuracy": 1, "iou": 1}, abs=2e-3
    )
    found = average_precision({key: np.asarray(x) for key, x in score.arrays.items()})
    assert found == pytest.approx({"ap": 1, "ap50": 1, "ap75": 1})


def test_distances_are_fractions_of_the_part_without_padding():
    """The image fills half of the canvas in height and 0.8 in width: y counts twice, and x 1.25 times."""
    moved = {**outputs_for(BOXES, LABELS)}
    moved["boxes"] = moved["boxes"] + jnp.array([0.01, 0.02, 0.03, 0.04])
    batch = batch_of()
    whole = TASK.score(moved, batch).losses["box_loss"]
    part = TASK.score(moved, batch | {"image_region": np.array([[0, 0.1, 0.5, 0.9]], np.float32)}).losses["box_loss"]
    assert whole == pytest.approx(3 * 0.1, abs=2e-3)
    assert part == pytest.approx(3 * (1.25 * 0.04 + 2 * 0.06), abs=5e-3)
    empty = TASK.score(moved, batch | {"image_region": np.zeros((1, 4), np.float32), "mask": np.zeros(1)})
    assert all(float(loss) == 0 for loss in empty.losses.values())


def test_denominators_are_the_weights_of_queries_and_the_number_of_boxes():
    weights = TASK.weights(batch_of())
    assert weights["box_loss"] == weights["giou_loss"] == 3 and weights["class_loss"] == pytest.approx(3 + 0.1)
    few = dataclasses.replace(TASK, queries=2).weights(batch_of())  # fewer queries than boxes
    assert few["box_loss"] == 3 and few["class_loss"] == 2


@jax.jit
@jax.grad
def gradient(outputs, batch):
    score, weights = TASK.score(outputs, batch), TASK.weights(batch)
    return TASK.total({term: total / weights[term] for term, total in score.losses.items()})


@pytest.mark.slow
@pytest.mark.parametrize("bad", [[0.4, 0.4, 0.4, 0.9], [0.4, 0.4, 0.3, 0.9], [np.nan, 0.0, 1.0, 1.0]])
def test_a_box_without_area_counts_as_padding(bad):
    """The gradient is that without the box."""
    boxes, labels = np.concatenate([BOXES, [[bad]]], 1).astype(np.float32), np.concatenate([LABELS, [[1]]], 1)
    outputs = {key: x + 0.3 for key, x in outputs_for(BOXES[:, ::-1].copy(), LABELS).items()}
    with_it, without = gradient(outputs, batch_of(boxes, labels)), gradient(outputs, batch_of())
    for key in without:
        np.testing.assert_allclose(with_it[key], without[key], atol=1e-6)
    arrays = TASK.score(outputs, batch_of(boxes, labels)).arrays
    assert arrays["counts"].tolist() == [[True, True, True, False]]


@pytest.mark.parametrize("matching", list(MATCHINGS))
def test_boxes_that_do_not_count_take_no_query_from_others(matching):
    """They come first, and are more than the queries; the real one has a query for itself."""
    task = dataclasses.replace(TASK, matching=matching, crowd="crowd")
    boxes = np.concatenate([np.tile([0.0, 0.0, 0.2, 0.2], (6, 1)), BOXES[0, :1]])[None].astype(np.float32)
    batch = batch_of(boxes, np.array([[0] * 6 + [2]]), crowd=np.array([[1] * 3 + [0] * 4]))
    batch["objects/bbox_mask"] = np.array([[1] * 3 + [0] * 3 + [1]])
    score = task.score(outputs_for(BOXES[:, :1], LABELS[:, :1]), batch)
    assert score.metrics["accuracy"] == (1, 1) and score.losses["box_loss"] == pytest.approx(0, abs=1e-5)


def test_a_far_prediction_in_a_small_image_is_still_matched():
    """Its distance, in sides of the part that is not padding, exceeds the cost of a box that does not count."""
    task = dataclasses.replace(TASK, inputs=("image", "image_region"))
    box, none = np.array([[[0.0, 0.0, 0.002, 0.002]]], np.float32), np.zeros((1, 5, 4), np.float32)
    batch = batch_of(np.concatenate([none, box], 1), np.array([[0] * 5 + [1]]))
    batch["image_region"] = np.array([[0.0, 0.0, 0.01, 0.01]], np.float32)
    far = outputs_for(np.full((1, 1, 4), [0.8, 0.8, 0.9, 0.9]), np.array([[1]]))
    assert task.score(far, batch).losses["box_loss"] > 100


def test_the_precision_of_lists_padded_to_other_lengths():
    """As in an evaluation with buckets; zeros that pad the arrays are no boxes of the first class."""
    parts = []
    for count, label in ((1, 0), (3, 1)):
        boxes, labels = BOXES[:, :count], np.full((1, count), label)
        arrays = TASK.score(outputs_for(boxes, labels), batch_of(boxes, labels)).arrays
        parts.append({key: np.asarray(value) for key, value in arrays.items()})
    together = {key: _in_order([part[key] for part in parts], np.arange(2)) for key in parts[0]}
    assert average_precision(together)["ap"] == pytest.approx(1, abs=1e-3)


def test_images_without_any_box_have_a_loss():
    batch = batch_of(np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), int))
    score, weights = TASK.score(outputs_for(np.zeros((1, 0, 4)), LABELS), batch), TASK.weights(batch)
    sums = {term: (total, weights[term]) for term, total in score.losses.items()} | score.metrics
    means = mean_metrics(TASK, sums)
    assert means["box_loss"] == means["giou_loss"] == 0 and means["loss"] == means["class_loss"] > 0
    assert np.isnan(means["iou"])
    nothing = dict.fromkeys(score.losses, (0.0, 0.0))
    assert np.isnan(mean_metrics(TASK, nothing)["loss"])


def test_an_image_without_boxes_predicts_nothing():
    batch = batch_of(np.zeros((1, 0, 4), np.float32), np.zeros((1, 0), int))
    outputs = outputs_for(np.zeros((1, 0, 4)), LABELS)
    score = TASK.score(outputs, batch)
    assert score.losses["box_loss"] == score.losses["giou_loss"] == 0
    assert score.losses["class_loss"] == pytest.approx(4 * 0.1 * 3 * np.exp(-9), rel=0.1)
    assert TASK.summary({key: np.asarray(x) for key, x in score.arrays.items()}, None)["ap"] == 0


def test_a_box_of_a_group_neither_trains_nor_counts_against_predictions():
    task = dataclasses.replace(TASK, crowd="objects/is_crowd")
    batch = batch_of(**{"objects/is_crowd": np.array([[0, 0, 1]])})
    outputs = outputs_for(BOXES, LABELS)
    assert task.weights(batch)["box_loss"] == 2
    arrays = {key: np.array(x) for key, x in task.score(outputs, batch).arrays.items()}
    assert average_precision(arrays)["ap"] == pytest.approx(1)
    arrays["crowd"][:] = False
    arrays["prediction"][0, 0] = 2  # a prediction on nothing, more probable than a right one
    arrays["probability"][0, 0] = 1.0
    assert average_precision(arrays)["ap"] < 1


def test_number_of_classes_is_that_of_their_names():
    keys = {"image": Key(), "objects/bbox": Key(role="boxes"), "objects/label": Key(role="label")}
    with pytest.raises(UserError, match="'objects/label' of set has no names of classes"):
        Detection().bind(Info("set", {}, keys))
    named = keys | {"objects/label": Key(role="label", classes=tuple(map(str, range(91))))}
    info = Info("set", {}, named)  # ids up to 90
    assert Detection().bind(info).output_size(info) == 91
    with pytest.raises(ValueError, match=r"the model has 4 queries and task\.queries is 5"):
        dataclasses.replace(TASK, queries=5).score(outputs_for(BOXES, LABELS), batch_of())


def test_rows_have_probable_boxes_only():
    prediction = {key: np.asarray(x[0]) for key, x in TASK.predict(outputs_for(BOXES, LABELS)).items()}
    rows = TASK.row({}, prediction, Info("set", {}, {}))["prediction"]
    assert sorted(row["label"] for row in rows) == ["a", "b", "c"]
    row = next(row for row in rows if row["label"] == "c")
    np.testing.assert_allclose(row["box"], BOXES[0, 0], atol=1e-3)
    assert row["probability"] > 0.9
