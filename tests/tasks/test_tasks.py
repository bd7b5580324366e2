"""Conformance of tasks: every class of tasks/ that derives from `Task` is found here and fulfils the contract."""

import dataclasses
import functools
import importlib
import json
import pkgutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import tasks
from reporting import figures
from reporting.drawing import Figure
from reporting.shown import Shown
from tasks.task import Task
from tests.tasks import made_up
from tests.tasks.made_up import EXAMPLES, Case
from training.parallel import Parallel
from training.step import eval_step, mean_metrics

ANY_LABEL = (255, -1, -100)  # values of labels that do not count
# parts of metrics' names
HIGHER = ("accuracy", "agreement", "ap50", "auc", "bleu", "chrf", "exact", "f1", "precision", "recall", "r2")
LOWER = ("bits", "cer", "error", "loss", "mae", "mse", "nll", "perplexity", "wer")


def found() -> list[type[Task]]:
    modules = [importlib.import_module(f"tasks.{entry.name}") for entry in pkgutil.iter_modules(tasks.__path__)]
    classes = [value for module in modules for value in vars(module).values() if isinstance(value, type)]
    return [cls for cls in dict.fromkeys(classes) if issubclass(cls, Task) and cls is not Task]


every_task = pytest.mark.parametrize("cls", found(), ids=lambda cls: cls.__name__)


@functools.cache
def case(cls) -> Case:
    return made_up.make(cls)


@functools.cache
def perfect(cls):
    """Returns the outputs of least loss, found by gradient descent from random ones."""
    made = case(cls)
    optimizer, steps = optax.adam(optax.cosine_decay_schedule(0.3, 300)), 300
    fixed, outputs = _separated(made.outputs)

    @jax.jit
    def descend(outputs):
        def step(_, carry):
            outputs, state = carry
            updates, state = optimizer.update(jax.grad(loss)(outputs), state)
            return optax.apply_updates(outputs, updates), state

        def loss(outputs):
            return total(made.task, _joined(fixed, outputs), made.batch)

        return jax.lax.fori_loop(0, steps, step, (outputs, optimizer.init(outputs)))[0]

    return _joined(fixed, descend(outputs))


def _separated(outputs):
    """Separates integers, such as lengths, from outputs with a gradient."""
    if not isinstance(outputs, dict):
        return {}, outputs
    integers = {name: x for name, x in outputs.items() if x.dtype.kind == "i"}
    return integers, {name: x for name, x in outputs.items() if name not in integers}


def _joined(fixed, outputs):
    return {**fixed, **outputs} if fixed else outputs


def total(task, outputs, batch):
    """Returns the loss."""
    losses, weights = task.score(outputs, batch).losses, task.weights(batch)
    return task.total({term: loss / weights[term] for term, loss in losses.items()})


@functools.cache
def _compiled(task):
    return jax.jit(lambda outputs, batch: (task.score(outputs, batch), task.weights(batch)))


@functools.cache
def _gradient(task):
    """Returns the compiled gradient of the loss: (integers of the outputs, other outputs, batch) -> of the latter."""
    return jax.jit(jax.grad(lambda fixed, outputs, batch: total(task, _joined(fixed, outputs), batch), argnums=1))


def score(task, outputs, batch):
    return _compiled(task)(outputs, batch)[0]


def sums(task, outputs, batch) -> dict[str, tuple]:
    """Returns (sum, weight) of every loss term and metric."""
    (losses, metrics, _), weights = _compiled(task)(outputs, batch)
    return {term: (losses[term], weights[term]) for term in losses} | metrics


def metrics_of(task, outputs, batch) -> dict[str, float]:
    """Returns what evaluation reports, generated sequences included: those of the target's words."""
    arrays = score(task, outputs, batch).arrays
    if task.generated_metrics:
        logits = outputs["student"] if isinstance(outputs, dict) else outputs
        tokens = jnp.argmax(logits, -1)[:, : logits.shape[1] - task.shift]  # output i is the token i + shift
        lengths = jnp.argmax(tokens == task.vocabulary.eos, 1) + 1
        arrays = arrays | task.generated(tokens, lengths, batch)
    arrays = jax.tree.map(np.asarray, dict(arrays))
    return mean_metrics(task, sums(task, outputs, batch)) | task.summary(arrays, made_up.Examples(batch))


def rows(tree, places):
    return jax.tree.map(lambda x: x[places], tree)


