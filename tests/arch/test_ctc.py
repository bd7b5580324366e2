"""CTC encoders: lengths and padding."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from arch.ctc import CTCEncoder

pytestmark = pytest.mark.slow

KEY = jax.random.key(0)
FRAMES = jax.random.normal(KEY, (3, 11, 4))
LENGTHS = jnp.array([7, 11, 1])


@pytest.mark.parametrize("convolutions", [(), ((6, 3, 2),), ((6, 5, 1), (5, 3, 2), (5, 1, 3))])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_nothing(convolutions, bidirectional):
    """Even NaN in the padding changes nothing: the real outputs are those of each sequence alone."""
    model = CTCEncoder(num_classes=5, convolutions=convolutions, widths=(6, 6), bidirectional=bidirectional)
    padding = (jnp.arange(11) >= LENGTHS[:, None])[..., None]
    variables = jax.jit(functools.partial(model.init, train=False))(KEY, FRAMES, LENGTHS)
    apply = jax.jit(functools.partial(model.apply, train=False))
    outputs = apply(variables, jnp.where(padding, jnp.nan, FRAMES), LENGTHS)
    np.testing.assert_array_equal(outputs["lengths"], model.output_lengths(LENGTHS))
    for row, length in enumerate(LENGTHS):
        alone = apply(variables, FRAMES[row : row + 1, :length], LENGTHS[row : row + 1])
        size = int(outputs["lengths"][row])
        assert alone["logits"].shape[1] == size
        np.testing.assert_allclose(outputs["logits"][row, :size], alone["logits"][0], rtol=1e-5, atol=1e-5)


def test_strides_divide_lengths_and_round_up():
    model = CTCEncoder(convolutions=((1, 3, 2), (1, 3, 2)))
    np.testing.assert_array_equal(model.output_lengths(jnp.array([0, 1, 4, 5, 8, 9])), [0, 1, 1, 2, 2, 3])


def test_a_convolution_is_centred():
    """Output j looks at frames j * stride - 1 to j * stride + 1."""
    model = CTCEncoder(num_classes=2, convolutions=((4, 3, 2),), widths=(), activation=lambda x: x)
    variables = model.init(KEY, FRAMES[:1], LENGTHS[1:2], train=False)

    def logits(frames):
        return model.apply(variables, frames, LENGTHS[1:2], train=False)["logits"][0]

    seen = np.abs(jax.jacobian(logits)(FRAMES[:1])).sum((1, 2, 4)) > 0
    expected = [[abs(frame - 2 * j) <= 1 for frame in range(11)] for j in range(6)]
    np.testing.assert_array_equal(seen, expected)


def test_even_kernels_are_refused():
    with pytest.raises(ValueError, match="a kernel of 4 is even; use 3 or 5"):
        CTCEncoder(convolutions=((2, 4, 1),)).init(KEY, FRAMES, LENGTHS, train=False)
