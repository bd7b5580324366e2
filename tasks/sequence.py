"""Token classification: one label per position of a sequence.

Language models, taggers, decoders of sequence-to-sequence models and the synthetic tests of memory differ in batch
keys only.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.info import Info
from tasks.classification import Classification
from tasks.task import Score

# b: batch, t: positions of the outputs, k: classes


@dataclasses.dataclass(frozen=True)
class TokenClassification(Classification):
    """Classification of every position of `target` [b, t], with the metrics of sequences.

    A language model reads `tokens`, and its target is the token after each. The data set provides these as `labels`, so
    that windows of a text lose no token at their ends; or `target="tokens", shift=1` takes them from the input. A
    decoder that reads its own target, begin and end of sequence included, has `target="target", shift=1`; a tagger has
    `target="tags"`.
    """

    inputs: tuple[str, ...] = ("tokens",)
    target: str = "labels"

    figures: ClassVar[tuple[str, ...]] = ()

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names - {"macro_f1", "roc_auc"} | {"sequence_accuracy", "bits_per_token", "perplexity"}

    def score(self, logits: Float[Array, "b t k"], batch: Mapping) -> Score:
        """Returns the score of `Classification`, the share of sequences without a wrong position, and bits per token.

        A sequence without any weight is not counted.
        """
        score = super().score(logits, batch)
        scored = self.position_weights(batch, self.metric_mask or self.loss_mask) > 0
        correct = jnp.argmax(self.scored(logits, batch), -1) == self.labels(batch)
        counted = jnp.any(scored, axis=1)
        exact = counted & jnp.all(correct | ~scored, axis=1)
        metrics = {
            "sequence_accuracy": (jnp.sum(exact, dtype=jnp.float32), jnp.sum(counted, dtype=jnp.float32)),
            "bits_per_token": (jnp.sum(score.arrays["loss"]) / np.log(2), jnp.sum(score.arrays["weight"])),
        }
        return score._replace(metrics=score.metrics | metrics)

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns the perplexity, exp of the mean loss of all positions; it is never a mean of perplexities."""
        total, weight = (np.sum(arrays[key], dtype=np.float64) for key in ("loss", "weight"))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # infinity and NaN are reported
            return {"perplexity": float(np.exp(total / weight))}

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the name of the class of every word, or of every token where the input is not tokenised words."""
        key, classes = self.inputs[0], prediction["prediction"]
        if f"{key}_starts" in example:
            classes = classes[example[f"{key}_starts"]]
        elif f"{key}_lengths" in example:
            classes = classes[: example[f"{key}_lengths"]]
        return {"prediction": [info.keys[self.target].name(index) for index in classes]}
