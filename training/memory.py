"""The memory that a run, or a prediction, needs, estimated from shapes and by XLA, against that of its devices."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from core.errors import UserError
from core.machine import free_memory
from training import build
from training.run import Run
from training.state import State
from training.step import train_step

CLOSE = 0.1  # share of the memory from which on the compiled step is asked for that of its activations
GB = 1e9
KEYS = dict.fromkeys(("parameters", "optimizer", "gradients"), "lower the sizes in config.model")  # part -> advice
KEYS["evaluated batch"] = "lower config.eval.batch_size"


def check(run: Run) -> None:
    """Raises UserError, which names the key to lower, if a training step cannot fit the memory of a device.

    State and batch are counted. If they are large, the step is compiled for one device's share of the batch, whose
    memory XLA knows.
    """
    limit, name = limit_of_device()
    parts = sizes(run)
    if CLOSE * limit < sum(parts.values()) <= limit:
        parts["activations"] = max(0.0, _compiled(run) - sum(parts.values()))
    _refuse_more(limit, name, "a step", parts, KEYS, "lower config.train.batch_size")


def compiled(function: Callable, variables: PyTree, *inputs: Any, advice: str) -> Callable:
    """Returns a jitted function, compiled for arguments like these.

    Args:
        advice: ends the error message, such as "lower --beams".

    Raises UserError if parameters, inputs and activations cannot fit the memory of the device.
    """
    limit, name = limit_of_device()
    parts, keys = {"parameters": _bytes(variables), "inputs": _bytes(inputs)}, {"parameters": "use a larger device"}
    _refuse_more(limit, name, "a prediction", parts, keys, advice)
    program = function.lower(variables, *inputs).compile()
    parts["activations"] = max(0.0, _needed(program) - sum(parts.values()))
    _refuse_more(limit, name, "a prediction", parts, keys, advice)
    return program


def _refuse_more(
    limit: float, name: str, what: str, parts: Mapping[str, float], keys: Mapping[str, str], otherwise: str
) -> None:
    """Raises UserError, with the advice for the largest part, if the parts do not fit a device."""
    if (total := sum(parts.values())) > limit:
        advice = keys.get(max(parts, key=parts.__getitem__), otherwise)
        shown = ", ".join(f"{part} {size / GB:.3g} GB" for part, size in parts.items() if size)
        raise UserError(f"{what} needs {total / GB:.3g} GB ({shown}), but {name} has {limit / GB:.3g} GB: {advice}")


def sizes(run: Run) -> dict[str, float]:
    """Returns the bytes on one device of the parts of a step that are known without compilation."""
    state: State = jax.eval_shape(run.create_state)
    copies = run.parallel.runs / (run.parallel.devices if run.config.parallel.strategy == "fsdp" else 1)
    params = _bytes(state.params) * copies
    return {
        "parameters": params,
        "optimizer": _bytes((state.opt_state, state.ema, state.mutable)) * copies,
        "gradients": params,
        "batch": _bytes(build.example_batch(run.info, _largest(run, "train"))),
        "evaluated batch": _bytes(build.example_batch(run.info, _largest(run, "eval"))),
    }


def limit_of_device() -> tuple[float, str]:
    """Returns the bytes of memory of one device, and its name; devices of a CPU share the machine's memory."""
    device = jax.local_devices()[0]
    known = device.memory_stats() or {}
    if "bytes_limit" in known:
        return known["bytes_limit"], device.device_kind
    return free_memory() / jax.local_device_count(), "this machine"


def _largest(run: Run, group: str) -> int:
    """Returns the number of examples of one device in the largest batch, except of buckets, whose lengths differ."""
    split = run.train_split
    size = run.config[group].batch_size or run.config.train.batch_size
    return -(-(size or int(np.min(run.batch_size(split)))) // run.parallel.devices)


def _bytes(tree: PyTree) -> float:
    return float(sum(np.prod(x.shape, dtype=float) * x.dtype.itemsize for x in jax.tree.leaves(tree)))


def _compiled(run: Run) -> float:
    """Returns the bytes of the compiled step for one device's share of the batch."""
    batch, state = build.example_batch(run.info, _largest(run, "train")), jax.eval_shape(run.create_state)
    parts = {"model": run.model, "task": run.task, "transform": run.transform, "optimizer": run.optimizer}
    step = functools.partial(train_step, **parts, **run.step_options)
    return _needed(jax.jit(step, donate_argnums=0).lower(state, batch).compile())


def _needed(program: jax.stages.Compiled) -> float:
    """Returns the bytes of the arguments, the results and the work space of a program."""
    found = program.memory_analysis()
    if found is None:  # a backend without this analysis
        return 0.0
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return float(kept + found.temp_size_in_bytes)
