"""Token classification: one label a position. Language models, taggers, decoders of a sequence-to-sequence model and
the synthetic tests of memory differ in keys only.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from tasks.shapes import check_rank

# b: batch, t: positions of the outputs, s: scored positions, t - shift, k: classes


@dataclasses.dataclass(frozen=True)
class TokenClassification:
    """Softmax cross-entropy at every position of `target` [b, t], weighted by masks [b, t] (1 counts, 0 does not;
    fractions weigh). Where a mask is 0, the target may hold any number.

    A language model reads `tokens` and its target is the token after each: either the data has it (`labels`, so that
    windows of a text lose no token at their ends), or `target="tokens", shift=1`. A decoder that reads its own target,
    begin and end of sequence included, has `target="target", shift=1`; a tagger has `target="tags"`. Padded sets bring
    `<target>_mask`.

    Label smoothing (Szegedy 2016, arXiv 1512.00567, section 7; in translation Vaswani 2017, arXiv 1706.03762, section
    5.4) changes the loss alone: the metrics, bits and perplexity among them, are of the true label.
    """

    inputs: tuple[str, ...] = ("tokens",)  # batch keys, in the order of the model's arguments
    target: str = "labels"
    shift: int = 0  # output i answers for position i + shift of target and masks
    loss_mask: str = ""  # batch key; "" = `<target>_mask` if the batch has it, else every position counts
    metric_mask: str = ""  # of the accuracies, where they are of other positions than the loss; "" = as the loss
    label_smoothing: float = 0.0

    figures = ()

    def __post_init__(self):
        if self.shift < 0:
            raise ValueError(f"shift must be 0 or more, not {self.shift}")

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(filter(None, (self.target, self.loss_mask, self.metric_mask)))

    def outputs_width(self, info) -> int:
        """Returns the width of the model's head: the size of the target's vocabulary, else the number of classes, else
        the size of the first input's vocabulary (windows of a text, whose labels are the same text). 0 if the data set
        names none of them: the model's own `num_classes` must.
        """
        sizes = info.vocabulary_size(self.target), len(info.classes), info.vocabulary_size(self.inputs[0])
        return next(filter(None, sizes), 0)

    def labels(self, batch: Mapping) -> Int[Array, "b s"]:
        check_rank(batch, self.target, 2)
        return jnp.asarray(batch[self.target])[:, self.shift :]

    def weights(self, batch: Mapping, mask: str) -> Float[Array, "b s"]:
        """Returns what each scored position counts by the key `mask` (or its default); 0 in examples that are
        padding.
        """
        target = batch[self.target]
        check_rank(batch, self.target, 2)
        positions = batch.get(mask or f"{self.target}_mask", jnp.ones(target.shape))
        return jnp.asarray(positions, jnp.float32)[:, self.shift :] * batch["mask"][:, None]

    def token_loss(
        self, logits: Float[Array, "b t k"], batch: Mapping
    ) -> tuple[Float[Array, "b s"], Float[Array, "b s"]]:
        """Returns each position's weighted cross-entropy in nats, and the weights."""
        weights = self.weights(batch, self.loss_mask)
        labels = jnp.where(weights > 0, self.labels(batch), 0)
        scored = logits[:, : labels.shape[1]].astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(scored, labels) * weights, weights

    def loss(self, logits: Float[Array, "b t k"], batch: Mapping) -> tuple[Array, Array]:
        """Returns the (sum, weight) of the cross-entropy in nats with smoothed labels, over positions."""
        nats, weights = self.token_loss(logits, batch)
        if self.label_smoothing:
            scored = logits[:, : weights.shape[1]].astype(jnp.float32)
            uniform = -jnp.mean(jax.nn.log_softmax(scored), -1) * weights  # cross-entropy with all classes alike
            nats = (1 - self.label_smoothing) * nats + self.label_smoothing * uniform
        return jnp.sum(nats), jnp.sum(weights)

    def metrics(self, logits: Float[Array, "b t k"], batch: Mapping) -> dict:
        """Returns as (sum, weight) the accuracy over positions, the share of sequences that are right at every
        position, and bits a token; per example the loss summed over positions, and its weight.
        """
        nats, weights = self.token_loss(logits, batch)
        scored = self.weights(batch, self.metric_mask or self.loss_mask)
        labels = self.labels(batch)
        correct = jnp.argmax(logits[:, : labels.shape[1]], -1) == labels
        counted = jnp.any(scored > 0, axis=1)
        exact = counted & jnp.all(correct | (scored == 0), axis=1)
        return {
            "accuracy": (jnp.sum(correct * scored), jnp.sum(scored)),
            "sequence_accuracy": (jnp.sum(exact, dtype=jnp.float32), jnp.sum(counted, dtype=jnp.float32)),
            "bits_per_token": (jnp.sum(nats) / np.log(2), jnp.sum(weights)),
            "loss": jnp.sum(nats, axis=1),
            "weight": jnp.sum(weights, axis=1),
        }

    def predict(self, logits: Float[Array, "b t k"]) -> dict:
        """Returns the most probable class of every position."""
        return {"prediction": jnp.argmax(logits, -1)}

    def summary(self, gathered: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the perplexity: e to the mean loss of all positions, never a mean of perplexities."""
        total, weight = (np.sum(gathered[key], dtype=np.float64) for key in ("loss", "weight"))
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # infinity and NaN say it themselves
            return {"perplexity": float(np.exp(total / weight))}
