"""A scanned trunk and an unrolled one have the same parameters in another layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from arch.gpt import GPT
from arch.layers.stacking import stacked, unstacked


def test_turns_of_two_kinds_become_blocks_in_order():
    """At any depth of the path, several trunks at once, and only where the target is scanned."""
    scanned = {
        "teacher/trunk/blocks/block1/mlp/kernel": np.array([[1.0], [3.0]]),
        "teacher/trunk/blocks/block2/mlp/kernel": np.array([[2.0], [4.0]]),
        "blocks/block1/scale": np.array([7.0, 8.0]),
        "teacher/trunk/norm/scale": np.array([9.0]),
    }
    unrolled = {f"teacher/trunk/block{i}/mlp/kernel": np.array([float(i)]) for i in range(1, 5)}
    unrolled |= {"block1/scale": np.array(7.0), "block2/scale": np.array(8.0)}
    unrolled["teacher/trunk/norm/scale"] = scanned["teacher/trunk/norm/scale"]
    for found, expected in ((unstacked(scanned), unrolled), (stacked(unrolled, scanned), scanned)):
        assert found.keys() == expected.keys()
        for path, value in expected.items():
            np.testing.assert_array_equal(found[path], value)
    assert stacked(unrolled, unrolled) == unrolled and unstacked(unrolled) == unrolled


def test_blocks_that_do_not_fit_stay():
    """A missing turn, and turns of different shapes."""
    like = ["blocks/block1/kernel"]
    missing = {"block1/kernel": np.zeros(2), "block3/kernel": np.zeros(2)}
    different = {"block1/kernel": np.zeros(2), "block2/kernel": np.zeros(3)}
    for params in (missing, different):
        assert stacked(params, like).keys() == params.keys()


@pytest.mark.slow
def test_both_layouts_give_the_same_outputs():
    tokens = jnp.asarray(np.random.default_rng(0).integers(0, 11, (2, 9)))
    fields = GPT.VARIANTS["test"] | {"depth": 4, "windows": (None, 4)}
    rolled, plain = (GPT(**fields, scan=scan) for scan in (True, False))

    def forward(model, params):
        return jax.jit(lambda params: model.apply({"params": params}, tokens, train=False))(params)

    params = jax.jit(lambda key: rolled.init(key, tokens, train=False))(jax.random.key(0))["params"]
    params = jax.tree.map(lambda x: x + 0.1 * np.random.default_rng(1).standard_normal(x.shape, np.float32), params)
    flat = flatten_dict(params, sep="/")
    assert flat["trunk/blocks/block2/attention/layer/query/kernel"].shape == (2, 12, 12)
    single = unstacked(flat)
    np.testing.assert_allclose(
        forward(plain, unflatten_dict(single, sep="/")), forward(rolled, params), rtol=1e-5, atol=1e-5
    )
    back = stacked(single, flat)
    assert back.keys() == flat.keys()
    for path, value in flat.items():
        np.testing.assert_array_equal(back[path], value)
