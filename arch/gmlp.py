"""gMLP and aMLP (Liu et al. 2021, "Pay Attention to MLPs", arXiv 2105.08050)."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike
from jaxtyping import Float, Int

from arch.layers.attention import SelfAttention
from arch.layers.decoder import check_context
from arch.layers.dense import Dense, matmul
from arch.layers.feedforward import gelu_exact
from arch.layers.mixer import Cached, Context, both_ways
from arch.layers.norm import Norm, layer_norm
from arch.layers.patches import PatchNetwork
from arch.layers.trunk import Block, Sublayer, Trunk

# Shapes: b: batch, t: tokens, d: width of the model, c: channels before the gate, C: behind it; batch, length, classes


class SpatialGate(nn.Module):
    """The spatial gating unit s(Z), with f(Z) = W norm(Z) + b over the tokens (section 2.1).

    | kind | s(Z) |
    | --- | --- |
    | linear | f(Z) |
    | additive | Z + f(Z) |
    | multiplicative | Z * f(Z) |
    | split | Z1 * f(Z2), with the channels' halves Z1 and Z2 |

    W is nearly 0 at the start, and b is the number with which s(Z) is then Z (or Z1). "linear" has no such number, and
    its W starts as that of a dense layer (with `toeplitz` at 0.7 of its size).

    Attributes:
        toeplitz: W_ij depends on i - j alone, as for texts (appendix C); the number of tokens may then differ.
        length: the largest number of tokens, for which the parameters are made; None: that of the first input.
        attention_width: of the one head of "tiny attention" to the block's input, which is added to f(Z) (aMLP, section
            4.3); None: without.
    """

    kind: Literal["linear", "additive", "multiplicative", "split"] = "split"
    toeplitz: bool = False
    length: int | None = None
    attention_width: int | None = None
    norm: Norm = partial(layer_norm, epsilon=1e-5)  # timm's, unlike that of the other norms
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, z: Float[Array, "b t c"], x: Float[Array, "b t d"], context: Context) -> Float[Array, "b t C"]:
        """Returns s(Z); x is the block's input."""
        z, read = jnp.split(z, 2, -1) if self.kind == "split" else (z, z)
        read = self.norm(train=context.train, dtype=self.dtype, name="norm")(read)
        f = self._spatial(both_ways(read, context, "gmlp.GatedMLP"))
        if self.attention_width is not None:
            widths = {"key_width": self.attention_width, "value_width": self.attention_width, "out_width": f.shape[-1]}
            f += SelfAttention(1, **widths, dtype=self.dtype, name="attention")(x, context)[0]
        if self.kind == "linear":
            return f
        return z + f if self.kind == "additive" else z * f

    def _spatial(self, x: Float[Array, "b t C"]) -> Float[Array, "b t C"]:
        t, length = x.shape[1], self.length or x.shape[1]
        init = nn.initializers.lecun_normal() if self.kind == "linear" else nn.initializers.normal(1e-6)
        is_product = self.kind in ("multiplicative", "split")
        bias = self.param("bias", nn.initializers.ones if is_product else nn.initializers.zeros, (length,))[:t]
        if self.toeplitz:
            distances = self.param("distances", init, (2 * length - 1, 1))[:, 0]
            kernel = distances[length - 1 + jnp.arange(t)[None] - jnp.arange(t)[:, None]]
        else:
            kernel = self.param("kernel", init, (length, length))[:t, :t]  # [from, to]
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
        return matmul(x.swapaxes(1, 2), kernel).swapaxes(1, 2) + bias[:, None]


class GatedMLP(nn.Module):
    """The sublayer of gMLP: a dense layer, the gate, and a dense layer (section 2, eq. 1). It is not causal, and reads
    one text per row.

    Attributes:
        width: of the hidden layer before the gate, d_ffn.
        gate: `SpatialGate` or another module with its signature.
    """

    width: int
    activation: Callable[[Array], Array] = gelu_exact
    gate: Callable[..., nn.Module] = SpatialGate
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"], context: Context, cache: None = None) -> Cached:
        dense = partial(Dense, dtype=self.dtype, kernel_init=nn.initializers.xavier_uniform())
        z = nn.Dropout(self.dropout, deterministic=not context.train)(
            self.activation(dense(self.width, name="hidden")(x))
        )
        return dense(x.shape[-1], name="out")(self.gate(dtype=self.dtype, name="gate")(z, x, context)), None


