"""BERT: published counts, padding by gradient, heads."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch import bert
from arch.bert import BERT
from tests.arch.influence import disturbed

pytestmark = pytest.mark.slow

LENGTH, WIDTH, VOCABULARY = 7, 8, 11
SIZES = {"vocab_size": VOCABULARY, "context": LENGTH, "width": WIDTH, "heads": 2, "depth": 2, "dropout": 0.0}
TOKENS = jax.random.randint(jax.random.key(0), (2, LENGTH), 0, VOCABULARY)
LENGTHS = jnp.array([LENGTH, 4])
# encoder and pooler, 30,522 tokens (the code of the paper, and of transformers)
PUBLISHED = {
    "tiny": 4_385_920,
    "mini": 11_170_560,
    "small": 28_763_648,
    "medium": 41_373_184,
    "base": 109_482_240,
    "large": 335_141_888,
    "base cased": 108_310_272,
    "large cased": 333_579_264,
}


def shapes(model, *inputs):
    init = functools.partial(model.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), *(inputs or (TOKENS, LENGTHS)))


def count(variables) -> int:
    return sum(x.size for x in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("variant", PUBLISHED)
def test_encoder_and_pooler_have_the_published_size(variant):
    assert count(shapes(BERT(**BERT.VARIANTS[variant] | {"head": bert.Pooler}))[1]) == PUBLISHED[variant]


def test_heads_of_pretraining_have_the_published_size():
    assert count(shapes(BERT())[1]) == 110_106_428


def network(**fields):
    """Returns a model, and its outputs as a compiled function of the inputs."""
    model = BERT(**SIZES | fields)
    init = functools.partial(model.init, train=False)
    variables = disturbed(jax.jit(init)(jax.random.key(0), TOKENS, LENGTHS))
    return jax.jit(functools.partial(model.apply, variables, train=False)), model, variables


def test_padding_is_invisible_and_all_real_tokens_are_seen():
    """By the gradient of each output with respect to each embedded token."""
    _, model, variables = network(head=bert.TokenClassifier, num_classes=3)

    def outputs(move):
        def embed(next_call, args, kwargs, context):
            found = next_call(*args, **kwargs)
            is_table = context.module.name == "embedding" and context.method_name == "__call__"
            return found + move if is_table else found

        with nn.intercept_methods(embed):
            return model.apply(variables, TOKENS, LENGTHS, train=False)

    jacobian = jax.jit(jax.jacrev(outputs))(jnp.zeros((2, LENGTH, WIDTH)))  # [2, t, k, 2, s, w]
    influence = np.abs(np.asarray(jacobian)).sum((2, 5))
    assert (influence[0, :, 0] > 0).all() and (influence[1, :4, 1, :4] > 0).all()
    assert not influence[1, :4, 1, 4:].any() and not influence[0, :, 1].any() and not influence[1, :, 0].any()


def test_a_text_alone_and_in_a_padded_batch_has_the_same_outputs():
    apply, *_ = network(head=bert.TextClassifier, num_classes=3)
    alone = apply(TOKENS[1:, :4], LENGTHS[1:])
    np.testing.assert_allclose(apply(TOKENS, LENGTHS)[1:], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["first", "mean"])
def test_a_text_is_pooled_over_real_tokens(pooling):
    apply, *_ = network(head=functools.partial(bert.TextClassifier, pooling=pooling), num_classes=3)
    other = TOKENS.at[1, 4:].set((TOKENS[1, 4:] + 1) % VOCABULARY)
    first, second = (apply(tokens, LENGTHS) for tokens in (TOKENS, other))
    np.testing.assert_array_equal(first, second)


def test_places_choose_positions_of_the_logits():
    apply, *_ = network(head=bert.MaskedTokens)
    places = jnp.array([[1, 5], [2, 0]])
    complete = apply(TOKENS, LENGTHS)
    chosen = apply(TOKENS, LENGTHS, None, places)
    assert complete.shape == (2, LENGTH, VOCABULARY)
    np.testing.assert_allclose(chosen, jnp.take_along_axis(complete, places[..., None], 1), rtol=1e-6, atol=1e-6)


def test_segments_change_the_outputs_unless_the_network_has_none():
    segments = (jnp.arange(LENGTH) > 2).astype(jnp.int32)[None].repeat(2, 0)
    for kinds, is_equal in ((2, False), (0, True)):
        apply, *_ = network(head=bert.TextClassifier, segments=kinds)
        plain, split = (apply(TOKENS, LENGTHS, x) for x in (None, segments))
        assert np.allclose(plain, split) == is_equal


def test_a_choice_is_scored_by_its_text_alone():
    apply, *_ = network(head=bert.MultipleChoice)
    texts = jnp.stack([TOKENS, TOKENS[::-1]], axis=1)  # [batch, choices, length]
    lengths = jnp.stack([LENGTHS, LENGTHS[::-1]], axis=1)
    scores = apply(texts, lengths)
    assert scores.shape == (2, 2)
    np.testing.assert_allclose(scores[0], scores[1][::-1], rtol=1e-5)


def test_heads_of_pretraining():
    (outputs, _) = shapes(BERT(**SIZES, head=bert.Pretraining))
    assert {name: x.shape for name, x in outputs.items()} == {"masked": (2, LENGTH, VOCABULARY), "follows": (2, 2)}


def test_the_norm_has_the_published_epsilon_and_gelu_is_exact():
    fields = BERT()
    assert fields.norm.keywords["epsilon"] == 1e-12
    assert fields.activation(jnp.float32(1)) == pytest.approx(0.841345, abs=1e-6)  # tanh: 0.841192
