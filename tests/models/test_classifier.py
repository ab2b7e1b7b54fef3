"""The classifier that judges images: shapes, one image at a time or many, and nothing that is mutable."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.models.classifier import Classifier

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.mark.parametrize("is_residual", [False, True])
def test_features_and_logits(is_residual):
    """A batch gives the outputs of each image alone: normalisation does not mix images."""
    network = Classifier(3, (2, 4), num_features=5, is_strided=is_residual, is_residual=is_residual)
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(4, 7, 6, 2)), jnp.float32)
    variables = jax.jit(network.init)(jax.random.key(0), x[:1])
    assert set(variables) == {"params"}
    norms = [name for name in variables["params"] if name.startswith("GroupNorm")]
    assert len(norms) == (4 if is_residual else 0)
    assert variables["params"]["Conv_0"]["kernel"].shape == ((5, 5, 2, 2) if is_residual else (3, 3, 2, 2))
    weights = [variables["params"][name]["kernel"] for name in variables["params"] if name.startswith("Conv")]
    weights.append(variables["params"]["Dense_0"]["kernel"])
    unit = np.concatenate([np.ravel(w) * np.sqrt(w.size / w.shape[-1] / 2) for w in weights])  # He: 2 / fan-in
    assert abs(np.mean(unit**2) - 1) < 4 * np.sqrt(2 / unit.size) < 0.5
    together = jax.jit(network.apply)(variables, x)
    features, logits = jax.jit(jax.vmap(network.apply, in_axes=(None, 0)))(variables, x)
    assert features.shape == (4, 5) and logits.shape == (4, 3)
    for found, expected in zip((features, logits), together, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert features.min() >= 0 and np.ptp(logits, axis=0).min() > 1e-3
    expected = jax.jit(layer_by_layer, static_argnums=2)(variables["params"], x, is_residual)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def layer_by_layer(params, x, is_residual):
    """By Flax's layers: images centred, a stride or pooling, and x plus the pair's result where there is one."""

    def layer(i, x, stride=1):
        kernel = params[f"Conv_{i}"]["kernel"]
        conv = nn.Conv(kernel.shape[-1], kernel.shape[:2], stride, use_bias=not is_residual)
        x = conv.apply({"params": params[f"Conv_{i}"]}, x)
        if is_residual:
            x = nn.GroupNorm(num_groups=kernel.shape[-1]).apply({"params": params[f"GroupNorm_{i}"]}, x)
        return nn.relu(x)

    def pool(x):
        return nn.max_pool(x, (2, 2), (2, 2), "SAME")

    x = 2 * x - 1
    x = pool(layer(1, layer(0, x, 2))) if is_residual else pool(layer(1, pool(layer(0, x))))
    if is_residual:
        x = x + layer(3, layer(2, x))
    features = nn.relu(x.reshape(len(x), -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"])
    return features @ params["Dense_1"]["kernel"] + params["Dense_1"]["bias"]
