"""C3D: the sizes of its groups and the parameters of its convolutions, as published."""

import functools
import math

import jax
import jax.numpy as jnp

from arch.c3d import C3D


def test_the_published_input():
    """1412.0767, fig. 3: pooling keeps the 16 frames once and halves all sizes then; 7 x 7 positions become 4 x 4."""
    clips = jnp.zeros((1, 16, 112, 112, 3))
    run = functools.partial(C3D().init_with_output, train=False, mutable=True)
    _, variables = jax.eval_shape(run, jax.random.key(0), clips)
    sizes = [variables["intermediates"][f"group{number}"][0].shape[1:] for number in range(1, 6)]
    assert sizes == [(16, 56, 56, 64), (8, 28, 28, 128), (4, 14, 14, 256), (2, 7, 7, 512), (1, 4, 4, 512)]
    params = variables["params"]
    convolutions = [params[name] for name in params if name.startswith("conv")]
    assert sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(convolutions)) == 27_655_936


def test_a_kernel_of_one_frame_sees_no_motion():
    clips = jnp.zeros((1, 4, 8, 8, 1))
    init = functools.partial(C3D(**C3D.VARIANTS["test"], kernel_depth=1).init, train=False)
    assert jax.eval_shape(init, jax.random.key(0), clips)["params"]["conv2_1"]["kernel"].shape == (1, 3, 3, 4, 5)
