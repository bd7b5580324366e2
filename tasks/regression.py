"""Regression: one number per example."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float
from sklearn import metrics as sk

from core.info import Info
from tasks.task import Score, Task, check_rank

# b: batch


@dataclasses.dataclass(frozen=True)
class Regression(Task):
    """Squared error on `target` [b], standardised by the training split's mean and deviation.

    Metrics are in the target's own units. A set may store a target minus an offset, for more digits in 32 bits: scores
    and their arrays then lack it, too, and `row` adds it on the host, in 64 bits.

    Attributes:
        mean, std, offset: of the target; None is the training split's, filled in by `bind`.
    """

    inputs: tuple[str, ...] = ("features",)
    target: str = "target"
    mean: float | None = None
    std: float | None = None
    offset: float | None = None

    figures: ClassVar[tuple[str, ...]] = ("predicted_against_true",)

    def __post_init__(self):
        if self.std is not None and not self.std > 0:
            raise ValueError(f"std must be above 0, not {self.std}")

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.target,)

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"mae", "mse", "rmse", "r2"}

    def bind(self, info: Info) -> "Task":
        statistics = {"mean": 0.0, "std": 1.0, "offset": 0.0} | info.keys[self.target].statistics
        chosen = {"mean": self.mean, "std": self.std, "offset": self.offset}
        filled = {name: float(statistics[name]) for name, value in chosen.items() if value is None}
        return dataclasses.replace(self, **filled)

    def output_size(self, info: Info) -> int:
        """Returns 1."""
        return 1

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        """Returns the number of examples."""
        return {"loss": jnp.sum(jnp.asarray(batch["mask"], jnp.float32))}

    def score(self, outputs: Float[Array, "b 1"], batch: Mapping) -> Score:
        """Returns the squared standardised error and the mean absolute error; per example prediction, target and
        squared error.
        """
        check_rank(batch, self.target, 1)
        mask, target = (jnp.asarray(batch[key], jnp.float32) for key in ("mask", self.target))
        prediction = self.predict(outputs)["prediction"]
        error = prediction - target
        return Score(
            losses={"loss": jnp.sum((self._numbers(outputs) - (target - self._centre) / self.std) ** 2 * mask)},
            metrics={"mae": (jnp.sum(jnp.abs(error) * mask), jnp.sum(mask))},
            arrays={"prediction": prediction, "target": target, "loss": error**2},
        )

    def predict(self, outputs: Float[Array, "b 1"]) -> dict[str, Array]:
        """Returns the prediction in the target's units, minus the offset."""
        return {"prediction": self._numbers(outputs) * self.std + self._centre}

    def row(self, example: Mapping[str, Any], prediction: Mapping[str, Any], info: Info) -> dict:
        """Returns the number, offset included."""
        return {"prediction": float(prediction["prediction"]) + self.offset}

    def summary(self, arrays: Mapping[str, np.ndarray], examples: Any) -> dict[str, float]:
        """Returns the mean squared error, its root and R2 over all examples."""
        target, prediction = arrays["target"], arrays["prediction"]
        if not np.isfinite(prediction).all():
            return dict.fromkeys(("mse", "rmse", "r2"), float("nan"))
        return {
            "mse": float(sk.mean_squared_error(target, prediction)),
            "rmse": float(sk.root_mean_squared_error(target, prediction)),
            "r2": float(sk.r2_score(target, prediction)),
        }

    @property
    def _centre(self) -> float:
        """The mean of the target as the set stores it."""
        return self.mean - self.offset

    def _numbers(self, outputs: Float[Array, "b 1"]) -> Float[Array, " b"]:
        return rearrange(outputs.astype(jnp.float32), "b 1 -> b")
