"""Extractive question answering: the answer is a span of a given text (Rajpurkar et al. 2016, arXiv 1606.05250)."""

import collections
import dataclasses
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, SupportsIndex

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from core.info import Info
from tasks.classification import cross_entropy
from tasks.task import Score, Task

# b: batch, t: tokens of question and text

ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclasses.dataclass(frozen=True)
class SpanAnswer(Task):
    """Chooses the first and the last token of the answer, each by a softmax over the text's tokens and the first token
    of the sequence, which stands for "no answer" (BERT: Devlin et al. 2019, arXiv 1810.04805, sections 4.2 and 4.3).

    The op `pair` makes the keys. The loss is the mean of both cross-entropies. Predicted text is compared with all
    given answers by SQuAD's rules: without case, punctuation, articles and repeated spaces.

    Attributes:
        text: key of the text that holds the answers.
        answer: key of the given answers, a text or a list of texts; empty: the text has no answer.
        most_tokens: of a predicted answer.
    """

    inputs: tuple[str, ...] = ("tokens", "tokens_lengths", "segments")
    text: str = "context"
    answer: str = "answer"
    most_tokens: int = 30

    figures: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        self.check_range(most_tokens=(1, None))

    @property
    def keys(self) -> tuple[str, ...]:
        return ("start", "end", "segments", "offsets")

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.text, self.answer)

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"span_accuracy", "exact_match", "f1"}

    def output_size(self, info: Info) -> int:
        """Returns 2: a score as the first token, and one as the last."""
        return 2

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        return {"loss": jnp.sum(batch["mask"])}

    def score(self, logits: Float[Array, "b t 2"], batch: Mapping) -> Score:
        """Returns the cross-entropy, the share of exact spans, and per example the predicted span and
        the cross-entropy."""
        scores = self._scores(logits, batch)
        weights = batch["mask"]
        places = batch["start"], batch["end"]
        nats = sum(cross_entropy(scores[..., i], place, weights) for i, place in enumerate(places)) / 2
        first, last = self._best(scores)
        correct = (first == places[0]) & (last == places[1])
        return Score(
            losses={"loss": jnp.sum(nats * weights)},
            metrics={"span_accuracy": (jnp.sum(correct * weights), jnp.sum(weights))},
            arrays={"first": first, "last": last, "loss": nats * weights},
        )

    def predict(self, logits: Float[Array, "b t 2"]) -> dict[str, Array]:
        """Returns the scores; `row` finds the span, since it knows where the text is."""
        return {"prediction": logits.astype(jnp.float32)}

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns the share of answers that equal a given one, and the mean F1 of their words."""
        indices = np.arange(len(examples))
        texts, given = (examples.text(key, indices) for key in (self.text, self.answer))
        offsets = examples.batch(indices)["offsets"]
        spans = zip(texts, offsets, arrays["first"], arrays["last"], strict=True)
        answers = [_cut(text, places, first, last) for text, places, first, last in spans]
        pairs = [(answer, _listed(references)) for answer, references in zip(answers, given, strict=True)]
        exact = [max(_normal(answer) == _normal(other) for other in references) for answer, references in pairs]
        f1 = [max(_f1(answer, other) for other in references) for answer, references in pairs]
        return {"exact_match": float(np.mean(exact)), "f1": float(np.mean(f1))}

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the answer, a part of the text; "" if the text has none."""
        batch = {"offsets": example["offsets"][None]}
        first, last = self._best(self._scores(jnp.asarray(prediction["prediction"])[None], batch))
        return {"prediction": _cut(example[self.text], example["offsets"], first[0], last[0])}

    def _scores(self, logits: Float[Array, "b t 2"], batch: Mapping) -> Float[Array, "b t 2"]:
        """Returns the scores, which are the lowest number outside the text and the first token."""
        is_text = jnp.asarray(batch["offsets"][..., 1] > batch["offsets"][..., 0]).at[:, 0].set(True)
        return jnp.where(is_text[..., None], logits.astype(jnp.float32), jnp.finfo(jnp.float32).min / 2)

    def _best(self, scores: Float[Array, "b t 2"]) -> tuple[Int[Array, "b"], Int[Array, "b"]]:
        """Returns the first and last token of the span with the greatest sum of scores."""
        size = scores.shape[1]
        distance = jnp.arange(size) - jnp.arange(size)[:, None]
        allowed = (distance >= 0) & (distance < self.most_tokens)
        allowed = allowed.at[0, 1:].set(False)  # "no answer" is no beginning of a span
        sums = jnp.where(allowed, scores[:, :, None, 0] + scores[:, None, :, 1], -jnp.inf)
        best = jnp.argmax(sums.reshape(len(scores), -1), axis=1)
        return best // size, best % size


def _cut(text: str, offsets: Int[np.ndarray, "t 2"], first: SupportsIndex, last: SupportsIndex) -> str:
    return text[offsets[first, 0] : offsets[last, 1]].strip()


def _listed(answers: str | Sequence[str]) -> list[str]:
    return [answers] if isinstance(answers, str) else list(answers) or [""]


def _normal(text: str) -> str:
    """Returns what two spellings of an answer have in common, by SQuAD's rules."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(ARTICLES.sub(" ", kept).split())


def _f1(answer: str, other: str) -> float:
    """Returns the F1 of two bags of words; 1 if both are empty, 0 if one is."""
    words, others = _normal(answer).split(), _normal(other).split()
    if not words or not others:
        return float(words == others)
    common = sum((collections.Counter(words) & collections.Counter(others)).values())
    return 2 * common / (len(words) + len(others))
