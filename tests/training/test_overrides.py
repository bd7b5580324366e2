"""Typed values win over the recipe, and one line lists the replaced ones."""

import jax
import jax.numpy as jnp
import pytest

from arch import resnet
from core.errors import UserError
from tests.training import recipes, small
from training import build
from training import optimizer as optimizer_lib
from training.config import default, steps_of, validate
from training.overrides import assignments, override, to_text, variant

IMAGES = [one for one in recipes.ALL if "resnet" in recipes.CONFIG[one].model.name]


def applied(config, *texts):
    config, note = override(config, assignments(texts))
    return validate(config), note


@pytest.mark.parametrize(("recipe", "name"), IMAGES, ids=recipes.ids(IMAGES))
def test_another_network_on_any_recipe_of_images(recipe, name):
    old = recipes.get(recipe, name)
    config, note = applied(old, "model.name=mlp.MLP", "model.widths=(8, 8)")
    assert config.model.to_dict() == {"name": "mlp.MLP", "widths": (8, 8)}
    dropped = note.removeprefix("model.name=mlp.MLP: dropped ").split(", ")
    assert set(dropped) == set(old.model) - {"name"}
    assert build.construct(config.model, "arch", num_classes=10).widths == (8, 8)


@pytest.mark.parametrize(("recipe", "name"), recipes.EVERY, ids=recipes.ids(recipes.EVERY))
def test_another_optimizer_and_length_on_any_recipe(recipe, name):
    old = recipes.get(recipe, name)
    config, note = applied(old, "optimizer.name=lion", "train.steps=40")
    assert (config.train.steps, config.train.epochs) == (40, 0.0)
    assert f"learning_rate={old.optimizer.learning_rate!r}" in note and "schedule=" in note
    config.optimizer.lr_multipliers = ()  # they name parameters of the recipe's network
    optimizer_lib.create(config.optimizer, 40, {"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)})
    assert config.optimizer.learning_rate == old.optimizer.learning_rate and "momentum" not in config.optimizer


def test_notes_name_what_was_dropped_and_kept():
    old = recipes.get(recipes.importlib.import_module("configs.images"), "cifar10")
    _, note = override(old, {"optimizer.name": "adamw", "train.epochs": 2.0})
    assert note == (
        "optimizer.name=adamw: dropped momentum; kept decay_mask=('.*',), learning_rate=0.1, "
        "schedule='step(boundaries=(0.5, 0.75), factor=0.1)', weight_decay=0.0001; "
        "train.epochs=2.0 replaces train.steps=64000"
    )
    same, note = override(old, {"optimizer.name": "sgd", "optimizer.momentum": 0.5, "model.depth": 56})
    assert note == "" and same.optimizer.momentum == 0.5 and old.optimizer.momentum == 0.9


def test_keys_of_the_same_layer_are_never_dropped():
    old = small.get_config()
    config, _ = override(old, {"model.dropout": 0.5, "model.name": "mlp.TabularResNet", "optimizer.b1": 0.8})
    assert config.model.to_dict() == {"name": "mlp.TabularResNet", "dropout": 0.5}
    config, note = override(config, {"optimizer.name": "sgd", "optimizer.momentum": 0.1})
    assert config.optimizer.momentum == 0.1 and "b1" not in config.optimizer and "dropped b1" in note
    config, _ = override(old, {"train.steps": 0, "train.epochs": 2.0})
    assert (config.train.steps, config.train.epochs) == (0, 2.0)


def test_a_new_task_drops_what_it_lacks_and_data_drops_nothing():
    old = default()
    old.task.inputs, old.task.label_smoothing, old.data.target = ("features",), 0.1, "price"
    config, note = override(old, {"task.name": "regression.Regression", "data.name": "csv:x.csv"})
    assert config.task.to_dict() == {"name": "regression.Regression", "inputs": ("features",)}
    assert note == "task.name=regression.Regression: dropped label_smoothing" and config.data.target == "price"
    with pytest.raises(UserError, match=r"did you mean 'regression\.Regression'"):
        override(old, {"task.name": "regresion.Regression"})


def test_a_variant_drops_the_fields_that_it_sets(monkeypatch):
    monkeypatch.setattr(resnet.CifarResNet, "VARIANTS", {"20": {"depth": 20}}, raising=False)
    old = default()
    old.model = {"name": "resnet.CifarResNet", "depth": 8, "width": 4}
    config, note = override(old, assignments(["model.variant=20"]))
    assert config.model.to_dict() == {"name": "resnet.CifarResNet", "width": 4, "variant": 20}
    assert note == "model.variant=20: dropped depth"
    config, _ = override(old, {"model.variant": "20", "model.depth": 56})
    assert config.model.depth == 56


def test_values_of_a_command_line():
    texts = ("seed=3", "data.name=123", "model.widths=(1, 2)", "model.activation=nn.relu", "model.bias=false")
    texts += ("train.epochs=1e-1", "task.target=a=b", "model.attention=None")
    changes = assignments(texts)
    assert changes == {
        "seed": 3, "data.name": "123", "model.widths": (1, 2), "model.activation": "nn.relu", "model.bias": False,
        "train.epochs": 0.1, "task.target": "a=b", "model.attention": None,
    }  # fmt: skip
    assert assignments([to_text(*item) for item in changes.items()]) == changes
    with pytest.raises(UserError, match="write --set KEY=VALUE"):
        assignments(["seed"])
    with pytest.raises(UserError, match=r"config\.seed\.x is not a key"):
        override(default(), {"seed.x": 1})


@pytest.mark.parametrize(
    ("ops", "text", "changed"),
    [
        (("flip()", "padded_crop(4)"), "padded_crop.padding=2", ("flip()", "padded_crop(2)")),
        (("padded_crop(padding=4)",), "padded_crop.padding=2", ("padded_crop(padding=2)",)),
        (("padded_crop(4)", "flip()"), "padded_crop.fill=1.0", ("padded_crop(4, fill=1.0)", "flip()")),
        (("normalise",), "normalise.keys=('image',)", ("normalise(keys=('image',))",)),
        (("normalise()",), "normalise.start=true", ("normalise(start=True)",)),
    ],
)
def test_arguments_of_an_op(ops, text, changed):
    old = default()
    old.augment.ops = ops
    config, note = override(old, assignments([f"augment.ops.{text}"]))
    assert (config.augment.ops, note, old.augment.ops) == (changed, "", ops)
    (pair,) = assignments([f"augment.ops.{text}"]).items()
    assert assignments([to_text(*pair)]) == dict([pair])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("padded_crap.padding", ["did you mean 'padded_crop'"]),
        ("padded_crop.pading", ["no argument 'pading'", "did you mean 'padding'"]),
        ("flip.padding", ["'flip' occurs 2 times"]),
        ("padded_crop.padding.x", ["no argument 'padding.x'"]),
        ("padded_crop", ["no argument ''"]),
    ],
)
def test_slips_in_arguments_of_an_op(change, words):
    old = default()
    old.augment.ops = ("flip()", "padded_crop(4)", "flip()")
    with pytest.raises(UserError) as refusal:
        override(old, {f"augment.ops.{change}": 2})
    assert all(word in str(refusal.value) for word in [f"config.augment.ops.{change}", *words]), refusal.value
    assert "\n" not in str(refusal.value)


