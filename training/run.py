"""Builds all parts of a run from its config, and checks them as far as possible without compilation."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array
from ml_collections import ConfigDict

import data
from core.errors import UserError, nearest
from core.info import Info
from data.augment.transform import Transform
from data.batches import BatchSize, steps_per_epoch
from data.buckets import batch_sizes, bucketed
from data.splits import Split
from tasks.task import Task
from training import build, diagnostics, side_by_side, transfer
from training import config as config_lib
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.parallel import Parallel
from training.side_by_side import SideBySide, tuned_keys
from training.step import eval_step, train_step


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a run, or of several side by side, as made by `build_run`.

    Attributes:
        configs: one per run. They differ in seed, start and numbers of the optimizer.
        train_split: the training split, grouped into buckets if the config sets them.
    """

    configs: tuple[ConfigDict, ...]
    splits: dict[str, Split]
    train_split: Split
    info: Info
    task: Task
    model: nn.Module
    transform: Transform
    optimizer: optax.GradientTransformation
    parallel: Parallel | SideBySide
    steps: int

    @property
    def config(self) -> ConfigDict:
        """The config of the first run."""
        return self.configs[0]

    @property
    def inputs(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and types of the model's inputs for one example, after preprocessing."""
        return build.model_inputs(self.task, self.transform, self.info)

    def batch_size(self, split: Split, group: str = "train") -> BatchSize:
        """Returns the size of the batches of a split in training or evaluation (`group`), or one for each bucket."""
        return _batch_size(self.config, group, split, self.info, self.parallel)

    @property
    def examples_per_step(self) -> float:
        """The mean number of examples in a global batch."""
        return float(len(self.train_split) / steps_per_epoch(self.train_split, self.batch_size(self.train_split)))

    def every(self, group: str) -> int:
        """Returns the number of steps between evaluations, checkpoints or log lines (`group`); 0 = never."""
        return config_lib.steps_of(self.config[group].every, self.steps)

    def create_state(self, seed: int | Array | None = None) -> state_lib.State:
        """Returns the state of step 0, initialised from `seed`, or from the config's seed."""
        train, key = self.config.train, jax.random.key(self.config.seed if seed is None else seed)
        sizes = {"batch_size": int(np.max(self.batch_size(self.train_split))), "ema": train.ema_decay > 0}
        return state_lib.create(self.model, self.optimizer, self.inputs, key, **sizes)

    def create_states(self, say: Callable[[str], None]) -> list[state_lib.State]:
        """Returns the state of step 0 of each run, with the weights of `init_from` if the config sets it."""
        if len(self.configs) == 1:
            states = [self.create_state()]
        else:
            seeds = jnp.array([config.seed for config in self.configs], jnp.uint32)
            # one after another: several batched decompositions in one program, as orthogonal initialisers become under
            # vmap, wait for each other for ever in jax 0.10 and later on a CPU
            stacked = jax.jit(functools.partial(jax.lax.map, self.create_state))(seeds)
            states = [jax.tree.map(lambda x, i=i: x[i], stacked) for i in range(len(self.configs))]
        for i, config in enumerate(self.configs):
            if config.init_from:
                states[i], notes = transfer.init_from(config.init_from, states[i], self.info, self.model)
                say("\n".join(notes))
        return states

    def check_data(self, meta: dict) -> None:
        """Raises UserError for the meta of a checkpoint if its data, or their number, differ from those of this run."""
        if changes := Info.from_json(meta["info"]).difference(self.info):
            raise UserError(
                f"the data have changed since the start ({'; '.join(changes)}): restore them, or use another workdir"
            )

    def check_keys(self, meta: dict) -> None:
        """Raises UserError for the meta of a checkpoint if keys, classes or vocabularies of its data differ."""
        if changes := Info.from_json(meta["info"]).key_difference(self.info):
            raise UserError(f"the checkpoint was trained on other data ({'; '.join(changes)})")

    @property
    def frozen_size(self) -> tuple[int, int]:
        """The number of parameters that do not train, and of all."""
        params = jax.eval_shape(self.create_state).params
        return optimizer_lib.frozen_size((*build.frozen(self.model), *self.config.optimizer.frozen), params)

    def train_step(self) -> Callable:
        """Returns the compiled train step, `(state, batch) -> (state, metrics)`."""
        parts = {"model": self.model, "task": self.task, "transform": self.transform}
        step = functools.partial(train_step, **parts, **self.step_options, axis_name=self.parallel.axis_name)
        if len(self.configs) == 1:
            return self.parallel.compile_train(functools.partial(step, optimizer=self.optimizer))
        tuned = tuned_keys(self.configs)

        def own_step(state, batch, numbers):
            config = ConfigDict({**self.config.optimizer.to_dict(), **numbers})
            if not numbers:
                return step(state, batch, optimizer=self.optimizer)
            own = optimizer_lib.create(config, self.steps, state.params, build.frozen(self.model))
            return step(state, batch, optimizer=own)

        numbers = {key: jnp.array([config.optimizer[key] for config in self.configs]) for key in tuned}
        return self.parallel.compile_train(own_step, numbers)

    def label(self, config: ConfigDict, text: str = "") -> str:
        """Returns `text` with the properties that distinguish a run from the others, such as "seed 1"."""
        if len(self.configs) == 1:
            return text
        numbers = [f"{key} {config.optimizer[key]:g}" for key in tuned_keys(self.configs)]
        return ", ".join([f"seed {config.seed}", *numbers, *filter(None, (text,))])

    @property
    def step_options(self) -> dict[str, Any]:
        """The options of `train_step` that the config sets."""
        train = self.config.train
        sync = self.config.parallel.sync_batchnorm
        return {"accumulate": train.accumulate, "ema_decay": train.ema_decay, "sync_batchnorm": sync}

    def gradient_norms(self):
        """Returns the compiled diagnostic of `training.diagnostics`."""
        parts = {"model": self.model, "task": self.task, "transform": self.transform}
        parts |= {"sync_batchnorm": self.config.parallel.sync_batchnorm, "axis_name": self.parallel.axis_name}
        return self.parallel.compile_eval(functools.partial(diagnostics.gradient_norms, **parts), own_batches=True)

    def eval_step(self, generates: bool = False):
        """Returns the compiled eval step; if `generates`, the model also generates sequences."""
        parts = {"model": self.model, "task": self.task, "transform": self.transform, "generates": generates}
        return self.parallel.compile_eval(functools.partial(eval_step, **parts, axis_name=self.parallel.axis_name))

    @property
    def best_is_generated(self) -> bool:
        """Whether `checkpoint.best` names a metric of generated sequences."""
        return self.config.checkpoint.best.partition("/")[2] in self.task.generated_metrics


def build_run(
    config: ConfigDict, data_dir: str | None, others: Sequence[ConfigDict] = (), trained: Info | None = None
) -> Run:
    """Returns the run of a config, or with `others` the runs of all of them side by side.

    Args:
        trained: description of the data of a finished run, see `data.load`.

    Raises UserError for parts that do not fit each other, before any compilation.
    """
    build.check_checkout()
    configs = tuple(map(config_lib.validate, (config, *others)))
    config = configs[0]
    parallel = SideBySide(len(configs)) if others else Parallel(config.parallel.strategy)
    if others:
        side_by_side.check(configs)
    parallel.check_batch_size("train.batch_size", config.train.batch_size, config.train.accumulate)
    if config.eval.batch_size:
        parallel.check_batch_size("eval.batch_size", config.eval.batch_size)
    build.construct(config.model, "arch")  # names and fields are checked before the data is read, which may take long
    build.construct(config.task, "tasks")
    optimizer_lib.schedule(config.optimizer, config.train.steps or 10**9)
    splits, info = data.load(config.data, data_dir, trained)
    train_split = bucketed(splits["train"], splits["train"], config.data.buckets)
    build.check_keys(info)
    info = info if trained else transfer.with_start_statistics(info, configs)
    transform = Transform.create(config.augment.ops, info)
    task = build.build_task(config, info, transform)
    for key in task.texts:
        for split in splits.values():
            split.text(key, np.arange(1))  # refuses a key without text
    model = build.build_model(config, task, info)
    if getattr(model, "num_classes", None) == 0:
        raise UserError(
            f"config.model.num_classes is 0, as {info.name} has no classes to predict: labels must be whole numbers or "
            "texts; the task regression.Regression predicts other numbers"
        )
    if build.frozen(model) and not all(each.init_from for each in configs):
        raise UserError(f"config.init_from is empty: {type(model).__name__} needs the workdir of a trained network")
    per_epoch = steps_per_epoch(train_split, _batch_size(config, "train", train_split, info, parallel))
    steps = config.train.steps or max(1, round(config.train.epochs * per_epoch.numerator / per_epoch.denominator))
    params = _check_shapes(config, model, task, transform, info)
    optimizer = optimizer_lib.create(config.optimizer, steps, params, build.frozen(model))
    return Run(configs, splits, train_split, info, task, model, transform, optimizer, parallel, steps)


def _batch_size(config: ConfigDict, group: str, split: Split, info: Info, parallel: Parallel | SideBySide) -> BatchSize:
    """Returns the size of the batches of a split in training or evaluation (`group`), or one for each bucket."""
    if size := config[group].batch_size or config.train.batch_size:
        return size
    unit = parallel.devices * config.train.accumulate
    sequences = (record for record in info.keys.values() if record.ragged or record.role == "tokens")
    longest = max((record.shape[0] for record in sequences), default=0)
    return batch_sizes(split, config.train.batch_tokens, unit, longest)


def _check_shapes(config: ConfigDict, model: nn.Module, task: Task, transform: Transform, info: Info) -> Any:
    """Returns the shapes of the parameters, by running initialisation, augmentation and evaluation on shapes only."""
    inputs = build.model_inputs(task, transform, info)
    shown = ", ".join(f"{name} {x.shape[1:]}" for name, x in zip(task.inputs, inputs, strict=True))
    try:
        variables = jax.eval_shape(lambda: model.init(jax.random.key(0), *map(_zeros, inputs), train=False))
    except Exception as error:  # a model may raise any exception for unsuitable shapes
        raise UserError(
            f"config.model.name {config.model.name!r} refuses {shown}: {build.first_line(error)}",
            build.trace(error),
        ) from error
    if (state_lib.CARRY in variables) != (config.data.order == "continuous"):
        carries = "carries its state from batch to batch" if state_lib.CARRY in variables else "carries no state"
        raise UserError(
            f"config.model.name {config.model.name!r} {carries}, but config.data.order is {config.data.order!r}: "
            "stateful models and the order 'continuous' go together"
        )
    augmented = build.transformed_batch(transform, info, rng=jax.random.key(0))
    larger = [augmented[name] for name in task.inputs]
    try:  # an op may give another size in training
        jax.eval_shape(lambda v: model.apply(v, *map(_zeros, larger), train=False), variables)
    except Exception as error:
        shown = ", ".join(f"{name} {x.shape[1:]}" for name, x in zip(task.inputs, larger, strict=True))
        raise UserError(
            f"config.augment.ops {config.augment.ops} give {shown}, which {config.model.name} refuses: "
            f"{build.first_line(error)}",
            build.trace(error),
        ) from error
    batch = build.example_batch(info, 2)
    try:
        _, arrays = jax.eval_shape(
            lambda v, b: eval_step(v, b, model=model, task=task, transform=transform), variables, batch
        )
    except Exception as error:
        raise UserError(
            f"config.task.name {config.task.name!r} does not fit {config.model.name}: {build.first_line(error)}",
            build.trace(error),
        ) from error
    for key, array in arrays.items():
        if array.shape[:1] != (2,) or (key == "loss" and array.ndim > 1):
            raise UserError(
                f"config.task.name {config.task.name!r}: metric {key!r} has the shape {array.shape} for 2 examples"
            )
    metric = config.checkpoint.best.partition("/")[2]
    if config.checkpoint.best and metric not in task.metric_names:
        hint = nearest(metric, task.metric_names)
        raise UserError(f"config.checkpoint.best {config.checkpoint.best!r}: unknown metric {metric!r}: {hint}")
    return variables["params"]


def _zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
    return jnp.zeros(shape.shape, shape.dtype)
