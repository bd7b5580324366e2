"""Every recipe fits data of its keys and shapes; one of each kind trains and is evaluated on such data."""

import functools
import json
import math
import re
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from PIL import Image

from arch.layers.recurrent_attention import General
from arch.seq2seq import Seq2Seq
from configs import music, text
from data.augment.transform import Transform
from tasks.generation import Generation
from tests.data.infos import class_names
from tests.training import commands, recipes
from training import state as state_lib
from training.build import example_batch
from training.diagnostics import gradient_norms
from training.run import build_run
from training.step import eval_step, train_step

pytestmark = pytest.mark.slow

OTHERS = [one for one in recipes.ALL if one not in recipes.TRAINED]


@pytest.mark.parametrize(("recipe", "name"), recipes.TRAINED, ids=recipes.ids(recipes.TRAINED))
def test_recipes_train_on_data_of_their_shape(recipe, name, trained):
    one = trained(recipe, name)
    assert not one.unread, "these are set and nothing reads them"
    metrics = one.results[one.split]
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    assert len(one.arrays["loss"]) == len(one.run.splits[one.split])
    assert ("bleu" in metrics) == ("generated" in one.arrays) == bool(one.run.task.generated_metrics)


@pytest.mark.parametrize(("recipe", "name"), OTHERS, ids=recipes.ids(OTHERS))
def test_other_arguments_fit_data_of_their_shape(recipe, name, recipes_dir):
    run = build_run(recipes.small(recipe, name), recipes_dir)
    parts = {"model": run.model, "task": run.task, "transform": run.transform}
    state, batch = jax.eval_shape(run.create_state), example_batch(run.info, 8)
    state, metrics = jax.eval_shape(functools.partial(train_step, optimizer=run.optimizer, **parts), state, batch)
    assert {*run.task.coefficients, "grad_norm"} <= metrics.keys()
    generates = bool(run.task.generated_metrics)
    evaluation = functools.partial(eval_step, generates=generates, **parts)
    _, arrays = jax.eval_shape(evaluation, state.variables, batch)
    assert arrays["loss"].shape[0] == 8 and ("generated" in arrays) == generates


@pytest.mark.parametrize(("name", "column"), [("class", "topic"), ("tags", "tags")])
def test_recipes_for_ones_own_texts(name, column, tmp_path):
    rows = 10 * [("the dog runs", "x", "DET NOUN VERB"), ("no", "y", "INTJ")]
    frame = pd.DataFrame(rows, columns=["words" if name == "tags" else "text", "topic", "tags"])
    frame.to_csv(tmp_path / "own.csv", index=False)
    config = text.get_config(name)
    config.data.name = f"csv:{tmp_path}/own.csv"
    if name == "class":
        config.data.target = column
    run = build_run(config, None)
    assert set(class_names(run.info)) == set(" ".join(frame[column]).split())
    assert {split: len(part) for split, part in run.splits.items()} == {"train": 16, "validation": 2, "test": 2}
    outputs = jax.eval_shape(run.create_state).params["head"]["kernel"].shape[-1]
    assert outputs == len(class_names(run.info))


def test_piano_rolls_stay_bytes_until_the_model_reads_them(trained):
    one = trained(music, "jsb")
    batch = one.run.splits["test"].batch(np.arange(4))
    assert batch["notes"].dtype == np.uint8 and batch["notes"].max() == 1
    notes, lengths = jnp.asarray(batch["notes"]), jnp.asarray(batch["notes_lengths"])
    variables = one.run.model.init(jax.random.key(0), notes, lengths, train=False)
    answers = [one.run.model.apply(variables, x, lengths, train=False) for x in (notes, notes.astype(jnp.float32))]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
    "fields",
    [{"query": "previous"}, {"query": "current", "attention": General, "input_feeding": True}, {"attention": None}],
    ids=["previous", "feeding", "fixed"],
)
def test_gradients_of_a_decoder_are_seen_position_by_position(fields):
    random, real = np.random.default_rng(0), 3
    batch = {key: random.integers(4, 11, (8, 6)).astype(np.int32) for key in ("source", "target")}
    batch["source_lengths"] = np.full(8, 6, np.int32)
    batch["target_mask"] = np.broadcast_to(np.arange(6) <= real, (8, 6)).astype(np.float32)
    batch["mask"] = np.ones(8, np.float32)
    model = Seq2Seq(num_classes=11, vocab_size=11, widths=(6, 6), **fields)
    inputs = [jnp.asarray(batch[key][:1]) for key in ("source", "source_lengths", "target")]
    state = state_lib.create(model, optax.sgd(0.1), tuple(inputs), jax.random.key(0))
    norms = jax.jit(functools.partial(gradient_norms, model=model, task=Generation(), transform=Transform()))
    norms = norms(state, batch)
    for layer in ("layer1", "layer2"):
        decoder = norms[f"time/decoder/stack/{layer}"]
        assert decoder.shape == (6,) and (decoder[:real] > 0).all() and not decoder[real:].any()
        assert (norms[f"time/encoder/{layer}"] > 0).all()


def test_a_number_for_each_image(tmp_path):
    """The command of docs/add-data.md, on images whose target is their brightness; new images get theirs."""
    random, side = np.random.default_rng(0), 8
    target = random.uniform(0.1, 0.9, 600).astype(np.float32)
    images = np.clip(target[:, None, None, None] + random.normal(0, 0.05, (600, side, side, 1)), 0, 1)
    np.savez(tmp_path / "bright.npz", image=(255 * images).astype(np.uint8), target=target)
    text = Path("docs/add-data.md").read_text()
    (command,) = re.findall(r"^python train.py (.*regression\.Regression.*)$", text, re.MULTILINE)
    command = command.replace("npz:FILE", f"npz:{tmp_path / 'bright.npz'}").replace(
        "runs/number", str(tmp_path / "run")
    )
    code, out, err = commands.run(*shlex.split(command), "--config.train.epochs=5.0")
    assert code == 0, err
    results = json.loads((tmp_path / "run" / "results.json").read_text())["results"]["test"]
    assert results["r2"] > 0.9, out
    for value in (60, 190):
        Image.fromarray(np.full((side, side), value, np.uint8)).save(tmp_path / f"{value}.png")
    code, out, err = commands.run(f"--workdir={tmp_path / 'run'}", *tmp_path.glob("*.png"), script="predict.py")
    found = {Path(name).stem: float(number) for name, number in map(str.split, out.splitlines())}
    assert {int(name): number for name, number in found.items()} == pytest.approx(
        {60: 60 / 255, 190: 190 / 255}, abs=0.1
    )
