"""Properties of every architecture that generates (`arch.layers.decoder`); the suite finds them by itself.

It also finds their variants "... test", the mixers that a network of running text can have, and scanned trunks.
"""

import functools
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.layers import mixers
from arch.layers.decoder import Decoder
from core.errors import UserError
from core.names import defined
from tests.arch.architectures import SIZES, Tiny, architectures, make_inputs, required
from training.decoding import beam_search, greedy

BATCH, LENGTH = SIZES["batch"], SIZES["length"]
LENGTHS = jnp.array([LENGTH, 5, 1, 8])


DECODERS = {name: cls for name, cls in architectures().items() if hasattr(cls, "start") and hasattr(cls, "decode")}


def cases() -> dict[str, tuple[type[nn.Module], str, dict]]:
    """Returns name -> (architecture, variant, fields)."""
    found = {}
    for name, cls in DECODERS.items():
        found |= {f"{name} {key}": (cls, key, {}) for key in cls.VARIANTS if key.split()[-1] == "test"}
        fields = inspect.signature(cls).parameters
        if "scan" in fields:
            found[f"{name} scan"] = (cls, "test", {"scan": True})
        if "mixer" in fields and prompted(cls):
            found |= {f"{name} {mixer}": (cls, "test", {"mixer": MIXERS[mixer]}) for mixer in MIXERS}
    return found


def prompted(architecture: type[nn.Module]) -> bool:
    """Whether a text of the network continues its conditions."""
    return set(required(architecture)) <= set(required(architecture, "start"))


MIXERS = defined(mixers, lambda value: inspect.isclass(value) and issubclass(value, nn.Module))
CASES = cases()


class Case:
    """A small model with disturbed variables; `start`, `decode` and `forward` are compiled once per shape.

    `conditions` leave LENGTH tokens to decode: the source, or a prompt of one token. `target` begins with `first`.
    """

    def __init__(self, architecture: type[nn.Module], variant: str, fields: dict):
        tiny, rng = Tiny(architecture, variant, **fields), np.random.default_rng(0)
        self.model, self.traces = tiny.model, []
        self.variables = jax.tree.map(lambda p: p + 0.3 * rng.standard_normal(p.shape, p.dtype), tiny.variables)
        self.longest = dict(
            zip(required(architecture, "start"), make_inputs(architecture, method="start"), strict=True)
        )
        self.prompted = prompted(architecture)
        self.conditions = list(self.longest.values())
        if self.prompted:
            self.conditions = [self.conditions[0][:, :1], jnp.ones(BATCH, jnp.int32)]
        self.first, self.cache = self.start(self.variables, self.conditions)
        others = rng.integers(0, tiny.model.num_classes, (BATCH, LENGTH - 1), np.int32)
        self.target = jnp.concatenate([self.first[:, None], others], 1)

    @functools.partial(jax.jit, static_argnums=0)
    def start(self, variables, conditions):
        return self.model.apply(variables, *conditions, length=LENGTH, method="start")

    @functools.partial(jax.jit, static_argnums=0)
    def decode(self, variables, tokens, cache):
        self.traces.append(tokens.shape[1])
        return self.model.apply(variables, tokens, cache, method="decode")

    @functools.partial(jax.jit, static_argnums=0)
    def forward(self, variables, conditions, target):
        inputs = [target] if self.prompted else [*conditions, target]
        outputs = self.model.apply(variables, *inputs, train=False)
        return outputs["student"] if isinstance(outputs, dict) else outputs  # of the network that decodes


@functools.cache
def make_case(name: str) -> Case:
    return Case(*CASES[name])


def params() -> list:
    """Returns the names of the cases; mixers and scanned trunks are slow."""
    return [name if name.endswith(" test") else pytest.param(name, marks=pytest.mark.slow) for name in CASES]


@pytest.fixture(params=params())
def case(request) -> Case:
    return make_case(request.param)


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_architectures_that_generate_satisfy_the_protocol(case):
    assert isinstance(case.model, Decoder)
    assert case.first.shape == (BATCH,) and jnp.issubdtype(case.first.dtype, jnp.integer)
    assert all(leaf.shape[0] == BATCH for leaf in jax.tree.leaves(case.cache)) and jax.tree.leaves(case.cache.state)


@pytest.mark.parametrize("sizes", [[1] * LENGTH, [5, 1, LENGTH - 6]], ids=["step by step", "prefill"])
def test_decoding_computes_the_full_forward_pass(case, sizes):
    cache, parts, start = case.cache, [], 0
    case.traces.clear()
    for size in sizes:
        logits, cache = case.decode(case.variables, case.target[:, start : start + size], cache)
        parts.append(logits)
        start += size
    close(jnp.concatenate(parts, 1), case.forward(case.variables, case.conditions, case.target))
    assert len(case.traces) <= len(set(sizes)), "the cache changed its structure, shapes or types"
    jax.tree.map(np.testing.assert_array_equal, cache.memory, case.cache.memory)


def test_a_reordered_state_continues_the_sequences_it_belongs_to(case):
    """All rows have one memory, as the beams of an example do."""
    conditions = case.conditions if case.prompted else [jnp.repeat(x[:1], BATCH, 0) for x in case.conditions]
    _, cache = case.start(case.variables, conditions)
    order = jnp.array([2, 0, 0, 3])
    _, cache = case.decode(case.variables, case.target[:, :5], cache)
    cache = cache.replace(state=jax.tree.map(lambda leaf: leaf[order], cache.state))
    steps = []
    for tokens in case.target[order, 5:].T:
        logits, cache = case.decode(case.variables, tokens[:, None], cache)
        steps.append(logits)
    close(jnp.concatenate(steps, 1), case.forward(case.variables, conditions, case.target)[order, 5:])


@pytest.mark.slow
def test_conditions_of_unequal_length_generate_what_each_generates_alone(case):
    together = {name: LENGTHS if name.endswith("lengths") else x for name, x in case.longest.items()}
    generate = jax.jit(functools.partial(greedy, case.model, length=4))
    decoded = generate(case.variables, list(together.values()))
    for row in (1, 2):
        alone = {name: x[row : row + 1] for name, x in together.items()}
        alone = {name: x[:, : LENGTHS[row]] if x.ndim == 2 else x for name, x in alone.items()}  # texts have two axes
        expected = generate(case.variables, list(alone.values()))
        np.testing.assert_array_equal(decoded.tokens[row], expected.tokens[0])
        close(decoded.score[row], expected.score[0])


def test_beam_search_finds_sequences_of_their_score(case):
    search = jax.jit(functools.partial(beam_search, case.model, length=LENGTH - 1, beams=3))
    decoded = search(case.variables, case.conditions)
    target = jnp.concatenate([case.first[:, None], decoded.tokens], 1)
    logits = case.forward(case.variables, case.conditions, target)[:, :-1]
    scores = jnp.take_along_axis(jax.nn.log_softmax(logits), decoded.tokens[..., None], -1)[..., 0]
    np.testing.assert_allclose(decoded.score, scores.sum(1), rtol=1e-4)


def test_decoding_beyond_the_context_is_refused(case):
    def decode(length: int):
        return jax.eval_shape(functools.partial(greedy, case.model, length=length), case.variables, conditions)

    conditions, context = list(case.longest.values()), case.model.context
    prompt = LENGTH if case.prompted else 1
    decode(10_000 if context is None else context - prompt + 1)
    if context is not None:
        length = context - prompt + 2
        with pytest.raises(UserError, match=rf"{prompt} tokens and {length} more .* exceed .* {context} tokens"):
            decode(length)
