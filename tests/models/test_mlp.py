"""The multi-layer perceptron against the same products in float64."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.models import MLP

X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def test_mlp_is_products_and_activations():
    """W h + b and the activation for each layer but the last, in float64 by hand; embed stops before the last."""
    model = MLP((6, 3, 2), activation=nn.tanh, bias_init=nn.initializers.normal())
    variables = model.init(jax.random.key(0), X)
    assert set(variables) == {"params"}
    layers = [variables["params"][f"layers_{i}"] for i in range(3)]
    h = X.astype(np.float64)
    for layer in layers[:-1]:
        h = np.tanh(h @ np.asarray(layer["kernel"], np.float64) + layer["bias"])
    out = h @ np.asarray(layers[-1]["kernel"], np.float64) + layers[-1]["bias"]
    np.testing.assert_allclose(model.apply(variables, X, method=model.embed), h, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(model.apply(variables, X), out, rtol=1e-5, atol=1e-6)
    assert not np.allclose(model.apply(variables, X), np.tanh(out), rtol=1e-3)


def test_mlp_takes_any_leading_axes():
    """`[..., in]` to `[..., out]`, with a single layer a linear map of the input itself."""
    model = MLP((3,))
    variables = model.init(jax.random.key(0), X)
    assert model.apply(variables, jnp.ones((2, 5, 4))).shape == (2, 5, 3)
    assert model.apply(variables, jnp.ones(4)).shape == (3,)
    np.testing.assert_array_equal(model.apply(variables, X, method=model.embed), X)


@pytest.mark.parametrize("features", [(), (4, 0), (-1,)])
def test_mlp_needs_positive_widths(features):
    """ValueError naming features."""
    with pytest.raises(ValueError, match="features must name at least one positive width"):
        MLP(features).init(jax.random.key(0), X)
