"""Segmentation against numpy: losses, and means over classes from one confusion matrix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from core.errors import UserError
from core.info import Info, Key
from tasks.segmentation import Segmentation

CLASSES = ("sky", "road", "car")
INFO = Info("made up", {}, {"label_map": Key((5, 4, 1), "uint8", "label_map", CLASSES)})


def make(space=(5, 4), seed=0):
    """Returns logits and a batch of three images, of which the last is padding; some pixels have no class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, (3, *space, 1)).astype(np.uint8)
    labels[random.random(labels.shape) < 0.25] = 255
    logits = random.normal(size=(3, *space, 3)).astype(np.float32)
    return jnp.asarray(logits), {"label_map": labels, "mask": np.array([1, 1, 0], np.float32)}


def score_of(task, logits, batch):
    return jax.jit(task.score)(logits, batch)


def softmax(x):
    e = np.exp(np.asarray(x, np.float64))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("space", [(5, 4), (2, 3, 4)], ids=["image", "volume"])
def test_losses_equal_plain_loops(space):
    logits, batch = make(space)
    task = Segmentation(dice=0.5, smoothing=2.0).bind(INFO)
    score, weights, probability = score_of(task, logits, batch), task.weights(batch), softmax(logits)
    nats, count, dice = 0.0, 0, 0.0
    for p, labels in zip(probability[:2], batch["label_map"][:2, ..., 0], strict=True):
        known = labels != 255
        nats -= np.log(p[known][np.arange(known.sum()), labels[known]]).sum()
        count += known.sum()
        shares = []
        for k in range(3):
            true, predicted = (labels == k)[known].astype(float), p[known][:, k]
            shares.append((2 * (true * predicted).sum() + 2.0) / (true.sum() + predicted.sum() + 2.0))
        dice += 1 - np.mean(shares)
    np.testing.assert_allclose([score.losses["cross_entropy"], weights["cross_entropy"]], [nats, count], rtol=1e-5)
    np.testing.assert_allclose([score.losses["dice"], weights["dice"]], [dice, 2], rtol=1e-5)
    assert task.total({"cross_entropy": 3.0, "dice": 4.0}) == 3.0 + 0.5 * 4.0


def test_means_over_classes_come_from_one_confusion_matrix():
    """They equal scikit-learn's over all pixels, which differ from means over images."""
    logits, batch = make()
    task = Segmentation().bind(INFO)
    score = score_of(task, logits, batch)
    arrays = {name: np.asarray(x)[:2] for name, x in score.arrays.items()}
    known = (labels := batch["label_map"][:2, ..., 0]) != 255
    true, predicted = labels[known], np.argmax(logits, -1)[:2][known]
    np.testing.assert_array_equal(arrays["confusion"].sum(0), confusion_matrix(true, predicted, labels=range(3)))
    found = task.summary(arrays, None)
    assert found["mean_iou"] == pytest.approx(jaccard_score(true, predicted, average="macro"))
    per_image = [task.summary({"confusion": one[None]}, None)["mean_iou"] for one in arrays["confusion"]]
    assert found["mean_iou"] != pytest.approx(np.mean(per_image), abs=1e-3)
    iou = jaccard_score(true, predicted, average=None)
    assert found["mean_dice"] == pytest.approx(np.mean(2 * iou / (1 + iou)))
    np.testing.assert_allclose(score.metrics["accuracy"], ((true == predicted).sum(), known.sum()))


def test_a_class_that_occurs_nowhere_is_left_out():
    confusion = np.array([[[6, 2, 0], [0, 4, 0], [0, 0, 0]]])
    found = Segmentation(classes=CLASSES).summary({"confusion": confusion}, None)
    assert found["mean_iou"] == pytest.approx((6 / 8 + 4 / 6) / 2)
    assert Segmentation(classes=CLASSES).summary({"confusion": 0 * confusion}, None) == {}


@pytest.mark.parametrize("terms", [{"dice": 0.0}, {"cross_entropy": 0.0, "dice": 1.0}], ids=["entropy", "dice"])
def test_pixels_without_class_have_no_gradient(terms):
    logits, batch = make()
    batch["label_map_mask"] = np.ones((3, 5, 4), np.float32)
    batch["label_map_mask"][0, 0] = 0
    task = Segmentation(**terms).bind(INFO)
    loss = lambda x: (sum((score := task.score(x, batch)).losses.values()), score.arrays["confusion"])  # noqa: E731
    gradient, confusion = map(np.asarray, jax.jit(jax.grad(loss, has_aux=True))(logits))
    counts = (batch["label_map"][..., 0] != 255) & (batch["label_map_mask"] > 0)
    counts[2] = False
    assert not gradient[~counts].any() and gradient[counts].all(-1).any() and np.isfinite(gradient).all()
    assert confusion.sum() == counts.sum()


def test_predictions_are_bytes_and_rows_are_shares():
    logits, batch = make()
    task = Segmentation().bind(INFO)
    predicted = task.predict(logits)["prediction"]
    assert predicted.dtype == jnp.uint8 and predicted.shape == (3, 5, 4)
    row = task.row({}, {"prediction": np.array([[1, 1], [2, 1]], np.uint8)}, INFO)
    assert row == {"prediction": {"road": 0.75, "car": 0.25}}
    truth = task.truth({"label_map": batch["label_map"][0]})["prediction"]
    np.testing.assert_array_equal(truth, batch["label_map"][0, ..., 0])


def test_slips():
    with pytest.raises(UserError, match=r"no names of classes.*task\.classes"):
        Segmentation().bind(Info("made up", {}, {"label_map": Key((5, 4, 1), "uint8", "label_map")}))
    with pytest.raises(ValueError, match="must be above 0"):
        Segmentation(cross_entropy=0.0)
    logits, batch = make()
    with pytest.raises(ValueError, match="does not fit logits"):
        Segmentation().bind(INFO).score(logits[:, 1:], batch)
