"""Distillation of a trained network into another (Hinton et al. 2015, arXiv 1503.02531, section 2).

The outputs are those of a student and of its teacher. Three tasks differ in the student's own task: one label per
example, one per position (such as a language model's next token), and generated sequences.
"""

import dataclasses
from collections.abc import Mapping
from typing import TypedDict

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tasks.classification import Classification
from tasks.generation import Generation
from tasks.sequence import TokenClassification
from tasks.task import Score

# b: batch, positions: none, tokens or pixels; scored: the same after the shift; k: classes


class Outputs(TypedDict):
    """The logits of both networks."""

    student: Float[Array, "b *positions k"]
    teacher: Float[Array, "b *positions k"]


@dataclasses.dataclass(frozen=True)
class _Distilling:
    """Before `Classification` or a task that derives from it: adds the loss term "teacher", T^2 KL(p || q) for the
    teacher's probabilities p and the student's q, both at the temperature T. Metrics are those of the student.

    T^2 keeps the sizes of both gradients comparable if T changes. The term "label" is the loss of `Classification`;
    class weights and label smoothing apply to it alone.

    Attributes:
        temperature: T.
        label_weight: factor of the term "label"; that of "teacher" is 1.
    """

    temperature: float = 2.0
    label_weight: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        self.check_range(label_weight=(0, None))
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, not {self.temperature}")

    @property
    def coefficients(self) -> Mapping[str, float]:
        return {"label": self.label_weight, "teacher": 1.0}

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"teacher_agreement"}

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        weights = self.position_weights(batch, self.loss_mask)
        return {"label": super().weights(batch)["loss"], "teacher": jnp.sum(weights)}

    def score(self, outputs: Outputs, batch: Mapping) -> Score:
        """Returns the score of the student, and the share of positions where both networks choose the same class."""
        score = super().score(outputs["student"], batch)
        student, teacher = (self.scored(outputs[name], batch) for name in ("student", "teacher"))
        log_p, log_q = (jax.nn.log_softmax(logits / self.temperature) for logits in (teacher, student))
        divergence = jnp.sum(jnp.exp(log_p) * (log_p - log_q), -1) * self.temperature**2
        losses = {"label": score.losses["loss"]}
        losses["teacher"] = jnp.sum(divergence * self.position_weights(batch, self.loss_mask))
        weights = self.position_weights(batch, self.metric_mask or self.loss_mask)
        same = jnp.argmax(student, -1) == jnp.argmax(teacher, -1)
        agreement = {"teacher_agreement": (jnp.sum(same * weights), jnp.sum(weights))}
        return Score(losses, score.metrics | agreement, score.arrays)

    def predict(self, outputs: Outputs | Float[Array, "b *positions k"]) -> dict[str, Array]:
        """Returns the predictions of the student, given the outputs of both networks or its own."""
        return super().predict(outputs["student"] if isinstance(outputs, Mapping) else outputs)


@dataclasses.dataclass(frozen=True)
class Distillation(_Distilling, Classification):
    """Distillation of a classifier of examples or positions."""


@dataclasses.dataclass(frozen=True)
class TokenDistillation(_Distilling, TokenClassification):
    """Distillation of a language model or tagger, with the metrics of sequences."""


@dataclasses.dataclass(frozen=True)
class GenerationDistillation(_Distilling, Generation):
    """Distillation of a decoder; the student generates."""
