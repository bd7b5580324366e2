"""What a user may type in a config, and how a slip is answered."""

import pytest
from ml_collections import ConfigDict

from core.errors import UserError
from training import config as config_lib
from training.config import default, difference, from_json, leaves, to_json, validate

VALIDATION = {"data__splits": ConfigDict({"train": "train[:9]", "validation": "train[9:]", "test": "test"})}


def complete(**changes):
    config = default().to_dict()
    config["train"]["steps"] = 10
    for key, value in changes.items():
        group, _, name = key.partition("__")
        if name:
            config[group][name] = value
        else:
            config[group] = value
    return ConfigDict(config)


def test_missing_keys_get_defaults_and_ints_become_floats():
    config = validate(ConfigDict({"train": {"epochs": 2}, "data": {"splits": {"test": ""}}}))
    assert isinstance(config.train.epochs, float) and config.train.epochs == 2.0
    assert config.data.splits.train == "train" and config.data.splits.test == ""
    assert set(dict(leaves(config))) == set(dict(leaves(default())))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"train__stps": 5}, ["train.stps", "train.steps"]),
        ({"trian": ConfigDict({"steps": 5})}, ["trian.steps", "train.steps"]),
        ({"train__steps": "ten"}, ["train.steps", "int", "'ten'"]),
        ({"train__batch_size": 64.0}, ["train.batch_size", "int"]),
        ({"train__batch_size": True}, ["train.batch_size", "bool"]),
        ({"augment__ops": ["flip()"]}, ["augment.ops", "tuple", "list"]),
        ({"model__widths": [1, 2]}, ["model.widths", "tuple"]),
        ({"train__epochs": 3.0}, ["train.steps", "train.epochs"]),
        ({"train__steps": 0}, ["train.steps", "train.epochs"]),
        ({"train__batch_size": 0}, ["exactly one", "train.batch_size (0)", "train.batch_tokens (0)"]),
        ({"train__batch_tokens": 4096}, ["exactly one", "train.batch_size (128)", "train.batch_tokens (4096)"]),
        ({"train__batch_tokens": -1}, ["train.batch_tokens", "at least 0"]),
        ({"train__accumulate": 3}, ["128", "accumulate 3"]),
        ({"train__ema_decay": 1.0}, ["ema_decay", "below 1"]),
        ({"seed": 2**32}, ["config.seed", "from 0 to 4294967295"]),
        ({"seed": -1}, ["config.seed", "from 0 to 4294967295"]),
        ({"optimizer__learning_rate": float("nan")}, ["learning_rate"]),
        ({"optimizer__clip_norm": -1.0}, ["clip_norm", "-1"]),
        ({"data__target_type": "clas"}, ["data.target_type", "'class'"]),
        ({"train__dtype": "float16"}, ["train.dtype", "'bfloat16'"]),
        ({"parallel__strategy": "fdsp"}, ["parallel.strategy", "'fsdp'"]),
        ({"train__patience": 2}, ["patience", "checkpoint.best", "eval.every"]),
        ({"checkpoint__best": "validaton/loss"}, ["checkpoint.best", "SPLIT/METRIC"]),
        ({"checkpoint__best": "--validation/loss", **VALIDATION}, ["checkpoint.best", "SPLIT/METRIC"]),
        ({"checkpoint__best": "test/loss"}, ["checkpoint.best", "'test/loss'", "evaluated in training"]),
        ({"checkpoint__best": "-validation_ema/loss", **VALIDATION}, ["checkpoint.best", "train.ema_decay"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_slips_are_refused_in_one_line_with_the_key(change, words):
    with pytest.raises(UserError) as refusal:
        validate(complete(**change))
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


def test_json_round_trip_keeps_tuples_and_finds_differences():
    config = validate(complete(augment__ops=("flip()",), optimizer__lr_multipliers=(("stem/.*", 0.1),)))
    again = validate(from_json(to_json(config)))
    assert difference(config, again) == []
    again.optimizer.learning_rate = 0.5
    again.log.every = 7  # only changes what is shown
    assert difference(config, again) == ["optimizer.learning_rate: 0.001 -> 0.5"]


def test_a_config_from_before_a_key_was_added_has_its_default():
    old, new = default(), default()
    del old.parallel["cpu_devices"]
    assert difference(old, new) == []
    new.parallel.cpu_devices = 4
    assert difference(old, new) == ["parallel.cpu_devices: 1 -> 4"]


def test_every_group_of_the_design_is_there():
    groups = "seed init_from model task data augment optimizer train parallel eval checkpoint log"
    assert set(groups.split()) == set(config_lib.default())
