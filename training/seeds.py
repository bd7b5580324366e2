"""Runs that differ in their seed alone, trained together: THE step under `jax.vmap`, in one compiled program.

A small network leaves most of a device idle; its seeds side by side take little longer than one of them.
"""

import collections
import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from data.batches import train_batches
from data.errors import UserError
from training import state as state_lib
from training.evaluate import evaluate
from training.parallel import AHEAD, DEVICES
from training.run import Run, build_run
from training.state import State
from training.step import train_step


@dataclasses.dataclass(frozen=True)
class Seeds:
    """Runs of `run.config` with each of `seeds` instead of its own, on one device.

    Every leaf of their state, batches and metrics has a leading axis of seeds. Each has the initialisation, the order
    of the data and the dropout that it has alone; the last weights count, and nothing is saved.
    """

    run: Run
    seeds: tuple[int, ...]

    @classmethod
    def build(cls, config: ConfigDict, seeds: tuple[int, ...], data_dir: str | None) -> "Seeds":
        """Raises UserError for a config whose seeds cannot go side by side, and as `build_run`."""
        run = build_run(config, data_dir)
        for key, alone in {
            "init_from": run.config.init_from,  # would be the same start for all
            "data.buckets": run.config.data.buckets,  # their batches would have different shapes
            "checkpoint.best": run.config.checkpoint.best,  # of other steps for each of them
        }.items():
            if alone:
                raise UserError(f"config.{key} is {alone!r}: such runs cannot be trained together, only one by one")
        return cls(run, tuple(seeds))

    def create_state(self) -> State:
        """Returns the states of step 0."""
        run, train = self.run, self.run.config.train

        def create(seed):
            sizes = {"batch_size": train.batch_size, "ema": train.ema_decay > 0}
            return state_lib.create(run.model, run.optimizer, run.inputs, jax.random.key(seed), **sizes)

        return jax.jit(jax.vmap(create))(jnp.array(self.seeds))

    def train_step(self) -> Callable[[State, PyTree], tuple[State, PyTree]]:
        """Returns the compiled train step; the states are donated."""
        run, train, model = self.run, self.run.config.train, self.run.model
        if getattr(model, "axis_name", None):  # of batch statistics: there is one device
            model = model.clone(axis_name=tuple(axis for axis in model.axis_name if axis != DEVICES) or None)
        parts = {"model": model, "task": run.task, "optimizer": run.optimizer, "transform": run.transform}
        layout = {"accumulate": train.accumulate, "ema_decay": train.ema_decay}
        return jax.jit(jax.vmap(functools.partial(train_step, **parts, **layout)), donate_argnums=0)

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batches of all steps, each seed's in its own order."""
        config = self.run.config
        settings = {"batch_size": config.train.batch_size, "workers": config.data.workers, "order": config.data.order}
        each = [
            train_batches(self.run.splits["train"], seed=seed, start=0, stop=self.run.steps, **settings)
            for seed in self.seeds
        ]
        for batches in zip(*each, strict=True):
            yield {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}

    def train(self) -> tuple[State, dict[int, int]]:
        """Returns the final states, and for each seed that diverged the first step whose loss or gradient is not
        finite; the others are not disturbed by it.
        """
        state, step, under_way = self.create_state(), self.train_step(), collections.deque()
        diverged: dict[int, int] = {}

        def read(number):
            metrics = jax.device_get(under_way.popleft())
            finite = np.isfinite(metrics["loss"][0]) & np.isfinite(metrics["grad_norm"][0])
            for seed in np.array(self.seeds)[~finite].tolist():
                diverged.setdefault(seed, number)

        for number, batch in enumerate(self.batches(), 1):
            state, metrics = step(state, batch)
            under_way.append(metrics)
            if len(under_way) > AHEAD:  # reading behind the newest step keeps the device busy
                read(number - AHEAD)
        while under_way:
            read(self.run.steps - len(under_way) + 1)
        return state, diverged

    def evaluate(self, state: State) -> dict[int, dict[str, dict[str, float]]]:
        """Returns seed -> split -> metrics, of every split but the training one, as the final evaluation of one run."""
        run, result = self.run, {}
        step = run.eval_step(generates=run.generates)
        for place, seed in enumerate(self.seeds):
            own = run.parallel.place(jax.tree.map(lambda x, i=place: x[i], state))
            versions = {"": own.variables} | ({"_ema": own.ema} if own.ema is not None else {})
            result[seed] = {
                f"{name}{ending}": evaluate(run, step, variables, run.splits[name])[0]
                for name in run.splits
                if name != "train"
                for ending, variables in versions.items()
            }
        return result