def close(actual, expected, tolerance=1e-5):
    assert actual.keys() == expected.keys()
    for name in expected:
        np.testing.assert_allclose(actual[name], expected[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_tasks_are_found():
    assert len(found()) >= 8


@every_task
def test_numbers_below_zero_are_refused_by_name(cls):
    """The fields that hold a number have no use for -5, nor for NaN if they are floats."""
    for field in dataclasses.fields(cls):
        values = {int: [-5], float: [-5.0, float("nan")]}.get(type(field.default), [])
        for value in values:
            with pytest.raises(ValueError, match=f"{field.name} must be .*not {value}|{field.name} {value}"):
                cls(**{field.name: value})


@every_task
def test_terms_and_names(cls):
    made = case(cls)
    (losses, metrics, arrays), weights = _compiled(made.task)(made.outputs, made.batch)
    terms = made.task.coefficients.keys()
    assert losses.keys() == weights.keys() == terms
    assert "loss" not in terms or len(terms) == 1
    assert not terms & metrics.keys()
    assert metrics_of(made.task, made.outputs, made.batch).keys() <= made.task.metric_names
    assert made.task.generated_metrics <= made.task.metric_names
    assert made.task.generates or not made.task.generated_metrics
    assert all(len(x) == EXAMPLES for x in arrays.values())
    assert made.task.bind(made.info) == made.task


@every_task
@pytest.mark.parametrize("label", ANY_LABEL)
def test_padding_changes_no_sum_and_has_no_gradient(cls, label):
    """Padded examples and positions hold `label` and finite rubbish."""
    made = case(cls)
    places = np.r_[np.arange(EXAMPLES), 0, 1]
    batch, outputs = rows(made.batch, places), rows(made.outputs, places)
    batch["mask"][EXAMPLES:] = 0
    for key in set(made.task.keys) & made.info.keys.keys():
        if batch[key].dtype.kind == "i" and not key.endswith("_lengths"):
            masks = (batch.get(f"{key}_mask", batch["mask"]), batch["mask"])
            real = np.prod(np.broadcast_arrays(*(_expanded(mask, batch[key]) for mask in masks)), axis=0)
            batch[key] = np.where(real > 0, batch[key], label)
    close(sums(made.task, outputs, batch), sums(made.task, made.outputs, made.batch))
    fixed, varied = _separated(outputs)
    gradient = _gradient(made.task)(fixed, varied, batch)
    for leaf in jax.tree.leaves(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf[:EXAMPLES] != 0) and not np.any(leaf[EXAMPLES:])


def _expanded(mask, like):
    return np.expand_dims(mask, tuple(range(mask.ndim, like.ndim)))


@every_task
def test_order_changes_no_sum(cls):
    made, order = case(cls), np.random.default_rng(1).permutation(EXAMPLES)
    outputs, batch = rows(made.outputs, order), rows(made.batch, order)
    close(sums(made.task, outputs, batch), sums(made.task, made.outputs, made.batch))
    arrays = score(made.task, made.outputs, made.batch).arrays
    close(dict(score(made.task, outputs, batch).arrays), rows(dict(arrays), order))


@every_task
def test_microbatches_change_no_sum(cls):
    made = case(cls)
    halves = [(rows(made.outputs, part), rows(made.batch, part)) for part in (slice(0, 4), slice(4, 8))]
    parts = [sums(made.task, *half) for half in halves]
    added = jax.tree.map(jnp.add, *parts)
    close(added, sums(made.task, made.outputs, made.batch))


class Given(nn.Module):
    """Returns its last inputs: one array, or those of `names`."""

    names: tuple[str, ...]

    def __call__(self, *inputs, train: bool):
        return dict(zip(self.names, inputs[-len(self.names) :], strict=True)) if len(self.names) > 1 else inputs[-1]


@every_task
def test_devices_change_no_sum(cls):
    made, parallel = case(cls), Parallel("pmap")
    outputs = made.outputs if isinstance(made.outputs, dict) else {"outputs": made.outputs}
    task = dataclasses.replace(made.task, inputs=(*made.task.inputs, *outputs))
    step = functools.partial(eval_step, model=Given(tuple(outputs)), task=task, axis_name=parallel.axis_name)
    (batch,) = parallel.batches([made.batch | jax.tree.map(np.asarray, outputs)])
    on_devices, arrays = parallel.read(parallel.compile_eval(step)({}, batch))
    close(on_devices, sums(made.task, made.outputs, made.batch))
    close(arrays, {**score(made.task, made.outputs, made.batch).arrays, "mask": made.batch["mask"]})


@every_task
def test_a_perfect_output_has_the_best_metrics(cls):
    made = case(cls)
    best, random = (metrics_of(made.task, outputs, made.batch) for outputs in (perfect(cls), made.outputs))
    assert best["loss"] < random["loss"]
    directions = {name: 1 for name in best if any(part in name for part in HIGHER)}
    directions |= {name: -1 for name in best if any(part in name for part in LOWER)}
    for name, sign in directions.items():
        assert sign * best[name] >= sign * random.get(name, best[name]), name
    for name in directions.keys() & {"accuracy", "sequence_accuracy", "macro_f1", "f1", "sequence_exact"}:
        assert best[name] == 1, name
    for name in directions.keys() & {"mae", "mse", "rmse", "wer", "cer"}:
        assert best[name] == pytest.approx(0, abs=1e-2), name


@every_task
def test_rows_are_readable(cls):
    made = case(cls)
    outputs = perfect(cls)
    prediction = {"prediction": made.batch[made.task.target]} if made.task.generates else made.task.predict(outputs)
    prediction = jax.tree.map(np.asarray, prediction)
    for i in range(EXAMPLES):
        texts = {key: made.examples.text(key, np.array([i]))[0] for key in made.task.texts if key not in made.batch}
        row = made.task.row(rows(made.batch, i) | texts, rows(prediction, i), made.info)
        assert "prediction" in json.loads(json.dumps(row))
        assert sum(row.get("probability", {"": 1.0}).values()) == pytest.approx(1, abs=1e-4)


@every_task
def test_figures_are_drawn(cls):
    made = case(cls)
    arrays = jax.tree.map(np.asarray, dict(score(made.task, made.outputs, made.batch).arrays))
    split = {key: values for key, values in made.batch.items() if key != "mask"}  # the loader adds the mask
    shown = Shown(made.task, made.info, lambda places: rows(split, places), arrays)
    for name in made.task.figures:
        drawn = importlib.import_module(f"{figures.__name__}.{name}").draw(shown)
        assert all(isinstance(figure, Figure) for figure in (drawn if isinstance(drawn, list) else [drawn]) if figure)
