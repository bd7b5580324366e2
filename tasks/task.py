"""Task: the contract of this folder. A task knows outputs and batches, and does not know which model it trains.

Sums and weights are returned, never means: they are added over microbatches and devices and divided once. A new task
is one file with one class; `tests/tasks/test_tasks.py` finds it and tests the contract.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Float32, Int

from core.info import Info
from core.ranges import Bounds, out_of_range
from core.vocabulary import Vocabulary

# b: batch, m: the longest generated sequence

Scalar = Float[Array, ""]
CHUNK = 256  # examples that are read at a time


class Score(NamedTuple):
    """The result of `Task.score` on one batch.

    Attributes:
        losses: loss term -> sum over the batch; `Task.weights` has the denominators.
        metrics: metric -> (sum, weight). Its value is the sum of all batches divided by the weight of all batches.
        arrays: values per example, with a leading batch axis. Evaluation gathers them, without padding, for `summary`
            and for figures; training does not compute them.
    """

    losses: dict[str, Scalar]
    metrics: dict[str, tuple[Scalar, Scalar]]
    arrays: dict[str, Array]


def check_rank(batch: Mapping[str, Any], key: str, rank: int) -> None:
    """Raises ValueError unless `batch[key]`, batch axis included, has `rank` axes: one too many would broadcast."""
    shape = batch[key].shape
    if len(shape) != rank:
        raise ValueError(f"{key!r} has the shape {shape[1:]} per example, but needs {rank - 1} axes")


def texts_of(examples: Any, key: str, vocabulary: Vocabulary) -> list[Any]:
    """Returns the text of `key` of every example as the data set has it, not as the vocabulary writes its tokens.

    Generated sets have no text: their tokens are words.

    Args:
        examples: a split; see `Task.summary`.
    """
    if vocabulary.tokenizer:
        return list(examples.text(key, np.arange(len(examples))))
    parts = (np.arange(start, min(start + CHUNK, len(examples))) for start in range(0, len(examples), CHUNK))
    return [vocabulary.text(row) for part in parts for row in np.asarray(examples.batch(part)[key])]


@dataclasses.dataclass(frozen=True)
class Task:
    """Base class of all tasks: a frozen dataclass whose fields are the keys of `config.task`.

    Every batch has `mask` [b], 1 for a real example and 0 for padding. Where it or a position's mask is 0, labels may
    hold any number and must not change loss, gradient or metrics.

    Attributes:
        inputs: batch keys, in the order of the model's arguments.
        figures: names of the report's figures that show this task's arrays.
        drawing: name of a file of `reporting/drawings`, which draws a prediction over its image; "" without one.
        coefficients: loss term -> factor. The loss is sum_t coefficient_t * sum_t / weight_t. A task with several terms
            names none of them "loss".
        generates: whether predictions are decoded from the model.
        generated_metrics: names of the metrics that need generation. If there are any, evaluation also decodes and
            passes the tokens to `generated`.
        rate: samples per second of sounds that are generated, which `sound` returns; 0 for other predictions.
        vocabulary, max_length, beams, length_penalty: of generated sequences; see `tasks.generation`.
    """

    inputs: tuple[str, ...]

    figures: ClassVar[tuple[str, ...]] = ()
    drawing: ClassVar[str] = ""
    coefficients: ClassVar[Mapping[str, float]] = MappingProxyType({"loss": 1.0})
    generates: ClassVar[bool] = False
    generated_metrics: ClassVar[frozenset[str]] = frozenset()
    vocabulary: ClassVar[Vocabulary | None] = None
    max_length: ClassVar[int] = 0
    beams: ClassVar[int] = 1
    length_penalty: ClassVar[float] = 0.0
    rate: ClassVar[int] = 0

    def check_range(self, **bounds: Bounds) -> None:
        """Raises ValueError unless each field is within its bounds."""
        if reason := out_of_range(self, bounds):
            raise ValueError(reason)

    def bind(self, info: Info) -> "Task":
        """Returns the task with the data set's classes, statistics or vocabulary filled in.

        Raises UserError for a data set that does not fit the task.
        """
        del info
        return self

    @property
    def keys(self) -> tuple[str, ...]:
        """Batch keys that the task reads besides `inputs`; a data set without them is refused."""
        return ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Keys whose text in the data set `summary` reads; a data set without it is refused."""
        return ()

    @property
    def conditions(self) -> tuple[str, ...]:
        """Batch keys of new inputs: the inputs, or those that decoding starts from."""
        return self.inputs

    @property
    def metric_names(self) -> frozenset[str]:
        """Names of all metrics that evaluation may give."""
        return frozenset({"loss", *self.coefficients}) | self.generated_metrics

    @property
    def model_fields(self) -> Mapping[str, Any]:
        """Fields of the model that the task determines, where the model has them and the config does not set them."""
        return {"bos_id": self.vocabulary.bos} if self.generates else {}

    def output_size(self, info: Info) -> int:
        """Returns the width of the model's last layer; 0 if the data set does not determine it."""
        raise NotImplementedError

    def weights(self, batch: Mapping[str, Array]) -> dict[str, Scalar]:
        """Returns the denominator of each loss term. It cannot depend on outputs: it is needed before them."""
        raise NotImplementedError

    def score(self, outputs: Any, batch: Mapping[str, Array]) -> Score:
        """Returns the sums of losses and metrics, and the arrays per example, in one pass.

        Raises ValueError for outputs of a wrong shape.
        """
        raise NotImplementedError

    def total(self, means: Mapping[str, Any]) -> Any:
        """Returns the loss, given the mean of each of its terms."""
        return sum(factor * means[term] for term, factor in self.coefficients.items())

    def predict(self, outputs: Any) -> dict[str, Array]:
        """Returns the predictions for new inputs: "prediction" [b, ...] and, for classes, probabilities."""
        raise NotImplementedError

    def generated(self, tokens: Int[Array, "b m"], lengths: Int[Array, " b"], batch: Mapping) -> dict[str, Array]:
        """Returns arrays per example, for `summary`, of the tokens that the model generated for a batch."""
        raise NotImplementedError

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns the metrics that are not means over examples, such as BLEU or ROC-AUC.

        Args:
            arrays: those of `score` and `generated` for all examples of a split.
            examples: the split, with `len`, `batch(indices)` and `text(key, indices)`, in the order of the arrays.
        """
        del arrays, examples
        return {}

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns one prediction as `predict.py` prints it: "prediction" and, for a class, "probability" per class.

        Args:
            example: the batch's arrays of this input.
            prediction: the arrays of `predict` (or of decoding) for this input.
        """
        del example, info
        return {"prediction": prediction["prediction"].tolist()}

    def truth(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the answer of an example in the form of its prediction, for pictures that show both.

        Args:
            example: the split's arrays of this example, without the loader's mask.
        """
        raise NotImplementedError

    def sound(self, prediction: Mapping[str, Any]) -> Float32[np.ndarray, " n"]:
        """Returns one generated sound, samples in [-1, 1] at `rate`."""
        raise NotImplementedError
