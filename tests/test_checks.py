"""Tests of argument validation: messages of one line that name the argument, and traced values that pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import checks


@pytest.mark.parametrize(
    ("check", "value", "words"),
    [
        (checks.positive, 0.0, "x must be positive and finite; got 0.0"),
        (checks.positive, np.inf, "x must be positive and finite; got inf"),
        (checks.positive, None, "x must be positive and finite; got None"),
        (checks.positive, np.array([1.0, np.nan]), "x must be positive and finite; got [ 1. nan]"),
        (checks.positive, -np.ones(300), "x must be positive and finite; got an array (300,) from -1 to -1"),
        (checks.non_negative, -1, "x must be non-negative and finite; got -1"),
        (checks.positive, np.ones(2), "x must be a number; got an array of shape (2,)"),
        (checks.non_negative, jnp.zeros((1, 1)), "x must be a number; got an array of shape (1, 1)"),
        (checks.all_positive, np.zeros(2), "x must be positive and finite; got [0. 0.]"),
        (checks.count, 0, "x must be at least 1; got 0"),
        (checks.count, 2.0, "x must be an integer, and at least 1; got 2.0"),
        (checks.count, "a", "x must be an integer, and at least 1; got a"),
        (checks.count, np.ones(2, int), "x must be an integer, and at least 1; got [1 1]"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(check, value, words):
    with pytest.raises(ValueError) as caught:
        check(right=1, x=value)
    assert str(caught.value) == words


def test_what_is_right_or_traced_passes():
    checks.positive(a=1, b=np.float32(0.1), c=jnp.ones(()))
    checks.all_positive(a=1, b=np.ones(3))
    checks.non_negative(a=0, b=np.zeros(()))
    checks.count(a=1, b=np.int64(3), c=jnp.array(2))

    known = -jnp.ones(9)

    @jax.jit
    def traced(x):
        checks.positive(x=x)
        checks.count(n=x.astype(int))
        with pytest.raises(ValueError, match="y must be positive and finite; got an array"):
            checks.positive(x=x, y=known)
        return x

    assert traced(-1.0) == -1.0


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 4)])
def test_an_array_is_no_scalar(shape):
    with pytest.raises(ValueError) as caught:
        checks.scalar(jnp.ones(shape), "log_likelihood")
    assert str(caught.value) == f"log_likelihood must return a scalar; got an array of shape {shape}: sum over its axes"
    assert checks.scalar(jnp.float32(2.0), "loss") == 2.0
