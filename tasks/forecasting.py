"""Forecasting: the values that follow a window of a time series."""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Float

from core.info import Info
from tasks.task import Score, Task, check_rank

# b: batch, p: steps of the past, h: steps of the future (the horizon), c: channels

Outputs = Float[Array, "b h c"] | Float[Array, "b numbers"]  # numbers = h * c, the channels of a step side by side


@dataclasses.dataclass(frozen=True)
class Forecasting(Task):
    """Mean squared error over all steps and channels of `target` [b, h, c], in the units of the batch.

    The literature (from Zhou 2021, arXiv 2012.07436, on) reports errors of series standardised by the mean and
    deviation of the training split's channels; the data set provides them so. The first input is the past [b, p, c].
    """

    inputs: tuple[str, ...] = ("past",)
    target: str = "future"

    figures: ClassVar[tuple[str, ...]] = ("forecasts",)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.target,)

    @property
    def metric_names(self) -> frozenset[str]:
        return super().metric_names | {"mse", "mae", "persistence_mse"}

    def output_size(self, info: Info) -> int:
        """Returns h * c, for a model that returns one vector."""
        return math.prod(info.keys[self.target].shape)

    def errors(self, outputs: Outputs, batch: Mapping) -> Float[Array, "b h c"]:
        """Returns prediction - truth, 0 in padding. Raises TypeError or ValueError if shapes do not fit."""
        check_rank(batch, self.target, 3)
        future = jnp.asarray(batch[self.target], jnp.float32)
        return (outputs.astype(jnp.float32).reshape(future.shape) - future) * batch["mask"][:, None, None]

    def weights(self, batch: Mapping) -> dict[str, Float[Array, ""]]:
        """Returns the number of forecast values."""
        return {"loss": jnp.sum(batch["mask"]) * math.prod(batch[self.target].shape[1:])}

    def score(self, outputs: Outputs, batch: Mapping) -> Score:
        """Returns squared and absolute error, and the squared error of a forecast that repeats the last value of the
        past, where past and future have the same channels; per example the forecast and its mean squared error.
        """
        errors, numbers = self.errors(outputs, batch), self.weights(batch)["loss"]
        metrics = {"mse": (jnp.sum(errors**2), numbers), "mae": (jnp.sum(jnp.abs(errors)), numbers)}
        last = jnp.asarray(batch[self.inputs[0]])[:, -1:]
        if last.shape[2:] == batch[self.target].shape[2:]:
            repeated = self.errors(jnp.broadcast_to(last, batch[self.target].shape), batch)
            metrics["persistence_mse"] = (jnp.sum(repeated**2), numbers)
        arrays = {"loss": reduce(errors**2, "b h c -> b", "mean"), **self.predict(outputs)}
        return Score({"loss": jnp.sum(errors**2)}, metrics, arrays)

    def predict(self, outputs: Outputs) -> dict[str, Array]:
        """Returns the forecast, in the model's shape."""
        return {"prediction": outputs.astype(jnp.float32)}
