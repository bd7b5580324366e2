"""Evaluation: every example of a split counts exactly once, on any number of devices."""

import collections
from collections.abc import Callable, Mapping

import jax
import numpy as np
from jaxtyping import Int64, PyTree

from data.batches import eval_batches, eval_order
from data.buckets import bucketed
from data.splits import Split
from training.run import Run
from training.step import mean_metrics


def evaluate(
    run: Run, step: Callable, variables: PyTree, split: Split
) -> list[tuple[dict[str, float], dict[str, np.ndarray]]]:
    """Returns, per run, the metrics of a split and the task's arrays [n, ...], with one row per example, in order.

    Arrays that are longer in some buckets than in others are padded with zeros.

    Args:
      step: the compiled `run.eval_step()`.
      variables: on the devices.
    """
    parallel, examples = run.parallel, split
    split = bucketed(split, run.splits["train"], run.config.data.buckets)
    hosts = {"process_index": jax.process_index(), "process_count": jax.process_count()}
    batches = eval_batches(split, batch_size=run.batch_size(split, "eval"), workers=run.config.data.workers, **hosts)
    totals, in_flight = [_Totals() for _ in run.configs], collections.deque()

    def collect():
        for total, (sums, arrays) in zip(totals, parallel.per_run(in_flight.popleft()), strict=True):
            total.add(sums, arrays)

    for batch in parallel.batches(batches):
        if len(in_flight) >= parallel.in_flight:  # reading one step behind keeps the device busy
            collect()
        in_flight.append(step(variables, batch))
    while in_flight:
        collect()
    found = []
    for total in totals:
        arrays = total.arrays(eval_order(split))
        found.append(
            (
                mean_metrics(run.task, {name: tuple(pair) for name, pair in total.sums.items()})
                | run.task.summary(arrays, examples),
                arrays,
            )
        )
    return found


class _Totals:
    """Sums and arrays of one run over the batches of a split."""

    def __init__(self):
        self.sums: dict[str, np.ndarray] = collections.defaultdict(lambda: np.zeros(2))
        self.pieces: dict[str, list[np.ndarray]] = collections.defaultdict(list)

    def add(self, sums: Mapping, arrays: Mapping[str, np.ndarray]) -> None:
        for name, pair in sums.items():
            self.sums[name] += np.asarray(pair, np.float64)
        real = arrays["mask"] > 0
        for name in arrays.keys() - {"mask"}:
            self.pieces[name].append(arrays[name][real])

    def arrays(self, order: Int64[np.ndarray, "n"]) -> dict[str, np.ndarray]:
        return {name: _in_order(parts, order) for name, parts in self.pieces.items()}


def _in_order(parts: list[np.ndarray], order: Int64[np.ndarray, "n"]) -> np.ndarray:
    """Returns the rows of the parts at the positions `order`, padded with zeros where parts differ in further axes."""
    shape = np.max([part.shape[1:] for part in parts], axis=0).astype(int)
    result = np.zeros((len(order), *shape), parts[0].dtype)
    places = np.split(order, np.cumsum([len(part) for part in parts])[:-1])
    for part, rows in zip(parts, places, strict=True):
        result[(rows, *map(slice, part.shape[1:]))] = part
    return result
