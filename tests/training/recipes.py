"""Every recipe of `configs/`, found by itself and made small: seconds each, on data of the same keys and shapes."""

import dataclasses
import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
from ml_collections import ConfigDict

from tests.arch.architectures import architectures
from training import config as config_lib
from training import main
from training import run as run_lib
from training.config import default, leaves, validate
from training.loop import Results, Trainer
from training.overrides import override

OPS = {"windows": {"size": 10, "evaluation": 20}, "passages": {"size": 10}, "forecast": {"window": 10, "horizon": 24}}
OPS["waveform"] = {"length": 1_200}
OPS["sample_frames"] = {"count": 4}
OF_DATA = ("num_classes", "vocab_size", "context")  # sizes that follow from the data
TWO_BLOCKS = ("depth", 2), ("decoder_depth", 2)  # one is enough to train
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MODULES = [importlib.import_module(f"configs.{path.stem}") for path in sorted(CONFIGS.glob("[!_]*.py"))]
EVERY = [(module, name) for module in MODULES for name in getattr(module, "VARIANTS", ("",))]
STEPS = {"transcription.Transcription": 30, "generation.Generation": 10}  # by the task, so that outputs differ


def get(recipe: ModuleType, name: str) -> ConfigDict:
    return recipe.get_config(name) if name else recipe.get_config()


def kind(config: ConfigDict) -> tuple:
    """Returns what recipes have in common that train in the same way; others differ in the network, which has tests of
    its own, in data or in sizes."""
    return config.task.name, len(config.task.get("inputs", ())), bool(config.data.buckets)


# the others need a file of one's own: their name is empty, or KIND:PATH
CONFIG = {one: config for one in EVERY if (config := get(*one)).data.name and ":" not in config.data.name}
ALL = list(CONFIG)
TRAINED = list({kind(CONFIG[one]): one for one in reversed(ALL)}.values())[::-1]  # the first of each kind


def ids(some: list) -> list[str]:
    """Returns the names of recipes that pytest shows."""
    return ["-".join(filter(None, (recipe.__name__.rpartition(".")[2], name))) for recipe, name in some]


def small(recipe: ModuleType, name: str) -> ConfigDict:
    """Returns the recipe's config, short, with the sizes of the network's test variant."""
    config = get(recipe, name)
    steps = STEPS.get(config.task.name, 2)
    config.train.update(steps=steps, epochs=0.0, batch_size=8, batch_tokens=0)
    config.train.patience = 0  # one evaluation is too few
    config.optimizer.warmup_steps, config.data.workers = 1.0, 0
    config.eval.update(every=float(steps), batch_size=8)
    config.data.buckets = min(config.data.buckets, 2)
    config.checkpoint.every = config.log.every = float(steps)
    for key, value in architectures()[config.model.name.partition("(")[0]].VARIANTS["test"].items():
        if type(value) is int and key not in OF_DATA and (key in config.model or "variant" in config.model):
            config.model[key] = value if (key, value) not in TWO_BLOCKS else 1
    if "widths" in config.model:
        config.model.widths = (12,) * len(config.model.widths)
    for key, value in {"dilations": (1, 2), "blocks": (1,)}.items():
        if key in config.model:
            config.model[key] = value
    for op, sizes in OPS.items():
        if any(text.startswith(f"{op}(") for text in config.data.preprocess):
            config = override(config, {f"data.preprocess.{op}.{key}": size for key, size in sizes.items()})[0]
    if any(text.startswith("central_crop(") for text in config.augment.ops):  # large images and networks
        sizes = {f"augment.ops.{op}.size": (32, 32) for op in ("random_resized_crop", "central_crop")}
        sizes |= {"data.preprocess.resize.height": 36, "data.preprocess.resize.width": 36, "model.variant": "test"}
        config = override(config, sizes)[0]
    if config.task.name in ("generation.Generation", "sound.SoundGeneration"):
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

        def to_dict(self, *args):
            return super().to_dict(*args) if prefix else config.to_dict(*args)

    result = Recorded()
    for key in config:
        value = config[key]
        result[key] = record(value, seen, f"{prefix}{key}.") if isinstance(value, ConfigDict) else value
    return result


@dataclasses.dataclass(frozen=True)
class Trained:
    """A finished run: final metrics, per-example arrays of its last split, keys set that nothing read, its data."""

    workdir: Path
    split: str
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
        found = evaluate(trainer, *args, **kwargs)
        kept.update(run=trainer.run, arrays=found[0][1])
        return found

    patch.setattr(config_lib, "validate", lambda _: recorded)
    patch.setattr(Trainer, "evaluate", keep)
    results = main.train(config, str(workdir), data_dir).results
    plain = dict(leaves(default()))
    unread = {key for key, value in leaves(config) if value != plain.get(key)} - seen
    split = "test" if "test" in results else "validation"
    return Trained(workdir, split, results, kept["arrays"][split], unread, kept["run"])
