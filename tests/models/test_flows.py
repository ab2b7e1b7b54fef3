"""Coupling flows: maps that invert, determinants against autodiff, densities that integrate to 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bayesjax import tree
from bayesjax.models import flows

pytestmark = pytest.mark.usefixtures("compile_once")
CASES = [("affine", 3), ("spline", 2)]


LINE = np.linspace(-8, 8, 161)[:-1] + 0.05
GRID = np.stack(np.meshgrid(LINE, LINE), axis=-1).reshape(-1, 2).astype(np.float32)


@functools.cache
def flow(bijector, dim):
    """Parameters at the start and others; `there(params, z)` to x, log det, Jacobian; `back(params, x)`."""
    model = flows.Flow(dim, num_layers=dim + 1, hidden=(8,), bijector=bijector, num_bins=4)
    start = jax.jit(model.init)(jax.random.key(0), jnp.zeros(dim))["params"]
    moved = jax.tree.map(lambda w, n: w + 0.2 * n, start, tree.normal_like(jax.random.key(1), start))
    density = flows.density(model)

    @jax.jit
    def there(params, z):
        def both(z):
            x, log_det = density(params).bijector.forward_and_log_det(z)
            return x, (x, log_det)

        jacobian, (x, log_det) = jax.vmap(jax.jacfwd(both, has_aux=True))(z)
        return x, log_det, jacobian

    @jax.jit
    def back(params, x):
        z, log_det = density(params).bijector.inverse_and_log_det(x)
        return z, log_det, density(params).log_prob(x)

    return start, moved, there, back


def noise(dim):
    return 2 * jax.random.normal(jax.random.key(2), (len(GRID), dim))


@pytest.mark.parametrize(("bijector", "dim"), CASES)
def test_map_inverts_and_its_determinant_is_that_of_autodiff(bijector, dim):
    """To float32: inverse(forward(z)) = z, log det of the map and of its inverse against the Jacobian's."""
    _, params, there, back = flow(bijector, dim)
    z = noise(dim)
    x, log_det, jacobian = there(params, z)
    assert np.abs(x - z).max() > 0.5, "the map is no identity"
    again, log_det_back, _ = back(params, x)
    np.testing.assert_allclose(again, z, atol=1e-4)
    exact = np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
    np.testing.assert_allclose(log_det, exact, atol=1e-4)
    np.testing.assert_allclose(log_det_back, -exact, atol=1e-4)
    assert np.abs(exact).max() > 0.1, "the test would not see a sign"
    assert np.all(np.abs(jacobian).max(axis=0) > 1e-6), "every coordinate moves every other"


@pytest.mark.parametrize(("bijector", "dim"), CASES)
def test_density_is_that_of_the_noise_divided_by_the_determinant(bijector, dim):
    """N(0, I) at the start; log N(z) - log det at other parameters."""
    start, params, there, back = flow(bijector, dim)
    z = noise(dim)
    of_noise = scipy.stats.norm.logpdf(np.asarray(z)).sum(axis=1)
    np.testing.assert_allclose(back(start, z)[2], of_noise, rtol=1e-5)
    x, log_det, _ = there(params, z)
    np.testing.assert_allclose(back(params, x)[2], of_noise - log_det, rtol=1e-4, atol=1e-3)


def test_density_integrates_to_one():
    """By quadrature, to 1e-3; the density with the determinant's sign turned does not."""
    _, params, _, back = flow("spline", 2)
    _, log_det, log_prob = (np.asarray(each, np.float64) for each in back(params, GRID))
    assert 0.1**2 * np.exp(log_prob).sum() == pytest.approx(1, abs=1e-3)
    assert abs(0.1**2 * np.exp(log_prob - 2 * log_det).sum() - 1) > 0.05


@pytest.mark.parametrize("asked", [0.5, 40.0])
def test_log_scale_is_the_network_s_where_small_and_bounded(asked):
    """m tanh(s / m) of an output s, with m = 3: about s where |s| is below m, and m at most; not m tanh(s)."""
    model = flows.Flow(2, num_layers=1, hidden=())
    network = {"layers_0": {"kernel": jnp.zeros((1, 1, 2)), "bias": jnp.array([[0.0, asked]])}}
    density = flows.density(model)({"networks": network, "gates": jnp.ones((1, 2))})
    _, log_det = density.bijector.forward_and_log_det(jnp.zeros(2))
    assert log_det == pytest.approx(3 * np.tanh(asked / 3), rel=1e-5)


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
