"""Classification against numbers computed by hand, for one label per example and for a map of labels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from core.errors import UserError
from core.info import Info, Key
from tasks.classification import Classification

PROBABILITY = np.array([[0.7, 0.2, 0.1], [0.5, 0.25, 0.25], [0.1, 0.1, 0.8]], np.float32)
LOGITS = jnp.log(PROBABILITY) - 2.0  # logits are defined up to a constant
LABEL = np.array([0, 1, 2], np.int32)
BATCH = {"label": LABEL, "mask": np.ones(3, np.float32)}
CHOSEN = np.array([0.7, 0.25, 0.8])  # probabilities of the labels


def loss(task, logits, batch):
    return task.score(logits, batch).losses["loss"]


def test_by_hand():
    score = Classification().score(LOGITS, BATCH)
    np.testing.assert_allclose(score.losses["loss"], -np.log(CHOSEN).sum(), rtol=1e-6)
    np.testing.assert_allclose(score.metrics["accuracy"], (2, 3))
    np.testing.assert_allclose(score.arrays["loss"], -np.log(CHOSEN), rtol=1e-6)
    np.testing.assert_allclose(score.arrays["probability"], PROBABILITY, rtol=1e-6)
    assert score.arrays["prediction"].tolist() == [0, 0, 2] and Classification().weights(BATCH)["loss"] == 3


def test_label_smoothing_changes_the_loss_alone():
    plain, smooth = (Classification(label_smoothing=e).score(LOGITS, BATCH) for e in (0.0, 0.3))
    expected = -(0.7 * np.log(CHOSEN) + 0.3 * np.log(PROBABILITY).mean(1)).sum()
    np.testing.assert_allclose(smooth.losses["loss"], expected, rtol=1e-6)
    for name, value in plain.arrays.items():
        np.testing.assert_array_equal(smooth.arrays[name], value, err_msg=name)
    assert smooth.metrics == plain.metrics


def test_mixed_examples_have_two_labels():
    weight = np.array([0.9, 0.5, 0.2], np.float32)
    batch = BATCH | {"mixed_label": jnp.array([1, 2, 0]), "mix_weight": weight}
    others = np.array([0.2, 0.25, 0.1])
    expected = -(weight * np.log(CHOSEN) + (1 - weight) * np.log(others)).sum()
    np.testing.assert_allclose(loss(Classification(), LOGITS, batch), expected, rtol=1e-6)


@pytest.mark.parametrize("weights", ["balanced", (1.0, 2.0, 5.0)])
def test_class_weights_make_a_weighted_mean_of_the_loss_alone(weights):
    labels = np.repeat([0, 1, 2], [6, 3, 1])
    key = Key((), "int32", classes=("a", "b", "c"), statistics={"counts": np.bincount(labels).tolist()})
    task = Classification(class_weights=weights).bind(Info("made up", {}, {"label": key}))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels) if weights == "balanced" else weights
    np.testing.assert_allclose(task.class_weights, expected)
    batch = BATCH | {"mask": np.array([1, 1, 0], np.float32), "label": np.array([0, 1, 99], np.int32)}
    mean = loss(task, LOGITS, batch) / task.weights(batch)["loss"]
    by_hand = -(expected[0] * np.log(0.7) + expected[1] * np.log(0.25)) / (expected[0] + expected[1])
    np.testing.assert_allclose(mean, by_hand, rtol=1e-6)
    weighted, plain = task.score(LOGITS, BATCH), Classification().score(LOGITS, BATCH)
    assert weighted.metrics == plain.metrics
    np.testing.assert_array_equal(weighted.arrays["loss"], plain.arrays["loss"])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("balance", "task.class_weights 'balance': did you mean 'balanced'"),
        ((1.0, 2.0), "has 2 numbers, but there are 3 classes"),
        ("balanced", "needs one class per example, unlike 'label'"),
    ],
)
def test_class_weights_that_do_not_fit(weights, message):
    info = Info("made up", {}, {"label": Key((4,), "int32", classes=("a", "b", "c"))})
    with pytest.raises(UserError, match=message):
        Classification(class_weights=weights).bind(info)


def test_macro_f1_and_roc_auc_by_hand():
    arrays = {"label": np.array([0, 0, 1, 1]), "prediction": np.array([0, 0, 0, 1])}
    arrays["probability"] = np.stack([1 - (p := np.array([0.1, 0.3, 0.2, 0.9])), p], axis=1)
    result = Classification().summary(arrays, None)
    assert result["macro_f1"] == pytest.approx((4 / 5 + 2 / 3) / 2)  # 2 TP / (2 TP + FP + FN) of each class
    assert result["roc_auc"] == pytest.approx(3 / 4)  # pairs of both classes in the right order
    assert "roc_auc" not in Classification().summary(arrays | {"probability": np.ones((4, 3)) / 3}, None)


@pytest.mark.parametrize(("classes", "has_auc"), [(("no", "yes"), True), (("a", "b", "c"), False)])
def test_bound_to_the_classes_of_the_data_set(classes, has_auc):
    info = Info("made up", {}, {"image": Key((4, 4, 1), "uint8"), "label": Key((), "int32", classes=classes)})
    task = Classification().bind(info)
    assert task.classes == classes and task.output_size(info) == len(classes)
    assert ("roc_auc" in task.metric_names) == has_auc
    row = task.row({}, {"prediction": np.int32(1), "probability": np.array([0.25, 0.75])}, info)
    assert row["prediction"] == classes[1] and row["probability"][classes[0]] == 0.25


def test_a_map_of_labels_ignores_unlabelled_pixels_and_is_not_gathered():
    random = np.random.default_rng(0)
    logits = jnp.asarray(random.normal(size=(2, 3, 4, 5)), jnp.float32)
    labels = random.integers(0, 5, (2, 3, 4)).astype(np.int32)
    known = random.random((2, 3, 4)) < 0.6
    batch = {"label_map": np.where(known, labels, 255), "label_map_mask": known.astype(np.float32)}
    batch["mask"] = np.ones(2, np.float32)
    task = Classification(target="label_map")
    score, pixels = task.score(logits, batch), np.asarray(jax.nn.log_softmax(logits))[known]
    expected = -np.sum(pixels[np.arange(known.sum()), labels[known]])
    np.testing.assert_allclose(score.losses["loss"], expected, rtol=1e-5)
    right = (np.argmax(logits, -1) == labels)[known].sum()
    np.testing.assert_allclose(score.metrics["accuracy"], (right, known.sum()))
    assert task.weights(batch)["loss"] == known.sum()
    assert {name: x.shape for name, x in score.arrays.items()} == {"loss": (2,), "weight": (2,)}
    assert task.predict(logits)["prediction"].shape == (2, 3, 4) and task.summary({"loss": np.ones(2)}, None) == {}
