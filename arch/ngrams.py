"""Classifiers of bags of n-grams: linear (S. Wang, C. Manning, Baselines and Bigrams, ACL 2012), or with a hidden layer
(fastText: Joulin et al. 2016, arXiv 1607.01759, section 2).

The weights of the n-grams, such as TF-IDF, come with their ids, from the preprocess op `ngrams`.
"""

from typing import ClassVar

import flax.linen as nn
import jax.numpy as jnp
from jax import Array
from jax.nn.initializers import Initializer
from jax.typing import DTypeLike
from jaxtyping import Float, Int

# Shapes: batch; length: n-grams of a text; width: outputs of a layer; classes.


class SparseDense(nn.Module):
    """A dense layer on sparse vectors, given by the indices and values of their non-zero entries.

    Attributes:
        features: width of the output.
        inputs: size of the vectors.
    """

    features: int
    inputs: int
    kernel_init: Initializer = nn.initializers.zeros
    dtype: DTypeLike | None = None

    @nn.compact
    def __call__(
        self, indices: Int[Array, "batch length"], values: Float[Array, "batch length"]
    ) -> Float[Array, "batch width"]:
        kernel = self.param("kernel", self.kernel_init, (self.inputs, self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        values, rows, bias = nn.dtypes.promote_dtype(values, kernel[indices], bias, dtype=self.dtype)
        return jnp.einsum("bn,bnk->bk", values, rows) + bias


class BagOfNgrams(nn.Module):
    """One class or number per text, from the ids and weights of its n-grams. The output is float32.

    Attributes:
        vocab_size: number of n-grams.
        width: of the hidden layer, which is linear, as in fastText; 0: the classifier is linear, and its loss convex.
        hidden_init: initialiser of the hidden layer. The head starts at 0 where there is none.
        dropout: rate of the hidden layer.
    """

    num_classes: int = 10
    vocab_size: int = 100_000
    width: int = 0
    hidden_init: Initializer = nn.initializers.normal(0.1)
    dropout: float = 0.0
    dtype: DTypeLike | None = None

    VARIANTS: ClassVar[dict[str, dict]] = {"test": {"num_classes": 3, "vocab_size": 11, "width": 4, "dropout": 0.2}}

    @nn.compact
    def __call__(
        self, ngrams: Int[Array, "batch length"], weights: Float[Array, "batch length"], *, train: bool
    ) -> Float[Array, "batch classes"]:
        if not self.width:
            return SparseDense(self.num_classes, self.vocab_size, name="head")(ngrams, weights)
        hidden = SparseDense(self.width, self.vocab_size, self.hidden_init, dtype=self.dtype, name="embedding")
        x = nn.Dropout(self.dropout)(hidden(ngrams, weights), deterministic=not train)
        return nn.Dense(self.num_classes, name="head")(x)
