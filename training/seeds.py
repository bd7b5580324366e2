"""Runs that differ in seed and numbers of the optimiser, trained together: THE step under `jax.vmap`, in one program.

A small network leaves most of a device idle; its seeds side by side take little longer than one of them.
"""

import collections
import dataclasses
import functools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from core.errors import Stopped, UserError
from data.batches import train_batches
from training import config as config_lib
from training import diagnostics
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.checkpoint import Checkpoints
from training.display import Display
from training.evaluate import evaluate
from training.loop import NO_BEST, Results
from training.parallel import AHEAD
from training.run import Run, build_run
from training.state import State
from training.step import mean_metrics, train_step
from training.stop import Stop
from training.workdir import Workdir

TUNED = "optimizer."  # the group whose numbers may differ


def refusal(config: ConfigDict, tuned: Sequence[str] = ()) -> str:
    """Returns why runs of a validated config cannot be trained together, "" if they can.

    Args:
        tuned: dotted keys in which they are to differ, besides the seed.
    """
    values = dict(config_lib.leaves(config))
    for key in tuned:  # what a 0 leaves out of the optimiser would be left out for all
        if not (key.startswith(TUNED) and isinstance(values.get(key), float) and values[key]):
            return f"config.{key} is {values.get(key)!r}: such runs cannot be trained together, only one by one"
    if tuned and not _takes_arrays(config.optimizer, [key.removeprefix(TUNED) for key in tuned]):
        keys = ", ".join(f"config.{key}" for key in tuned)
        return f"optax.{config.optimizer.name} takes no array for {keys}: such runs can be trained only one by one"
    hindrances = {
        "init_from": config.init_from,  # would be the same start for all
        "data.buckets": config.data.buckets,  # their batches would have different shapes
        "checkpoint.best": config.checkpoint.best,  # of other steps for each of them
        "parallel.strategy": config.parallel.strategy if config.parallel.strategy == "fsdp" else "",  # too big as it is
        "parallel.hosts": config.parallel.hosts if config.parallel.hosts > 1 else 0,
        "parallel.cpu_devices": str(config.parallel.cpu_devices) if config.parallel.cpu_devices != 1 else "",
    }
    for key, alone in hindrances.items():
        if alone:
            return f"config.{key} is {alone!r}: such runs cannot be trained together, only one by one"
    return ""


def _takes_arrays(config: ConfigDict, keys: Sequence[str]) -> bool:
    """Whether the optimiser of a group can be compiled with arrays in place of these numbers; asks for no device."""
    anywhere = {**config.to_dict(), "frozen": (), "slower": ()}  # patterns would have to fit `params`
    number, params = jax.ShapeDtypeStruct((), np.float32), {"kernel": jax.ShapeDtypeStruct((2, 2), np.float32)}

    def update(numbers, params):
        optimizer = optimizer_lib.create(ConfigDict({**anywhere, **numbers}), config.warmup_steps + 1, params)
        return optimizer.update(params, optimizer.init(params), params)

    try:
        jax.eval_shape(update, dict.fromkeys(keys, number), params)
    except (UserError, TypeError):  # such as a condition in Python
        return False
    return True


