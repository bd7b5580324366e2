"""A mark on what the gradient's norm is worth seeing of, time step by time step."""

import flax.linen as nn
from jaxtyping import Array, Float

WATCHED = "perturbations"  # flax's collection: what is added to a marked value, of which there is then a gradient


def watch(module: nn.Module, name: str, x: Float[Array, "b t *features"]) -> Float[Array, "b t *features"]:
    """Returns `x`, the input of a part of the network at every time step, marked as `name` of `module`.

    A step that asks for gradient norms (`training.diagnostics`) finds it; elsewhere it costs nothing.
    """
    return x if module.is_initializing() else module.perturb(name, x, collection=WATCHED)
