"""Tagging of spans, such as the names of people and places, or chunks: tags say where each begins and goes on."""

import dataclasses
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from seqeval import metrics as seqeval

from tasks.sequence import TokenClassification

# b: batch, t: positions of the outputs, s: scored positions, n: examples, k: classes


@dataclasses.dataclass(frozen=True)
class SpanTagging(TokenClassification):
    """Token classification with tags of spans, B-PER, I-PER and O (IOB2, as in CoNLL-2003; IOB1 and IOBES are read
    too), scored by spans as well: one is right if its class and both its ends are.

    Attributes:
        classes: names of the tags, the data set's.

    Raises:
        ValueError: a class is no such tag.
    """

    target: str = "tags"
    classes: tuple[str, ...] = ()

    def __post_init__(self):
        super().__post_init__()
        for name in self.classes:
            if not re.fullmatch("O|[BIES]-.+", name):
                raise ValueError(
                    f"{name!r} is no tag of spans, as B-PER, I-PER or O: take sequence.TokenClassification"
                )

    def metrics(self, logits: Float[Array, "b t k"], batch: Mapping) -> dict:
        """Returns those of `TokenClassification`, and per example the tags [b, s] and the predicted ones, 1 + their
        number, 0 at positions that have none.
        """
        scored = self.weights(batch, self.metric_mask or self.loss_mask) > 0
        labels = self.labels(batch)
        best = jnp.argmax(logits[:, : labels.shape[1]], -1)
        tags = {"reference": labels, "prediction": best}
        return super().metrics(logits, batch) | {name: jnp.where(scored, x + 1, 0) for name, x in tags.items()}

    def summary(self, gathered: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the perplexity, and precision, recall and F1 of all spans together (seqeval, which counts as the
        conference's own conlleval).
        """
        reference, prediction = gathered["reference"], gathered["prediction"]
        true, predicted = (self._names(tags, reference > 0) for tags in (reference, prediction))
        scores = {"precision": seqeval.precision_score, "recall": seqeval.recall_score, "f1": seqeval.f1_score}
        spans = {name: float(score(true, predicted, zero_division=0)) for name, score in scores.items()}
        return super().summary(gathered) | spans

    def _names(self, tags: Int[np.ndarray, "n s"], scored: np.ndarray) -> list[list[str]]:
        names = np.array(self.classes)
        return [names[row[there] - 1].tolist() for row, there in zip(tags, scored, strict=True)]
