"""LoRA: low-rank adaptation of trained networks (Hu et al. 2021, arXiv 2106.09685).

One key adapts the network of any recipe: `--config.init_from=WORKDIR --config.model.adapter="lora.LoRA(rank=8)"`.
"""

import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array, lax
from jaxtyping import Float, PRNGKeyArray, PyTree

from core.errors import UserError, nearest

A, B = "lora_a", "lora_b"  # the factors have the paths of their kernels below these

# *stack: turns of a scanned trunk, or taps of a convolution; c and d: input and output; r: rank


class LoRA(nn.Module):
    """A network whose kernels W [*stack, c, d] are W + alpha / rank A B, where only A and B train.

    A [*stack, c, r] is normal with standard deviation c^-0.5, B [*stack, r, d] is 0, so that training begins with the
    network itself (section 4.1). The network's parameters have the same paths with and without LoRA.

    Attributes:
        adapted: the network, of any architecture.
        alpha: the adaptation's scale is alpha / rank.
        kernels: regular expression of the paths of the adapted kernels. The default is those of queries and
            values in attention, as in section 4.2.
        trained: regular expression of the paths of the network's parameters that train as well, such as "head/.*" for
            new classes.
    """

    adapted: nn.Module
    rank: int = 8
    alpha: float = 16.0
    kernels: str = r".*(query|value)/kernel"
    trained: str = ""

    @property
    def frozen(self) -> tuple[str, ...]:
        return (f"(?!({A}|{B})/|({self.trained})$).*",)

    @property
    def context(self) -> int | None:
        return self.adapted.context

    def adapt(self, path: str, old: np.ndarray | Array, new: Array) -> Array | None:
        """Returns a parameter of a checkpoint in another shape, as the network does."""
        return self.adapted.adapt(path, old, new) if hasattr(self.adapted, "adapt") else None

    def setup(self):
        nn.share_scope(self, self.adapted)

    @nn.compact
    def __call__(self, *inputs: Any, train: bool) -> Any:
        """Returns the outputs of the network."""
        if not self.is_initializing():
            return self._adapted("__call__", *inputs, train=train)
        outputs = self.adapted(*inputs, train=train)
        kernels = self._kernels()
        self.param(A, _each, kernels, lambda key, w: _normal(key, (*w.shape[:-1], self.rank)))
        self.param(B, _each, kernels, lambda _, w: jnp.zeros((*w.shape[:-2], self.rank, w.shape[-1])))
        return outputs

    def start(self, *conditions: Any, length: int) -> Any:
        """As the network's (`layers.decoder`)."""
        return self._adapted("start", *conditions, length=length)

    def decode(self, tokens: Array, cache: Any) -> Any:
        """As the network's (`layers.decoder`)."""
        return self._adapted("decode", tokens, cache)

    def merged(self, variables: Mapping[str, PyTree]) -> dict[str, PyTree]:
        """Returns the variables of the plain network."""
        params = flatten_dict(variables["params"], sep="/")
        result = {path: x for path, x in params.items() if not path.startswith((f"{A}/", f"{B}/"))}
        for path, kernel in result.items():
            if f"{A}/{path}" in params:
                change = jnp.matmul(params[f"{A}/{path}"], params[f"{B}/{path}"], precision="highest")
                result[path] = kernel + self.alpha / self.rank * change
        return {**variables, "params": unflatten_dict(result, sep="/")}

    def deployed(self, variables: Mapping[str, PyTree]) -> tuple[nn.Module, dict[str, PyTree]]:
        """Returns the plain network with merged variables."""
        return self.adapted, self.merged(variables)

    def _adapted(self, method: str, *args: Any, **kwargs: Any) -> Any:
        def call(network: nn.Module) -> Any:
            return getattr(network, method)(*args, **kwargs)

        return nn.map_variables(call, "params", lambda params: self.merged(self._constant(params)))(self.adapted)

    def _constant(self, variables: Mapping[str, PyTree]) -> dict[str, PyTree]:
        """Returns the variables with no gradient of those that do not train, which saves the time to compute it."""
        params = flatten_dict(variables["params"], sep="/")
        (frozen,) = self.frozen
        params = {path: lax.stop_gradient(x) if re.fullmatch(frozen, path) else x for path, x in params.items()}
        return {**variables, "params": unflatten_dict(params, sep="/")}

    def _kernels(self) -> dict[str, Float[Array, "*stack c d"]]:
        """Returns the kernels to adapt. Raises UserError if no kernel matches, or if the expression is not regular."""
        params = flatten_dict(self.adapted.variables["params"], sep="/")
        matrices = {path: x for path, x in params.items() if x.ndim > 1}
        try:
            kernels = {path: x for path, x in matrices.items() if re.fullmatch(self.kernels, path)}
            re.compile(self.trained)
        except re.error as error:
            raise UserError(f"LoRA: {error.pattern!r} is not a regular expression: {error}") from error
        if not kernels:
            raise UserError(f"LoRA.kernels {self.kernels!r} matches no kernel: {nearest(self.kernels, matrices)}")
        return kernels


def _each(key: PRNGKeyArray, kernels: Mapping[str, Array], init: Any) -> PyTree:
    """Returns the tree of `init(key, kernel)` for every kernel."""
    keys = jax.random.split(key, len(kernels))
    return unflatten_dict({path: init(own, kernels[path]) for own, path in zip(keys, kernels, strict=True)}, sep="/")


def _normal(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "*stack c r"]:
    return jax.random.normal(key, shape) * shape[-2] ** -0.5
