"""Polyphonic music: which of all keys sound at the next time step."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from tasks.shapes import check_rank

# b: batch, t: time steps, s: predicted steps, t - 1, n: keys, 88 of a piano


@dataclasses.dataclass(frozen=True)
class Polyphony:
    """Negative log-likelihood of the next step of `target` [b, t, n] (1 sounds, 0 does not), the keys independent of
    each other given what sounded before: summed over keys, averaged over the steps of all pieces.

    The measure of Boulanger-Lewandowski 2012 (arXiv 1206.6392), Chung 2014 (arXiv 1412.3555) and Bai 2018 (arXiv
    1803.01271), whose code is followed in that the first step is given and not predicted. Steps that are padding
    (`<target>_mask` [b, t] is 0) count nothing.
    """

    inputs: tuple[str, ...] = ("notes", "notes_lengths")  # batch keys, in the order of the model's arguments
    target: str = "notes"

    figures = ()

    @property
    def needs(self) -> tuple[str, ...]:
        return self.target, f"{self.target}_mask"

    def outputs_width(self, info) -> int:
        """Returns the width of the model's head: one output a key."""
        return info.shapes[self.target][0][-1]

    def _scored(
        self, logits: Float[Array, "b t n"], batch: Mapping
    ) -> tuple[Float[Array, "b s n"], Float[Array, "b s n"], Float[Array, "b s"]]:
        """Returns the logits of all predicted steps, what sounds in them, and what they weigh."""
        check_rank(batch, self.target, 3)
        notes, mask = (jnp.asarray(batch[key], jnp.float32)[:, 1:] for key in self.needs)
        return logits[:, :-1].astype(jnp.float32), notes, mask * batch["mask"][:, None]

    def step_loss(
        self, logits: Float[Array, "b t n"], batch: Mapping
    ) -> tuple[Float[Array, "b s"], Float[Array, "b s"]]:
        """Returns each step's weighted loss in nats, and the weights."""
        scored, notes, weights = self._scored(logits, batch)
        return jnp.sum(optax.sigmoid_binary_cross_entropy(scored, notes), -1) * weights, weights

    def loss(self, logits: Float[Array, "b t n"], batch: Mapping) -> tuple[Array, Array]:
        """Returns the (sum, weight) of the loss in nats, over steps; output i answers for step i + 1."""
        nats, weights = self.step_loss(logits, batch)
        return jnp.sum(nats), jnp.sum(weights)

    def metrics(self, logits: Float[Array, "b t n"], batch: Mapping) -> dict:
        """Returns as (sum, weight) the loss under the literature's name, `nll`, and the frame-level accuracy TP / (TP +
        FP + FN) of Bay 2009 ("Evaluation of multiple-F0 estimation and tracking systems"), a key being predicted
        where its probability is above 1/2; per example the loss summed over steps, and their number.
        """
        scored, notes, weights = self._scored(logits, batch)
        nats, _ = self.step_loss(logits, batch)
        predicted, true = scored > 0, notes > 0.5
        return {
            "nll": (jnp.sum(nats), jnp.sum(weights)),
            "accuracy": (_count(predicted & true, weights), _count(predicted | true, weights)),
            "loss": jnp.sum(nats, axis=1),
            "weight": jnp.sum(weights, axis=1),
        }

    def predict(self, logits: Float[Array, "b t n"]) -> dict:
        """Returns the probability that each key sounds at the step after each."""
        return {"prediction": jax.nn.sigmoid(logits.astype(jnp.float32))}

    def summary(self, gathered: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns nothing: all metrics are sums."""
        del gathered
        return {}


def _count(keys: Bool[Array, "b s n"], weights: Float[Array, "b s"]) -> Float[Array, ""]:
    return jnp.sum(keys * weights[..., None])
