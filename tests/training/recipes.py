"""The recipes of sequences, made small: seconds each, on data of the same keys and shapes (`tests.data.fake`)."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import captions, music, sequences, series, speech, text, translation
from training import config as config_lib
from training import main
from training import run as run_lib
from training.config import default, leaves, validate
from training.loop import Results, Trainer

ALL = [
    *((text, name) for name, (_, data, *_) in text.SETS.items() if data),
    *((translation, name) for name in translation.ATTENTION),
    *((speech, name) for name in speech.SPLITS),
    *((captions, name) for name in captions.SETS),
    *((music, name) for name in music.SETS),
    *((series, horizon) for horizon in ("24", "48")),
    *((sequences, name) for name in sequences.SETS),
]
TRAINED = [  # one of each model, task and kind of data; the others differ from these in data, attention or length
    *((text, name) for name in ("shakespeare", "clinc_oos", "truecasing", "conll2003_names")),
    (translation, "bahdanau"),
    (speech, "random"),
    (captions, "scenes"),
    (music, "jsb"),
    (series, "24"),
    *((sequences, name) for name in ("adding", "copy_memory", "listops")),
]


def ids(some: list) -> list[str]:
    """Returns what pytest shows of recipes."""
    return [f"{recipe.__name__.rpartition('.')[2]}-{name}" for recipe, name in some]


STEPS = {(speech, "random"): 30, (captions, "scenes"): 10, (translation, "bahdanau"): 10}  # so that outputs differ


def small(recipe, name: str) -> ConfigDict:
    """Returns the recipe's config, narrow and short."""
    steps = STEPS.get((recipe, name), 2)
    config = recipe.get_config(name)
    config.train.update(steps=steps, epochs=0.0, batch_size=8)
    config.optimizer.warmup_steps, config.data.workers = 1, 0
    config.eval.update(every=steps, batch_size=8)
    config.data.buckets = min(config.data.buckets, 2)
    config.checkpoint.every = config.log.every = steps
    if "widths" in config.model:
        config.model.widths = (12,) * len(config.model.widths)
    if "width" in config.model:
        config.model.width = config.model.embedding_width = 12
    if config.data.window:
        config.data.window, config.data.eval_window = 10, 0 if config.data.horizon else 20
    if config.task.name == "generation.Generation":
        config.task.max_length = 8
    return config


def record(config: ConfigDict, seen: set[str], prefix: str = "") -> ConfigDict:
    """Returns the config whose every access adds the dotted key to `seen`; writing it out whole is none."""

    class Recorded(ConfigDict):
        def __getitem__(self, key):
            value = super().__getitem__(key)
            if not isinstance(value, ConfigDict):
                seen.add(prefix + key)
            return value

        def to_dict(self):
            return super().to_dict() if prefix else config.to_dict()

    result = Recorded()
    for key in config:
        value = config[key]
        result[key] = record(value, seen, f"{prefix}{key}.") if isinstance(value, ConfigDict) else value
    return result


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run: final metrics, per-example arrays of the test split, keys set that nothing read, its data."""

    workdir: Path
    results: Results
    arrays: dict[str, np.ndarray]
    unread: set[str]
    run: run_lib.Run


def train_small(config: ConfigDict, workdir: Path, data_dir: str, patch) -> Trained:
    """Trains as `train.py` does.

    Args:
        patch: pytest's MonkeyPatch.
    """
    config, seen, kept = validate(config), set(), {}
    recorded = record(config, seen)
    evaluate = Trainer.evaluate

    def keep(trainer, *args, **kwargs):
        results, arrays = evaluate(trainer, *args, **kwargs)
        kept.update(run=trainer.run, arrays=arrays)
        return results, arrays

    patch.setattr(config_lib, "validate", lambda _: recorded)
    jax.config.update("jax_disable_most_optimizations", True)  # compilation is most of the time
    patch.setattr(Trainer, "evaluate", keep)
    try:
        results = main.train(config, str(workdir), data_dir).results
    finally:
        jax.config.update("jax_disable_most_optimizations", False)
    plain = dict(leaves(default()))
    unread = {key for key, value in leaves(config) if value != plain.get(key)} - seen
    return Trained(workdir, results, kept["arrays"]["test"], unread, kept["run"])
