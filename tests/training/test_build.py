"""Names in a config become objects, and unknown ones are answered with the nearest there is."""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from arch import mlp, resnet
from core.errors import UserError
from data.info import Info
from data.preprocess import text, tokenizers
from tasks import classification
from training import config as config_lib
from training.build import build_model, build_task, build_transform, construct


@pytest.mark.parametrize(
    "group, words",
    [
        ({"name": "resnt.CifarResNet"}, ["config.model.name", "'resnet.CifarResNet'"]),
        ({"name": "resnet.CifarResnet"}, ["config.model.name", "'resnet.CifarResNet'"]),
        ({"name": "CifarResNet"}, ["config.model.name", "'resnet.CifarResNet'"]),
        ({"name": "layers.norm.layer_norm"}, ["config.model.name", "does not name a model"]),
        ({"name": "resnet.CifarResNet", "dept": 20}, ["config.model.dept", "'depth'"]),
        ({"name": "resnet.WideResNet", "variant": "28-11"}, ["config.model.variant", "'28-10'"]),
        ({"name": "resnet.BasicBlock", "variant": "18"}, ["config.model.variant", "'18'"]),
        ({"name": "resnet.CifarResNet", "depth": "20"}, ["config.model.depth", "int"]),
        ({"name": "mlp.MLP", "activation": "nn.gellu"}, ["config.model.activation", "'nn.gelu'"]),
        ({"name": "mlp.MLP", "norm": "layers.norm.group_norm(group=2)"}, ["config.model.norm", "groups"]),
        ({"name": "mlp.MLP", "dtype": "float17"}, ["config.model.dtype", "bfloat16"]),
        ({"name": "mlp.MLP", "activation": "__import__('os')"}, ["config.model.activation"]),
        ({"name": "mlp.MLP", "widths": (8, "a")}, ["config.model.widths", "tuple"]),
        ({"name": "mlp.MLP", "dtype": "complex64"}, ["config.model.dtype", "bfloat16"]),
        ({"name": "resnet.CifarResNet(depth='a')"}, ["config.model.name", "depth", "int"]),
        ({"name": "nn.module.inspect.os.system('exit 1')"}, ["config.model.name", "nn."]),
    ],
    ids=str,
)
def test_slips_name_the_nearest(group, words):
    with pytest.raises(UserError) as refusal:
        construct(ConfigDict(group), "arch")
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


def test_fields_take_what_a_config_can_hold():
    model = construct(
        ConfigDict({"name": "mlp.MLP", "widths": (8,), "dropout": 0, "activation": "nn.tanh", "dtype": "bfloat16"}),
        "arch",
    )
    assert model.activation is nn.tanh and model.dropout == 0.0 and model.dtype == jnp.bfloat16
    deeper = construct(
        ConfigDict({"name": "resnet.CifarResNet", "block": "resnet.PreActivationBlock"}), "arch", num_classes=7
    )
    assert deeper.block is resnet.PreActivationBlock and deeper.num_classes == 7


def test_a_name_may_hold_the_fields_and_keys_override_them():
    model = construct(ConfigDict({"name": "mlp.MLP(widths=(8, 8), activation=nn.tanh)", "widths": (4,)}), "arch")
    assert model.widths == (4,) and model.activation is nn.tanh


def test_what_the_config_sets_wins_over_what_is_derived():
    assert construct(ConfigDict({"name": "mlp.MLP", "num_classes": 3}), "arch", num_classes=7).num_classes == 3


@pytest.fixture
def info():
    """Of a set with two texts: 6 tokens in the source, 7 in the target."""
    texts = {"source": ["ab"], "target": ["abc"]}
    fitted = text.fit(tokenizers.characters(), texts)
    shapes = dict.fromkeys(("source", "target"), ((5,), "int32")) | {
        "label": ((), "int32"),
        "source_lengths": ((), "int32"),
    }
    return Info("pairs", {"train": 1}, shapes, ("yes", "no"), tokenizers={k: t.to_str() for k, t in fitted.items()})


def complete(**groups):
    config = config_lib.default()
    for group, values in groups.items():
        config[group] = ConfigDict(values)
    return config


def test_the_vocabulary_of_the_first_input_is_the_models(info):
    config = complete(
        model={"name": "rnn.RecurrentClassifier"},
        task={"name": "classification.Classification", "inputs": ("source", "source_lengths")},
    )
    task = build_task(config, info)
    model = build_model(config, task, info)
    assert model.vocab_size == 6 and model.num_classes == 2
    config.model.vocab_size = 11
    assert build_model(config, task, info).vocab_size == 11
    config.task.inputs = ("label",)
    del config.model["vocab_size"]
    assert build_model(config, build_task(config, info), info).vocab_size is None


@dataclasses.dataclass(frozen=True)
class Translating:
    inputs: tuple[str, ...] = ("source",)
    target: str = "target"
    detokenize: Callable | None = None
    mean: float = 0.0
    std: float = 1.0

    needs = ("target",)

    def outputs_width(self, info):
        return info.vocabulary_size(self.target)


class Pair(nn.Module):
    num_classes: int = 1
    vocab_size: int = 1
    target_vocab_size: int = 1


def test_a_task_that_answers_in_text(info, monkeypatch):
    monkeypatch.setattr(classification, "Translating", Translating, raising=False)
    monkeypatch.setattr(mlp, "Pair", Pair, raising=False)
    monkeypatch.setattr(Translating, "__module__", "tasks.classification")
    monkeypatch.setattr(Pair, "__module__", "arch.mlp")
    config = complete(model={"name": "mlp.Pair"}, task={"name": "classification.Translating"})
    task = build_task(config, info)
    assert task.detokenize([1, 4, 6, 2, 0]) == "ac"
    assert hash(task) == hash(task) and task == dataclasses.replace(task)
    model = build_model(config, task, info)
    assert (model.num_classes, model.vocab_size, model.target_vocab_size) == (7, 6, 7)
    config.task.target = "label"
    assert build_task(config, info).detokenize is None


@pytest.mark.parametrize(
    ("ops", "words"),
    [
        (("flop()",), ["config.augment.ops", "'flop'", "'flip'"]),
        (("padded_crop(pading=2)",), ["padded_crop", "pading", "takes padding"]),
        (("Op()",), ["'Op' does not exist"]),
    ],
)
def test_slips_in_augmentations(info, ops, words):
    config = config_lib.default()
    config.augment.ops = ops
    with pytest.raises(UserError) as refusal:
        build_transform(config, info)
    assert all(word in str(refusal.value) for word in words), refusal.value
    assert "\n" not in str(refusal.value)


def test_a_variant_gives_fields_that_other_keys_override():
    """Data override its vocabulary and classes, a call's arguments override the data, and keys override all."""
    group = ConfigDict({"name": "resnet.ResNet(zero_init=True, width=16)", "variant": 18, "width": 8})
    model = construct(group, "arch", num_classes=7)
    assert model.blocks == (2, 2, 2, 2) and model.block is resnet.BasicBlock
    assert (model.num_classes, model.zero_init, model.width) == (7, True, 8)
    tiny = construct(ConfigDict({"name": "resnet.WideResNet", "variant": "test"}), "arch", num_classes=7)
    assert (tiny.num_classes, tiny.depth) == (7, 10)
