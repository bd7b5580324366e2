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
from training.step import eval_step, train_step

CLOSE = 0.1  # share of the memory from which on the compiled steps are asked for that of their activations
GB = 1e9
KEYS = dict.fromkeys(("parameters", "optimizer", "gradients"), "lower the sizes in config.model")  # part -> advice
KEYS["evaluated batch"] = "lower config.eval.batch_size"
KEYS["cache of generation"] = "lower config.eval.batch_size, config.task.max_length or config.task.beams"


def check(run: Run) -> None:
    """Raises UserError, which names the key to lower, if a step of training or of evaluation cannot fit the memory of a
    device.

    State and batches are counted. If they are large, both steps are compiled for one device's share of a batch, whose
    memory XLA knows.
    """
    limit, name = limit_of_device()
    known = sizes(run)
    training, evaluation = dict(known), {part: known[part] for part in ("parameters", "optimizer", "evaluated batch")}
    evaluation["cache of generation"] = _cache(run)
    if CLOSE * limit < sum(known.values()) <= limit:
        training["activations"] = max(0.0, _needed(_training_step(run)) - sum(known.values()))
        read = known["parameters"] + known["evaluated batch"] + evaluation["cache of generation"]
        evaluation["activations"] = max(0.0, _needed(_evaluation_step(run)) - read)
    _refuse_more(limit, name, "a step", training, KEYS, "lower config.train.batch_size")
    _refuse_more(limit, name, "an evaluation", evaluation, KEYS, "lower config.eval.batch_size")


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


def check_cache(variables: PyTree, cache: PyTree, advice: str) -> None:
    """Raises UserError if parameters and the state of decoding, given as shapes, cannot fit the memory of the device.

    Args:
        advice: ends the error message, such as "lower --length".
    """
    parts = {"parameters": _bytes(variables), "cache": _bytes(cache)}
    _refuse_more(*limit_of_device(), "a prediction", parts, {"parameters": "use a larger device"}, advice)


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


def _training_step(run: Run) -> jax.stages.Compiled:
    """Returns the step of training for one device's share of the batch."""
    batch, state = build.example_batch(run.info, _largest(run, "train")), jax.eval_shape(run.create_state)
    parts = {"model": run.model, "task": run.task, "transform": run.transform, "optimizer": run.optimizer}
    step = functools.partial(train_step, **parts, **run.step_options)
    return jax.jit(step, donate_argnums=0).lower(state, batch).compile()


def _evaluation_step(run: Run) -> jax.stages.Compiled:
    """Returns the step of evaluation for one device's share of the batch."""
    batch, state = build.example_batch(run.info, _largest(run, "eval")), jax.eval_shape(run.create_state)
    parts = {"model": run.model, "task": run.task, "transform": run.transform, "generates": _generates(run)}
    return jax.jit(functools.partial(eval_step, **parts)).lower(state.variables, batch).compile()


def _cache(run: Run) -> float:
    """Returns the bytes of the state of decoding for one device's share of a batch; 0 if evaluation does not decode."""
    if not _generates(run):
        return 0.0
    task, example = run.task, build.example_batch(run.info, _largest(run, "eval"))
    batch = jax.eval_shape(functools.partial(run.transform, None), example)
    start = functools.partial(run.model.apply, length=task.max_length, method="start")
    variables = jax.eval_shape(run.create_state).variables
    _, cache = jax.eval_shape(start, variables, *(batch[name] for name in task.conditions))
    return _bytes(cache.memory) + max(task.beams, 1) * _bytes(cache.state)


def _generates(run: Run) -> bool:
    return bool(run.task.generated_metrics)


def _needed(program: jax.stages.Compiled) -> float:
    """Returns the bytes of the arguments, the results and the work space of a program."""
    found = program.memory_analysis()
    if found is None:  # a backend without this analysis
        return 0.0
    kept = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return float(kept + found.temp_size_in_bytes)
