"""The classifier that judges images: shapes, one image at a time or many, and nothing that is mutable."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.models.classifier import Classifier

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.mark.parametrize("is_residual", [False, True])
def test_features_and_logits(is_residual):
    """Of a batch as of each image alone: no image's normalisation sees another."""
    network = Classifier(3, (2, 4), num_features=5, is_strided=is_residual, is_residual=is_residual)
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 7, 6, 2)), jnp.float32)
    variables = jax.jit(network.init)(jax.random.key(0), x[:1])
    assert set(variables) == {"params"}
    norms = [name for name in variables["params"] if name.startswith("GroupNorm")]
    assert len(norms) == (4 if is_residual else 0)
    assert variables["params"]["Conv_0"]["kernel"].shape == ((5, 5, 2, 2) if is_residual else (3, 3, 2, 2))
    together = jax.jit(network.apply)(variables, x)
    features, logits = jax.jit(jax.vmap(network.apply, in_axes=(None, 0)))(variables, x)
    assert features.shape == (4, 5) and logits.shape == (4, 3)
    for found, expected in zip((features, logits), together, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert features.min() >= 0 and np.ptp(logits, axis=0).min() > 1e-3
