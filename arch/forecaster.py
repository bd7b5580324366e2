"""Forecasts of a series: a linear map of each channel's past, any network over all channels, or their sum."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.rnn import RecurrentClassifier

# Shapes: batch; length (of the past); steps (of the future); features, the channels of both.


class Forecaster(nn.Module):
    """The next steps of a series, all at once.

    Where each window is normalised by itself, the forecast is scaled back: the model is then invariant to the level of
    the series.

    Attributes:
        num_classes: numbers to forecast, steps times channels.
        network: makes a network over the normalised past from `num_classes`; None: the linear map alone.
        linear: a linear map of each channel's past is added to the network's forecast (LSTNet: Lai et al. 2018, arXiv
            1703.07015, sec. 3.6; DLinear: Zeng et al. 2023, arXiv 2205.13504): one that all channels share, or one per
            channel.
        normalisation: "none" leaves the window as it is; "last" subtracts the last value of each channel (NLinear: Zeng
            et al. 2023, sec. 4.2); "window" subtracts the mean of the window and divides by its deviation (RevIN, Kim
            et al. 2022, without its parameters).
        dropout: rate for the values that the linear map reads.
    """

    num_classes: int = 7 * 24
    network: Callable[..., nn.Module] | None = RecurrentClassifier
    linear: Literal["none", "shared", "channel"] = "channel"
    normalisation: Literal["none", "last", "window"] = "last"
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 12, "network": partial(RecurrentClassifier, widths=(8,), dropout=0.2), "dropout": 0.1}
    }

    @nn.compact
    def __call__(
        self, past: Float[Array, "batch length features"], *, train: bool
    ) -> Float[Array, "batch steps features"]:
        level, scale = 0.0, 1.0
        if self.normalisation == "last":
            level = past[:, -1:]
        elif self.normalisation == "window":
            level = past.mean(1, keepdims=True)
            scale = jnp.sqrt(past.var(1, keepdims=True) + 1e-5)
        past, channels = (past - level) / scale, past.shape[-1]
        forecast = jnp.zeros((len(past), self.num_classes // channels, channels))
        if self.network is not None:
            network = self.network(num_classes=self.num_classes, dtype=self.dtype, name="network")
            forecast += network(past, train=train).reshape(forecast.shape)
        if self.linear != "none":
            forecast += self._linear(nn.Dropout(self.dropout, deterministic=not train)(past), forecast.shape[1])
        return level + scale * forecast

    def _linear(self, past: Float[Array, "batch length features"], steps: int) -> Float[Array, "batch steps features"]:
        """Returns the linear map of each channel. It starts at zero, so that the first forecast is the level."""
        maps = past.shape[2] if self.linear == "channel" else 1
        kernel = self.param("linear_kernel", nn.initializers.zeros, (maps, past.shape[1], steps))
        bias = self.param("linear_bias", nn.initializers.zeros, (maps, steps))
        past, kernel, bias = nn.dtypes.promote_dtype(past, kernel, bias, dtype=self.dtype)
        kernel = jnp.broadcast_to(kernel, (past.shape[2], *kernel.shape[1:]))
        return jnp.einsum("blf,fls->bsf", past, kernel) + bias.T