@dataclasses.dataclass(frozen=True)
class Seeds:
    """Runs of `configs`, which differ in seeds and numbers of the optimiser, on one device; `run` is that of the first.

    Every leaf of their state, batches and metrics has a leading axis of runs. Each has the initialisation, the order
    of the data, the augmentation and the dropout that it has alone.
    """

    run: Run
    configs: tuple[ConfigDict, ...]

    @classmethod
    def build(cls, configs: Sequence[ConfigDict], data_dir: str | None) -> "Seeds":
        """Raises UserError for configs that cannot go side by side, and as `build_run`."""
        configs = tuple(map(config_lib.validate, configs))
        tuned = _tuned(configs)
        for config in configs:
            if changes := [x for x in config_lib.difference(configs[0], config) if not x.startswith(("seed:", TUNED))]:
                raise UserError(f"runs that are trained together differ in more than seed and optimiser: {changes[0]}")
            if reason := refusal(config, tuned):
                raise UserError(reason)
        return cls(build_run(configs[0], data_dir), configs)

    def create_state(self) -> State:
        """Returns the states of step 0."""
        run, train = self.run, self.run.config.train

        def create(seed):
            sizes = {"batch_size": train.batch_size, "ema": train.ema_decay > 0}
            return state_lib.create(run.model, run.optimizer, run.inputs, jax.random.key(seed), **sizes)

        return jax.jit(jax.vmap(create))(jnp.array([config.seed for config in self.configs]))

    def train_step(self) -> Callable[[State, PyTree], tuple[State, PyTree]]:
        """Returns the compiled train step; the states are donated."""
        run, tuned = self.run, _tuned(self.configs)
        parts = {"model": run.model, "task": run.task, "transform": run.transform}
        keys = [key.removeprefix(TUNED) for key in tuned]
        numbers = {key: jnp.array([config.optimizer[key] for config in self.configs]) for key in keys}

        def step(state, batch, numbers):
            own = ConfigDict({**run.config.optimizer.to_dict(), **numbers})
            optimizer = optimizer_lib.create(own, run.steps, state.params) if numbers else run.optimizer
            return train_step(state, batch, optimizer=optimizer, **parts, **run.step_options)

        compiled = jax.jit(jax.vmap(step), donate_argnums=0)
        return lambda state, batch: compiled(state, batch, numbers)

    def gradient_norms(self) -> Callable[[State, PyTree], PyTree]:
        """Returns the compiled diagnostic of `training.diagnostics`."""
        parts = {"model": self.run.model, "task": self.run.task, "transform": self.run.transform}
        return jax.jit(jax.vmap(functools.partial(diagnostics.gradient_norms, **parts)))

    def batches(self, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Yields the batches of the steps after `start`, each seed's in its own order."""
        config = self.run.config
        settings = {"batch_size": config.train.batch_size, "workers": config.data.workers, "order": config.data.order}
        streams = [
            train_batches(self.run.splits["train"], seed=each.seed, start=start, stop=self.run.steps, **settings)
            for each in self.configs
        ]
        for batches in zip(*streams, strict=True):
            yield {key: np.stack([batch[key] for batch in batches]) for key in batches[0]}

    def one(self, state: State, place: int) -> State:
        """Returns the state of the run at a place."""
        return jax.tree.map(lambda x: x[place], state)

    def evaluate(self, state: State, place: int, names: Sequence[str], final: bool = False) -> Results:
        """Returns the metrics of one run on the named splits, as `training.loop.Trainer.evaluate`."""
        run, own = self.run, self.one(state, place)
        versions = run.parallel.place({"": own.variables} | ({"_ema": own.ema} if own.ema is not None else {}))
        step = self._eval_steps[final and run.task.generates]
        return {
            f"{name}{ending}": evaluate(run, step, variables, run.splits[name])[0]
            for name in names
            for ending, variables in versions.items()
        }

    @functools.cached_property
    def _eval_steps(self) -> dict[bool, Callable]:
        return {generates: self.run.eval_step(generates=generates) for generates in (False, True)}


def _tuned(configs: Sequence[ConfigDict]) -> tuple[str, ...]:
    """Returns the dotted keys of the optimiser in which configs differ."""
    leaves = [dict(config_lib.leaves(config)) for config in configs]
    keys = dict.fromkeys(key for one in leaves for key in one if key.startswith(TUNED))
    return tuple(key for key in keys if any(one.get(key) != leaves[0].get(key) for one in leaves))


class Trainer:
    """Trains runs as `training.loop.Trainer` does one: each leaves in its workdir what it would leave alone, but for
    the report. What they need to go on is saved in `folder`, which is gone when they are finished.

    Attributes:
        workdirs: place among the runs -> its folder; a run that has none is trained, and nothing of it is kept.
        diverged: place -> step and value, as `core.errors.Diverged` says it.
    """

    def __init__(self, seeds: Seeds, workdirs: Mapping[int, Path], folder: Path, display: Display):
        config = seeds.run.config
        self.seeds, self.folder, self.display = seeds, folder, display
        self.workdirs = {place: Workdir(str(path)) for place, path in workdirs.items()}
        self.checkpoints = Checkpoints(folder / "checkpoints", config.checkpoint.keep)
        self.schedules = [optimizer_lib.schedule(each.optimizer, seeds.run.steps) for each in seeds.configs]
        self.under_way = collections.deque()  # metrics still on the device
        self.window: list[dict[str, list[list[float]]]] = []  # (sums, weights) of the steps since the last log
        self.diverged: dict[int, str] = {}

    @property
    def sound(self) -> dict[int, Workdir]:
        """Workdirs of the runs that have not diverged."""
        return {place: workdir for place, workdir in self.workdirs.items() if place not in self.diverged}

    def restore(self) -> tuple[State, int]:
        """Returns the states to go on from and their step. Raises UserError for a folder of another config."""
        here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        shapes = jax.eval_shape(self.seeds.create_state)
        template = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), shapes)
        rows = {}
        if restored := self.checkpoints.restore(template, self.display.say, self._check):
            state, meta = restored
            self.window, rows = meta["window"], meta["rows"]
            self.diverged = {int(place): said for place, said in meta["diverged"].items()}
            self.display.say(f"continuing from step {state.step[0]}")
        else:
            state = self.seeds.create_state()
        step = int(state.step[0])
        for place, workdir in self.workdirs.items():
            workdir.begin(self.seeds.configs[place], step, rows.get(str(place), 0))
        return state, step

    def _check(self, meta: dict) -> None:
        if changes := config_lib.difference(config_lib.from_json(meta["config"]), self.seeds.run.config):
            raise UserError(f"{self.folder} is of another config ({'; '.join(changes)}): remove it")
        self.seeds.run.check_data(meta)

    def train(self) -> State:
        """Runs the steps that are left, as long as one is sound, and returns the final states.

        Raises Stopped after SIGTERM.
        """
        config, steps = self.seeds.run.config, self.seeds.run.steps
        state, start = self.restore()
        step_function, gradient_norms = self.seeds.train_step(), self.seeds.gradient_norms()
        batches, clock, logged, waited = self.seeds.batches(start), time.monotonic(), start, 0.0
        self.display.start(start, steps)
        with Stop() as stop:
            for step in range(start + 1, steps + 1):
                before = time.monotonic()
                batch = next(batches)
                waited += time.monotonic() - before
                if config.log.gradients and (step - 1) % config.log.gradients == 0:
                    self._log_gradients(step, gradient_norms(state, batch))
                state, metrics = step_function(state, batch)
                self.under_way.append(metrics)
                if len(self.under_way) > AHEAD:  # bounds the steps in flight; no value is read
                    jax.block_until_ready(self.under_way[-1 - AHEAD])
                self.display.advance(step)
                last, stopping = step == steps, stop.after(step)
                if step % config.log.every == 0 or last:
                    self._read_metrics(step)
                    if not self.sound:
                        break
                    spent = time.monotonic() - clock
                    self._log(step, (step - logged) * config.train.batch_size / spent, waited / spent)
                    clock, logged, waited = time.monotonic(), step, 0.0
                if config.eval.every and step % config.eval.every == 0:
                    before = time.monotonic()
                    self._evaluate(state, step)
                    clock += time.monotonic() - before
                if step % config.checkpoint.every == 0 or last or stopping:
                    self.save(state, step, wait=last or stopping)
                if stopping and not last:
                    raise Stopped(f"SIGTERM: saved at step {step}; the same command continues from there")
        self.display.stop()
        return state

    def _label(self, place: int) -> str:
        config = self.seeds.configs[place]
        numbers = {
            key.removeprefix(TUNED): config.optimizer[key.removeprefix(TUNED)] for key in _tuned(self.seeds.configs)
        }
        return ", ".join([f"seed {config.seed}", *(f"{key} {number:g}" for key, number in numbers.items())])

    def _read_metrics(self, step: int) -> None:
        """Moves the metrics under way to the window, and notes whose loss or gradient is not finite."""
        first = step - len(self.under_way) + 1
        for number, metrics in enumerate(jax.device_get(list(self.under_way)), first):
            self.window.append({name: [x.tolist() for x in pair] for name, pair in metrics.items()})
            for place in range(len(self.seeds.configs)):
                for name in (*self.seeds.run.task.coefficients, "grad_norm"):
                    value = metrics[name][0][place]
                    if place not in self.diverged and not np.isfinite(value):
                        self.diverged[place] = f"step {number}: {name} is {value}; the runs trained with it went on"
                        self.display.say(f"{self._label(place)} diverged: {name} is {value} at step {number}")
        self.under_way.clear()

    def _log(self, step: int, examples_per_second: float, waited: float) -> None:
        """Logs the metrics of the window; a run's examples a second are its own, not those of all together."""
        sums = {name: np.sum([row[name] for row in self.window], 0) for name in self.window[-1]}
        speed = {"examples_per_second": examples_per_second, "data_wait": waited}
        rows = []
        for place, workdir in self.sound.items():
            metrics = mean_metrics(
                self.seeds.run.task, {name: (total[place], weight[place]) for name, (total, weight) in sums.items()}
            )
            rows.append(metrics | {"learning_rate": float(self.schedules[place](step - 1))} | speed)
            workdir.log(step, "train", rows[-1])
        self.window = []
        self.display.train(step, {name: float(np.mean([row[name] for row in rows])) for name in rows[0]})

    def _log_gradients(self, step: int, norms: PyTree) -> None:
        norms = jax.device_get(norms)
        for place, workdir in self.sound.items():
            workdir.log(step, "gradients", {name: x[place].tolist() for name, x in norms.items()})

    def _evaluate(self, state: State, step: int) -> None:
        """Evaluates all splits but the test one."""
        self._read_metrics(step)
        names = [name for name in self.seeds.run.splits if name not in config_lib.UNWATCHED]
        for place, workdir in self.sound.items():
            for split, metrics in self.seeds.evaluate(state, place, names).items():
                workdir.log(step, split, metrics)

    def save(self, state: State, step: int, wait: bool = False) -> None:
        """Saves the states and what the loop needs to go on."""
        self._read_metrics(step)
        meta = {
            "config": config_lib.to_json(self.seeds.run.config),
            "info": self.seeds.run.info.to_json(),
            "rows": {str(place): len(workdir.rows) for place, workdir in self.workdirs.items()},
            "window": self.window,
            "diverged": {str(place): said for place, said in self.diverged.items()},
        }
        self.checkpoints.save(step, jax.tree.map(jnp.copy, state), meta, wait)  # the state itself is soon donated

    def finish(self, state: State) -> None:
        """Writes checkpoint and results.json of each run that is sound, and removes the folder."""
        run, step = self.seeds.run, int(state.step[0])
        for place, workdir in self.sound.items():
            self._save_one(state, place, step)
            results = self.seeds.evaluate(state, place, [name for name in run.splits if name != "train"], final=True)
            seen = {row["split"] for row in workdir.rows}
            for split, metrics in results.items():
                if split not in seen:  # others have their curve, of which this is one point
                    workdir.log(step, split, metrics)
                self.display.evaluation(step, f"{self._label(place)}, {split}", metrics)
            workdir.finish(self.seeds.configs[place], step, results, command="")
        self.checkpoints.close()
        shutil.rmtree(self.folder)

    def _save_one(self, state: State, place: int, step: int) -> None:
        """Saves what this run alone would have saved of the last step."""
        workdir = self.workdirs[place]
        meta = {"rows": len(workdir.rows), "window": [], "best": NO_BEST, "info": self.seeds.run.info.to_json()}
        checkpoints = Checkpoints(workdir.path / "checkpoints")
        checkpoints.save(step, self.seeds.one(state, place), meta)
        checkpoints.close()

    def close(self) -> None:
        self.display.stop()
        self.checkpoints.close()
        for workdir in self.workdirs.values():
            workdir.close()
