"""Variational simulation-based calibration: exact and biased fits of a conjugate model, and the test of symmetry."""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesjax import evaluation

DIM, NUM_DATA, NUM_DRAWS = 3, 5, 200
SCALE = 1 / np.sqrt(1 + NUM_DATA)
"""Standard deviation of the posterior of theta ~ N(0, 1) given five observations y ~ N(theta, 1)."""
FITS = "exact", "shifted", "narrow"


def simulate(theta, rng_key):
    return theta["exact"][None] + jax.random.normal(rng_key, (NUM_DATA, DIM))


def sample_prior(rng_key):
    """One draw of theta, once for each fit."""
    return dict.fromkeys(FITS, jax.random.normal(rng_key, (DIM,)))


def fit(rng_key, y):
    """Draws from the posterior, from one whose coordinate 1 is shifted by half its scale, and from one half as wide."""
    noise = SCALE * jax.random.normal(rng_key, (NUM_DRAWS, DIM))
    mean = (y.sum(axis=0) / (1 + NUM_DATA))[None]
    shift = np.array([[0, 0.5 * SCALE, 0]], np.float32)
    return {"exact": mean + noise, "shifted": mean + shift + noise, "narrow": mean + noise / 2}


def test_exact_fits_pass_and_biased_fits_fail():
    """400 replications. A p-value below 1e-4 / 3 in one of three coordinates would be a false alarm of at most 1e-4.

    The exact posterior and the one that is too narrow pass, since both are symmetric. The shift is found in its
    coordinate and in its direction. Only the exact posterior has uniform p (Kolmogorov-Smirnov, false alarms: 3e-4).
    """
    p = evaluation.calibration_probabilities(
        sample_prior, simulate, fit, jax.random.key(0), num_replications=400, chunk_size=150
    )
    assert {name: leaf.shape for name, leaf in p.items()} == dict.fromkeys(FITS, (400, DIM))
    tests = {name: evaluation.symmetry_test(leaf) for name, leaf in p.items()}
    assert tests["exact"].p_value.min() > 1e-4 / 3 and tests["narrow"].p_value.min() > 1e-4 / 3
    np.testing.assert_array_equal(tests["shifted"].p_value < 1e-4 / 3, [False, True, False])
    assert p["shifted"][:, 1].mean() < 0.45
    uniform = {name: [stats.kstest(column, "uniform").pvalue for column in leaf.T] for name, leaf in p.items()}
    assert min(uniform["exact"]) > 1e-4 > max(uniform["narrow"])


def test_ties_count_half_and_nan_is_refused():
    def fit_with_nan(rng_key, y):
        return {"tied": jnp.array([0.0, 1.0, 1.0, 3.0]), "nan": jnp.array([0.0, jnp.nan])}

    p = evaluation.calibration_probabilities(
        lambda key: {"tied": jnp.ones(()), "nan": jnp.ones(())},
        lambda theta, key: (),
        fit_with_nan,
        jax.random.key(0),
        num_replications=2,
    )
    np.testing.assert_allclose(p["tied"], 0.5)
    with pytest.raises(ValueError, match="probabilities must be finite; got 2 of 2 values that are not"):
        evaluation.symmetry_test(p["nan"])


def test_p_values_are_those_of_all_signs():
    """All 2^11 signs of 11 distinct distances from 1/2: the p-value is the share of statistics at least as large."""
    signs = np.array(list(itertools.product([-1, 1], repeat=11))).T
    distances = np.random.default_rng(0).permutation(np.linspace(0.05, 0.45, 11))
    test = evaluation.symmetry_test(0.5 + signs * distances[:, None])
    shares = (test.statistic[None] >= test.statistic[:, None] - 1e-9).mean(axis=1)
    np.testing.assert_allclose(test.p_value, shares, rtol=1e-12)
    assert evaluation.symmetry_test(np.full(11, 0.5)) == (0, 1)


