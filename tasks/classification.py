"""Classification: one label an example."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from sklearn import metrics as sk

from tasks.shapes import check_rank

# b: batch, k: classes


@dataclasses.dataclass(frozen=True)
class Classification:
    """Softmax cross-entropy on `label` [b], with label smoothing (Szegedy 2016, arXiv 1512.00567, section 7).

    A batch that was mixed (mixup, CutMix) has `mixed_label` [b] and `mix_weight` [b], the weight of `label`.
    """

    inputs: tuple[str, ...] = ("image",)  # batch keys, in the order of the model's arguments
    label_smoothing: float = 0.0

    needs = ("label",)
    figures = ("confusion_matrix", "image_mistakes", "text_mistakes")

    def outputs_width(self, info) -> int:
        """Returns the width of the model's head for a data set with this `info`."""
        return len(info.classes)

    def targets(self, logits: Float[Array, "b k"], batch: Mapping) -> Float[Array, "b k"]:
        """Returns the distribution over classes that each example is trained towards."""
        check_rank(batch, "label", 1)
        targets = jax.nn.one_hot(batch["label"], logits.shape[-1])
        if "mixed_label" in batch:
            weight = batch["mix_weight"][:, None]
            targets = weight * targets + (1 - weight) * jax.nn.one_hot(batch["mixed_label"], logits.shape[-1])
        return optax.smooth_labels(targets, self.label_smoothing)

    def example_loss(self, logits: Float[Array, "b k"], batch: Mapping) -> Float[Array, " b"]:
        logits = logits.astype(jnp.float32)
        return optax.softmax_cross_entropy(logits, self.targets(logits, batch))

    def loss(self, logits: Float[Array, "b k"], batch: Mapping) -> tuple[Array, Array]:
        """Returns the (sum, weight) of the cross-entropy in nats."""
        return jnp.sum(self.example_loss(logits, batch) * batch["mask"]), jnp.sum(batch["mask"])

    def metrics(self, logits: Float[Array, "b k"], batch: Mapping) -> dict:
        """Returns accuracy as (sum, weight), and per example prediction, label, loss and probabilities."""
        check_rank(batch, "label", 1)
        correct = (jnp.argmax(logits, -1) == batch["label"]) * batch["mask"]
        return {
            "accuracy": (jnp.sum(correct), jnp.sum(batch["mask"])),
            "label": batch["label"],
            "loss": self.example_loss(logits, batch),
            **self.predict(logits),
        }

    def predict(self, logits: Float[Array, "b k"]) -> dict:
        """Returns what a user asks of new examples: the class and the probability of each."""
        logits = logits.astype(jnp.float32)
        return {"prediction": jnp.argmax(logits, -1), "probability": jax.nn.softmax(logits)}

    def summary(self, gathered: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the metrics that are no means over examples, from all examples' `metrics` arrays: ROC-AUC (two
        classes), macro F1.
        """
        label, probability = gathered["label"], gathered["probability"]
        result = {"macro_f1": float(sk.f1_score(label, gathered["prediction"], average="macro"))}
        if probability.shape[-1] == 2 and len(np.unique(label)) == 2 and np.isfinite(probability).all():
            result["roc_auc"] = float(sk.roc_auc_score(label, probability[:, 1]))
        return result
