"""Generation of a sequence from an input: translation, captioning, any sequence-to-sequence problem."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from sacrebleu.metrics import BLEU, CHRF

from core.errors import UserError
from core.info import Info
from core.vocabulary import Vocabulary
from tasks.sequence import TokenClassification

# b: batch, m: the longest output

BINS = (10, 20, 30, 40, 50)  # upper bounds of the source's length, as in Bahdanau 2015 (arXiv 1409.0473), figure 2


def _bin_names() -> list[str]:
    pairs = zip((0, *BINS), (*BINS, None), strict=True)
    return [f"bleu_length_{low + 1}_{high}" if high else f"bleu_length_over_{low}" for low, high in pairs]


@dataclasses.dataclass(frozen=True)
class Generation(TokenClassification):
    """Trains a decoder on its target, and evaluates the sequences that the model generates.

    Training and the metrics of `TokenClassification` are teacher-forced. Generated sequences are compared with
    references as detokenised text: BLEU and chrF by sacreBLEU.

    Attributes:
        conditions: batch keys that decoding starts from.
        max_length: of an output, in tokens.
        beams: 1 is greedy decoding.
        length_penalty: alpha of Wu 2016 (arXiv 1609.08144), equation 14; its value is that of Vaswani 2017 (arXiv
            1706.03762), section 6.1, as is the usual label smoothing of translation.
        references: batch key [b, references, length] of token ids, for examples with several references; rows of
            padding are ignored. "": the target is the only reference.
        vocabulary, source_vocabulary: of the target and of the first condition; filled in by `bind`.
    """

    inputs: tuple[str, ...] = ("source", "source_lengths", "target")
    target: str = "target"
    shift: int = 1
    conditions: tuple[str, ...] = ("source", "source_lengths")
    max_length: int = 60
    beams: int = 1
    length_penalty: float = 0.6
    references: str = ""
    vocabulary: Vocabulary | None = None
    source_vocabulary: Vocabulary | None = None

    generates: ClassVar[bool] = True
    generated_metrics: ClassVar[frozenset[str]] = frozenset({"bleu", "chrf", "sequence_exact", *_bin_names()})

    def __post_init__(self):
        super().__post_init__()
        if self.beams < 1 or self.max_length < 1:
            raise ValueError(f"beams and max_length must be 1 or more, not {self.beams} and {self.max_length}")

    @property
    def keys(self) -> tuple[str, ...]:
        return (*super().keys, *self.conditions, *filter(None, (self.references,)))

    def bind(self, info: Info) -> "Task":
        vocabulary, source = (info.keys[key].vocabulary for key in (self.target, self.conditions[0]))
        if vocabulary is None or None in (vocabulary.bos, vocabulary.eos):
            raise UserError(f"{self.target!r} of {info.name} has no vocabulary with tokens for begin and end")
        return dataclasses.replace(super().bind(info), vocabulary=vocabulary, source_vocabulary=source)

    def generated(self, tokens: Int[Array, "b m"], lengths: Int[Array, " b"], batch: Mapping) -> dict[str, Array]:
        """Returns per example the generated tokens, padded after their end, the references and, for a text, the
        number of the source's tokens without padding, begin and end.
        """
        written = jnp.arange(tokens.shape[1]) < lengths[:, None]
        arrays = {
            "generated": jnp.where(written, tokens, self.vocabulary.eos),
            "reference": jnp.asarray(batch[self.references or self.target]),
        }
        if source := self.source_vocabulary:
            marks = [index for index in (source.pad, source.bos, source.eos) if index is not None]
            arrays["source_size"] = jnp.sum(~jnp.isin(batch[self.conditions[0]], jnp.array(marks, int)), axis=1)
        return arrays

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns the perplexity. With generated tokens also BLEU and chrF (0 to 100), BLEU by length of the source,
        and the share of outputs that equal a reference; an empty output equals none.
        """
        result = super().summary(arrays, examples)
        if "generated" not in arrays:
            return result
        outputs, references = self._texts(arrays["generated"]), arrays["reference"]
        references = references[:, None] if references.ndim == 2 else references
        streams = [self._texts(references[:, i]) for i in range(references.shape[1])]
        exact = [
            output != "" and output in texts for output, texts in zip(outputs, zip(*streams, strict=True), strict=True)
        ]
        result |= {
            "bleu": BLEU().corpus_score(outputs, streams).score,
            "chrf": CHRF().corpus_score(outputs, streams).score,
            "sequence_exact": float(np.mean(exact)),
        }
        return result | _bleu_by_length(arrays.get("source_size"), outputs, streams)

    def bleu_signature(self, references: int = 1) -> str:
        """Returns sacreBLEU's description of the score, to be reported with it (Post 2018, arXiv 1804.08771)."""
        metric = BLEU()
        metric.corpus_score([""], [[""]] * references)
        return str(metric.get_signature())

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the generated text."""
        return {"prediction": self.vocabulary.text(prediction["prediction"])}

    def _texts(self, ids: Int[np.ndarray, "n l"]) -> list[str]:
        return [self.vocabulary.text(row) for row in ids]


def _bleu_by_length(
    sizes: np.ndarray | None, outputs: Sequence[str], streams: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Returns BLEU of the examples in each bin of the source's length; a bin without examples is left out."""
    if sizes is None:
        return {}
    result = {}
    for name, low, high in zip(_bin_names(), (0, *BINS), (*BINS, np.inf), strict=True):
        chosen = np.flatnonzero((sizes > low) & (sizes <= high))
        if len(chosen):
            texts = [[stream[i] for i in chosen] for stream in streams]
            result[name] = BLEU().corpus_score([outputs[i] for i in chosen], texts).score
    return result
