"""FT-Transformer equals the authors' package rtdl_revisiting_models on the same weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from arch.ft_transformer import FTTransformer
from training.config import default
from training.optimizer import create

rtdl = pytest.importorskip("rtdl_revisiting_models")
torch = pytest.importorskip("torch")

NUMBERS, CATEGORIES, ROWS, STEPS = 3, (4, 2), 16, 10
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, NUMBERS), np.float32)
CODES = np.stack([RNG.integers(0, size, ROWS) for size in CATEGORIES], axis=1)
Y = RNG.standard_normal((ROWS, 2), np.float32)
FEATURES = np.concatenate([X, *(np.eye(size, dtype=np.float32)[CODES[:, i]] for i, size in enumerate(CATEGORIES))], 1)
SIZES = {"depth": 2, "width": 24, "heads": 3, "mlp_width": 32}
OURS = FTTransformer(2, (1,) * NUMBERS + CATEGORIES, **SIZES, attention_dropout=0.0, feed_forward_dropout=0.0)


def peer(numbers: int, categories: tuple[int, ...], **fields):
    """Returns the package's network, disturbed: its biases in attention start at 0 and its scales at 1."""
    torch.manual_seed(0)
    model = rtdl.FTTransformer(n_cont_features=numbers, cat_cardinalities=list(categories), **fields)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


def array(tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def dense(module) -> dict[str, np.ndarray]:
    return {"kernel": array(module.weight).T, "bias": array(module.bias)}


def norm(module) -> dict[str, np.ndarray]:
    return {"scale": array(module.weight), "bias": array(module.bias)}


def converted(model) -> dict:
    """Returns our parameters; the package has one matrix for the linear half and the activated half of ReGLU."""
    numbers, categories = model.cont_embeddings, model.cat_embeddings
    weights = [array(numbers.weight), *(array(table.weight) for table in categories.embeddings)]
    biases = [array(numbers.bias), array(categories.bias)]
    params = {"tokens": {"weights": np.concatenate(weights), "biases": np.concatenate(biases)}, "trunk": {}}
    for i, block in enumerate(model.backbone.blocks):
        parts = {"query": "W_q", "key": "W_k", "value": "W_v", "out": "W_out"}
        attention = {"layer": {ours: dense(getattr(block["attention"], name)) for ours, name in parts.items()}}
        if i:
            attention["norm"] = norm(block["attention_normalization"])
        both = dense(block["ffn"].linear1)
        (linear, activated), (bias, other) = np.split(both["kernel"], 2, 1), np.split(both["bias"], 2)
        layer = {"gate": {"kernel": linear, "bias": bias}, "hidden": {"kernel": activated, "bias": other}}
        layer["out"] = dense(block["ffn"].linear2)
        feed_forward = {"norm": norm(block["ffn_normalization"]), "layer": layer}
        params["trunk"][f"block{i + 1}"] = {"attention": attention, "feed_forward": feed_forward}
    output = model.backbone.output
    params |= {"cls": array(model.cls_embedding.weight), "norm": norm(output.normalization)}
    return params | {"head": dense(output.linear)}


def small():
    return peer(
        NUMBERS, CATEGORIES, d_out=2, n_blocks=2, d_block=24, attention_n_heads=3, attention_dropout=0.0,
        ffn_d_hidden=32, ffn_d_hidden_multiplier=None, ffn_dropout=0.0, residual_dropout=0.0,
    )  # fmt: skip


def compare(ours, theirs, tolerance: float) -> None:
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=tolerance, atol=tolerance), ours, theirs)


def test_outputs_are_those_of_the_package():
    model = small().eval()
    params = converted(model)
    assert sum(x.size for x in jax.tree.leaves(params)) == sum(p.numel() for p in model.parameters())
    shapes = jax.eval_shape(functools.partial(OURS.init, train=False), jax.random.key(0), FEATURES)["params"]
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)
    outputs = jax.jit(functools.partial(OURS.apply, train=False))({"params": params}, FEATURES)
    compare(outputs, array(model(torch.tensor(X), torch.tensor(CODES))), 1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_ten_steps_are_those_of_the_package(decay):
    """With weight decay too, which both leave out of tokens, [CLS], norms and biases; the package, which knows norms by
    the ends of their names, forgets the scale of the last one.
    """
    model = small()
    last = model.backbone.output.normalization.weight
    decayed, others = model.make_parameter_groups()
    decayed["params"] = [parameter for parameter in decayed["params"] if parameter is not last]
    groups = [{**decayed, "weight_decay": decay}, {**others, "params": [*others["params"], last]}]
    peer_optimizer, params = torch.optim.SGD(groups, 0.01), converted(model)
    config = default().optimizer
    config.update(name="sgd", learning_rate=0.01, schedule="constant", weight_decay=decay)
    optimizer = create(config, STEPS, params)

    @jax.jit
    def step(params, state):
        def loss(params):
            return jnp.square(OURS.apply({"params": params}, jnp.asarray(FEATURES), train=True) - Y).mean()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(STEPS):
        params, state = step(params, state)
        peer_optimizer.zero_grad()
        (model(torch.tensor(X), torch.tensor(CODES)) - torch.tensor(Y)).square().mean().backward()
        peer_optimizer.step()
    compare(params, converted(model), 1e-5)


@pytest.mark.parametrize("depth", range(1, 7))
def test_defaults_have_as_many_parameters(depth):
    """With eight numbers, as the published variants, whose numbers another test counts."""
    with torch.device("meta"):
        options = rtdl.FTTransformer.get_default_kwargs(depth)
        model = rtdl.FTTransformer(n_cont_features=8, cat_cardinalities=[], d_out=1, **options)
    variant = f"{depth} block{'s' * (depth > 1)}"
    assert FTTransformer.PUBLISHED[variant] == sum(p.numel() for p in model.parameters())
    fields = FTTransformer.VARIANTS[variant]
    assert fields["width"] == options["d_block"]
    assert (fields["attention_dropout"], fields["feed_forward_dropout"]) == (
        options["attention_dropout"],
        options["ffn_dropout"],
    )
