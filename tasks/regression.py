"""Regression: one number an example."""

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from sklearn import metrics as sk

from tasks.shapes import check_rank

# b: batch


@dataclasses.dataclass(frozen=True)
class Regression:
    """Squared error on `target` [b], standardised by the training split's mean and deviation; metrics in the
    target's own units.
    """

    inputs: tuple[str, ...] = ("features",)  # batch keys, in the order of the model's arguments
    mean: float = 0.0  # filled from the training split
    std: float = 1.0

    needs = ("target",)
    figures = ("predicted_against_true",)

    def outputs_width(self, info) -> int:
        """Returns the width of the model's head."""
        del info
        return 1

    def loss(self, outputs: Float[Array, "b 1"], batch: Mapping) -> tuple[Array, Array]:
        """Returns the (sum, weight) of the squared standardised error."""
        check_rank(batch, "target", 1)
        error = outputs[:, 0].astype(jnp.float32) - (batch["target"] - self.mean) / self.std
        return jnp.sum(error**2 * batch["mask"]), jnp.sum(batch["mask"])

    def metrics(self, outputs: Float[Array, "b 1"], batch: Mapping) -> dict:
        """Returns the mean absolute error as (sum, weight), and per example prediction, target and loss (squared
        error).
        """
        check_rank(batch, "target", 1)
        prediction = self.predict(outputs)["prediction"]
        error = prediction - batch["target"]
        return {
            "mae": (jnp.sum(jnp.abs(error) * batch["mask"]), jnp.sum(batch["mask"])),
            "prediction": prediction,
            "target": batch["target"],
            "loss": error**2,
        }

    def predict(self, outputs: Float[Array, "b 1"]) -> dict:
        """Returns the prediction in the target's units."""
        return {"prediction": outputs[:, 0].astype(jnp.float32) * self.std + self.mean}

    def summary(self, gathered: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns the mean squared error, its root and R2 over all examples."""
        target, prediction = gathered["target"], gathered["prediction"]
        if not np.isfinite(prediction).all():
            return dict.fromkeys(("mse", "rmse", "r2"), float("nan"))
        return {
            "mse": float(sk.mean_squared_error(target, prediction)),
            "rmse": float(sk.root_mean_squared_error(target, prediction)),
            "r2": float(sk.r2_score(target, prediction)),
        }
