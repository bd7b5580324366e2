"""Evaluation: every example of a split counts exactly once, on any number of devices."""

import collections
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Int64, PyTree

from data.batches import eval_batches, eval_order
from data.buckets import bucketed
from data.dataset import Split
from training.run import Run
from training.step import mean_metrics


def evaluate(
    run: Run, step: Callable, variables: PyTree, split: Split
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns the metrics of a split, and the task's arrays per example [n, ...] in the order of the split.

    Arrays that are longer in some buckets than in others are padded with zeros.

    Args:
      step: the compiled `run.eval_step()`.
      variables: placed on the devices.
    """
    examples, split = split, bucketed(split, run.splits["train"], run.config.data.buckets)
    hosts = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    batches = eval_batches(split, batch_size=run.eval_batch_size, workers=run.config.data.workers, **hosts)
    sums: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2))
    pieces, under_way = collections.defaultdict(list), collections.deque()

    def collect():
        batch_sums, arrays = run.parallel.read(under_way.popleft())
        for name, pair in batch_sums.items():
            sums[name] += np.asarray(pair, np.float64)
        real = arrays.pop("mask") > 0
        for name, array in arrays.items():
            pieces[name].append(array[real])

    for batch in run.parallel.batches(batches):
        if len(under_way) >= run.parallel.in_flight:  # reading behind the newest step keeps the device busy
            collect()
        under_way.append(step(variables, batch))
    while under_way:
        collect()
    order = eval_order(split)
    arrays = {name: _in_order(parts, order) for name, parts in pieces.items()}
    return mean_metrics(run.task, sums) | run.task.summary(arrays, examples), arrays


def _in_order(parts: list[np.ndarray], order: Int64[np.ndarray, "n"]) -> np.ndarray:
    """Returns the rows of the parts at the places `order`, padded with zeros where parts differ in further axes."""
    shape = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    result = np.zeros((len(order), *shape), parts[0].dtype)
    places = np.split(order, np.cumsum([len(part) for part in parts])[:-1])
    for part, rows in zip(parts, places, strict=True):
        result[(rows, *map(slice, part.shape[1:]))] = part
    return result
