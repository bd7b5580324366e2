"""A batch is augmented in the same way on any number of devices and microbatches; mixing takes partners on a device."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from data.augment.op import operations
from data.augment.transform import Transform
from tasks.task import Score, Task
from tests.data import infos
from training import state as state_lib
from training.parallel import Parallel
from training.step import train_step

BATCH = 32
IMAGES = infos.pixels((6, 8, 3))
INFO = dataclasses.replace(IMAGES, keys=IMAGES.keys | infos.sounds().keys | infos.waves().keys | infos.texts().keys)
BANDS = 8
ARGUMENTS = dict.fromkeys(("spec_augment", "vocal_tract"), f"bands={BANDS}")
# By the compiler's rounding a pixel has the hue of either of two near channels.
ARGUMENTS["color_jitter"] = "saturation=0, hue=0"
CALLS = tuple(f"{name}({ARGUMENTS.get(name, '')})" for name in operations())
LAYOUTS = [(None, 1), (None, 4), ("pmap", 1), ("pmap", 4), ("fsdp", 1), ("fsdp", 4)]


class Linear(nn.Module):
    @nn.compact
    def __call__(self, images, *, train: bool):
        return nn.Dense(2, name="head")(images.mean((1, 2)))


@dataclasses.dataclass(frozen=True)
class Recorded(Task):
    """Its metric is the augmented batch itself, each example at its position in the global batch."""

    inputs: tuple[str, ...] = ("image",)
    recorded: tuple[str, ...] = ("image", "frames", "audio", "tokens")

    def weights(self, batch):
        return {"loss": jnp.sum(batch["mask"])}

    def score(self, outputs, batch):
        seen = {
            key: jnp.zeros((BATCH, *batch[key].shape[1:])).at[batch["index"]].set(batch[key]) for key in self.recorded
        }
        metrics = {key: (value, jnp.ones(())) for key, value in seen.items()}
        return Score({"loss": outputs.sum()}, metrics, {})


def augmented(transform, task, strategy, accumulate):
    """Returns the batch that the step saw, key -> array [BATCH, ...]."""
    parallel, optimizer = Parallel(strategy or "pmap"), optax.sgd(0.0)
    state = state_lib.create(Linear(), optimizer, (jnp.zeros((1, 6, 8, 3)),), jax.random.key(0))
    parts = {"model": Linear(), "task": task, "optimizer": optimizer, "transform": transform, "accumulate": accumulate}
    batch = {key: x for key, x in infos.batch_of(INFO, BATCH).items() if key != "index"}
    if strategy:
        step = parallel.compile_train(functools.partial(train_step, **parts, axis_name=parallel.axis_name))
        (placed,) = parallel.batches([batch])
        metrics = parallel.read(step(parallel.place(state), placed)[1])
    else:
        metrics = jax.device_get(jax.jit(functools.partial(train_step, **parts))(state, batch)[1])
    return {key: metrics[key][0] for key in task.recorded}


@functools.cache
def transform_of(texts):
    return Transform.create(texts, INFO)


@functools.cache
def on_one_device(texts):
    return augmented(transform_of(texts), Recorded(), None, 1)


def check_layout(texts, layout):
    expected, actual = on_one_device(texts), augmented(transform_of(texts), Recorded(), *layout)
    assert (np.abs(expected["image"]).max((1, 2, 3)) > 0).all()  # every position was filled
    for key in expected:
        # a sample that lies between two pixels may be rounded to either one
        close = np.abs(expected[key] - actual[key]) < 1e-4
        assert close.mean() > 0.999, (key, close.mean())


@pytest.mark.parametrize("layout", [("pmap", 4), ("fsdp", 4)], ids=str)
def test_a_crop_is_the_same_on_any_layout(layout):
    check_layout(("padded_crop(3)", "normalise()"), layout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=str)
def test_every_op_draws_the_same_on_any_layout(layout):
    texts = tuple(text for text in CALLS if not operations()[text.partition("(")[0]].mixes)
    assert len(texts) > 8
    check_layout(texts, layout)


@pytest.mark.slow
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, op in operations().items() if op.mixes])
def test_partners_come_from_the_devices_batch(name):
    """Mixing is exempt: with 8 devices an example's partner is one of the 4 on its device."""
    transform, task = transform_of((f"{name}()",)), Recorded(recorded=("mixed_label",))
    one, eight = (augmented_labels(transform, task, *layout) for layout in ((None, 1), ("pmap", 1)))
    device = np.arange(BATCH) // 4
    assert (eight // 4 == device).all() and (eight != np.arange(BATCH)).all()
    assert (one != np.arange(BATCH)).all() and not (one // 4 == device).all()


def augmented_labels(transform, task, strategy, accumulate):
    """Returns the partner of each example."""
    numbered = lambda rng, batch: transform(rng, {**batch, "label": batch["index"]})  # noqa: E731
    return augmented(numbered, task, strategy, accumulate)["mixed_label"].astype(int)
