"""The Transformer of 2017 by gradient: causality of the target and padding of the source; its options and sizes."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers import positions
from arch.layers.mixers import Convolution
from arch.transformer import Transformer
from core.names import defined
from tests.arch.influence import disturbed, influence, moved

SOURCE, LENGTH, WIDTH, REAL = 6, 5, 12, 4  # REAL: source tokens that are not padding
SIZES = {"num_classes": 7, "vocab_size": 7, "depth": 2, "width": WIDTH, "heads": 3, "mlp_width": 16, "context": 8}
KINDS = defined(positions, lambda value: isinstance(value, type) and issubclass(value, positions.Positions))
CASES = {
    **{name: {"positions": kind} for name, kind in KINDS.items()},
    "pre-norm": {"order": "pre", "shared": False, "tied": False, "head_bias": True},
    "scan": {"scan": True, "decoder_depth": 1},
    "convolution": {"mixer": Convolution},
}


class Case:
    """A small model; `measure` returns logits, and the influence of the source's and of the target's embeddings."""

    def __init__(self, fields: dict):
        self.model = Transformer(**SIZES | fields)
        keys = jax.random.split(jax.random.key(0))
        self.source, self.target = (
            jax.random.randint(key, (1, size), 0, 7) for key, size in zip(keys, (SOURCE, LENGTH), strict=True)
        )
        init = functools.partial(self.model.init, train=False)
        self.variables = disturbed(jax.jit(init)(jax.random.key(0), self.source, jnp.array([REAL]), self.target))

    @functools.partial(jax.jit, static_argnums=0)
    def measure(self, source, lengths, target):
        call = functools.partial(self.model.apply, self.variables, source, lengths, target, train=False)
        zeros = {size: jnp.zeros((1, size, WIDTH)) for size in (SOURCE, LENGTH)}
        logits, of_source = influence(lambda move: moved(call, zeros | {SOURCE: move}), zeros[SOURCE])
        _, of_target = influence(lambda move: moved(call, zeros | {LENGTH: move}), zeros[LENGTH])
        return logits, of_source, of_target


@functools.cache
def make_case(name: str) -> Case:
    return Case(CASES[name])


FAST = ("Sinusoids",)


@pytest.fixture(params=[name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES])
def case(request) -> Case:
    return make_case(request.param)


@pytest.mark.slow
def test_a_logit_depends_on_its_target_token_and_earlier_ones_and_on_the_real_source(case):
    _, of_source, of_target = case.measure(case.source, jnp.array([REAL]), case.target)
    np.testing.assert_array_equal(of_target > 0, np.tri(LENGTH, dtype=bool))
    np.testing.assert_array_equal(of_source > 0, np.tile(np.arange(SOURCE) < REAL, (LENGTH, 1)))


def test_padding_of_source_and_target_changes_no_real_logit(case):
    logits, *_ = case.measure(case.source, jnp.array([REAL]), case.target)
    source = case.source.at[0, REAL:].add(1) % 7
    target = case.target.at[0, 3:].add(1) % 7
    again, *_ = case.measure(source, jnp.array([REAL]), target)
    np.testing.assert_array_equal(again[:, :3], logits[:, :3])


def test_a_shorter_source_and_target_are_the_padded_ones():
    case = make_case("Sinusoids")
    logits, *_ = case.measure(case.source, jnp.array([REAL]), case.target)
    apply = jax.jit(functools.partial(case.model.apply, train=False))
    alone = apply(case.variables, case.source[:, :REAL], jnp.array([REAL]), case.target[:, :3])
    np.testing.assert_allclose(alone, logits[:, :3], rtol=1e-5, atol=1e-5)


def shapes(**fields) -> dict:
    """Returns the shapes of the parameters."""
    tokens, lengths = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1,), jnp.int32)
    init = functools.partial(Transformer(**fields).init, train=False)
    return jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(init, jax.random.key(0), tokens, lengths, tokens))[
        "params"
    ]


def test_embeddings_are_shared_and_tied_as_asked():
    assert {name for name in shapes(**SIZES) if "embedding" in name or "head" in name} == {"target_embedding"}
    separate = shapes(**SIZES | {"shared": False, "tied": False, "vocab_size": 9})
    assert separate["source_embedding"]["embedding"] == (9, WIDTH) and separate["head"]["kernel"] == (WIDTH, 7)
    with pytest.raises(ValueError, match=r"source has 9 tokens and the target 7.*shared=False"):
        shapes(**SIZES | {"vocab_size": 9})


TABLE_3 = {  # millions of parameters in arXiv 1706.03762, table 3
    "base": 65,
    "B 16": 58,
    "B 32": 60,
    "C 2 layers": 36,
    "C 4 layers": 50,
    "C 8 layers": 80,
    "C 256": 28,
    "C 1024": 168,
    "C ff 1024": 53,
    "C ff 4096": 90,
    "big": 213,
}


@pytest.mark.parametrize("name", TABLE_3)
def test_table_3_has_the_published_numbers_of_parameters(name):
    """With the 40,700 tokens that the paper's 65 millions need, to 3%."""
    fields = Transformer.VARIANTS[name] | {"num_classes": 40_700, "vocab_size": 40_700, "scan": True}
    tree = shapes(**fields)
    count = sum(math.prod(shape) for shape in jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, tuple)))
    assert abs(count / 1e6 / TABLE_3[name] - 1) < 0.03
