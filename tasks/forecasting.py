"""Forecasting: the numbers that follow a stretch of a time series."""

import dataclasses
import math
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from einops import reduce
from jaxtyping import Array, Float

from tasks.shapes import check_rank

# b: batch, p: steps of the past, h: steps of the future (the horizon), c: channels

Outputs = Float[Array, "b h c"] | Float[Array, "b numbers"]  # numbers = h * c, a step's channels side by side


@dataclasses.dataclass(frozen=True)
class Forecasting:
    """Mean squared error over all steps and channels of `target` [b, h, c].

    Values are compared as the batch has them: the literature's errors (from Zhou 2021, arXiv 2012.07436, on) are of
    series standardised by the mean and deviation of the training split's channels, and so is the data.
    """

    inputs: tuple[str, ...] = ("past",)  # batch keys, in the order of the model's arguments; first the past [b, p, c]
    target: str = "future"

    figures = ("forecasts",)

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.target,)

    def outputs_width(self, info) -> int:
        """Returns the width of the head of a model that answers with one vector: h * c."""
        return math.prod(info.shapes[self.target][0])

    def errors(self, outputs: Outputs, batch: Mapping) -> Float[Array, "b h c"]:
        """Returns prediction - truth, 0 in examples that are padding."""
        check_rank(batch, self.target, 3)
        future = jnp.asarray(batch[self.target], jnp.float32)
        return (outputs.astype(jnp.float32).reshape(future.shape) - future) * batch["mask"][:, None, None]

    def loss(self, outputs: Outputs, batch: Mapping) -> tuple[Array, Array]:
        """Returns the (sum, weight) of the squared error, over all numbers."""
        return jnp.sum(self.errors(outputs, batch) ** 2), self._numbers(batch)

    def metrics(self, outputs: Outputs, batch: Mapping) -> dict:
        """Returns as (sum, weight) squared and absolute error, and the squared error of repeating the last value of the
        past, where it has the target's channels; per example the forecast and its mean squared error.
        """
        errors, numbers = self.errors(outputs, batch), self._numbers(batch)
        result = {
            "mse": (jnp.sum(errors**2), numbers),
            "mae": (jnp.sum(jnp.abs(errors)), numbers),
            "loss": reduce(errors**2, "b h c -> b", "mean"),
            **self.predict(outputs),
        }
        last = jnp.asarray(batch[self.inputs[0]])[:, -1:]
        if last.shape[2:] == batch[self.target].shape[2:]:
            repeated = self.errors(jnp.broadcast_to(last, batch[self.target].shape), batch)
            result["persistence_mse"] = (jnp.sum(repeated**2), numbers)
        return result

    def predict(self, outputs: Outputs) -> dict:
        """Returns the forecast, in the model's shape."""
        return {"prediction": outputs.astype(jnp.float32)}

    def summary(self, gathered: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Returns nothing: all metrics are sums."""
        del gathered
        return {}

    def _numbers(self, batch: Mapping) -> Float[Array, ""]:
        return jnp.sum(batch["mask"]) * math.prod(batch[self.target].shape[1:])
