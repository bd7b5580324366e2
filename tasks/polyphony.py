"""Polyphonic music: the set of keys that sound at the next time step."""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from core.info import Info
from tasks.task import Score, Task

# b: batch, t: time steps, s: predicted steps, t - 1, n: keys, 88 of a piano


@dataclasses.dataclass(frozen=True)
class Polyphony(Task):
    """Negative log-likelihood of the next step of `target` [b, t, n] (1 sounds, 0 does not), the keys independent of
    each other given the past: summed over keys, averaged over the steps of all pieces.

    The measure of Boulanger-Lewandowski 2012 (arXiv 1206.6392), Chung 2014 (arXiv 1412.3555) and Bai 2018 (arXiv
    1803.01271). As in Bai's code, the first step is given and not predicted. `<target>_mask` [b, t] is 0 in padding.
    """

    inputs: tuple[str, ...] = ("notes", "notes_lengths")
    target: str = "notes"

    @property
    def keys(self) -> tuple[str, ...]:
        return self.target, f"{self.target}_mask"

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"nll", "accuracy"}

    def output_size(self, info: Info) -> int:
        """Returns the number of keys."""
        return info.keys[self.target].shape[-1]

    def step_weights(self, batch: Mapping) -> Float[Array, "b s"]:
        """Returns 1 for every predicted step, 0 for padding."""
        return jnp.asarray(batch[f"{self.target}_mask"], jnp.float32)[:, 1:] * batch["mask"][:, None]

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        """Returns the number of predicted steps."""
        return {"loss": jnp.sum(self.step_weights(batch))}

    def score(self, logits: Float[Array, "b t n"], batch: Mapping) -> Score:
        """Returns the loss in nats, also under the literature's name `nll`, and the frame-level accuracy TP / (TP + FP
        + FN) of Bay 2009 ("Evaluation of multiple-F0 estimation and tracking systems"), where a key is predicted if its
        probability is above 1/2; per example the loss summed over steps, and the number of steps.
        """
        notes = jnp.asarray(batch[self.target], jnp.float32)
        if logits.shape != notes.shape:
            raise ValueError(f"{self.target!r} has the shape {notes.shape}, but logits have {logits.shape}")
        scored, notes, weights = logits[:, :-1].astype(jnp.float32), notes[:, 1:], self.step_weights(batch)
        nats = jnp.sum(optax.sigmoid_binary_cross_entropy(scored, notes), -1) * weights
        predicted, true = scored > 0, notes > 0.5
        return Score(
            losses={"loss": jnp.sum(nats)},
            metrics={
                "nll": (jnp.sum(nats), jnp.sum(weights)),
                "accuracy": (_count(predicted & true, weights), _count(predicted | true, weights)),
            },
            arrays={"loss": jnp.sum(nats, axis=1), "weight": jnp.sum(weights, axis=1)},
        )

    def predict(self, logits: Float[Array, "b t n"]) -> dict[str, Array]:
        """Returns the probability of each key at the step after each."""
        return {"prediction": jax.nn.sigmoid(logits.astype(jnp.float32))}


def _count(keys: Bool[Array, "b s n"], weights: Float[Array, "b s"]) -> Float[Array, ""]:
    return jnp.sum(keys * weights[..., None])
