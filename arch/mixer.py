"""MLP-Mixer (Tolstikhin et al. 2021, "MLP-Mixer: An all-MLP Architecture for Vision", arXiv 2105.01601)."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import flax.linen as nn
from jax import Array
from jaxtyping import Float

from arch.layers.feedforward import FeedForward, gelu_tanh
from arch.layers.mixer import Cached, Context, both_ways
from arch.layers.norm import Norm, layer_norm
from arch.layers.patches import PatchNetwork
from arch.layers.trunk import Sublayer

# Shapes: b: batch, t: tokens, d: width of the model


class TokenMLP(FeedForward):
    """The feed-forward layer over the tokens of each channel (section 2, eq. 1, left), whose number is fixed.

    It is not causal, and reads one text per row.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], context: Context, cache: None = None) -> Cached:
        y, _ = super().__call__(both_ways(x, context, "mixer.TokenMLP").swapaxes(1, 2), context)
        return y.swapaxes(1, 2), None


class Mixer(PatchNetwork):
    """Blocks of a `TokenMLP` and a feed-forward layer (figure 1), and a head on the mean of the tokens.

    Attributes:
        token_width, channel_width: hidden units D_S and D_C (table 1); None: width / 2 and 4 width.
        activation: the original code has `gelu_tanh`, ports to PyTorch have `gelu_exact`.
    """

    token_width: int | None = None
    channel_width: int | None = None
    activation: Callable[[Array], Array] = gelu_tanh
    norm: Norm = partial(layer_norm, epsilon=1e-6)

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "patch": (4, 4), "depth": 2, "width": 12, "dropout": 0.1}
        | {"head_init": nn.initializers.lecun_normal()},
        "S/32": {"depth": 8, "width": 512, "patch": (32, 32)},
        "S/16": {"depth": 8, "width": 512},
        "B/32": {"patch": (32, 32)},
        "B/16": {},
        "L/32": {"depth": 24, "width": 1024, "patch": (32, 32)},
        "L/16": {"depth": 24, "width": 1024},
        "H/14": {"depth": 32, "width": 1280, "patch": (14, 14)},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {  # timm's
        "S/32": 19_104_624,
        "S/16": 18_528_264,
        "B/32": 60_293_428,
        "B/16": 59_880_472,
        "L/32": 206_939_264,
        "L/16": 208_196_168,
        "H/14": 432_350_952,
    }

    @nn.nowrap
    def sublayers(self, grid: tuple[int, ...]) -> dict[str, Sublayer]:
        """Equation 1."""
        init = nn.initializers.lecun_normal()
        options: dict[str, Any] = {"dropout": self.dropout, "kernel_init": init, "out_init": init}
        widths = {"tokens": self.token_width or self.width // 2, "channels": self.channel_width or 4 * self.width}
        kinds = {"tokens": TokenMLP, "channels": FeedForward}
        return {name: partial(kinds[name], width, self.activation, **options) for name, width in widths.items()}
