"""Names in a config become objects, and unknown ones are answered with the nearest there is."""

import dataclasses
import json

import flax.linen as nn
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from arch import resnet
from core.errors import UserError
from core.info import Info, Key
from core.vocabulary import Vocabulary
from data.augment.op import Op
from data.augment.transform import Transform
from data.preprocess.tokenizers import Characters
from training import config as config_lib
from training.build import build_model, build_task, check_keys, construct


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
        ({"name": "mlp.MLP", "activation": "nn.Dense"}, ["config.model.activation must be", "Dense"]),
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


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"name": "vit.ViT", "heads": 0}, "config.model.heads must be at least 1, not 0"),
        ({"name": "resnet.CifarResNet", "depth": -1}, "config.model.depth must be at least 0, not -1"),
        ({"name": "mlp.MLP", "widths": (8, -8)}, "config.model.widths must be at least 1, not (8, -8)"),
        ({"name": "mlp.MLP(widths=(0,))"}, "config.model.name mlp.MLP.widths must be at least 1, not (0,)"),
        ({"name": "detr.DETR", "backbone": "vit.ViT(patch=(0, 4))"}, "config.model.backbone vit.ViT.patch must be"),
        ({"name": "ngrams.BagOfNgrams", "width": -1}, "config.model.width must be at least 0, not -1"),
    ],
    ids=str,
)
def test_sizes_below_one_are_named(group, message):
    with pytest.raises(UserError) as refusal:
        construct(ConfigDict(group), "arch")
    assert str(refusal.value).startswith(message)


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
    keys = {key: Key((5,), "int32", vocabulary=Vocabulary.of(Characters()(value))) for key, value in texts.items()}
    keys |= {"label": Key((), "int32", classes=("yes", "no")), "source_lengths": Key((), "int32")}
    return Info("pairs", {"train": 1}, keys)


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
    task = build_task(config, info, Transform())
    model = build_model(config, task, info)
    assert model.vocab_size == 6 and model.num_classes == 2
    config.model.vocab_size = 11
    assert build_model(config, task, info).vocab_size == 11
    config.task.inputs = ("label",)
    del config.model["vocab_size"]
    assert build_model(config, build_task(config, info, Transform()), info).vocab_size is None


def test_the_columns_of_a_table_are_filled_in():
    features = Key((4,), "float32", "features", columns={"age": 1, "city": 3})
    info = Info("people", {"train": 4}, {"features": features, "label": Key((), "int32", "label", ("a", "b"))})
    assert Info.from_json(json.loads(json.dumps(info.to_json()))) == info
    for name in ("ft_transformer.FTTransformer", "mlp.MLP", "mlp.TabularResNet"):
        config = complete(model={"name": name}, task={"name": "classification.Classification", "inputs": ("features",)})
        model = build_model(config, build_task(config, info, Transform()), info)
        assert getattr(model, "columns", (1, 3)) == (1, 3)


def test_a_task_is_bound_to_the_data_set(info):
    config = complete(
        model={"name": "rnn.RecurrentNetwork", "vocab_size": 6},
        task={"name": "sequence.TokenClassification", "inputs": ("source",), "target": "target"},
    )
    task = build_task(config, info, Transform())
    assert hash(task) == hash(task) and task == dataclasses.replace(task)
    assert build_model(config, task, info).num_classes == 7
    fields = {"inputs": ("source", "source_lengths", "target"), "conditions": ("source", "source_lengths")}
    config.task = ConfigDict({"name": "generation.Generation", **fields})
    assert build_task(config, info, Transform()).vocabulary.text([1, 4, 6, 2, 0]) == "ac"
    config.task = ConfigDict({"name": "generation.Generation", **fields, "target": "label"})
    with pytest.raises(UserError, match="'label' of pairs has no vocabulary"):
        build_task(config, info, Transform())


@pytest.mark.parametrize(
    "group, wanted",
    [
        ({"name": "mlp.MLP", "dtype": "bfloat16"}, "float32"),
        ({"name": "mlp.MLP(dtype='float32')"}, "bfloat16"),
    ],
    ids=["key", "call"],
)
def test_the_model_computes_in_the_dtype_of_training(group, wanted, info):
    config = complete(model=group, task={"name": "classification.Classification", "inputs": ("source",)})
    config.train.dtype = wanted
    task = build_task(config, info, Transform())
    with pytest.raises(UserError, match=f"config.train.dtype is {wanted}, but .* set only config.train.dtype"):
        build_model(config, task, info)


def test_the_dtype_reaches_the_model(info):
    config = complete(model={"name": "mlp.MLP"}, task={"name": "classification.Classification", "inputs": ("source",)})
    task = build_task(config, info, Transform())
    assert build_model(config, task, info).dtype == jnp.float32
    config.train.dtype = "bfloat16"
    assert build_model(config, task, info).dtype == jnp.bfloat16


@dataclasses.dataclass(frozen=True)
class Answers(Op):
    """Adds the key `answer`, in evaluation too."""

    when = "always"

    def __call__(self, keys, batch):
        return batch | {"answer": batch["label"]}


def test_a_task_may_read_what_an_op_adds(info):
    config = complete(task={"name": "classification.Classification", "inputs": ("source",), "metric_mask": "answer"})
    assert build_task(config, info, Transform((Answers(),))).metric_mask == "answer"
    with pytest.raises(
        UserError, match=r"needs 'answer', but examples of pairs have: label, source, source_lengths, target"
    ):
        build_task(config, info, Transform())


@pytest.mark.parametrize("key", ["mask", "index"])
def test_a_set_may_not_have_the_keys_of_batches(info, key):
    check_keys(info)
    with pytest.raises(UserError, match=f"pairs has a key '{key}'"):
        check_keys(dataclasses.replace(info, keys={**info.keys, key: Key((), "int32")}))


def test_a_variant_gives_fields_that_other_keys_override():
    """Data override its vocabulary and classes, a call's arguments override the data, and keys override all."""
    group = ConfigDict({"name": "resnet.ResNet(zero_init=True, width=16)", "variant": 18, "width": 8})
    model = construct(group, "arch", num_classes=7)
    assert model.blocks == (2, 2, 2, 2) and model.block is resnet.BasicBlock
    assert (model.num_classes, model.zero_init, model.width) == (7, True, 8)
    tiny = construct(ConfigDict({"name": "resnet.WideResNet", "variant": "test"}), "arch", num_classes=7)
    assert (tiny.num_classes, tiny.depth) == (7, 10)
