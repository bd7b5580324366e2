"""Semantic segmentation: a class per pixel of an image, or per voxel of a volume."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from einops import reduce
from jaxtyping import Array, Float, Int

from core.errors import UserError
from core.info import Info
from core.regions import region_of, without_padding
from tasks.classification import Classification, cross_entropy
from tasks.task import Score

# b: batch, space: height and width, of volumes depth before them; k: classes, n: examples


@dataclasses.dataclass(frozen=True)
class Segmentation(Classification):
    """Cross-entropy and Dice loss on `target`, class ids [b, *space] or [b, *space, 1].

    Pixels of the class `ignore` count nowhere, as do those whose `<target>_mask` is 0. Cross-entropy is averaged over
    all pixels. The Dice loss of an example is 1 - mean over classes of (2 sum p y + s) / (sum p + sum y + s) with the
    probabilities p and the labels y of its pixels (Milletari et al. 2016, V-Net, arXiv 1606.04797, section 3, without
    squares); it is averaged over examples.

    Attributes:
        ignore: class id of pixels without class.
        cross_entropy, dice: factors of both terms; a term of factor 0 is not computed.
        smoothing: s, in pixels: with it a class that neither labels nor predictions have costs nothing.
    """

    target: str = "label_map"
    ignore: int = 255
    cross_entropy: float = 1.0
    dice: float = 0.0
    smoothing: float = 1.0

    figures: ClassVar[tuple[str, ...]] = ("pictures", "class_iou")
    drawing: ClassVar[str] = "label_map"

    def __post_init__(self):
        super().__post_init__()
        self.check_range(cross_entropy=(0, None), dice=(0, None), ignore=(0, None))
        if not self.coefficients or not self.smoothing > 0:
            raise ValueError(
                f"cross_entropy {self.cross_entropy} or dice {self.dice}, and smoothing {self.smoothing}, "
                "must be above 0"
            )

    @property
    def coefficients(self) -> Mapping[str, float]:
        factors = {"cross_entropy": self.cross_entropy, "dice": self.dice}
        return {term: factor for term, factor in factors.items() if factor}

    @property
    def metric_names(self) -> frozenset[str]:
        return frozenset({"loss", *self.coefficients, "accuracy", "mean_iou", "mean_dice"})

    def bind(self, info: Info) -> "Segmentation":
        """Raises UserError for a set that does not name the classes of its label maps."""
        if not (self.classes or info.keys[self.target].classes):
            raise UserError(f"{self.target!r} of {info.name} has no names of classes: give them as task.classes")
        return super().bind(info)

    def output_size(self, info: Info) -> int:
        """Returns the number of classes."""
        return len(self.classes or info.keys[self.target].classes)

    def labels(self, batch: Mapping) -> Int[Array, "b *space"]:
        """Returns the class of each pixel."""
        return jnp.asarray(_flat(batch[self.target]), jnp.int32)

    def position_weights(self, batch: Mapping, mask: str) -> Float[Array, "b *space"]:
        """Returns the weight of each pixel: `batch[mask]`, 0 in padding and for the class `ignore`."""
        labels = self.labels(batch)
        weights = jnp.asarray(batch.get(mask or f"{self.target}_mask", batch["mask"]), jnp.float32)
        weights = _flat(weights) if weights.ndim >= labels.ndim else weights
        weights = jnp.expand_dims(weights, range(weights.ndim, labels.ndim)) * (labels != self.ignore)
        return weights * jnp.expand_dims(batch["mask"], range(1, labels.ndim))

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        """Returns the summed weight of all pixels, and the number of examples."""
        weights = {"cross_entropy": super().weights(batch)["loss"], "dice": jnp.sum(batch["mask"])}
        return {term: weights[term] for term in self.coefficients}

    def score(self, logits: Float[Array, "b *space k"], batch: Mapping) -> Score:
        """Returns the losses and the accuracy of pixels; per example the cross-entropy summed over pixels and its
        weight, the predicted classes, and the confusion matrix [b, k, k] of its pixels, true classes first.
        """
        scored, labels = self.scored(logits, batch), self.labels(batch)
        weights = self.position_weights(batch, self.loss_mask)
        counted = self.position_weights(batch, self.metric_mask or self.loss_mask)
        nats = cross_entropy(scored, labels, weights)
        prediction = jnp.argmax(scored, -1)
        losses = {}
        if self.cross_entropy:
            trained = self._training_loss(scored, nats, weights, batch)
            losses["cross_entropy"] = jnp.sum(trained * self.loss_weights(batch))
        if self.dice:
            losses["dice"] = jnp.sum(self._dice(scored, labels, weights) * batch["mask"])
        return Score(
            losses=losses,
            metrics={"accuracy": (jnp.sum((prediction == labels) * counted), jnp.sum(counted))},
            arrays={
                "loss": reduce(nats * weights, "b ... -> b", "sum"),
                "weight": reduce(weights, "b ... -> b", "sum"),
                "confusion": _confusion(labels, prediction, counted > 0, scored.shape[-1]),
                **self.predict(scored),
            },
        )

    def predict(self, logits: Float[Array, "b *space k"]) -> dict[str, Array]:
        """Returns the class of each pixel, in bytes where they suffice."""
        return {"prediction": jnp.argmax(logits, -1).astype(jnp.uint8 if logits.shape[-1] <= 256 else jnp.int32)}

    def truth(self, example: Mapping[str, Any]) -> dict[str, Any]:
        return {"prediction": np.asarray(_flat(example[self.target][None]))[0]}

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns the means, over the classes that labels or predictions of the split have, of intersection over union
        and of Dice's coefficient: each class from one confusion matrix of all pixels.
        """
        del examples
        intersection, true, predicted = overlaps(arrays["confusion"])
        found = true + predicted > 0
        iou = intersection[found] / (true + predicted - intersection)[found]
        dice = 2 * intersection[found] / (true + predicted)[found]
        return {"mean_iou": float(np.mean(iou)), "mean_dice": float(np.mean(dice))} if found.any() else {}

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the predicted classes with their shares of the pixels, the largest first."""
        labels = without_padding(prediction["prediction"], region_of(example, self.inputs[0]))
        counts = np.bincount(labels.ravel(), minlength=len(self.classes))
        order = [index for index in np.argsort(-counts, kind="stable") if counts[index]]
        return {"prediction": {self.classes[index]: float(counts[index] / counts.sum()) for index in order}}

    def _dice(
        self, logits: Float[Array, "b *space k"], labels: Int[Array, "b *space"], weights: Float[Array, "b *space"]
    ) -> Float[Array, " b"]:
        probability = jax.nn.softmax(logits) * weights[..., None]
        true = jax.nn.one_hot(labels, logits.shape[-1]) * weights[..., None]
        shared = reduce(probability * true, "b ... k -> b k", "sum")
        total = reduce(probability + true, "b ... k -> b k", "sum")
        return 1 - jnp.mean((2 * shared + self.smoothing) / (total + self.smoothing), -1)


def overlaps(confusion: Int[np.ndarray, "n k k"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, per class, the number of pixels in the intersection, in the truth, and in the predictions of a split."""
    summed = confusion.sum(0, dtype=np.int64)
    return np.diag(summed), summed.sum(1), summed.sum(0)


def _flat(labels: Any) -> Any:
    """Returns label maps without the axis of one channel."""
    return labels[..., 0] if labels.ndim > 3 and labels.shape[-1] == 1 else labels


def _confusion(
    labels: Int[Array, "b *space"], prediction: Int[Array, "b *space"], counted: Array, classes: int
) -> Int[Array, "b k k"]:
    """Returns the number of counted pixels of each true and predicted class, per example."""
    pairs = jnp.where(counted, labels * classes + prediction, classes**2)  # the last number is dropped
    count = jax.vmap(lambda pair: jnp.bincount(pair.ravel(), length=classes**2))
    return count(pairs).reshape(-1, classes, classes)
