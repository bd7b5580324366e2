"""Dense networks on features: the multi-layer perceptron and the tabular ResNet."""

import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float

from arch.layers.norm import Norm, batch_norm, identity

# Shapes: batch; features or *features (any number of axes); width (of a hidden layer); classes (1 for regression).

Embedding = Callable[..., nn.Module]  # a class with its fields, such as `layers.columns.ColumnEmbedding`


class MLP(nn.Module):
    """Multi-layer perceptron: hidden layers `dropout(activation(norm(linear(x))))`, then a linear head.

    Any input is flattened to `[batch, features]`. `residual` adds a hidden layer's input to its output where their
    widths agree. `num_classes=1` is a regression. The output is float32 whatever `dtype`, the compute type, is.

    Attributes:
        embedding: of the columns of a table, before the first layer: "layers.columns.ColumnEmbedding(width=8)".
        columns: features of each column, which the embedding reads; filled in from the data.
    """

    num_classes: int = 10
    widths: tuple[int, ...] = (512, 512)
    activation: Callable[[Array], Array] = nn.relu
    norm: Norm = identity
    kernel_init: Initializer = nn.initializers.he_normal()
    dropout: float = 0.0
    residual: bool = False
    embedding: Embedding | None = None
    columns: tuple[int, ...] = ()
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {"test": {"num_classes": 3, "widths": (16, 16)}}

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch *features"], *, train: bool) -> Float[Array, "batch classes"]:
        if self.embedding is not None:
            inputs = self.embedding(columns=self.columns, dtype=self.dtype, name="embedding")(inputs)
        x = inputs.reshape(inputs.shape[0], math.prod(inputs.shape[1:]))
        for width in self.widths:
            y = nn.Dense(width, kernel_init=self.kernel_init, dtype=self.dtype)(x)
            y = self.norm(train=train, dtype=self.dtype)(y)
            y = nn.Dropout(self.dropout, deterministic=not train)(self.activation(y))
            x = x + y if self.residual and x.shape == y.shape else y
        return nn.Dense(self.num_classes, kernel_init=self.kernel_init, name="head")(x)


class TabularResNetBlock(nn.Module):
    """`x + dropout(linear(dropout(relu(linear(norm(x))))))`: the branch is wider inside by `hidden_factor`."""

    hidden_factor: float
    hidden_dropout: float
    residual_dropout: float
    norm: Norm
    activation: Callable[[Array], Array]
    dtype: DTypeLike | None

    @nn.compact
    def __call__(self, x: Float[Array, "batch width"], *, train: bool) -> Float[Array, "batch width"]:
        width = x.shape[-1]
        y = nn.Dense(int(width * self.hidden_factor), dtype=self.dtype)(self.norm()(x))
        y = nn.Dropout(self.hidden_dropout, deterministic=not train)(self.activation(y))
        y = nn.Dense(width, dtype=self.dtype)(y)
        return x + nn.Dropout(self.residual_dropout, deterministic=not train)(y)


class TabularResNet(nn.Module):
    """The ResNet for tables (Gorishniy et al. 2021, arXiv 2106.11959, sec. 3.2): linear, blocks, norm, relu, head.

    The defaults are those of the authors' package. `num_classes=1` is a regression. The output is float32.
    """

    num_classes: int = 10
    num_blocks: int = 2
    width: int = 192
    hidden_factor: float = 2.0
    hidden_dropout: float = 0.15
    residual_dropout: float = 0.0
    block: Callable[..., nn.Module] = TabularResNetBlock
    norm: Norm = batch_norm
    activation: Callable[[Array], Array] = nn.relu
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {"test": {"num_classes": 3, "width": 16}}

    @nn.compact
    def __call__(self, inputs: Float[Array, "batch features"], *, train: bool) -> Float[Array, "batch classes"]:
        def norm(**kwargs) -> nn.Module:
            return self.norm(train=train, dtype=self.dtype, **kwargs)

        x = nn.Dense(self.width, dtype=self.dtype)(inputs)
        for _ in range(self.num_blocks):
            x = self.block(
                hidden_factor=self.hidden_factor,
                hidden_dropout=self.hidden_dropout,
                residual_dropout=self.residual_dropout,
                norm=norm,
                activation=self.activation,
                dtype=self.dtype,
            )(x, train=train)
        return nn.Dense(self.num_classes, name="head")(self.activation(norm()(x)))
