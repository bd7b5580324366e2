"""Generation of a sequence from something else: translation, captioning, any sequence-to-sequence problem."""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from sacrebleu.metrics import BLEU, CHRF

from tasks.sequence import TokenClassification
from tasks.text import PAD, as_text

# b: batch, m: the longest output

BINS = (10, 20, 30, 40, 50)  # last words of the bins of source length, as in Bahdanau 2015 (arXiv 1409.0473), figure 2


@dataclasses.dataclass(frozen=True)
class Generation(TokenClassification):
    """Trained as the decoder of its own target, evaluated by what the model writes by itself.

    Training and the metrics of `TokenClassification` are teacher-forced. Where the model decodes, it is asked by
    `begin(*conditions)` and `extend`, and `generated` and `generation_summary` compare its output with references: BLEU
    and chrF by sacreBLEU on detokenised text.

    The `references` of an example, if it has several, are a batch key [b, references, length] of token ids; rows of
    zeros are none.
    """

    inputs: tuple[str, ...] = ("source", "source_lengths", "target")
    target: str = "target"
    shift: int = 1
    conditions: tuple[str, ...] = ("source", "source_lengths")  # batch keys that the model's `begin` takes
    begin: int = 1  # token that every output starts with
    end: int = 2
    max_length: int = 60  # of an output, in tokens
    beams: int = 1  # 1 is greedy
    length_penalty: float = 0.6  # alpha of Wu 2016 (arXiv 1609.08144), eq. 14; its value from Vaswani 2017, section 6.1
    references: str = ""  # batch key; "" = the target is the only reference
    detokenize: Callable | None = None  # ids of the target -> text; None: every token is a word

    generates = True

    def __post_init__(self):
        super().__post_init__()
        if self.beams < 1 or self.max_length < 1:
            raise ValueError(f"beams and max_length must be 1 or more, not {self.beams} and {self.max_length}")

    @property
    def needs(self) -> tuple[str, ...]:
        return (*super().needs, *self.conditions, *filter(None, (self.references,)))

    def generated(self, tokens: Int[Array, "b m"], lengths: Int[Array, " b"], batch: Mapping) -> dict:
        """Returns per example the generated tokens, zeros after their end, the references, and the words or pieces of
        the source where it is a text.

        Args:
            tokens, lengths: what the model wrote in answer to this batch.
        """
        written = jnp.arange(tokens.shape[1]) < lengths[:, None]
        arrays = {
            "generated": jnp.where(written, tokens, PAD),
            "reference": jnp.asarray(batch[self.references or self.target]),
        }
        source = jnp.asarray(batch[self.conditions[0]])
        if source.ndim == 2 and jnp.issubdtype(source.dtype, jnp.integer):
            arrays["source_size"] = jnp.sum(~jnp.isin(source, jnp.array(self._special)), axis=1)
        return arrays

    def generation_summary(self, gathered: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns BLEU and chrF, both 0 to 100, of all examples and, by the source's length, BLEU of those in each bin;
        and the share of outputs that equal a reference; an empty one equals none.

        Args:
            gathered: what `generated` gave for all examples.
        """
        outputs = self._text(gathered["generated"])
        references = gathered["reference"]
        references = references[:, None] if references.ndim == 2 else references
        streams = [self._text(references[:, i]) for i in range(references.shape[1])]
        exact = [
            output != "" and output in texts for output, texts in zip(outputs, zip(*streams, strict=True), strict=True)
        ]
        result = {
            "bleu": BLEU().corpus_score(outputs, streams).score,
            "chrf": CHRF().corpus_score(outputs, streams).score,
            "sequence_exact": float(np.mean(exact)),
        }
        return result | self._bleu_by_length(gathered.get("source_size"), outputs, streams)

    def bleu_signature(self, references: int = 1) -> str:
        """Returns sacreBLEU's description of the score, to be reported with it (Post 2018, arXiv 1804.08771)."""
        metric = BLEU()
        metric.corpus_score([""], [[""]] * references)
        return str(metric.get_signature())

    @property
    def _special(self) -> tuple[int, ...]:
        return PAD, self.begin, self.end

    def _text(self, ids: np.ndarray) -> list[str]:
        return as_text(ids, self.detokenize, self._special)

    def _bleu_by_length(
        self, sizes: np.ndarray | None, outputs: list[str], streams: list[list[str]]
    ) -> dict[str, float]:
        if sizes is None:
            return {}
        result = {}
        for first, last in zip((0, *BINS), (*BINS, np.inf), strict=True):
            chosen = np.flatnonzero((sizes > first) & (sizes <= last))
            if len(chosen):
                texts = [[stream[i] for i in chosen] for stream in streams]
                name = f"bleu_length_{first + 1}_{last}" if last < np.inf else f"bleu_length_over_{first}"
                result[name] = BLEU().corpus_score([outputs[i] for i in chosen], texts).score
        return result
