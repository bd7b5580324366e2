"""An axis too many in a target is refused, where it would broadcast."""

import jax
import jax.numpy as jnp
import pytest

from tasks.classification import Classification
from tasks.forecasting import Forecasting
from tasks.regression import Regression
from tasks.sequence import TokenClassification


@pytest.mark.parametrize(
    ("task", "outputs", "key", "wrong"),
    [
        (Classification(), (2, 3), "label", (2, 1)),
        (Classification(), (2, 3), "label", (2, 3)),
        (Regression(mean=0.0, std=1.0), (2, 1), "target", (2, 1)),
        (TokenClassification(), (2, 4, 3), "labels", (2, 4, 1)),
        (TokenClassification(), (2, 4, 3), "labels", (2, 4, 3)),
        (TokenClassification(), (2, 4, 3), "labels", (2,)),
        (Forecasting(), (2, 4), "future", (2, 4)),
        (Forecasting(), (2, 4), "future", (2, 4, 1, 1)),
    ],
)
def test_a_target_of_a_wrong_rank_is_refused(task, outputs, key, wrong):
    batch = {key: jnp.zeros(wrong, jnp.int32), "mask": jnp.ones(2), "past": jnp.zeros((2, 5, 1))}
    with pytest.raises(ValueError, match=rf"^'{key}' has the shape"):
        jax.eval_shape(task.score, jnp.zeros(outputs), batch)
