"""Transcription: a text for a longer sequence of frames whose alignment is unknown, as in speech recognition."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypedDict

import jax.numpy as jnp
import jiwer
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from core.errors import UserError
from core.info import Info
from core.vocabulary import Vocabulary
from tasks.task import Score, Task, check_rank, texts_of

# b: batch, t: frames of the outputs, k: tokens, n: labels of a text

IMPOSSIBLE = -1e30  # log probability; optax's default of -1e5 can be reached by a long recording


class Frames(TypedDict):
    """The model's outputs: logits of every frame, and the number of real frames of each utterance."""

    logits: Float[Array, "b t k"]
    lengths: Int[Array, " b"]


@dataclasses.dataclass(frozen=True)
class Transcription(Task):
    """Connectionist temporal classification (Graves 2006, "Connectionist Temporal Classification: Labelling Unsegmented
    Sequence Data with Recurrent Neural Networks"), whose blank is the vocabulary's padding token.

    `target` [b, n] has token ids, begin and end included, and `<target>_lengths` their number; neither begin nor end is
    transcribed.

    The loss is -log p(text | frames) per utterance, averaged over utterances (Graves 2006, section 4.2), so that long
    ones weigh more. A text that needs more frames than there are (one per token, and a blank between two equal ones)
    has no alignment and an infinite loss: its loss counts as 0, and `unalignable` counts it.

    Attributes:
        vocabulary: of the target; filled in by `bind`.
    """

    inputs: tuple[str, ...] = ("audio", "audio_lengths")
    target: str = "text"
    vocabulary: Vocabulary | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        return self.target, f"{self.target}_lengths"

    @property
    def texts(self) -> tuple[str, ...]:
        return (self.target,) if self.vocabulary.tokenizer else ()

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"unalignable", "wer", "cer", "sequence_accuracy"}

    def bind(self, info: Info) -> "Task":
        vocabulary = info.keys[self.target].vocabulary
        if vocabulary is None or vocabulary.pad is None:
            raise UserError(f"{self.target!r} of {info.name} has no vocabulary with a padding token, the blank of CTC")
        return dataclasses.replace(self, vocabulary=vocabulary)

    def output_size(self, info: Info) -> int:
        """Returns the size of the vocabulary."""
        return info.keys[self.target].num_classes

    @property
    def blank(self) -> int:
        """The token id of CTC's blank, which also pads texts."""
        return self.vocabulary.pad

    def labels(self, batch: Mapping) -> tuple[Int[Array, "b n"], Int[Array, " b"]]:
        """Returns the tokens without begin and end, padded with blanks, and their number."""
        check_rank(batch, self.target, 2)
        count = jnp.maximum(jnp.asarray(batch[f"{self.target}_lengths"]) - 2, 0)
        labels = jnp.asarray(batch[self.target])[:, 1:]
        return jnp.where(jnp.arange(labels.shape[1]) < count[:, None], labels, self.blank), count

    def example_loss(self, outputs: Frames, batch: Mapping) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
        """Returns the loss of each example in nats, and whether its text has no alignment; the loss is 0 there."""
        labels, count = self.labels(batch)
        logits, lengths = outputs["logits"].astype(jnp.float32), outputs["lengths"]
        repeated = jnp.sum((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != self.blank), axis=1)
        unalignable = count + repeated > lengths
        padding = [jnp.arange(x.shape[1]) >= size[:, None] for x, size in ((logits, lengths), (labels, count))]
        frames_padding, labels_padding = (x.astype(jnp.float32) for x in padding)
        nats = optax.ctc_loss(
            logits, frames_padding, labels, labels_padding, blank_id=self.blank, log_epsilon=IMPOSSIBLE
        )
        return jnp.where(unalignable, 0.0, nats), unalignable

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        """Returns the number of utterances."""
        return {"loss": jnp.sum(jnp.asarray(batch["mask"], jnp.float32))}

    def score(self, outputs: Frames, batch: Mapping) -> Score:
        """Returns the loss and the share of unalignable texts; per example loss and transcription."""
        nats, unalignable = self.example_loss(outputs, batch)
        mask = jnp.asarray(batch["mask"], jnp.float32)
        return Score(
            losses={"loss": jnp.sum(jnp.where(mask > 0, nats, 0) * mask)},
            metrics={"unalignable": (jnp.sum(unalignable * mask), jnp.sum(mask))},
            arrays={"loss": nats, **self.predict(outputs)},
        )

    def predict(self, outputs: Frames) -> dict[str, Array]:
        """Returns the tokens of the best path [b, t] (Graves 2006, section 3.2): repeated ones are merged, blanks move
        to the end.
        """
        best = jnp.argmax(outputs["logits"], -1).astype(jnp.int32)
        before = jnp.pad(best, ((0, 0), (1, 0)), constant_values=self.blank)[:, :-1]
        real = jnp.arange(best.shape[1]) < outputs["lengths"][:, None]
        kept = real & (best != self.blank) & (best != before)
        order = jnp.argsort(~kept, axis=1, stable=True)
        return {"prediction": jnp.take_along_axis(jnp.where(kept, best, self.blank), order, axis=1)}

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns word and character error rate (edits over words or characters of all references, not a mean over
        utterances), and the share of texts without an error. References are the text of the data set.
        """
        outputs = [self._text(row) for row in arrays["prediction"]]
        references = texts_of(examples, self.target, self.vocabulary)
        return {
            "wer": float(jiwer.wer(references, outputs)),
            "cer": float(jiwer.cer(references, outputs)),
            "sequence_accuracy": float(np.mean([a == b for a, b in zip(outputs, references, strict=True)])),
        }

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the transcribed text."""
        return {"prediction": self._text(prediction["prediction"])}

    def _text(self, ids: Int[np.ndarray, " t"]) -> str:
        """Returns the text of token ids; an end token among the frames does not end it."""
        return self.vocabulary.text(ids[ids != self.vocabulary.eos])
