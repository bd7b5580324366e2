"""Conformance of augment ops: every op of data/augment/ is found here and fulfils the contract."""

import dataclasses
import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core import names
from core.errors import UserError
from core.info import Info, Key
from data.augment.op import Op, example_keys, operations, parse_op
from tests.data.infos import batch_of, pixels, sounds, spatial, texts, waves

SETS = {"spatial": spatial(), "images": pixels(), "sounds": sounds(), "waves": waves(), "texts": texts()}
BARE = Info("bare", {"train": 16}, {"x": Key((3,), "float32")})
RNG = jax.random.key(7)

every_op = pytest.mark.parametrize("name", operations())


def create(name: str) -> Op:
    """Returns an op with its defaults; 8 for arguments without one."""
    required = [p.name for p in names.parameters(operations()[name]).values() if p.default is inspect.Parameter.empty]
    return operations()[name](**dict.fromkeys(required, 8))


@functools.cache
def case(name: str) -> tuple[Op, dict]:
    """Returns an op, bound to the first set that it accepts, and a batch of that set with padding."""
    for info in SETS.values():
        try:
            return create(name).bind(info), batch_of(info, padding=5)
        except UserError:
            continue
    raise AssertionError(f"no set of this file fits {name}")


def applied(op: Op, batch: dict, order=slice(None)) -> dict:
    keys = example_keys(RNG, 2, jnp.asarray(batch["index"]))
    return jax.tree.map(np.asarray, jax.jit(op)(keys[order], {key: x[order] for key, x in batch.items()}))


@every_op
def test_an_op_is_a_call_of_a_recipe(name):
    op = create(name)
    assert dataclasses.is_dataclass(op) and op.when in ("train", "always") and op.name == name
    arguments = {field.name: getattr(op, field.name) for field in dataclasses.fields(op) if field.init}
    assert parse_op(f"{name}({', '.join(f'{key}={value!r}' for key, value in arguments.items())})") == op
    assert inspect.getdoc(operations()[name]) and hash(op) == hash(create(name))


@every_op
def test_a_set_without_its_keys_is_refused_or_left_alone(name):
    op, batch = create(name), batch_of(BARE)
    try:
        op = op.bind(BARE)
    except UserError as refusal:
        assert str(refusal).startswith(f"{name}: ") and "\n" not in str(refusal) and "bare" in str(refusal)
        return
    for key, value in applied(op, batch).items():
        np.testing.assert_array_equal(value, batch[key])


@every_op
def test_shapes_and_types_stay_and_only_bound_keys_change(name):
    op, batch = case(name)
    result = applied(op, batch)
    assert batch.keys() <= result.keys() and op.info is not None and create(name).info is None
    for key, value in batch.items():
        assert (result[key].shape, result[key].dtype) == (value.shape, value.dtype), key
        assert np.isfinite(result[key]).all()
    for key in ("mask", "index", "label"):
        np.testing.assert_array_equal(result[key], batch[key])
    if op.when == "train" and "image" in batch:
        assert result["image"].min() >= 0 and result["image"].max() <= 1 + 1e-6


@every_op
def test_draws_are_random_by_example_and_repeat(name):
    op, batch = case(name)
    if op.when == "always":
        pytest.skip("may draw nothing")
    same = {key: np.repeat(x[:1], 16, 0) for key, x in batch.items()} | {key: batch[key] for key in ("mask", "index")}
    inputs = [key for key in ("image", "frames", "audio") if key in batch]
    if op.mixes:
        same["image"] = same["image"] + 0.005 * np.arange(16, dtype=np.float32)[:, None, None, None]
    once, again = applied(op, same), applied(op, same)
    for key in inputs:
        np.testing.assert_array_equal(once[key], again[key])
        assert len({each.tobytes() for each in once[key]}) >= 2


@every_op
def test_an_example_depends_on_its_own_key_alone_unless_it_is_mixed(name):
    op, batch = case(name)
    order = np.random.default_rng(0).permutation(16)
    straight, permuted = applied(op, batch), applied(op, batch, order)
    differs = {key: np.abs(straight[key][order].astype(float) - permuted[key].astype(float)).mean() for key in straight}
    if not op.mixes:
        assert max(differs.values()) < 1e-6, differs


@every_op
def test_padding_does_not_change_real_examples(name):
    op, batch = case(name)
    real = batch["mask"] > 0
    others = batch_of(op.info, padding=5, seed=1)
    mixed = {key: np.where(real.reshape(-1, *[1] * (x.ndim - 1)), x, others[key]) for key, x in batch.items()}
    first, second = applied(op, batch), applied(op, mixed)
    for key in first:
        np.testing.assert_allclose(first[key][real], second[key][real], atol=1e-6)


def test_unknown_ops_and_arguments_name_the_nearest():
    for text, words in {
        "flop()": ["'flop'", "'flip'"],
        "Op()": ["'Op' does not exist"],
        "padded_crop(pading=2)": ["pading", "padding"],
        "padded_crop(padding=0)": ["padding must be at least 1"],
        "padded_crop(info=None)": ["info"],
        "normalise(mean=(0.5,))": ["both mean and std"],
    }.items():
        with pytest.raises(UserError) as refusal:
            parse_op(text)
        assert str(refusal.value).startswith("config.augment.ops ") and "\n" not in str(refusal.value)
        assert all(word in str(refusal.value) for word in words), refusal.value
