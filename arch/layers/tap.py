"""Marks an activation whose gradient norm can be logged at every time step."""

import flax.linen as nn
from jaxtyping import Array, Float

TAPS = "perturbations"  # Flax's collection of zeros added to marked activations, so that their gradients can be taken


def tap(module: nn.Module, name: str, x: Float[Array, "b t *features"]) -> Float[Array, "b t *features"]:
    """Returns `x`, the input of a part of the network at every time step, marked as `name` of `module`.

    `training.diagnostics` takes the gradient with respect to it. In any other step it costs nothing.
    """
    return x if module.is_initializing() else module.perturb(name, x, collection=TAPS)
