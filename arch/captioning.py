"""Image captions: a decoder that looks at places of the image (Xu et al. 2015, "Show, Attend and Tell", 1502.03044)."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.attention import Additive
from arch.layers.conv import Conv
from arch.layers.norm import Norm, batch_norm
from arch.layers.recurrent import LSTM
from arch.layers.recurrent_decoder import Bridge, RecurrentDecoder

# Shapes: batch; height, width, channels; h, w, c of the feature map; length of the text; classes of its vocabulary.


class ConvEncoder(nn.Module):
    """3x3 convolutions, norms and activations, one a width; between two of them positions are halved by max-pooling."""

    widths: tuple[int, ...] = (32, 64, 128)
    norm: Norm = batch_norm
    activation: Callable[[Array], Array] = nn.relu
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, image: Float[Array, "batch height width channels"], *, train: bool
    ) -> Float[Array, "batch h w c"]:
        x = image
        for number, features in enumerate(self.widths):
            x = nn.max_pool(x, (2, 2), strides=(2, 2)) if number else x
            x = Conv(features, (3, 3), use_bias=False, dtype=self.dtype)(x)
            x = self.activation(self.norm(train=train, dtype=self.dtype)(x))
        return x


class ShowAttendTell(nn.Module):
    """Soft attention to the positions of a feature map, its context gated by the decoder's state (sec. 4.2.1).

    Output i answers for token i + 1 of the text: `L_o (E y + L_h h + L_z z)` (eq. 7). The state starts as
    `tanh(W mean)` of the mean position (sec. 3.1.2). The doubly stochastic penalty (eq. 14) is not part of it.

    Attributes:
        num_classes: tokens of the text.
        encoder: makes the module from image to feature map [batch, h, w, c], called with `dtype`.
        attention_units: width of the attention's hidden layer; None: as wide as the state.
        dropout: before the head.
    """

    num_classes: int = 10_000
    encoder: Callable[..., nn.Module] = ConvEncoder
    cell: Callable[..., nn.Module] = LSTM
    width: int = 512
    embedding_width: int = 512
    attention_units: int | None = None
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    TINY: ClassVar[dict] = {
        "num_classes": 11,
        "encoder": partial(ConvEncoder, widths=(4, 8)),
        "width": 24,
        "embedding_width": 24,
        "dropout": 0.2,
    }

    def setup(self):
        self.features = self.encoder(dtype=self.dtype)
        self.start = Bridge((self.width,), self.dtype)
        self.embedding = nn.Embed(self.num_classes, self.embedding_width, dtype=self.dtype)
        self.decoder = RecurrentDecoder(
            cell=self.cell,
            widths=(self.width,),
            attention=partial(Additive, units=self.attention_units),
            query="previous",
            combine=False,
            gated=True,
            dtype=self.dtype,
        )
        self.deep_output = nn.Dense(self.embedding_width, dtype=self.dtype)  # L_h and L_z side by side
        self.drop = nn.Dropout(self.dropout)
        self.head = nn.Dense(self.num_classes)

    def __call__(
        self, image: Float[Array, "batch height width channels"], text: Int[Array, "batch length"], *, train: bool
    ) -> Float[Array, "batch length classes"]:
        """Returns float32 logits at every position of `text`."""
        return self._decode(text, self._look(image, train), train)[0]

    def begin(self, image: Float[Array, "batch height width channels"]) -> dict:
        """Returns the cache of decoding: the places and the state before the first token."""
        return self._look(image, train=False)

    def extend(self, tokens: Int[Array, " batch"], cache: dict) -> tuple[Float[Array, "batch classes"], dict]:
        """Returns the logits of the token after `tokens`, and the cache; `cache["attention"]` [batch, h * w] are this
        step's weights, row by row.
        """
        logits, cache = self._decode(tokens[:, None], cache, train=False)
        return logits[:, 0], cache

    def _look(self, image, train):
        places = rearrange(self.features(image, train=train), "b h w c -> b (h w) c")
        parts = self.cell(units=self.width, parent=None).state_names
        states = self.start([dict.fromkeys(parts, places.mean(1))])
        return self.decoder.begin(places, jnp.ones(places.shape[:2], bool), states)

    def _decode(self, tokens, cache, train):
        embedded = self.embedding(tokens)
        outputs, contexts, cache = self.decoder(embedded, cache, train=train)
        x = embedded + self.deep_output(jnp.concatenate([outputs, contexts], -1))
        return self.head(self.drop(x, deterministic=not train)), cache