def test_the_statistic_is_that_of_two_samples():
    """D is SciPy's distance between p and 1 - p, without ties and with ties of a grid that float64 represents."""
    uniform = np.random.default_rng(1).uniform(size=(80, 20))
    for p in (uniform, np.round(64 * uniform) / 64, np.round(4 * uniform) / 4):
        expected = [stats.ks_2samp(column, 1 - column, method="asymp").statistic for column in p.T]
        np.testing.assert_allclose(evaluation.symmetry_test(p).statistic, expected, atol=1e-12)


def test_the_level_is_nominal():
    """4000 tests of 100 uniform values: the share with p <= alpha is at most alpha plus 4 standard errors, and at least
    a third of alpha (the p-values are discrete). Seven comparisons of probability at most 3e-5. The p-values of the
    two-sample test, as if p and 1 - p were independent, are refused by the same bound: 9 % are below 5 %. Values
    that are rounded to quarters, with many ties, keep the level too.
    """
    p = np.random.default_rng(2).uniform(size=(100, 4000))

    def exceeds(p_values, alpha):
        return (p_values <= alpha).mean() > alpha + 4 * np.sqrt(alpha * (1 - alpha) / 4000)

    test = evaluation.symmetry_test(p)
    levels = (0.01, 0.05, 0.2)
    assert not any(exceeds(test.p_value, alpha) for alpha in levels)
    assert all((test.p_value <= alpha).mean() > alpha / 3 for alpha in levels)
    assert not exceeds(evaluation.symmetry_test(np.round(4 * p) / 4).p_value, 0.05)
    independent = stats.kstwobign.sf(test.statistic * np.sqrt(100 / 2))
    assert exceeds(independent, 0.05) and (independent <= 0.05).mean() > 0.075


def test_numpyro_has_the_same_statistic():
    """Its p-values are smaller, since it takes p and 1 - p for independent samples."""
    calibration = pytest.importorskip("numpyro.infer.calibration")
    import numpyro
    from numpyro.infer import Trace_ELBO, autoguide

    def model(obs=None):
        loc = numpyro.sample("loc", numpyro.distributions.Normal(jnp.zeros(2), 1).to_event(1))
        numpyro.sample("obs", numpyro.distributions.Normal(loc, 1).to_event(1), obs=obs)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = calibration.vsbc_diagnostic(
            jax.random.PRNGKey(0), model, autoguide.AutoNormal(model), numpyro.optim.Adam(0.1), Trace_ELBO(),
            observed_sites=["obs"], num_simulations=30, num_svi_steps=50, num_samples=256,
        )  # fmt: skip
    test = evaluation.symmetry_test(result.probabilities["loc"])
    np.testing.assert_allclose(test.statistic, result.ks_stats["loc"], atol=1e-12)
    assert (test.p_value >= result.ks_pvalues["loc"]).all()


@pytest.mark.parametrize(
    ("p", "message"),
    [
        (np.array([0.2, 1.5]), r"probabilities must be in \[0, 1\]; got 0\.2 \.\. 1\.5"),
        (np.float64(0.5), r"probabilities must be \[num_replications, \.\.\.\] and not empty; got shape \(\)"),
    ],
)
def test_invalid_probabilities(p, message):
    with pytest.raises(ValueError, match=message):
        evaluation.symmetry_test(p)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        (jnp.zeros(3), r"leaves \[num_draws, \.\.\.\]; got shapes \[\(3,\)\] for parameters \[\(3,\)\]"),
        ({"theta": jnp.zeros((7, 3))}, "fit must return draws with the structure of the parameters"),
    ],
)
def test_invalid_draws(draws, message):
    key = jax.random.key(0)
    with pytest.raises(ValueError, match=message) as error:
        evaluation.calibration_probabilities(lambda key: jnp.zeros(3), lambda *_: (), lambda *_: draws, key)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="num_replications must be at least 1; got 0"):
        evaluation.calibration_probabilities(
            lambda key: jnp.zeros(3), lambda *_: (), lambda *_: draws, key, num_replications=0
        )
