"""FT-Transformer: what the paper fixes beyond its blocks. Parity with the authors' package is in `tests/parity`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from arch.ft_transformer import FTTransformer
from arch.layers.norm import layer_norm
from training.config import default
from training.optimizer import parameter_paths, select


def shapes(**fields) -> dict:
    model = FTTransformer(**FTTransformer.VARIANTS["test"] | fields)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), jnp.ones((2, 6)))["params"]


def test_the_first_block_has_no_norm_before_attention():
    trunk = shapes()["trunk"]
    assert "norm" not in trunk["block1"]["attention"] and "norm" in trunk["block1"]["feed_forward"]
    assert "norm" in trunk["block2"]["attention"]
    assert "norm" in shapes(first_norm=layer_norm)["trunk"]["block1"]["attention"]


def test_weight_decay_leaves_out_tokens_biases_and_norms():
    decayed = flatten_dict(select(default().optimizer.decay_mask, parameter_paths(shapes()), "decay_mask"), sep="/")
    assert all(on == path.endswith("kernel") for path, on in decayed.items())
    assert {"tokens/weights", "tokens/biases", "cls", "norm/scale"} < {path for path, on in decayed.items() if not on}


def test_the_order_of_columns_does_not_matter():
    model = FTTransformer(num_classes=3, depth=1, width=12, heads=3, mlp_width=16)
    x, order = jax.random.normal(jax.random.key(1), (4, 6)), jnp.array([3, 0, 5, 1, 2, 4])
    params = jax.jit(functools.partial(model.init, train=False))(jax.random.key(0), x)["params"]
    apply = jax.jit(lambda params, x: model.apply({"params": params}, x, train=False))
    outputs = apply(params, x)
    tokens = jax.tree.map(lambda leaf: leaf[order], params["tokens"])
    np.testing.assert_allclose(apply(params | {"tokens": tokens}, x[:, order]), outputs, rtol=1e-4, atol=1e-5)
    assert np.abs(apply(params, x[:, order]) - outputs).max() > 1e-2
