"""Tagging of spans, such as the names of people and places, or chunks: tags mark the begin and the inside of a span."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from seqeval import metrics as seqeval

from core.errors import UserError
from tasks.sequence import TokenClassification
from tasks.task import Score

# b: batch, t: positions of the outputs, s: scored positions, n: examples, k: classes


@dataclasses.dataclass(frozen=True)
class SpanTagging(TokenClassification):
    """Token classification with tags of spans, B-PER, I-PER and O (IOB2, as in CoNLL-2003; IOB1 and IOBES are read
    too), scored by spans as well: a span is right if its class and both its ends are.

    Raises:
        UserError: a class is not such a tag.
    """

    target: str = "tags"

    def __post_init__(self):
        super().__post_init__()
        for name in self.classes:
            if not re.fullmatch("O|[BIES]-.+", name):
                raise UserError(
                    f"{name!r} is not a tag of spans (B-PER, I-PER or O): use sequence.TokenClassification instead"
                )

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"precision", "recall", "f1"}

    def score(self, logits: Float[Array, "b t k"], batch: Mapping) -> Score:
        """Returns the score of `TokenClassification`; per example also true and predicted tags [b, s] as 1 + number, 0
        without a tag.
        """
        score = super().score(logits, batch)
        scored = self.position_weights(batch, self.metric_mask or self.loss_mask) > 0
        tags = {"reference": self.labels(batch), "prediction": jnp.argmax(self.scored(logits, batch), -1)}
        return score._replace(arrays=score.arrays | {name: jnp.where(scored, x + 1, 0) for name, x in tags.items()})

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns the perplexity, and precision, recall and F1 of all spans together (by seqeval, which counts as the
        conference's own conlleval does).
        """
        reference, prediction = arrays["reference"], arrays["prediction"]
        true, predicted = (self._names(tags, reference > 0) for tags in (reference, prediction))
        scores = {"precision": seqeval.precision_score, "recall": seqeval.recall_score, "f1": seqeval.f1_score}
        spans = {name: float(score(true, predicted, zero_division=0)) for name, score in scores.items()}
        return super().summary(arrays, examples) | spans

    def _names(self, tags: Int[np.ndarray, "n s"], scored: np.ndarray) -> list[list[str]]:
        names = np.array(self.classes)
        return [names[row[there] - 1].tolist() for row, there in zip(tags, scored, strict=True)]
