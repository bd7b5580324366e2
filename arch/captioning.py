"""Image captions: a decoder with attention to the image (Xu et al. 2015, "Show, Attend and Tell", arXiv 1502.03044)."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.convnet import ConvNet
from arch.layers.decoder import Cache
from arch.layers.recurrent import LSTM
from arch.layers.recurrent_attention import Additive
from arch.layers.recurrent_decoder import Bridge, RecurrentDecoder

# Shapes: batch; height, width, channels; h, w, c of the feature map; length of the text; classes of its vocabulary.


class ShowAttendTell(nn.Module):
    """Soft attention to the positions of a feature map, its context gated by the decoder's state (sec. 4.2.1).

    Output i predicts token i + 1 of the text: `L_o (E y + L_h h + L_z z)` (eq. 7). The initial state is `tanh(W mean)`
    of the mean over positions (sec. 3.1.2). The doubly stochastic penalty (eq. 14) is left out. The model generates
    (`layers.decoder`).

    Attributes:
        num_classes: the number of tokens of the text.
        backbone: makes a network with `features(images, train=train)`, whose last entry [batch, h, w, c] is the feature
            map: `ConvNet`, or "resnet.CifarResNet(depth=20)".
        attention_units: width of the attention's hidden layer; None: the width of the state.
        dropout: rate before the head.
        bos_id: the token that every text begins with.
    """

    num_classes: int = 10_000
    backbone: Callable[..., nn.Module] = ConvNet
    cell: Callable[..., nn.Module] = LSTM
    width: int = 512
    embedding_width: int = 512
    attention_units: int | None = None
    dropout: float = 0.0
    bos_id: int = 1
    dtype: DTypeLike | None = None

    context: ClassVar[int | None] = None
    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {
            "num_classes": 11,
            "backbone": partial(ConvNet, widths=(4, 8)),
            "width": 24,
            "embedding_width": 24,
            "dropout": 0.2,
        }
    }

    def setup(self):
        self.image_network = self.backbone(dtype=self.dtype)
        self.bridge = Bridge((self.width,), self.dtype)
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
        return self.decode(text, self._encode(image, train), train=train)[0]

    def start(
        self, image: Float[Array, "batch height width channels"], *, length: int
    ) -> tuple[Int[Array, " batch"], Cache]:
        """Returns the begin token and the cache before it, which does not depend on `length`."""
        return jnp.full(len(image), self.bos_id, jnp.int32), self._encode(image, train=False)

    def decode(
        self, tokens: Int[Array, "batch length"], cache: Cache, *, train: bool = False
    ) -> tuple[Float[Array, "batch length classes"], Cache]:
        """Returns the logits of the token after each of `tokens`, and the cache."""
        embedded = self.embedding(tokens)
        outputs, contexts, cache = self.decoder(embedded, cache, train=train)
        x = embedded + self.deep_output(jnp.concatenate([outputs, contexts], -1))
        return self.head(self.drop(x, deterministic=not train)), cache

    def _encode(self, image: Float[Array, "batch height width channels"], train: bool) -> Cache:
        *_, feature_map = self.image_network.features(image, train=train).values()
        positions = rearrange(feature_map, "b h w c -> b (h w) c")
        mean = positions.mean(1)
        states = jax.tree.map(lambda _: mean, self.decoder.stack.initial_states(len(image)))
        return self.decoder.cache(positions, jnp.ones(positions.shape[:2], bool), self.bridge(states))