class GMLP(PatchNetwork):
    """Blocks of one `GatedMLP` over patches, and a head on the mean of the tokens (section 3).

    Attributes:
        mlp_width: of the hidden layers; None: 6 width.
        gate: `SpatialGate` with its fields.
        activation: the paper has gelu.
    """

    depth: int = 30
    width: int = 256
    mlp_width: int | None = None
    gate: Callable[..., nn.Module] = SpatialGate
    activation: Callable[[Array], Array] = gelu_exact
    norm: Norm = partial(layer_norm, epsilon=1e-6)

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 3, "patch": (4, 4), "depth": 2, "width": 12, "dropout": 0.1}
        | {"head_init": nn.initializers.lecun_normal()},
        "Ti": {"width": 128},
        "S": {"width": 256, "drop_path": 0.05},
        "B": {"width": 512, "drop_path": 0.2},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {"Ti": 5_867_328, "S": 19_422_656, "B": 73_075_392}  # timm's

    @nn.nowrap
    def sublayers(self, grid: tuple[int, ...]) -> dict[str, Sublayer]:
        """Figure 1."""
        width = self.mlp_width or 6 * self.width
        return {"gated_mlp": partial(GatedMLP, width, self.activation, self.gate, self.dropout)}


class MaskedGMLP(nn.Module):
    """gMLP over a text, with an output per token, for masked language models (section 4).

    Attributes:
        num_classes, vocab_size: tokens of the output and of the input; the head's weights are the embedding.
        context: the longest text, in tokens.
        mlp_width: of the hidden layers; None: 6 width.
        gate: `SpatialGate` with its fields, without `length`.
        drop_path, remat, scan: as in `layers.trunk.Trunk`.
    """

    num_classes: int = 32_000
    vocab_size: int = 32_000
    context: int = 512
    depth: int = 48
    width: int = 512
    mlp_width: int | None = None
    gate: Callable[..., nn.Module] = partial(SpatialGate, toeplitz=True)
    activation: Callable[[Array], Array] = gelu_exact
    norm: Norm = partial(layer_norm, epsilon=1e-6)
    dropout: float = 0.0
    drop_path: float = 0.0
    remat: bool = False
    scan: bool = False
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {
        "test": {"num_classes": 11, "vocab_size": 11, "context": 16, "depth": 2, "width": 12, "dropout": 0.1},
        "base": {},
        "large": {"depth": 96, "width": 768, "mlp_width": 3072},
        "xlarge": {"depth": 144, "width": 1024, "mlp_width": 4096},
        "aMLP base": {"depth": 36, "gate": partial(SpatialGate, toeplitz=True, attention_width=64)},
        "aMLP large": {"depth": 72, "width": 768, "mlp_width": 3072}
        | {"gate": partial(SpatialGate, toeplitz=True, attention_width=128)},
    }
    PUBLISHED: ClassVar[dict[str, str | int]] = {  # table 6
        "base": "130M",
        "large": "365M",
        "xlarge": "941M",
        "aMLP base": "109M",
        "aMLP large": "316M",
    }

    def setup(self):
        init = nn.initializers.normal(0.02)
        self.embedding = nn.Embed(self.vocab_size, self.width, dtype=self.dtype, embedding_init=init)
        gate = partial(self.gate, length=self.context)
        sublayer = partial(GatedMLP, self.mlp_width or 6 * self.width, self.activation, gate, self.dropout)
        residual = {"norm": self.norm, "dropout": self.dropout, "dtype": self.dtype}
        options = {"drop_path": self.drop_path, "remat": self.remat, "scan": self.scan, "dtype": self.dtype}
        self.trunk = Trunk(self.depth, (partial(Block, {"gated_mlp": sublayer}, residual),), self.norm, **options)

    def __call__(
        self,
        inputs: Int[Array, "batch length"],
        lengths: Int[Array, " batch"] | None = None,
        places: Int[Array, "batch scored"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "batch scored classes"]:
        """Returns float32 logits of the tokens at `places`; None: of all. Padding behind `lengths` changes nothing
        else."""
        check_context(self.context, 1, inputs.shape[1])
        positions = jnp.arange(inputs.shape[1])[None]
        mask = None if lengths is None else positions < lengths[:, None]
        x, _ = self.trunk(self.embedding(inputs), Context(positions, train, mask=mask))
        x = x if places is None else jnp.take_along_axis(x, places[..., None], axis=1)
        kernel = self.embedding.embedding[: self.num_classes].T.astype(x.dtype)
        return matmul(x, kernel, preferred_element_type=jnp.float32)
