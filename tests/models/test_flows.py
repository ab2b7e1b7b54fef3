"""Coupling flows: maps that invert, determinants against autodiff, densities that integrate to 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bayesjax import tree
from bayesjax.models import flows

pytestmark = pytest.mark.usefixtures("compile_quickly")
CASES = [("affine", 3), ("spline", 2)]


@functools.cache
def fitted(bijector, dim):
    """A flow whose parameters are anything: the density, and where it is evaluated: z, x, log det, back, Jacobian."""
    model = flows.Flow(dim, num_layers=dim + 1, hidden=(8,), bijector=bijector, num_bins=4)
    params = model.init(jax.random.key(0), jnp.zeros(dim))["params"]
    start = model.apply({"params": params}, jnp.ones((1, dim)))
    params = jax.tree.map(lambda w, n: w + 0.2 * n, params, tree.normal_like(jax.random.key(1), params))
    density = flows.density(model)

    @jax.jit
    def evaluate(params, z):
        map_ = density(params).bijector
        x, log_det = map_.forward_and_log_det(z)
        back, log_det_back = map_.inverse_and_log_det(x)
        jacobian = jax.vmap(jax.jacfwd(map_.forward))(z)
        return x, log_det, back, log_det_back, jacobian, density(params).log_prob(x)

    z = 2 * jax.random.normal(jax.random.key(2), (50, dim))
    return start, z, [np.asarray(each, np.float64) for each in evaluate(params, z)], (density, params)


@pytest.mark.parametrize(("bijector", "dim"), CASES)
def test_map_inverts_and_its_determinant_is_that_of_autodiff(bijector, dim):
    """To float32: inverse(forward(z)) = z, log det of the map and of its inverse against the Jacobian's."""
    _, z, (x, log_det, back, log_det_back, jacobian, _), _ = fitted(bijector, dim)
    assert np.abs(x - z).max() > 0.5, "the map is no identity"
    np.testing.assert_allclose(back, z, atol=5e-5)
    exact = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(log_det, exact, atol=5e-5)
    np.testing.assert_allclose(log_det_back, -exact, atol=5e-5)
    assert np.abs(exact).max() > 0.1, "the test would not see a sign"
    assert np.all(np.abs(jacobian).max(axis=0) > 1e-6), "every coordinate moves every other"


@pytest.mark.parametrize(("bijector", "dim"), CASES)
def test_density_is_that_of_the_noise_divided_by_the_determinant(bijector, dim):
    """N(0, I) at the start; log N(z) - log det at any parameters."""
    start, z, (_, log_det, _, _, _, log_prob), _ = fitted(bijector, dim)
    np.testing.assert_allclose(start, scipy.stats.norm.logpdf(np.ones((1, dim))).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(log_prob, scipy.stats.norm.logpdf(z).sum(axis=1) - log_det, atol=1e-4)


def test_density_integrates_to_one():
    """By quadrature, to 1e-3; the density with the determinant's sign turned does not."""
    *_, (density, params) = fitted("spline", 2)
    line = np.linspace(-16, 16, 641)[:-1] + 0.025
    grid = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2).astype(np.float32)

    @jax.jit
    def both(params, x):
        law = density(params)
        z, log_det = law.bijector.inverse_and_log_det(x)
        of_noise = law.distribution.log_prob(z)
        return jnp.exp(of_noise + log_det), jnp.exp(of_noise - log_det)

    right, wrong = (0.05**2 * np.asarray(each, np.float64).sum() for each in both(params, grid))
    assert abs(right - 1) < 1e-3 < 0.05 < abs(wrong - 1)


def test_draws_are_of_the_density():
    """What comes with draws is their log density."""
    *_, (density, params) = fitted("spline", 2)
    law = density(params)
    draws, log_prob = law.sample_and_log_prob(seed=jax.random.key(3), sample_shape=(50,))
    np.testing.assert_allclose(log_prob, law.log_prob(draws), atol=1e-4)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"bijector": "cubic"}, "bijector must be one of affine, spline; got 'cubic'"),
        ({"dim": 1}, "dim must be at least 2"),
        ({"num_bins": 0}, "got 2, 8 and 0"),
        ({"bound": 0.0}, "max_log_scale and bound must be positive; got 3.0 and 0.0"),
    ],
)
def test_wrong_arguments(flags, message):
    with pytest.raises(ValueError, match=message):
        flows.Flow(**{"dim": 2, **flags}).init(jax.random.key(0), jnp.zeros(2))
