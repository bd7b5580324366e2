"""The keys of a config: their defaults, with the reason next to each, and the check of the user's values.

Groups are flat. `model`, `task` and `optimizer` also contain the arguments of the class or function that their `name`
names; `training.build` and `training.optimizer` check those. Zero, "" and () mean "off" or "chosen from the data", so
that every key has one type.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from core.errors import UserError, nearest
from core.names import convert

CHOICES = {
    "data.target_type": ("class", "number"),
    "data.order": ("shuffled", "continuous"),
    "parallel.strategy": ("pmap", "fsdp"),
    "train.dtype": ("float32", "bfloat16"),
}
ITEMS = {  # the types of tuples
    "augment.ops": tuple[str, ...], "data.preprocess": tuple[str, ...], "data.missing": tuple[str, ...],
    "log.writers": tuple[str, ...], "optimizer.frozen": tuple[str, ...], "optimizer.decay_mask": tuple[str, ...],
    "optimizer.lr_multipliers": tuple[tuple[str, float], ...],
}  # fmt: skip
UNWATCHED = ("train", "test")  # splits that are not evaluated in training
OPEN_GROUPS = ("model", "task", "optimizer")  # their further keys are arguments of the named class or function
DISPLAY_GROUPS = ("log",)  # may change when a run continues: no result depends on them
PLACEMENT = ("parallel.hosts",)  # may change, too: results differ by rounding only


def default() -> ConfigDict:
    """Returns a config with every key; a recipe in `configs/` changes some of them."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, order of the data, dropout and augmentation
    config.init_from = ""  # a workdir, a checkpoint, "hf:FOLDER", "torch:FILE" or "vectors:FILE": the start
    config.model = ConfigDict({"name": "mlp.MLP"})  # arch/mlp.py, class MLP; other keys: variant, adapter, its fields
    config.task = ConfigDict(
        {"name": "classification.Classification"}
    )  # tasks/classification.py; other keys: its fields
    config.data = ConfigDict(
        {
            "name": "digits",  # TFDS name, or csv:PATH, parquet:PATH, folder:PATH, npz:PATH
            "splits": {"train": "train", "validation": "", "test": "test"},  # TFDS's own syntax; "" = none
            "target": "",  # a table's target column; "" = `label` or `target`
            "target_type": "class",  # or "number"
            "preprocess": (),  # ops of data/preprocess, in order: ("tokenize('text', bpe(8000), max_length=64)",)
            "separator": "",  # of a CSV file's fields; "" = found from the header
            "decimal": ".",  # decimal mark of a CSV file's numbers
            "encoding": "",  # of text files; "" = UTF-8 or UTF-16 with a byte order mark, else UTF-8
            "missing": ("",),  # fields of a CSV file that are missing values
            "memory_gb": 2.0,  # decoded sets up to this size are held in memory, larger ones are streamed
            "workers": 2,  # processes that decode a streamed set
            "buckets": 0,  # padded lengths, each compiled once, by which sequences are grouped; 0 = one, the longest
            "order": "shuffled",  # or "continuous": each row of a batch continues its row of the previous batch
        }
    )
    config.augment = ConfigDict({"ops": ("normalise()",)})  # of data/augment/, in order: ("flip()", "normalise()")
    config.optimizer = ConfigDict(
        {
            "name": "adamw",  # any of optax or optax.contrib; further keys: its arguments
            "learning_rate": 1e-3,  # the schedule's peak
            "schedule": "cosine",  # constant, cosine, linear, rsqrt, step; with arguments: "cosine(final=0.1)"
            "warmup_steps": 0.0,  # linear, from 0; below 1 a fraction of the run, as every `every`
            "weight_decay": 0.0,  # decoupled if the optimizer supports it (adamw, lion), else added to the gradient
            "decay_mask": (".*kernel", ".*embedding"),  # regular expressions of parameter paths that decay
            "clip_norm": 0.0,  # of the global gradient; 0 = off
            "frozen": (),  # regular expressions of parameter paths that keep their initial values
            "lr_multipliers": (),  # pairs (regular expression of parameter paths, factor of their learning rate)
        }
    )
    config.train = ConfigDict(
        {
            "steps": 0,  # either steps or epochs
            "epochs": 0.0,
            "batch_size": 128,  # global: over all devices of all hosts and all microbatches; 0 = by batch_tokens
            "batch_tokens": 0,  # instead: the padded positions of a global batch, in the longest key of an example
            "accumulate": 1,  # microbatches per step, for batches that do not fit in memory
            "dtype": "float32",  # in which the model computes, or "bfloat16"; parameters and outputs are float32
            "ema_decay": 0.0,  # of an average of the weights, evaluated in addition to them; 0 = off
            "patience": 0,  # evaluations without a better `checkpoint.best` before stopping; 0 = off
        }
    )
    config.parallel = ConfigDict(
        {
            "strategy": "pmap",  # replicated data parallel; "fsdp" shards the state for models that do not fit a device
            "hosts": 1,  # processes of the run; jax.distributed finds them (Slurm, Open MPI, Kubernetes, TPU)
            "cpu_devices": 1,  # devices of a CPU; 0 = one per core: faster for convolutions and long scans
            "sync_batchnorm": True,  # statistics of the global batch: exact, and microbatches are then held together
        }
    )
    config.eval = ConfigDict(
        {
            "every": 0.0,  # steps, below 1 a fraction of the run, and the last one for `best`; 0 = at the end only
            "batch_size": 0,  # 0 = the training batch size
        }
    )
    config.checkpoint = ConfigDict(
        {
            "every": 1000.0,  # steps, below 1 a fraction of the run; the last step is always saved
            "keep": 3,  # latest ones
            "best": "",  # metric of the best, "validation/accuracy" or "-validation/loss" (minus: lower is better)
        }
    )
    config.log = ConfigDict(
        {
            "every": 0.02,  # steps, below 1 a fraction of the run; only here does the host wait for the device
            "writers": ("tensorboard",),  # besides metrics.jsonl, of training/writers.py, such as "wandb(project='x')"
            "gradients": 0,  # steps between norms of the gradient per layer and time step; 0 = off
            "profile": 0,  # steps that are traced at the start, on a copy of the state (training/profile.py); 0 = off
        }
    )
    return config


