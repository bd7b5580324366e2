"""What a trained model writes by itself, in answer to the inputs of a batch."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import PyTree

from training.decoding import Decoded, Extend, beam_search, greedy


def extender(model: nn.Module, variables: PyTree) -> Extend:
    """Returns the model's step of decoding as a function of tokens and cache alone."""
    return lambda tokens, cache: model.apply(variables, tokens, cache, method="extend")


def generate(model: nn.Module, variables: PyTree, task: Any, batch: Mapping) -> Decoded:
    """Returns the output for each example of a batch, by beam search if the task (`tasks.generation`) has beams."""
    cache = model.apply(variables, *(batch[name] for name in task.conditions), method="begin")
    first = jnp.full(batch["mask"].shape, task.begin, jnp.int32)
    arguments = extender(model, variables), cache, first, task.max_length, task.end
    if task.beams == 1:
        return greedy(*arguments)
    return beam_search(*arguments, beams=task.beams, length_penalty=task.length_penalty)
