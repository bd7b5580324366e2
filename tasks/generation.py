"""Generation of a sequence from an input: translation, captioning, any sequence-to-sequence problem."""

import dataclasses
import itertools
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
from tasks.task import texts_of

# b: batch, m: the longest output

BINS = (10, 20, 30, 40, 50)  # upper bounds of the source's length, as in Bahdanau 2015 (arXiv 1409.0473), figure 2


def _bin_names() -> list[str]:
    pairs = zip((0, *BINS), (*BINS, None), strict=True)
    return [f"bleu_length_{low + 1}_{high}" if high else f"bleu_length_over_{low}" for low, high in pairs]


@dataclasses.dataclass(frozen=True)
class Generation(TokenClassification):
    """Trains a decoder on its target, and evaluates the sequences that the model generates.

    Training and the metrics of `TokenClassification` are teacher-forced. Generated sequences are compared, as
    detokenised text, with the text of the data set, which no vocabulary has changed: BLEU and chrF by sacreBLEU.

    Attributes:
        conditions: batch keys that decoding starts from.
        max_length: of an output, in tokens.
        beams: 1 is greedy decoding.
        length_penalty: alpha of Wu 2016 (arXiv 1609.08144), equation 14; its value is that of Vaswani 2017 (arXiv
            1706.03762), section 6.1, as is the usual label smoothing of translation.
        references: key of the data set with one or more references per example, as a list or one per line. "": the
            target is the only reference.
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
        self.check_range(beams=(1, None), max_length=(1, None), length_penalty=(0, None))

    @property
    def keys(self) -> tuple[str, ...]:
        return (*super().keys, *self.conditions)

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.references or self.target,) if self.vocabulary.tokenizer else ()

    def bind(self, info: Info) -> "Task":
        vocabulary, source = (info.keys[key].vocabulary for key in (self.target, self.conditions[0]))
        if vocabulary is None or None in (vocabulary.bos, vocabulary.eos):
            raise UserError(f"{self.target!r} of {info.name} has no vocabulary with tokens for begin and end")
        return dataclasses.replace(super().bind(info), vocabulary=vocabulary, source_vocabulary=source)

    def generated(self, tokens: Int[Array, "b m"], lengths: Int[Array, " b"], batch: Mapping) -> dict[str, Array]:
        """Returns per example the generated tokens, padded after their end, and, for a text, the number of the source's
        tokens without padding, begin and end.
        """
        written = jnp.arange(tokens.shape[1]) < lengths[:, None]
        arrays = {"generated": jnp.where(written, tokens, self.vocabulary.eos)}
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
        outputs = [self.vocabulary.text(row) for row in arrays["generated"]]
        references = self._references(examples)
        exact = [output != "" and output in texts for output, texts in zip(outputs, references, strict=True)]
        streams = list(itertools.zip_longest(*references))  # None: sacreBLEU leaves a missing reference out
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

    def _references(self, examples: Any) -> list[list[str]]:
        """Returns the references of every example. Raises UserError for an example without any."""
        texts = texts_of(examples, self.references or self.target, self.vocabulary)
        if not self.references:
            return [[text] for text in texts]
        references = list(map(_lines, texts))
        if [] in references:
            raise UserError(f"task.references: {self.references!r} is empty in example {references.index([]) + 1}")
        return references


def _lines(references: str | Sequence[str] | None) -> list[str]:
    """Returns a list of references, or those on the lines of a text; empty ones are missing."""
    lines = references.split("\n") if isinstance(references, str) else references or ()
    return [line for line in lines if line]


def _bleu_by_length(
    sizes: np.ndarray | None, outputs: Sequence[str], streams: Sequence[Sequence[str | None]]
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
