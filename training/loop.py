"""The loop: train, log, evaluate, save; a killed run continues bitwise. For one run or several."""

import collections
import functools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from core.errors import Diverged, Stopped, UserError
from data.batches import train_batches
from training.checkpoint import Checkpoints, restore_first, steps_in
from training.config import UNWATCHED, check_same
from training.display import Display
from training.evaluate import evaluate
from training.member import Member
from training.profile import profile
from training.run import Run
from training.state import not_finite
from training.step import mean_metrics
from training.stop import Stop
from training.workdir import Workdir

Results = dict[str, dict[str, float]]  # split -> metric -> value
Arrays = dict[str, dict[str, np.ndarray]]  # split -> name -> values, one row per example


class Trainer:
    """Trains the runs of `run.configs`, each in its workdir, with the same files as for a run trained alone.

    Args:
        workdirs: one per run; a run with None is trained without writing files.
        folder: for the joint checkpoints of all runs; the workdir if there is one run.
    """

    def __init__(self, run: Run, workdirs: Sequence[Workdir | None], folder: Path, display: Display):
        self.run, self.folder, self.display = run, folder, display
        pairs = zip(run.configs, workdirs, strict=True)
        self.members = [Member(i, config, workdir, run.steps) for i, (config, workdir) in enumerate(pairs) if workdir]
        self.checkpoints = Checkpoints(folder / "checkpoints", run.config.checkpoint.keep)
        self.in_flight = collections.deque()  # metrics that are still on the device
        self.step = 0  # finished steps
        self.eval_step, self.gradient_norms = functools.cache(run.eval_step), run.gradient_norms()

    @property
    def active(self) -> list[Member]:
        return [member for member in self.members if member.active]

    def restore(self) -> tuple[PyTree, int]:
        """Returns the placed state to continue from, and its step: the newest checkpoint, or a fresh state.

        The best checkpoint of a run trained alone holds all that a checkpoint holds.
        """
        parallel = self.run.parallel
        template = parallel.template(jax.eval_shape(self.run.create_state))
        best = self.members[0].best_checkpoint if len(self.run.configs) == 1 else None
        found = [(folder, step) for folder in (self.checkpoints, best) if folder for step in steps_in(folder.folder)]
        newest = sorted(found, key=lambda pair: pair[1], reverse=True)
        if restored := restore_first(newest, template, self.display.say, self._check):
            state, meta, _ = restored
            for member in self.members:
                member.begin(self.run.info, meta["step"], meta["members"][str(member.index)], self.display)
            self.display.say(f"continuing from step {meta['step']}")
            return parallel.place(state), meta["step"]
        states = self.run.create_states(self.display.say)
        for member in self.members:
            member.begin(self.run.info)
        return parallel.place(parallel.stack(*states)), 0

    def _check(self, meta: dict) -> None:
        """Raises UserError for a checkpoint of another config or of other data."""
        check_same(meta["config"], self.run.config, str(self.folder))
        self.run.check_data(meta)

    def train(self, stop: Stop | None = None) -> PyTree:
        """Runs the remaining steps and returns the final state, placed on the devices.

        Args:
            stop: entered by the caller; None: signals have their usual effect.

        Raises Diverged if all runs have diverged, and Stopped if `stop` asks for it.
        """
        stop = stop or Stop()
        run, config, parallel = self.run, self.run.config, self.run.parallel
        log_every, eval_every, save_every = map(run.every, ("log", "eval", "checkpoint"))
        state, self.step = self.restore()
        start = self.step
        step_function = run.train_step()
        batches = _Timed(parallel.batches(*self._streams(start)))
        clock, logged = time.monotonic(), start
        self.display.start(start, run.steps)
        if start not in (0, *steps_in(self.checkpoints.folder)) and (start % save_every == 0 or start == run.steps):
            self.save(state, start)  # killed when only the best checkpoint of this step was complete
        for step, batch in enumerate(batches, start + 1):
            if config.log.profile and step == start + 1:
                table = profile(step_function, state, batch, config.log.profile, self.folder / "profile")
                self.display.say(table)
            if config.log.gradients and (step - 1) % config.log.gradients == 0:
                self._log_gradients(step, state, batch)
            if len(self.in_flight) >= parallel.in_flight:  # waits, but reads no value
                jax.block_until_ready(self.in_flight[-parallel.in_flight])
            state, metrics = step_function(state, batch)
            self.in_flight.append(metrics)
            self.display.advance(step)
            last, stopping = step == run.steps, stop.after(step)
            if step % log_every == 0 or last:
                self._read_metrics(step)
                spent = time.monotonic() - clock
                self._log(step, (step - logged) * run.examples_per_step / spent, batches.waited / spent)
                clock, logged, batches.waited = time.monotonic(), step, 0.0
            if eval_every and (step % eval_every == 0 or (last and config.checkpoint.best)):  # the last may be the best
                before = time.monotonic()
                self._evaluate(state, step)
                clock += time.monotonic() - before
            over = last or not self.active
            if step % save_every == 0 or over or stopping:
                self.save(state, step, wait=over or stopping)
            self.step = step
            if over:
                break
            if stopping:
                raise Stopped(f"{stop.requested}: saved at step {step}; the same command continues from there")
        stop.all_saved(self.step + 1)
        self.display.stop()
        return state

    def _streams(self, start: int) -> list[Iterator]:
        """Returns the batches of each run from this host, in the run's order."""
        run, config = self.run, self.run.config
        stop = run.steps if self.active else start
        settings = {"batch_size": run.batch_size(run.train_split), "workers": config.data.workers}
        settings["order"] = config.data.order
        settings |= {"process_index": jax.process_index(), "process_count": jax.process_count()}
        return [
            train_batches(run.train_split, seed=each.seed, start=start, stop=stop, **settings) for each in run.configs
        ]

    def _read_metrics(self, step: int) -> None:
        """Moves the metrics of finished steps to their runs. Raises Diverged if all runs have diverged."""
        first = step - len(self.in_flight) + 1
        per_run = self.run.parallel.per_run(list(self.in_flight))
        self.in_flight.clear()
        watched = (*self.run.task.coefficients, "grad_norm")
        for member in self.active:
            for number, metrics in enumerate(per_run[member.index], first):
                if member.active:
                    member.add(number, metrics, watched)
            if member.diverged and len(self.members) > 1:
                self.display.say(f"{self.run.label(member.config)} diverged at {member.diverged}; the others continue")
        self._check_diverged()

    def _check_diverged(self) -> None:
        """Raises Diverged if all runs have diverged."""
        if all(member.diverged for member in self.members):
            kept = steps_in(self.checkpoints.folder)
            where = f"the last good checkpoint is of step {kept[-1]}" if kept else "no checkpoint was saved before"
            raise Diverged(f"{self.members[0].diverged}; stopped, {where}")

    def _check_weights(self, member: Member, step: int, state: PyTree, index: int | None = None) -> None:
        """Marks a run as diverged if its weights after `step`, in a joint state those of run `index`, are not finite.

        Raises Diverged as `_check_diverged`.
        """
        if path := not_finite(state, index):
            member.diverge(step, f"step {step}: {path} is not finite after the update")
            if len(self.members) > 1:
                self.display.say(f"{self.run.label(member.config)} diverged at {member.diverged}; the others continue")
            self._check_diverged()

    def _log(self, step: int, examples_per_second: float, waited: float) -> None:
        """Logs the mean metrics since the last log. The speed is that of one run, not the sum over all."""
        rows = []
        for member in self.active:
            sums = {name: tuple(np.sum([row[name] for row in member.pending], 0)) for name in member.pending[-1]}
            metrics = mean_metrics(self.run.task, sums) | {"learning_rate": float(member.schedule(step - 1))}
            rows.append(metrics | {"examples_per_second": examples_per_second, "data_wait": waited})
            member.pending = []
            member.workdir.log(step, "train", rows[-1])
            member.status("training", step)
        if rows:
            self.display.train(step, {name: float(np.mean([row[name] for row in rows])) for name in rows[0]})

    def _log_gradients(self, step: int, state: PyTree, batch: PyTree) -> None:
        """Logs the norms of the gradient of `step`."""
        norms = self.run.parallel.per_run(self.gradient_norms(state, batch))
        for member in self.active:
            own = {name: x.tolist() for name, x in norms[member.index].items()}
            member.workdir.log(step, "gradients", own)

    def _evaluate(self, state: PyTree, step: int) -> None:
        """Evaluates all splits except the test split, saves each new best, and ends runs that are out of patience.

        Raises UserError if the watched metric does not exist or is NaN.
        """
        self._read_metrics(step)
        found = self.evaluate(state, [name for name in self.run.splits if name not in UNWATCHED])
        for member in self.active:
            results, _ = found[member.index]
            for split, metrics in results.items():
                member.workdir.log(step, split, metrics)
                self.display.evaluation(step, self.run.label(member.config, split), metrics)
            if not member.best_checkpoint:
                continue
            own = functools.partial(self.run.parallel.take_one, state, member.index)
            try:
                is_best = member.evaluated(step, results)
            except UserError:  # NaN, if the weights are not finite
                self._check_weights(member, step, own())
                if member.active:
                    raise
                continue
            if is_best:
                best = own()
                self._check_weights(member, step, best)
                if member.active:
                    member.save(member.best_checkpoint, step, best, self.run.info.to_json())
            elif member.out_of_patience and step < self.run.steps:
                member.ended = step
                watched = f"no better {member.config.checkpoint.best} since step {member.best['step']}"
                self.display.say(f"{self.run.label(member.config, f'step {step}')}: {watched}, stopping")
                self._save_own(member, step, own)

    def evaluate(self, state: PyTree, names: Sequence[str], final: bool = False) -> list[tuple[Results, Arrays]]:
        """Returns metrics and arrays per example of the named splits, per run, including those of the averaged weights
        ("test_ema"). The `final` evaluation also generates sequences, which takes longer; so does every evaluation if
        `checkpoint.best` needs them.
        """
        found: list[tuple[Results, Arrays]] = [({}, {}) for _ in self.run.configs]
        step = self.eval_step(bool(self.run.task.generated_metrics) and (final or self.run.best_is_generated))
        for name in names:
            versions = {name: state.variables} | ({f"{name}_ema": state.ema} if state.ema is not None else {})
            for label, variables in versions.items():
                own = evaluate(self.run, step, variables, self.run.splits[name])
                for (results, arrays), (metrics, values) in zip(found, own, strict=True):
                    results[label], arrays[label] = metrics, values
        return found

    def save(self, state: PyTree, step: int, wait: bool = False) -> None:
        """Saves the state of all runs and the loop's state.

        Raises Diverged if all runs have diverged: weights that are not finite are never saved as the newest.
        """
        self._read_metrics(step)
        taken = self.run.parallel.take(state)
        for member in self.active:
            self._check_weights(member, step, taken, None if len(self.run.configs) == 1 else member.index)
        for member in self.members:
            member.workdir.sync()
            if member.best_checkpoint:
                member.best_checkpoint.wait()  # a kill must not leave a checkpoint that refers to a missing best one
        meta = {"step": step, "config": self.run.config.to_dict(), "info": self.run.info.to_json()}
        meta["members"] = {str(member.index): member.meta for member in self.members}
        self.checkpoints.save(step, taken, meta, wait)

    def save_each(self, state: PyTree, step: int) -> None:
        """Saves the last state of every run that has not stopped early to its own workdir."""
        for member in self.active:
            self._save_own(member, step, functools.partial(self.run.parallel.take_one, state, member.index))

    def _save_own(self, member: Member, step: int, own) -> None:
        if member.workdir.path.resolve() != self.folder.resolve():  # otherwise `save` writes it
            checkpoints = Checkpoints(member.workdir.path / "checkpoints")
            joint = os.path.relpath(self.folder, member.workdir.path)  # a restart reads its checkpoints, not this one
            member.save(checkpoints, step, own(), self.run.info.to_json(), together=joint)
            checkpoints.close()

    def close(self) -> None:
        self.display.stop()
        self.checkpoints.close()
        for member in self.members:
            member.close()


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
