"""Image captions by a Transformer: a decoder that attends to the cells of a feature map (Cornia et al. 2020, arXiv
1912.08226, without its memory vectors; Vaswani et al. 2017, arXiv 1706.03762), or to the tokens of a Vision Transformer
(TrOCR: Li et al. 2021, arXiv 2109.10282, section 3; the captioners "ViT-GPT2" of transformers)."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange
from jax import Array
from jaxtyping import Float, Int

from arch.convnet import ConvNet
from arch.layers.decoder import Cache
from arch.layers.dense import Dense
from arch.layers.grids import SinusoidGrid
from arch.layers.mixer import Context
from arch.layers.positions import Positions
from arch.transformer import EncoderDecoder, Memory

# Shapes: batch; height, width, channels; length of the text; classes of its vocabulary.


class Captioner(EncoderDecoder):
    """A backbone, a Transformer encoder over its feature map, and the decoder; output i predicts token i + 1.

    Attributes:
        backbone: makes a network with `features(images, train=train)`, of which the last entry is read: a convolutional
            network, or "vit.ViT(patch=(4, 4), width=64)". Tokens are those of a `layers.patches.PatchNetwork`.
        places: positions of the cells, a class of `layers.grids`.
        depth: of the encoder; 0: the decoder reads the projected feature map.
        memory: what the decoder attends to: "map", the output of the encoder, or "tokens", those of the backbone, a
            class token included. These have no further positions, and are projected only to another width.
    """

    backbone: Callable[..., nn.Module] = ConvNet
    places: Callable[..., Positions] = SinusoidGrid
    decoder_depth: int | None = 6
    memory: Literal["map", "tokens"] = "map"

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 11, "backbone": partial(ConvNet, widths=(4, 8)), "depth": 1, "decoder_depth": 2}
        | {"width": 24, "heads": 3, "mlp_width": 48}
    }

    def setup(self):
        super().setup()
        self.image_network = self.backbone(dtype=self.dtype)
        self.projection = Dense(self.width, dtype=self.dtype)

    def __call__(
        self, image: Float[Array, "batch height width channels"], text: Int[Array, "batch length"], *, train: bool
    ) -> Float[Array, "batch length classes"]:
        """Returns float32 logits at every position of `text`."""
        return self._all(self._encode(image, train), text, train)

    def start(
        self, image: Float[Array, "batch height width channels"], *, length: int
    ) -> tuple[Int[Array, " batch"], Cache]:
        """Returns the begin token, and a cache with room for `length` tokens."""
        return self._start(self._encode(image, train=False), length)

    @nn.compact
    def _encode(self, image: Float[Array, "batch height width channels"], train: bool) -> Memory:
        if self.memory == "tokens":
            x, *_ = self.image_network.encode(image, None, train)
            x = x if x.shape[-1] == self.width else self.projection(x)
            return Memory(x, jnp.ones(x.shape[:2], bool))
        *_, features = self.image_network.features(image, train=train).values()
        x, grid = rearrange(self.projection(features), "b h w c -> b (h w) c"), features.shape[1:3]
        positions = jnp.arange(x.shape[1])[None]
        x = self.places(length=x.shape[1], grid=grid, dtype=self.dtype, name="cells").embed(x, positions)
        x, _ = self.encoder(self.drop(x, deterministic=not train), Context(positions, train))
        return Memory(x, jnp.ones(x.shape[:2], bool))
