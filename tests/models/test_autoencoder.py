"""The auto-encoder against products in float64; its size, its dropout, its errors, particles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import assert_particles, count, filled, quick_jit, shapes

from bayesjax.models import AutoEncoder

X = np.random.default_rng(0).uniform(size=(5, 6)).astype(np.float32)
MODEL = AutoEncoder(6, (4, 3, 2))


def test_the_count_is_that_of_the_paper():
    """784-1024-32-1024-784 by default."""
    expected = 785 * 1024 + 1025 * 32 + 33 * 1024 + 1025 * 784
    assert count(AutoEncoder(), jnp.zeros((1, 784))) == expected == 1_674_032


def test_encode_and_decode_by_hand():
    """Sigmoids of products, down and back; logits are those of the output; any leading axes."""
    variables = filled(MODEL, X)
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    code = X.astype(np.float64)
    for i in range(3):
        code = 1 / (1 + np.exp(-code @ params[f"encoder_{i}"]["kernel"] - params[f"encoder_{i}"]["bias"]))
    out = code
    for i, width in enumerate((3, 4, 6)):
        logits = out @ params[f"decoder_{i}"]["kernel"] + params[f"decoder_{i}"]["bias"]
        assert logits.shape[-1] == width
        out = 1 / (1 + np.exp(-logits))

    @quick_jit
    def all_ways(variables, x, code):
        of_x = [MODEL.apply(variables, x, method=method) for method in ("encode", "reconstruct_logits", "__call__")]
        return of_x + [MODEL.apply(variables, code, method=method) for method in ("decode_logits", "decode")]

    results = all_ways(variables, X, code.astype(np.float32))
    for actual, expected in zip(results, (code, logits, out, logits, out), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-6)
    assert shapes(MODEL, jnp.zeros((2, 3, 6)))[0].shape == (2, 3, 6)


def test_dropout_is_in_the_encoder_and_on_request():
    """With it, codes differ from draw to draw; deterministic calls need no key and have none.

    The first layer's sum of 6 inputs keeps its mean: 2000 draws, 4 standard errors (false alarms: 6.3e-5).
    """
    model = AutoEncoder(6, (1,), activation=lambda x: x, dropout_rates=(0.2,))
    variables = {"params": {"encoder_0": {"kernel": np.ones((6, 1), np.float32), "bias": np.zeros(1, np.float32)}}}

    x = np.tile(X[0], (2000, 1))

    @quick_jit
    def both(key):
        dropped = model.apply(variables, x, deterministic=False, rngs={"dropout": key}, method="encode")
        return dropped[:, 0], model.apply(variables, x[0], method="encode")[0]

    draws, whole = map(np.asarray, both(jax.random.key(0)))
    error = 4 * draws.std() / np.sqrt(2000)
    assert draws.std() > 0.1
    assert abs(draws.mean() - X[0].sum()) < error < abs(draws.mean() - 0.8 * X[0].sum())
    np.testing.assert_allclose(whole, X[0].sum(), rtol=1e-5)


def test_particles():
    """Several auto-encoders at once."""
    assert_particles(MODEL, X, scale=1.0)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (AutoEncoder(6, ()), "features must name at least one positive width"),
        (AutoEncoder(6, (4, 2), dropout_rates=(0.5,)), r"dropout_rates must be empty or 2 numbers.*got \(0.5,\)"),
        (AutoEncoder(7, (4, 2)), r"x must be \[..., num_inputs = 7\]; got shape \(5, 6\)"),
    ],
)
def test_wrong_arguments_are_named(model, message):
    """ValueError with the name."""
    with pytest.raises(ValueError, match=message):
        shapes(model, X)
