"""LoRA around any architecture: it begins as the network, and its merged kernels are the network's."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from jax.interpreters.partial_eval import dce_jaxpr

from arch.gpt import GPT
from arch.lora import LoRA
from arch.mlp import MLP
from core.errors import UserError
from tests.arch.architectures import Tiny, architectures
from training.decoding import greedy

# attention; convolutions with batch statistics; recurrence; a network that generates from conditions
NETWORKS = ["gpt.GPT", *(pytest.param(x, marks=pytest.mark.slow) for x in ("resnet.CifarResNet", "seq2seq.Seq2Seq"))]
KERNEL = "trunk/block1/attention/layer/query/kernel"


class Case:
    """A small network, LoRA around it, and its variables, whose factors are random as after training."""

    def __init__(self, architecture, rng=0, fields=(), **lora):
        self.tiny = Tiny(architecture, **dict(fields))
        self.model = LoRA(self.tiny.model, **{"rank": 2, "alpha": 3.0} | lora)
        self.first = jax.jit(functools.partial(self.model.init, train=False))(self.tiny.rngs, *self.tiny.inputs)
        random = np.random.default_rng(rng)
        disturbed = jax.tree.map(lambda x: x + 0.1 * random.standard_normal(x.shape, x.dtype), self.first["params"])
        self.variables = {**self.first, "params": disturbed}

    def apply(self, model, variables, *, train=False):
        """Returns outputs and new collections; intermediates, too."""
        mutable = [name for name in variables if name != "params"] + ["intermediates"]
        options = {"train": train, "rngs": {"dropout": jax.random.key(1)}, "mutable": mutable}
        return jax.jit(lambda v: model.apply(v, *self.tiny.inputs, **options))(variables)


@functools.cache
def gpt(scan: bool = False) -> Case:
    return Case(GPT, fields=(("scan", scan), ("depth", 4)))


def close(a, b):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4), a, b)


def size(tree) -> int:
    return sum(x.size for x in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", NETWORKS)
def test_merged_kernels_give_the_outputs_of_the_network(name):
    """In training, with batch statistics and the same dropout."""
    case = Case(architectures()[name], kernels=".*kernel")
    plain = case.model.merged(case.variables)
    changed = flatten_dict(jax.tree.map(jnp.subtract, plain["params"], _without_factors(case.variables)), sep="/")
    assert all(bool(np.any(change != 0)) == path.endswith("kernel") for path, change in changed.items())
    close(case.apply(case.model, case.variables, train=True), case.apply(case.tiny.model, plain, train=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures())
def test_every_architecture_reads_its_parameters_and_the_factors_of_its_kernels(name):
    tiny = Tiny(architectures()[name])
    model = LoRA(tiny.model, rank=2, kernels=".*kernel")
    variables = jax.eval_shape(functools.partial(model.init, train=False), tiny.rngs, *tiny.inputs)
    plain = jax.eval_shape(model.merged, variables)
    assert plain == tiny.shapes
    (outputs, read), (expected, network) = (_reads(*one, tiny) for one in ((model, variables), (tiny.model, plain)))
    kernels = {path for path in network if path.endswith("kernel")}
    assert outputs == expected and kernels
    assert read == network | {f"{factor}/{path}" for factor in ("lora_a", "lora_b") for path in kernels}


def _reads(model, variables, tiny):
    """Returns the shapes of the outputs in training and the paths of the parameters on which they depend."""
    mutable = [name for name in variables if name != "params"]
    apply = functools.partial(model.apply, train=True, rngs=tiny.rngs, mutable=mutable)
    jaxpr, shapes = jax.make_jaxpr(apply, return_shape=True)(variables, *tiny.inputs)
    _, used = dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.out_avals))
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in jax.tree.leaves_with_path(variables)]
    read = {path for path, one in zip(paths, used[: len(paths)], strict=True) if one}
    return shapes, {path.removeprefix("params/") for path in read if path.startswith("params/")}


def _without_factors(variables):
    return {name: x for name, x in variables["params"].items() if not name.startswith("lora_")}


@pytest.mark.parametrize("scan", [pytest.param(False, marks=pytest.mark.slow), True])
def test_training_begins_with_the_network(scan):
    case = gpt(scan)
    plain = {"params": _without_factors(case.first)}
    outputs, expected = case.apply(case.model, case.first)[0], case.apply(case.tiny.model, plain)[0]
    np.testing.assert_array_equal(outputs, expected)
    factors = jax.tree.leaves(case.first["params"]["lora_a"])
    assert np.std(np.concatenate([x.ravel() for x in factors])) == pytest.approx(12**-0.5, rel=0.15)
    assert not np.array_equal(factors[0], factors[1])


def test_factors_by_hand():
    """4 blocks with a query and a value kernel of 12 x 12, at rank 2: 8 (12 x 2 + 2 x 12) numbers; scanned or not."""
    for scan in (False, True):
        params = gpt(scan).first["params"]
        assert size([params["lora_a"], params["lora_b"]]) == 8 * (12 * 2 + 2 * 12) == 384
    flat = flatten_dict(gpt(True).first["params"], sep="/")
    assert flat["lora_a/trunk/blocks/block2/attention/layer/value/kernel"].shape == (2, 12, 2)
    assert flat["lora_b/trunk/blocks/block2/attention/layer/value/kernel"].shape == (2, 2, 12)
    params = gpt().variables["params"]
    a, b, w = (flatten_dict(tree, sep="/")[KERNEL] for tree in (params["lora_a"], params["lora_b"], params))
    merged = flatten_dict(gpt().model.merged({"params": params})["params"], sep="/")[KERNEL]
    np.testing.assert_allclose(merged, w + 1.5 * np.asarray(a) @ np.asarray(b), rtol=1e-5)


@pytest.mark.slow
def test_only_factors_and_named_parameters_have_a_gradient():
    case = Case(MLP, kernels="Dense_0/kernel", trained="head/.*")
    targets = case.tiny.targets()
    loss = lambda params: jnp.sum(case.apply(case.model, {**case.variables, "params": params})[0] * targets)  # noqa: E731
    gradient = flatten_dict(jax.grad(loss)(case.variables["params"]), sep="/")
    (frozen,) = case.model.frozen
    trained = {path for path, x in gradient.items() if np.any(x != 0)}
    assert trained == {"lora_a/Dense_0/kernel", "lora_b/Dense_0/kernel", "head/kernel", "head/bias"}
    assert trained == {path for path in gradient if not re.fullmatch(frozen, path)}


@pytest.mark.slow
@pytest.mark.slow
def test_an_adapted_network_generates_what_the_merged_one_does():
    case, prompt = gpt(), [jnp.array([[3, 4, 5]]), jnp.array([3])]
    adapted, merged = (
        jax.jit(functools.partial(greedy, model, length=6))(variables, prompt)
        for model, variables in ((case.model, case.variables), case.model.deployed(case.variables))
    )
    np.testing.assert_array_equal(adapted.tokens, merged.tokens)
    np.testing.assert_allclose(adapted.score, merged.score, rtol=1e-4)
    assert case.model.context == 16


@pytest.mark.parametrize(
    ("fields", "words"),
    [({}, r"matches no kernel"), ({"kernels": "(head"}, "not a regular"), ({"trained": "*"}, "not a regular")],
)
def test_slips(fields, words):
    with pytest.raises(UserError, match=words):
        Case(MLP, **{"trained": ""} | fields)
