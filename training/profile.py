"""A trace of some training steps, and the table of the operations that take most of their time."""

import collections
import functools
import gzip
import json
import re
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PyTree
from rich.table import Table

ROWS = 10
CONTAINERS = re.compile(r"(while|conditional|call)\b")  # operations whose time is that of others, inside them
LOOPS = {"while", "body", "cond", "branch", "closed_call", "checkpoint", "rematted_computation", ""}  # scopes of jax


class Operation(NamedTuple):
    """Operations of one name in the same layer or, with "*" for a number, in layers that differ in a number."""

    layer: str
    name: str
    part: str  # "forward", "backward" or ""


def profile(step: Callable, state: PyTree, batch: PyTree, steps: int, folder: Path) -> Table:
    """Returns the table of the costliest operations in `steps` training steps, whose trace is written to `folder`.

    The steps train a copy of `state` on one batch.

    Args:
        step: compiled, `(state, batch) -> (state, metrics)`.
    """
    state = jax.jit(functools.partial(jax.tree.map, jnp.copy))(state)  # the step donates its state
    state, _ = jax.block_until_ready(step(state, batch))  # compiles
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # the calls of Python would be most of the trace
    with jax.profiler.trace(str(folder), profiler_options=options):
        for _ in range(steps):
            state, _ = jax.block_until_ready(step(state, batch))
    trace = max(folder.rglob("*.trace.json.gz"), key=lambda path: path.stat().st_mtime)
    with gzip.open(trace) as file:
        events = json.load(file)["traceEvents"]
    return _table(costs(events, step.lower(state, batch).compile().as_text()), folder)


def costs(events: list[dict], program: str) -> collections.Counter:
    """Returns operation -> microseconds in a trace: the median of each instruction's times, times their number.

    The median leaves out a time in which another process had the core.

    Args:
        program: text of the compiled program, in which each instruction has the name of its source.
    """
    sources = dict(re.findall(r'^\s*(?:ROOT )?%?([\w.-]+) = .*metadata=\{op_name="([^"]*)"', program, re.MULTILINE))
    times = collections.defaultdict(list)
    for event in events:
        instruction = event.get("args", {}).get("hlo_op", "")
        if instruction and not CONTAINERS.match(instruction):
            times[instruction].append(event["dur"])
    total = collections.Counter()
    for instruction, each in times.items():
        source = sources.get(instruction, instruction.partition(".")[0])
        total[operation(source)] += statistics.median(each) * len(each)
    return total


def operation(source: str) -> Operation:
    """Returns the operation of an instruction's source, "jit(step)/transpose(jvp(GPT))/trunk/block1/dot_general"."""
    *scopes, name = source.split("/")
    layers = []
    for scope in scopes:
        scope = "" if scope.startswith("jit(") else re.sub(r".*\(|\).*", "", scope)
        if scope not in LOOPS and "." not in scope:  # "." for a method of the layer before
            layers.append(re.sub(r"\d+", "*", scope))
    differentiated = "backward" if "transpose(" in source else "forward"
    return Operation("/".join(layers), name, differentiated if "jvp(" in source else "")


def _table(microseconds: collections.Counter, folder: Path) -> Table:
    title = f"Costliest operations of a training step; trace for TensorBoard and ui.perfetto.dev: {folder}"
    table = Table(title=title, title_justify="left")
    for name in ("layer", "operation", "pass"):
        table.add_column(name, overflow="fold")
    table.add_column("share of time", justify="right")
    total = sum(microseconds.values())
    for one, spent in microseconds.most_common(ROWS):
        table.add_row(one.layer, one.name, one.part, f"{spent / total:.1%}")
    return table
