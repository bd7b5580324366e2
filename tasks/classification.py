"""Classification: one label per example, or one per position."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from einops import reduce
from jaxtyping import Array, ArrayLike, Float, Int
from sklearn import metrics as sk

from core.errors import UserError, nearest
from core.info import Info, Key
from tasks.task import Score, Task

# b: batch, positions: none, tokens or pixels; scored: the same after the shift; k: classes


@dataclasses.dataclass(frozen=True)
class Classification(Task):
    """Softmax cross-entropy in nats on `target` [b, *positions], averaged over all positions with their weights.

    Weights are masks [b, *positions] times the mask of examples: 1 counts, 0 does not, fractions are allowed. A batch
    of mixed examples (mixup, CutMix) has `mixed_label` [b] and `mix_weight` [b], the weight of `target`.

    Attributes:
        target: batch key of the labels.
        shift: output i predicts the label at position i + shift of the second axis.
        loss_mask: batch key; "" is `<target>_mask` if the batch has it, otherwise every position counts.
        metric_mask: batch key for the accuracies; "" is the same as the loss.
        label_smoothing: weight of the uniform distribution in the training loss (Szegedy 2016, arXiv 1512.00567,
            section 7). Metrics use the labels alone.
        class_weights: of the training and evaluation loss, one number per class; "balanced" is the number of training
            examples / (number of classes * examples of the class), as in scikit-learn; "" is 1. The loss is a weighted
            mean, as in PyTorch; accuracies are not weighted. An example counts by the class of its `target`.
        classes: names of the classes; () is the data set's, filled in by `bind`.
    """

    inputs: tuple[str, ...] = ("image",)
    target: str = "label"
    shift: int = 0
    loss_mask: str = ""
    metric_mask: str = ""
    label_smoothing: float = 0.0
    class_weights: str | tuple[float, ...] = ""
    classes: tuple[str, ...] = ()

    figures: ClassVar[tuple[str, ...]] = ("confusion_matrix", "image_mistakes", "text_mistakes")

    def __post_init__(self):
        self.check_range(shift=(0, None), label_smoothing=(0, 1))
        if not isinstance(self.class_weights, str) and not all(0 <= weight < math.inf for weight in self.class_weights):
            raise ValueError(f"class_weights must be 0 or more, not {self.class_weights}")

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.target, self.loss_mask, self.metric_mask)))

    @property
    def metric_names(self) -> frozenset[str]:
        two_classes = {"roc_auc"} if len(self.classes) == 2 else set()
        return super().metric_names | {"accuracy", "macro_f1"} | two_classes

    def bind(self, info: Info) -> "Task":
        classes = self.classes or info.keys[self.target].classes
        return dataclasses.replace(self, classes=classes, class_weights=self._bound_weights(info.keys[self.target]))

    def output_size(self, info: Info) -> int:
        """Returns the number of classes, or the size of the target's vocabulary."""
        return info.keys[self.target].num_classes

    def labels(self, batch: Mapping) -> Int[Array, "b *scored"]:
        """Returns the labels of the scored positions."""
        return self._shifted(batch[self.target])

    def position_weights(self, batch: Mapping, mask: str) -> Float[Array, "b *scored"]:
        """Returns the weight of every scored position, read from `batch[mask]`; 0 in padding."""
        target = batch[self.target]
        positions = batch.get(mask or f"{self.target}_mask", jnp.ones(target.shape))
        examples = jnp.expand_dims(batch["mask"], range(1, target.ndim))
        return self._shifted(positions).astype(jnp.float32) * examples

    def scored(self, logits: Float[Array, "b *positions k"], batch: Mapping) -> Float[Array, "b *scored k"]:
        """Returns the float32 logits that predict `labels`. Raises ValueError if the shapes do not fit."""
        shape = self.labels(batch).shape
        scored = logits[:, : shape[1]] if len(shape) > 1 else logits
        if scored.shape[:-1] != shape:
            raise ValueError(
                f"{self.target!r} has the shape {batch[self.target].shape}, which does not fit logits {logits.shape}"
            )
        return scored.astype(jnp.float32)

    def loss_weights(self, batch: Mapping) -> Float[Array, "b *scored"]:
        """Returns the weight of every scored position in the loss, that of its class included."""
        weights = self.position_weights(batch, self.loss_mask)
        if not self.class_weights:
            return weights
        return weights * jnp.asarray(self.class_weights)[jnp.where(weights > 0, self.labels(batch), 0)]

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        """Returns the summed weight of all positions."""
        return {"loss": jnp.sum(self.loss_weights(batch))}

    def score(self, logits: Float[Array, "b *positions k"], batch: Mapping) -> Score:
        """Returns cross-entropy and accuracy; per example the loss without smoothing, summed over positions, and its
        weight. Without positions also label, prediction and probabilities: a map per example is not gathered.
        """
        scored, labels = self.scored(logits, batch), self.labels(batch)
        weights = self.position_weights(batch, self.loss_mask)
        metric_weights = self.position_weights(batch, self.metric_mask or self.loss_mask)
        nats = cross_entropy(scored, labels, weights)
        correct = jnp.argmax(scored, -1) == labels
        arrays = {"loss": _per_example(nats * weights), "weight": _per_example(weights)}
        if labels.ndim == 1:
            arrays |= {"label": labels, **self.predict(logits)}
        return Score(
            losses={"loss": jnp.sum(self._training_loss(scored, nats, weights, batch) * self.loss_weights(batch))},
            metrics={"accuracy": (jnp.sum(correct * metric_weights), jnp.sum(metric_weights))},
            arrays=arrays,
        )

    def predict(self, logits: Float[Array, "b *positions k"]) -> dict[str, Array]:
        """Returns the most probable classes; for one class per example also the probability of each."""
        prediction = {"prediction": jnp.argmax(logits, -1)}
        return prediction | ({"probability": jax.nn.softmax(logits.astype(jnp.float32))} if logits.ndim == 2 else {})

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns macro F1 and, for two classes, ROC-AUC; nothing for several positions per example."""
        if "probability" not in arrays:
            return {}
        label, probability = arrays["label"], arrays["probability"]
        result = {"macro_f1": float(sk.f1_score(label, arrays["prediction"], average="macro"))}
        if probability.shape[-1] == 2 and len(np.unique(label)) == 2 and np.isfinite(probability).all():
            result["roc_auc"] = float(sk.roc_auc_score(label, probability[:, 1]))
        return result

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the class's name and the probability of each class; the numbers of classes where there are
        positions.
        """
        if "probability" not in prediction:
            return super().row(example, prediction, info)
        name = info.keys[self.target].name
        probability = {name(index): float(value) for index, value in enumerate(prediction["probability"])}
        return {"prediction": name(prediction["prediction"]), "probability": probability}

    def _bound_weights(self, target: Key) -> tuple[float, ...]:
        """Returns the weight of each class; () for equal weights.

        Raises UserError for another number of weights, or a data set whose classes are not counted.
        """
        number = target.num_classes
        if self.class_weights == "balanced":
            counts = target.statistics.get("counts")
            if not counts:
                raise UserError(f"task.class_weights='balanced' needs one class per example, unlike {self.target!r}")
            total = sum(counts)
            return tuple(total / (number * max(count, 1)) for count in (counts + [0] * number)[:number])
        if isinstance(self.class_weights, str) and self.class_weights:
            options = ("balanced", "a tuple of numbers")
            raise UserError(f"task.class_weights {self.class_weights!r}: {nearest(self.class_weights, options)}")
        if len(self.class_weights) not in (0, number):
            raise UserError(f"task.class_weights has {len(self.class_weights)} numbers, but there are {number} classes")
        return tuple(self.class_weights)

    def _shifted(self, x: Array | np.ndarray) -> Array:
        return jnp.asarray(x[:, self.shift :] if self.shift else x)

    def _training_loss(
        self,
        logits: Float[Array, "b *scored k"],
        nats: Float[Array, "b *scored"],
        weights: Float[Array, "b *scored"],
        batch: Mapping,
    ) -> Float[Array, "b *scored"]:
        """Returns the loss of every position, with the second label of mixed examples and label smoothing."""
        if "mixed_label" in batch:
            share = batch["mix_weight"]
            nats = share * nats + (1 - share) * cross_entropy(logits, batch["mixed_label"], weights)
        if self.label_smoothing:
            uniform = -jnp.mean(jax.nn.log_softmax(logits), -1)  # cross-entropy with the uniform distribution
            nats = (1 - self.label_smoothing) * nats + self.label_smoothing * uniform
        return nats


def cross_entropy(
    logits: Float[ArrayLike, "*b k"], labels: Int[ArrayLike, "*b"], weights: Float[ArrayLike, "*b"]
) -> Float[Array, "*b"]:
    """Returns -log p(label) in nats. Labels of weight 0 may hold any number."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(weights > 0, labels, 0))


def _per_example(x: Float[Array, "b *scored"]) -> Float[Array, " b"]:
    return reduce(x, "b ... -> b", "sum")
