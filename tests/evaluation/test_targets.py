"""The standard posteriors: two forms of the eight schools, their marginal density by quadrature, exact moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.evaluation.targets import EFFECTS, ERRORS, TARGETS, eight_schools

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.mark.parametrize("name", TARGETS)
def test_every_target(name):
    """A finite value and gradient at the start, one name for each quantity, and exact moments of the same length."""
    target = TARGETS[name]()
    position = target.start(jax.random.key(0))
    value, gradient = jax.value_and_grad(target.logdensity)(position)
    assert jnp.isfinite(value)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert target.quantities(position).shape == (len(target.names),)
    for exact in target.exact or ():
        assert np.shape(exact) == (len(target.names),)


def test_both_forms_of_the_schools_are_one_posterior():
    """The centred density at theta is the other density at (theta - mu) / tau, minus 8 log tau for the volume."""
    centred, other = eight_schools(is_centred=True), eight_schools(is_centred=False)
    for seed in range(3):
        position = other.start(jax.random.key(seed))
        mu, log_tau = position["mu"], position["log_tau"]
        moved = {**position, "theta": mu + jnp.exp(log_tau) * position["theta"]}
        np.testing.assert_allclose(centred.quantities(moved), other.quantities(position), rtol=1e-5)
        volume = centred.logdensity(moved) - (other.logdensity(position) - 8 * log_tau)
        assert abs(volume) < 1e-3


def test_schools_against_quadrature():
    """The posterior, integrated over theta analytically and over (mu, log tau) on a grid, has posteriordb's means."""
    log_tau = np.linspace(-8, 5, 400)[:, None]
    mu = np.linspace(-25, 30, 300)[None]
    tau = np.exp(log_tau)
    variances = tau[..., None] ** 2 + ERRORS**2
    fit = -0.5 * ((EFFECTS - mu[..., None]) ** 2 / variances + np.log(variances)).sum(axis=-1)
    log_density = fit - 0.5 * (mu / 5) ** 2 - np.log1p((tau / 5) ** 2) + log_tau
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    assert (weights * mu).sum() == pytest.approx(4.4, abs=0.1)
    assert (weights * tau).sum() == pytest.approx(3.6, abs=0.1)
    # The program's density, integrated over theta around its mode, differs by a constant between two points.
    target = eight_schools(is_centred=True)

    def marginal(mu, log_tau):
        """Integrates theta out of a normal density of it: the value at the mode minus half the log determinant."""
        tau = np.exp(log_tau)
        precision = 1 / ERRORS**2 + 1 / tau**2
        mode = (EFFECTS / ERRORS**2 + mu / tau**2) / precision
        position = {"mu": jnp.float32(mu), "log_tau": jnp.float32(log_tau), "theta": jnp.asarray(mode, jnp.float32)}
        return float(target.logdensity(position)) - 0.5 * np.log(precision).sum()

    def by_hand(mu, log_tau):
        tau = np.exp(log_tau)
        variances = tau**2 + ERRORS**2
        fit = -0.5 * ((EFFECTS - mu) ** 2 / variances + np.log(variances)).sum()
        return fit - 0.5 * (mu / 5) ** 2 - np.log1p((tau / 5) ** 2) + log_tau

    differences = [marginal(*point) - by_hand(*point) for point in [(0.0, 0.0), (5.0, 1.5), (-3.0, 2.0)]]
    np.testing.assert_allclose(differences, differences[0], atol=1e-3)
