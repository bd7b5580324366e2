"""Finds every architecture in `arch/*.py`, and makes inputs for it from the shapes in its signature.

An architecture is a public Flax module of `arch/FILE.py` with a class attribute `VARIANTS`; a file may also have blocks
and helpers alone. A new architecture provides:

- `VARIANTS`: name -> fields of a network. "test" is one that compiles in seconds, with `num_classes`, and with any
  vocabulary of at least `VOCABULARY` tokens. The caches of other small ones, "... test", are tested too. Published
  networks have their paper's names.
- `PUBLISHED`, if there are published numbers of parameters: variant -> the number, an integer if exact, or the text as
  printed ("0.27M" must agree to its last digit). `PUBLISHED_SIZES` gives sizes of shape letters, where the number
  depends on them and they differ from `SIZES` ({"features": 26}).
- `WITHOUT_GRADIENT`, if parameters have no effect in the architecture of the paper: patterns of their names.
- `__call__` with jaxtyping annotations: every letter of an input's shape has its size in `SIZES` (add a new letter
  there), and the output's letters are those of the inputs or `classes`. Integer inputs are tokens, and integer vectors
  named `lengths` or `KEY_lengths` are lengths. Every architecture takes the keyword `train`. One that passes `*inputs`
  on has those of the first network in its test variant.
- the field `dtype`, the compute type: parameters stay float32, and only the head computes in float32. Fields whose name
  ends with "dropout" are rates.
"""

import functools
import importlib
import inspect
import pkgutil
import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import arch

SIZES = {
    "batch": 4,
    "*space": (8, 8),
    "time": 4,
    "height": 8,
    "width": 8,
    "channels": 3,
    "features": 6,
    "length": 12,
    "source_length": 12,
    "*features": (2, 3),
}
VOCABULARY = 11  # token ids are smaller


def architectures() -> dict[str, type[nn.Module]]:
    """Returns the architectures by the name a config gives them, such as "mlp.MLP"."""
    found = {}
    for module_name in [info.name for info in pkgutil.iter_modules(arch.__path__) if not info.ispkg]:
        module = importlib.import_module(f"arch.{module_name}")
        for name, member in vars(module).items():
            is_module = (
                inspect.isclass(member) and issubclass(member, nn.Module) and member.__module__ == module.__name__
            )
            if is_module and not name.startswith("_") and hasattr(member, "VARIANTS"):
                found[f"{module_name}.{name}"] = member
    return found


def shape_of(annotation, **sizes) -> tuple[int | None, ...]:
    """Returns the shape a jaxtyping annotation spells, None for a letter without a size."""
    shape = []
    for letter in annotation.dim_str.split():
        size = int(letter) if letter.isdigit() else (SIZES | sizes).get(letter)
        shape += size if isinstance(size, tuple) else [size]
    return tuple(shape)


def pick(annotation, tokens: bool):
    """Returns the member of a union of arrays that a network with, or without, a vocabulary takes."""
    members = typing.get_args(annotation) or (annotation,)
    return next((member for member in members if tokens == ("int32" in member.dtypes)), members[0])


def required(architecture: type[nn.Module], method: str = "__call__") -> dict[str, inspect.Parameter]:
    """Returns the positional parameters of a method that have no default."""
    parameters = inspect.signature(getattr(architecture, method)).parameters
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters.values()):
        inner = next(x for x in architecture.VARIANTS["test"].values() if isinstance(x, nn.Module))
        return required(type(inner), method)
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name != "self" and parameter.kind is not parameter.KEYWORD_ONLY and parameter.default is parameter.empty
    }


def make_inputs(
    architecture: type[nn.Module], seed: int = 0, *, method: str = "__call__", tokens: bool | None = None, **sizes
) -> list[jax.Array]:
    """Returns an array for each positional input of a method that has no default: tokens (integers), normal numbers
    (floats), all true (booleans).

    `tokens` chooses between a network's tokens and numbers, which is otherwise done by its test variant.

    Lengths ("lengths" or "<key>_lengths") are those of sequences without padding.
    """
    rng = np.random.default_rng(seed)
    tokens = "vocab_size" in architecture.VARIANTS["test"] if tokens is None else tokens
    inputs = []
    for name, parameter in required(architecture, method).items():
        annotation = pick(parameter.annotation, tokens)
        shape, kinds = shape_of(annotation, **sizes), " ".join(annotation.dtypes)
        assert None not in shape, f"{name}: give every letter of {annotation.dim_str!r} a size in SIZES"
        if name.endswith("lengths"):
            inputs.append(np.full(shape, SIZES["length"], np.int32))
        elif "float" in kinds:
            inputs.append(rng.standard_normal(shape, np.float32))
        elif "int" in kinds:
            inputs.append(rng.integers(0, VOCABULARY, shape, np.int32))
        else:
            inputs.append(np.ones(shape, bool))
    return [jnp.asarray(x) for x in inputs]


def types_of_products(function, *arguments) -> list[jnp.dtype]:
    """Returns the type of the first factor of each matrix product and convolution of a function."""
    found = equations(jax.make_jaxpr(function)(*arguments).jaxpr)
    return [e.invars[0].aval.dtype for e in found if e.primitive.name in ("dot_general", "conv_general_dilated")]


def equations(jaxpr):
    """Yields the equations of a jaxpr and of those inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(tuple(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from equations(inner)


class Tiny:
    """A small model with its variables and inputs. `apply` compiles once for training and once for evaluation."""

    def __init__(self, architecture: type[nn.Module], variant: str = "test", **fields):
        self.model = architecture(**architecture.VARIANTS[variant] | fields)
        self.inputs = make_inputs(architecture)
        self.returns = inspect.signature(architecture.__call__).return_annotation
        self.rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}

    @functools.cached_property
    def variables(self) -> dict:
        return jax.jit(functools.partial(self.model.init, train=False))(self.rngs, *self.inputs)

    @property
    def shapes(self) -> dict:
        return jax.eval_shape(functools.partial(self.model.init, train=False), self.rngs, *self.inputs)

    @functools.partial(jax.jit, static_argnums=0, static_argnames="train")
    def apply(self, variables, key, *, train: bool):
        """Returns the outputs, without integers (lengths) and those of a part that never trains, and the new mutable
        collections."""
        mutable = [name for name in variables if name != "params"]
        outputs, new = self.model.apply(variables, *self.inputs, train=train, rngs={"dropout": key}, mutable=mutable)
        if hasattr(self.model, "init_at"):
            del outputs[self.model.init_at]
        return jax.tree.map(lambda leaf: leaf if jnp.issubdtype(leaf.dtype, jnp.floating) else None, outputs), new

    def targets(self):
        """Returns arrays like the outputs to pull them towards, between 0 and 1: boxes cannot reach other numbers."""
        outputs, _ = jax.eval_shape(functools.partial(self.apply, train=False), self.variables, self.rngs["dropout"])
        rng = np.random.default_rng(1)
        return jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape), leaf.dtype), outputs)