def test_ops_of_the_same_layer_are_set_before_their_arguments():
    changes = {"augment.ops.padded_crop.padding": 3, "augment.ops": ("padded_crop()", "flip()")}
    assert override(default(), changes)[0].augment.ops == ("padded_crop(padding=3)", "flip()")


def test_variants_of_a_recipe():
    variants = {"big": {"model.widths": (9,), "train.epochs": 3.0}}
    config = variant(small.get_config(), variants, "big")
    assert config.model.widths == (9,) and (config.train.steps, config.train.epochs) == (0, 3.0)
    with pytest.raises(UserError, match="unknown argument 'bigg': did you mean 'big'"):
        variant(small.get_config(), variants, "bigg")


def test_numbers_below_1_are_fractions_of_the_run():
    assert [steps_of(value, 500) for value in (0.0, 0.25, 1.0, 40.0, 2.4, 1e-6)] == [0, 125, 1, 40, 2, 1]
    config = default()
    config.optimizer.warmup_steps = 0.25
    schedule = optimizer_lib.schedule(config.optimizer, 100)
    assert float(schedule(25)) == pytest.approx(1e-3) and float(schedule(5)) == pytest.approx(2e-4)
    assert float(optimizer_lib.schedule(config.optimizer, 1)(0)) == pytest.approx(1e-3)  # a step is left for the peak


# Steps of the default length, and the steps of warm-up, evaluations and checkpoints with which results were measured.
MEASURED: dict[str, tuple] = {
    "digits": (606, 20, 100, 200),
    "captions-nlvr": (461, 100, 50, 1000),
    "captions-scenes": (1500, 100, 250, 1000),
    "images-cmaterdb": (500, 0, 62, 62),
    "music-jsb": (4000, 0, 100, 1000),
    "music-nottingham": (9000, 0, 300, 1000),
    "sequences-adding": (8000, 0, 2000, 1000),
    "series-24": (2663, 0, 266, 1000),
    "series-96": (2640, 0, 264, 1000),
    "speech-random": (2812, 100, 300, 1000),
    "tabular-breast_cancer": (484, 0, 20, 1000),
    "tabular-diabetes": (375, 0, 20, 1000),
    "tabular-iris": (159, 0, 20, 1000),
    "tabular-wine": (189, 0, 20, 1000),
    "tabular-wine_quality": (3215, 0, 20, 1000),
    "text-ag_news_recurrent": (875, 100, 100, 1000),
    "text-clinc_oos_recurrent": (4688, 100, 100, 1000),
    "text-shakespeare": (2510, 100, 300, 1000),
    "text-truecasing": (1144, 100, 100, 1000),
    "transformer": (12000, 200, 750, 1000),
    "translation-bahdanau": (2719, 200, 450, 1000),
}


def test_fractions_give_the_steps_of_the_measured_runs():
    for label, (recipe, name) in zip(recipes.ids(recipes.EVERY), recipes.EVERY, strict=True):
        if label in MEASURED:
            config = recipes.get(recipe, name)
            keys = (config.optimizer.warmup_steps, config.eval.every, config.checkpoint.every)
            assert tuple(steps_of(value, MEASURED[label][0]) for value in keys) == MEASURED[label][1:], label


def test_batches_of_examples_and_of_tokens_replace_each_other():
    config, note = override(default(), {"train.batch_tokens": 4096})
    assert (config.train.batch_size, config.train.batch_tokens) == (0, 4096)
    assert note == "train.batch_tokens=4096 replaces train.batch_size=128"
    config, _ = override(config, {"train.batch_size": 32})
    assert (config.train.batch_size, config.train.batch_tokens) == (32, 0)
