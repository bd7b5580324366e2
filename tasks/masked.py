"""Masked language models, alone and with the prediction of the next text (BERT: Devlin et al. 2019, arXiv 1810.04805,
section 3.1). The augment op `mask_tokens` chooses and hides the tokens.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import UserError
from core.info import Info
from tasks.classification import cross_entropy
from tasks.sequence import TokenClassification
from tasks.task import Score

# b: batch, t: places of an example that are predicted, k: tokens of the vocabulary

SHOWN = 10  # tokens per place that `predict.py` shows


@dataclasses.dataclass(frozen=True)
class MaskedTokens(TokenClassification):
    """Predicts the tokens that `mask_tokens` has chosen."""

    inputs: tuple[str, ...] = ("tokens", "tokens_lengths", "segments", "places")

    def bind(self, info: Info) -> "MaskedTokens":
        vocabulary = info.keys[self.inputs[0]].vocabulary
        if vocabulary is None:
            raise UserError(f"{self.inputs[0]!r} of {info.name} has no vocabulary")
        return self

    def output_size(self, info: Info) -> int:
        """Returns the size of the vocabulary."""
        return info.keys[self.inputs[0]].num_classes

    def predict(self, logits: Float[Array, "b t k"]) -> dict[str, Array]:
        """Returns the most probable tokens of each place, and their probabilities."""
        probability, tokens = jax.lax.top_k(jax.nn.softmax(logits.astype(jnp.float32)), min(SHOWN, logits.shape[-1]))
        return {"prediction": tokens, "probability": probability}

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the text with the most probable token at each mask and, for a single mask, the probabilities.

        Raises UserError for a text without a mask, or with more than the network predicts.
        """
        vocabulary = info.keys[self.inputs[0]].vocabulary
        tokens = example[self.inputs[0]].copy()
        masks = np.flatnonzero(tokens == vocabulary.mask)
        found, shares = prediction["prediction"], prediction["probability"]
        if not 0 < len(masks) <= len(found):
            name = "a mask token" if vocabulary.mask is None else vocabulary.token(vocabulary.mask)
            raise UserError(f"{vocabulary.text(tokens)!r} has {len(masks)} of {name}: write 1 to {len(found)} of them")
        tokens[masks] = found[: len(masks), 0]
        row = {"prediction": vocabulary.text(tokens)}
        if len(masks) == 1:
            row["probability"] = {vocabulary.token(i): float(p) for i, p in zip(found[0], shares[0], strict=True)}
        return row


class Outputs(TypedDict):
    """The logits of the chosen tokens, and of whether the second text follows the first (class 0)."""

    masked: Float[Array, "b *t k"]
    follows: Float[Array, "b 2"]


@dataclasses.dataclass(frozen=True)
class Pretraining(MaskedTokens):
    """Masked tokens, and whether the second text of a pair follows the first one.

    The loss is the sum of both terms. Metrics without a prefix are those of the tokens.

    Attributes:
        next: batch key, 0 if the second text follows.
    """

    next: str = "next"

    coefficients: ClassVar[Mapping[str, float]] = MappingProxyType({"masked": 1.0, "follows": 1.0})

    @property
    def keys(self) -> tuple[str, ...]:
        return (*super().keys, self.next)

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"follows_accuracy"}

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        return {"masked": super().weights(batch)["loss"], "follows": jnp.sum(batch["mask"])}

    def score(self, outputs: Outputs, batch: Mapping) -> Score:
        """Returns the score of the tokens, with the loss and the accuracy of the second texts."""
        score = super().score(outputs["masked"], batch)
        logits, labels, weights = outputs["follows"].astype(jnp.float32), batch[self.next], batch["mask"]
        losses = {"masked": score.losses["loss"], "follows": jnp.sum(cross_entropy(logits, labels, weights) * weights)}
        correct = jnp.argmax(logits, -1) == labels
        metrics = score.metrics | {"follows_accuracy": (jnp.sum(correct * weights), jnp.sum(weights))}
        return Score(losses, metrics, score.arrays)

    def predict(self, outputs: Outputs) -> dict[str, Array]:
        return super().predict(outputs["masked"])
