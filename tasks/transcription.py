"""Transcription: a text for a longer sequence of frames whose alignment is unknown, as in speech recognition."""

import dataclasses
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import jiwer
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from tasks.shapes import check_rank
from tasks.text import PAD, as_text

# b: batch, t: frames of the outputs, k: tokens, n: labels of a text

BLANK = PAD
IMPOSSIBLE = -1e30  # log probability; optax's own -1e5 can be reached by a long recording that the model gets wrong


@dataclasses.dataclass(frozen=True)
class Transcription:
    """Connectionist temporal classification (Graves 2006, "Connectionist Temporal Classification: Labelling Unsegmented
    Sequence Data with Recurrent Neural Networks"), the blank being token 0.

    `target` [b, n] has token ids, begin and end included, and `<target>_lengths` their number; neither begin nor end is
    transcribed. The model returns `logits` [b, t, k] and `lengths` [b], the real frames of each.

    The loss is -log p(text | frames) of an utterance, averaged over utterances: their likelihood (Graves 2006, section
    4.2), so that long ones weigh more. A text that needs more frames than there are (one a token, and a blank between
    two equal ones) has no alignment and an infinite loss: it counts in `unalignable`, not in the loss, and in all error
    rates.
    """

    inputs: tuple[str, ...] = ("audio", "audio_lengths")  # batch keys, in the order of the model's arguments
    target: str = "text"
    detokenize: Callable | None = None  # ids of the target -> text; None: every token is a word

    figures = ()

    @property
    def needs(self) -> tuple[str, ...]:
        return self.target, f"{self.target}_lengths"

    def outputs_width(self, info) -> int:
        """Returns the width of the model's head: the vocabulary, whose padding is the blank."""
        return info.vocabulary_size(self.target) or len(info.classes)

    def labels(self, batch: Mapping) -> tuple[Int[Array, "b n"], Int[Array, " b"]]:
        """Returns the tokens without begin and end, zeros behind them, and their number."""
        check_rank(batch, self.target, 2)
        count = jnp.maximum(jnp.asarray(batch[f"{self.target}_lengths"]) - 2, 0)
        labels = jnp.asarray(batch[self.target])[:, 1:]
        return jnp.where(jnp.arange(labels.shape[1]) < count[:, None], labels, PAD), count

    def example_loss(
        self, outputs: Mapping[str, Array], batch: Mapping
    ) -> tuple[Float[Array, " b"], Bool[Array, " b"]]:
        """Returns the loss of each example in nats, 0 where the second array says that it has no alignment."""
        labels, count = self.labels(batch)
        logits, lengths = outputs["logits"].astype(jnp.float32), outputs["lengths"]
        repeated = jnp.sum((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != PAD), axis=1)
        unalignable = count + repeated > lengths
        padding = [jnp.arange(x.shape[1]) >= size[:, None] for x, size in ((logits, lengths), (labels, count))]
        frames_padding, labels_padding = (x.astype(jnp.float32) for x in padding)
        nats = optax.ctc_loss(logits, frames_padding, labels, labels_padding, blank_id=BLANK, log_epsilon=IMPOSSIBLE)
        return jnp.where(unalignable, 0.0, nats), unalignable

    def loss(self, outputs: Mapping[str, Array], batch: Mapping) -> tuple[Array, Array]:
        """Returns the (sum, weight) of the loss in nats, over the utterances that can be aligned."""
        nats, unalignable = self.example_loss(outputs, batch)
        return jnp.sum(nats * batch["mask"]), jnp.sum(batch["mask"] * ~unalignable)

    def metrics(self, outputs: Mapping[str, Array], batch: Mapping) -> dict:
        """Returns the share of unalignable examples as (sum, weight), and per example the loss, the transcription and
        the reference.
        """
        nats, unalignable = self.example_loss(outputs, batch)
        return {
            "unalignable": (jnp.sum(unalignable * batch["mask"]), jnp.sum(batch["mask"])),
            "loss": nats,
            "reference": self.labels(batch)[0],
            **self.predict(outputs),
        }

    def predict(self, outputs: Mapping[str, Array]) -> dict:
        """Returns the tokens of the best path [b, t] (Graves 2006, section 3.2): repeated ones merged, blanks left out,
        zeros behind them.
        """
        best = jnp.argmax(outputs["logits"], -1).astype(jnp.int32)
        before = jnp.pad(best, ((0, 0), (1, 0)), constant_values=BLANK)[:, :-1]
        real = jnp.arange(best.shape[1]) < outputs["lengths"][:, None]
        kept = real & (best != BLANK) & (best != before)
        order = jnp.argsort(~kept, axis=1, stable=True)
        return {"prediction": jnp.take_along_axis(jnp.where(kept, best, PAD), order, axis=1)}

    def summary(self, gathered: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns word and character error rate (edits over words or characters of all references, not a mean over
        utterances), and the share of texts without an error.
        """
        outputs, references = (as_text(gathered[key], self.detokenize) for key in ("prediction", "reference"))
        return {
            "wer": float(jiwer.wer(references, outputs)),
            "cer": float(jiwer.cer(references, outputs)),
            "sequence_accuracy": float(np.mean([a == b for a, b in zip(outputs, references, strict=True)])),
        }
