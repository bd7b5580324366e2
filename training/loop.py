"""The loop: train, log, evaluate, save; go on where a killed run stopped, bit for bit."""

import collections
import functools
import math
import time

import jax
import numpy as np
from jaxtyping import PyTree

from core.errors import Diverged, Stopped, UserError
from data.batches import train_batches
from data.buckets import bucketed
from training import optimizer as optimizer_lib
from training import transfer
from training.checkpoint import Checkpoints, read_meta
from training.config import UNWATCHED
from training.display import Display
from training.evaluate import evaluate
from training.run import Run
from training.state import State
from training.step import mean_metrics
from training.stop import Stop
from training.workdir import Workdir

Results = dict[str, dict[str, float]]  # split -> metric -> value
NO_BEST = {"step": 0, "value": None, "worse": 0}  # worse: evaluations since the best one


class Trainer:
    """One run in its workdir. The metrics of steps not yet logged, and the best so far, are part of what is saved."""

    def __init__(self, run: Run, workdir: Workdir, display: Display):
        self.run, self.workdir, self.display = run, workdir, display
        self.checkpoints = Checkpoints(workdir.path / "checkpoints", run.config.checkpoint.keep)
        self.best_checkpoint = Checkpoints(workdir.path / "best") if run.config.checkpoint.best else None
        self.schedule = optimizer_lib.schedule(run.config.optimizer, run.steps)
        self.under_way = collections.deque()  # metrics still on the device
        self.window: list[dict[str, list[float]]] = []  # metrics of the steps since the last log, read
        self.best = NO_BEST
        self.eval_step, self.gradient_norms = functools.cache(run.eval_step), run.gradient_norms()

    def restore(self) -> tuple[State, int]:
        """Returns the state to go on from and its step: the newest checkpoint, or a fresh state."""
        config = self.run.config
        template = self.run.parallel.template(jax.eval_shape(self.run.create_state))
        restored = self.checkpoints.restore(template, self.display.say, self.run.check_data)
        if restored:
            state, meta = restored
            self.window, self.best = meta["window"], self._existing_best(meta["best"])
            self.workdir.begin(config, int(state.step), meta["rows"])
            self.display.say(f"continuing from step {int(state.step)}")
            return state, int(state.step)
        state = self.run.create_state()
        if config.init_from:
            state, said = transfer.init_from(config.init_from, state, self.run.info)
            self.display.say("\n".join(said))
        self.workdir.begin(config, 0, 0)
        return state, 0

    def _existing_best(self, best: dict) -> dict:
        """Returns `best` of a checkpoint, or what best/ holds instead if that checkpoint is lost.

        A best checkpoint newer than the restored state is as good: the same steps lead to it again.
        """
        newest = self.best_checkpoint and self.best_checkpoint.manager.latest_step()
        if not best["step"] or (newest or 0) >= best["step"]:
            return best
        held = read_meta(self.best_checkpoint.folder / str(newest))["best"] if newest else NO_BEST
        self.display.say(f"best/{best['step']} is missing; continuing with the best checkpoint of step {held['step']}")
        return held

    def train(self) -> State:
        """Runs the steps that are left and returns the final state, placed on the devices.

        Raises Diverged naming the step, and Stopped after SIGTERM.
        """
        config, parallel = self.run.config, self.run.parallel
        host_state, start = self.restore()
        state = parallel.place(host_state)
        step_function = self.run.train_step()
        batches = _Timed(parallel.batches(self._host_batches(start)))
        clock, logged = time.monotonic(), start
        self.display.start(start, self.run.steps)
        with Stop(jax.process_count()) as stop:
            for step, batch in enumerate(batches, start + 1):
                if config.log.gradients and (step - 1) % config.log.gradients == 0:
                    self._log_gradients(step, state, batch)
                if len(self.under_way) >= parallel.in_flight:  # no value is read
                    jax.block_until_ready(self.under_way[-parallel.in_flight])
                state, metrics = step_function(state, batch)
                self.under_way.append(metrics)
                self.display.advance(step)
                last, stopping = step == self.run.steps, stop.after(step)
                if step % config.log.every == 0 or last:
                    self._read_metrics(step)
                    spent = time.monotonic() - clock
                    self._log(step, (step - logged) * config.train.batch_size / spent, batches.waited / spent)
                    clock, logged, batches.waited = time.monotonic(), step, 0.0
                if config.eval.every and step % config.eval.every == 0:
                    before = time.monotonic()
                    enough = self._evaluate(state, step)
                    clock += time.monotonic() - before
                    if enough and not last:
                        self.save(state, step, wait=True)
                        self.display.say(
                            f"step {step}: no better {config.checkpoint.best} since step {self.best['step']}, stopping"
                        )
                        break
                if step % config.checkpoint.every == 0 or last or stopping:
                    self.save(state, step, wait=last or stopping)
                if stopping and not last:
                    raise Stopped(f"SIGTERM: saved at step {step}; the same command continues from there")
        self.display.stop()
        return state

    def _host_batches(self, start: int):
        config = self.run.config
        stop = start if self._stopped_early() else self.run.steps
        hosts = {"process_index": jax.process_index(), "process_count": jax.process_count()}
        split = bucketed(self.run.splits["train"], self.run.splits["train"], config.data.buckets)
        if config.data.buckets:
            self.display.say(str(split))
        settings = {"batch_size": config.train.batch_size, "workers": config.data.workers, "order": config.data.order}
        return train_batches(split, seed=config.seed, start=start, stop=stop, **settings, **hosts)

    def _stopped_early(self) -> bool:
        patience = self.run.config.train.patience
        return bool(patience) and self.best["worse"] >= patience

    def _read_metrics(self, step: int) -> None:
        """Moves the metrics under way to the window. Raises Diverged for the first step whose loss or gradient is
        not finite.
        """
        first = step - len(self.under_way) + 1
        for number, metrics in enumerate(self.run.parallel.read(list(self.under_way)), first):
            self.window.append({name: [float(total), float(weight)] for name, (total, weight) in metrics.items()})
            for name in (*self.run.task.coefficients, "grad_norm"):
                if not math.isfinite(self.window[-1][name][0]):
                    kept = self.checkpoints.manager.latest_step()
                    where = f"the last good checkpoint is of step {kept}" if kept else "no checkpoint was saved before"
                    raise Diverged(f"step {number}: {name} is {self.window[-1][name][0]}; stopped, {where}")
        self.under_way.clear()

    def _log(self, step: int, examples_per_second: float, waited: float) -> None:
        sums = {name: np.sum([row[name] for row in self.window], 0) for name in self.window[-1]}
        metrics = mean_metrics(self.run.task, sums)
        metrics["learning_rate"] = float(self.schedule(step - 1))
        metrics |= {"examples_per_second": examples_per_second, "data_wait": waited}
        self.window = []
        self.workdir.log(step, "train", metrics)
        self.display.train(step, metrics)

    def _log_gradients(self, step: int, state: PyTree, batch: PyTree) -> None:
        """Logs the norms of the gradient that `step` is about to follow."""
        norms = self.run.parallel.read(self.gradient_norms(state, batch))
        self.workdir.log(step, "gradients", {name: x.tolist() for name, x in norms.items()})

    def _evaluate(self, state: PyTree, step: int) -> bool:
        """Evaluates all splits except the test split and saves a new best; returns whether patience has ended.

        Raises UserError if the watched metric does not exist or is NaN.
        """
        self._read_metrics(step)
        names = [name for name in self.run.splits if name not in UNWATCHED]
        results = self.evaluate(state, names)[0]
        for split, metrics in results.items():
            self.workdir.log(step, split, metrics)
            self.display.evaluation(step, split, metrics)
        best = self.run.config.checkpoint.best
        if not best:
            return False
        split, _, metric = best.lstrip("-").partition("/")
        value = results[split].get(metric, math.nan) * (-1 if best.startswith("-") else 1)
        if math.isnan(value):
            problem = "is NaN" if metric in results[split] else "does not exist"
            raise UserError(
                f"config.checkpoint.best {best!r} {problem} at step {step}: watch another metric of {split}"
            )
        if self.best["value"] is None or value > self.best["value"]:
            self.best = {"step": step, "value": value, "worse": 0}
            self.save(state, step, to=self.best_checkpoint)
        else:
            self.best = {**self.best, "worse": self.best["worse"] + 1}
        return self._stopped_early()

    def evaluate(
        self, state: PyTree, names: list[str], final: bool = False
    ) -> tuple[Results, dict[str, dict[str, np.ndarray]]]:
        """Returns metrics and per-example arrays of the named splits, and with them of the averaged weights
        ("test_ema"). The `final` evaluation also generates sequences, which takes longer, as does every evaluation if
        `checkpoint.best` needs them.
        """
        results, arrays = {}, {}
        step = self.eval_step(self.run.task.generates and (final or self.run.best_is_generated))
        for name in names:
            versions = {name: state.variables} | ({f"{name}_ema": state.ema} if state.ema is not None else {})
            for label, variables in versions.items():
                results[label], arrays[label] = evaluate(self.run, step, variables, self.run.splits[name])
        return results, arrays

    def save(self, state: PyTree, step: int, wait: bool = False, to: Checkpoints | None = None) -> None:
        """Saves the state and what the loop needs to continue. Raises Diverged instead of saving weights that are not
        finite.
        """
        self._read_metrics(step)
        if to is None and self.best_checkpoint:
            self.best_checkpoint.wait()  # a kill must not leave a checkpoint without the best one that it refers to
        meta = {
            "rows": len(self.workdir.rows),
            "window": self.window,
            "best": self.best,
            "info": self.run.info.to_json(),
        }
        (to or self.checkpoints).save(step, self.run.parallel.take(state), meta, wait)

    def close(self) -> None:
        self.display.stop()
        self.checkpoints.close()
        if self.best_checkpoint:
            self.best_checkpoint.close()
        self.workdir.close()


class _Timed:
    """Iterates and adds up the seconds spent waiting for the next item."""

    def __init__(self, items):
        self.items, self.waited = iter(items), 0.0

    def __iter__(self):
        return self

    def __next__(self):
        before = time.monotonic()
        try:
            return next(self.items)
        finally:
            self.waited += time.monotonic() - before
