"""Convolutional classifiers of texts: over words (Kim 2014, arXiv 1408.5882) and over characters (Zhang et al. 2015,
arXiv 1509.01626)."""

import functools
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.conv import Conv, conv_general_dilated

# Shapes: batch; length; width of an embedding; window: tokens that a filter reads; filters; positions; classes.


def uniform(limit: float) -> Initializer:
    """Returns the initialiser of numbers from -limit to limit."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


class Windows(nn.Module):
    """A filter bank over all windows that touch the text, and the maximum of each filter over these (section 2).

    The text is padded by window - 1 zeros at both ends. Windows that hold padding alone do not count.
    """

    filters: int
    window: int
    activation: Callable[[Array], Array]
    dtype: DTypeLike | None

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch length width"], lengths: Int[Array, " batch"]
    ) -> Float[Array, "batch filters"]:
        shape = (self.window, x.shape[-1], self.filters)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.filters,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        outside = ((self.window - 1,) * 2,)
        y = conv_general_dilated(x, kernel, (1,), outside, dimension_numbers=("NWC", "WIO", "NWC"))
        y = self.activation(y + bias)
        touches = jnp.arange(y.shape[1]) < lengths[:, None] + self.window - 1
        return jnp.where(touches[..., None], y, -jnp.inf).max(1)


class TextCNN(nn.Module):
    """One class or number per text, from the largest responses of filters over its words. The output is float32.

    Kim's bound of 3 on the norm of the head's weights is left out.

    Attributes:
        channels: tables of embeddings, whose vectors are added, as each filter reads all of them: ("trained",) is the
            paper's CNN-rand, or CNN-non-static if `config.init_from` has vectors; ("static",) never trains and needs
            vectors; ("static", "trained") is CNN-multichannel.
        windows: lengths of the filters, each with `filters` of them.
        dropout: rate before the head.
    """

    num_classes: int = 2
    vocab_size: int = 10_000
    embedding_width: int = 300
    channels: tuple[str, ...] = ("trained",)
    windows: tuple[int, ...] = (3, 4, 5)
    filters: int = 100
    activation: Callable[[Array], Array] = nn.relu
    embedding_init: Initializer = uniform(0.25)
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {
            "num_classes": 3,
            "vocab_size": 11,
            "embedding_width": 8,
            "windows": (2, 3),
            "filters": 8,
            "dropout": 0.2,
        },
        "rand": {},
        "static": {"channels": ("static",)},
        "multichannel": {"channels": ("static", "trained")},
    }

    @property
    def frozen(self) -> tuple[str, ...]:
        """Paths of the parameters that never train (see docs/contracts.md)."""
        return ("static/.*",) if "static" in self.channels else ()

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"], lengths: Int[Array, " batch"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        if sorted(self.channels) not in (["static"], ["trained"], ["static", "trained"]):
            raise ValueError(f"channels {self.channels} must be 'static', 'trained' or both")
        table = functools.partial(
            nn.Embed, self.vocab_size, self.embedding_width, self.dtype, embedding_init=self.embedding_init
        )
        names = {"static": "static", "trained": "embedding"}  # a language model with this table may start it
        tables = {kind: table(name=name)(tokens) for kind, name in names.items() if kind in self.channels}
        x = sum(lax.stop_gradient(x) if name == "static" else x for name, x in tables.items())
        x *= (jnp.arange(tokens.shape[1]) < lengths[:, None])[..., None]
        lengths = jnp.maximum(lengths, 1)  # an empty text is one word of zeros
        found = [
            Windows(self.filters, window, self.activation, self.dtype, name=f"window{window}")(x, lengths)
            for window in self.windows
        ]
        x = nn.Dropout(self.dropout)(jnp.concatenate(found, axis=-1), deterministic=not train)
        return nn.Dense(self.num_classes, name="head")(x)


class CharacterCNN(nn.Module):
    """One class or number per text, from the first `length` characters of it (section 2). The output is float32.

    Characters are one-hot vectors; positions after the text's end are zeros. Zhang et al. read texts backwards and have
    70 characters; here the tokenizer determines them.

    Attributes:
        layers: of each convolution the length of its filters, and that of the maximum pooling after it (1: none).
        filters: of each convolution.
        widths: of the dense layers.
        kernel_init: of all layers.
        dropout: rate after each dense layer.
    """

    num_classes: int = 4
    vocab_size: int = 70
    length: int = 1014
    layers: tuple[tuple[int, int], ...] = ((7, 3), (7, 3), (3, 1), (3, 1), (3, 1), (3, 3))
    filters: int = 1024
    widths: tuple[int, ...] = (2048, 2048)
    activation: Callable[[Array], Array] = nn.relu
    kernel_init: Initializer = nn.initializers.normal(0.02)
    dropout: float = 0.5
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {
            "num_classes": 3,
            "vocab_size": 11,
            "length": 12,
            "layers": ((3, 2), (3, 1)),
            "filters": 8,
            "widths": (32,),
            "kernel_init": nn.initializers.lecun_normal(),
            "dropout": 0.2,
        },
        "large": {},
        "small": {"filters": 256, "widths": (1024, 1024), "kernel_init": nn.initializers.normal(0.05)},
    }

    @nn.compact
    def __call__(
        self, characters: Int[Array, "batch length"], lengths: Int[Array, " batch"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        padding = max(0, self.length - characters.shape[1])
        characters = jnp.pad(characters, ((0, 0), (0, padding)))[:, : self.length]
        x = jax.nn.one_hot(characters, self.vocab_size, dtype=self.dtype or jnp.float32)
        x *= (jnp.arange(self.length) < lengths[:, None])[..., None]
        for number, (window, pool) in enumerate(self.layers, 1):
            conv = functools.partial(Conv, kernel_init=self.kernel_init, dtype=self.dtype, name=f"conv{number}")
            x = self.activation(conv(self.filters, (window,), padding="VALID")(x))
            x = nn.max_pool(x, (pool,), (pool,)) if pool > 1 else x
        x = x.reshape(len(x), -1)
        for number, width in enumerate(self.widths, 1):
            layer = nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype, name=f"dense{number}")
            x = nn.Dropout(self.dropout)(self.activation(layer(x)), deterministic=not train)
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, name="head")(x)