def steps_of(value: float, steps: int) -> int:
    """Returns a number of steps: `value` from 1 on, below 1 that fraction of the run's `steps`, at least 1; 0 for 0."""
    return max(1, round(value * steps if value < 1 else value)) if value else 0


def leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) for every leaf."""
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def validate(config: ConfigDict) -> ConfigDict:
    """Returns a complete, checked copy of `config`: missing keys filled with defaults, ints converted to floats where
    needed.

    Raises UserError, naming the key, for an unknown key, a wrong type or an invalid value.
    """
    known = dict(leaves(default()))
    complete = default()
    for key, value in leaves(config):
        group, _, name = key.partition(".")
        opened = group in OPEN_GROUPS and name and "." not in name
        if key not in known and not opened:
            raise UserError(f"config.{key} is not a key: {nearest(key, known)}")
        if key in known:
            value = _typed(key, value, known[key])
        elif isinstance(value, list):
            raise UserError(f"config.{key} is a list: write a tuple")
        parent = complete
        *path, last = key.split(".")
        for part in path:
            parent = parent[part]
        parent[last] = value
    _check_values(complete)
    return complete


def _typed(key: str, value: Any, model: Any) -> Any:
    if isinstance(model, float) and type(value) is int:
        return float(value)
    if type(value) is not type(model):
        raise UserError(
            f"config.{key} must be {type(model).__name__} (such as {model!r}), not {type(value).__name__} {value!r}"
        )
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"config.{key} must be finite, not {value}")
    return convert(value, ITEMS[key], f"config.{key}") if key in ITEMS else value


def _check_values(config: ConfigDict) -> None:
    train = config.train
    if (train.steps > 0) == (train.epochs > 0):
        raise UserError(
            f"set exactly one of config.train.steps ({train.steps}) and config.train.epochs ({train.epochs}) above 0"
        )
    if (train.batch_size > 0) == (train.batch_tokens > 0):
        raise UserError(
            f"set exactly one of config.train.batch_size ({train.batch_size}) and config.train.batch_tokens "
            f"({train.batch_tokens}) above 0"
        )
    at_least = {
        "train.batch_size": 0, "train.batch_tokens": 0, "train.accumulate": 1, "train.ema_decay": 0,
        "train.patience": 0, "train.steps": 0, "train.epochs": 0, "eval.every": 0, "eval.batch_size": 0,
        "checkpoint.keep": 1, "log.gradients": 0, "log.profile": 0,
        "optimizer.learning_rate": 0, "optimizer.warmup_steps": 0, "optimizer.clip_norm": 0,
        "optimizer.weight_decay": 0, "data.workers": 0, "data.buckets": 0, "data.memory_gb": 0,
        "parallel.hosts": 1, "parallel.cpu_devices": 0,
    }  # fmt: skip
    values = dict(leaves(config))
    for key, least in at_least.items():
        if not values[key] >= least:  # written so that NaN is refused too
            raise UserError(f"config.{key} must be at least {least}, not {values[key]}")
    at_most = {  # steps are counted in 32 bits
        "train.steps": 2**31 - 2, "train.epochs": 1e6, "train.batch_size": 2**30, "eval.batch_size": 2**30,
        "train.batch_tokens": 2**30, "data.workers": 256, "parallel.cpu_devices": 256, "parallel.hosts": 2**16,
        "checkpoint.keep": 10**6,
    }  # fmt: skip
    for key, most in at_most.items():
        if values[key] > most:
            raise UserError(f"config.{key} must be at most {most}, not {values[key]}")
    for key in ("checkpoint.every", "log.every"):
        if not values[key] > 0:
            raise UserError(f"config.{key} must be above 0, not {values[key]}: steps, or a fraction of the run")
    if not 0 <= config.seed < 2**32:  # jax.random.key keeps 32 bits
        raise UserError(f"config.seed must be from 0 to {2**32 - 1}, not {config.seed}")
    for pattern, factor in config.optimizer.lr_multipliers:
        if not 0 <= factor < math.inf:
            raise UserError(
                f"config.optimizer.lr_multipliers: {pattern!r} must have a factor of at least 0, not {factor}"
            )
    if train.ema_decay >= 1:
        raise UserError(f"config.train.ema_decay must be below 1, not {train.ema_decay}")
    if train.batch_size % train.accumulate:
        raise UserError(
            f"config.train.batch_size {train.batch_size} is not a multiple of config.train.accumulate "
            f"{train.accumulate}"
        )
    if config.data.buckets and config.data.order == "continuous":
        raise UserError("config.data.buckets and config.data.order 'continuous' exclude each other: set one of them")
    if train.patience and not (config.checkpoint.best and config.eval.every):
        raise UserError("config.train.patience needs config.checkpoint.best and config.eval.every")
    if not config.data.splits.train:
        raise UserError("config.data.splits.train is empty: name a split to train on, such as 'train'")
    for key, choices in CHOICES.items():
        if values[key] not in choices:
            raise UserError(f"config.{key} {values[key]!r} is unknown: {nearest(values[key], choices)}")
    if config.checkpoint.best:
        split = config.checkpoint.best.removeprefix("-").partition("/")[0]
        evaluated = [name for name in config.data.splits if name not in UNWATCHED and config.data.splits[name]]
        if train.ema_decay:
            evaluated += [f"{name}_ema" for name in evaluated]
        if split not in evaluated:
            raise UserError(
                f"config.checkpoint.best {config.checkpoint.best!r} must be [-]SPLIT/METRIC of a split evaluated "
                f"in training ({', '.join(evaluated) or 'none is'}; SPLIT_ema needs "
                "config.train.ema_decay)"
            )


def to_json(config: ConfigDict) -> str:
    """Returns the config as JSON; tuples become lists, which `from_json` converts back."""
    return json.dumps(config.to_dict(), indent=2)


def from_json(text: str) -> ConfigDict:
    """Inverse of `to_json`. Raises ValueError for text that is not the JSON of an object."""

    def tuples(value):
        if isinstance(value, dict):
            return {key: tuples(item) for key, item in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    try:
        fields = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(fields, dict):
        raise ValueError(f"a {type(fields).__name__}, not an object")
    return ConfigDict(tuples(fields))


def difference(old: ConfigDict, new: ConfigDict) -> list[str]:
    """Returns "key: old -> new" for every leaf that changes results; keys missing in one config have defaults."""
    plain = {key: x for key, x in leaves(default()) if key.partition(".")[0] not in OPEN_GROUPS}
    before, after = plain | dict(leaves(old)), plain | dict(leaves(new))
    changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [
        f"{key}: {before.get(key, 'unset')!r} -> {after.get(key, 'unset')!r}"
        for key in changed
        if key.partition(".")[0] not in DISPLAY_GROUPS and key not in PLACEMENT
    ]


def check_version(config: ConfigDict, where: str) -> None:
    """Raises UserError, which names the folder `where`, if a run's stored config has keys that no longer exist."""
    known = {key for key, _ in leaves(default())}
    groups = tuple(f"{group}." for group in OPEN_GROUPS)
    if any(key not in known and not key.startswith(groups) for key, _ in leaves(config)):
        raise UserError(f"{where} was written by an older version: train again, in another folder")


def check_same(old: ConfigDict | dict, new: ConfigDict, where: str) -> None:
    """Raises UserError, which names the folder `where`, if a config differs from that with which a run was started, or
    if that was written by an older version."""
    old = old if isinstance(old, ConfigDict) else from_json(json.dumps(old))
    check_version(old, where)
    if changes := difference(old, new):
        raise UserError(
            f"{where} was started with another config ({'; '.join(changes)}): use that config, or another folder"
        )
