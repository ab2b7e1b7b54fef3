"""Tests of divergences from priors: numerical integrals, different priors for parts of a network, invalid input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from bayesjax import posteriors

MEANS, SCALES = np.array([[-1.0, 0.3], [2.0, 0.0]]), np.array([[0.5, 0.01], [2.0, 1.0]])
FAMILY = posteriors.mean_field()


def inverse_softplus(scale):
    return jnp.asarray(np.log(np.expm1(scale)), jnp.float32)


@pytest.fixture
def variational():
    mean = {"Dense_0": {"kernel": jnp.asarray(MEANS, jnp.float32), "bias": jnp.array([0.7])}}
    rho = {"Dense_0": {"kernel": inverse_softplus(SCALES), "bias": inverse_softplus([0.2])}}
    return posteriors.MeanFieldParams(mean, rho)


def integral(prior):
    def one(mu, sigma):
        q = stats.norm(mu, sigma)
        points = sorted({float(np.clip(0, mu - 11 * sigma, mu + 11 * sigma)), mu})
        integrand = lambda w: q.pdf(w) * (q.logpdf(w) - prior.logpdf(w))  # noqa: E731
        return integrate.quad(integrand, mu - 12 * sigma, mu + 12 * sigma, points=points, limit=200)[0]

    return sum(map(one, [*MEANS.ravel(), 0.7], [*SCALES.ravel(), 0.2]))


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_kl_to_a_laplace_prior_is_the_integral(variational, scale):
    found = posteriors.kl_to_laplace(scale)(variational, None)
    np.testing.assert_allclose(found, integral(stats.laplace(0, scale)), rtol=1e-5)


def test_laplace_is_scipy_s():
    w = jnp.array([[0.0, 1.0], [-3.0, 50.0]])
    np.testing.assert_allclose(
        posteriors.laplace_prior(0.7)({"w": w}), stats.laplace(0, 0.7).logpdf(np.asarray(w)).sum(), rtol=1e-6
    )


def test_kl_to_a_fan_in_prior_has_it_for_its_mean(variational):
    """Within 4 standard errors over 4000 draws: a false alarm in 1.6e4 seeds; unit variances are refused."""
    keys = jax.random.split(jax.random.key(0), 4000)
    kl = posteriors.kl_sampled(posteriors.fan_in_gaussian(1.3))
    values = jax.jit(jax.vmap(lambda key: kl(variational, FAMILY.sample(variational, key))))(keys)
    error = float(values.std()) / np.sqrt(len(keys))
    assert abs(float(values.mean()) - posteriors.kl_to_fan_in_gaussian(1.3)(variational, None)) < 4 * error
    assert abs(float(values.mean()) - posteriors.kl_to_gaussian(1.3)(variational, None)) > 4 * error


def test_sampled_kl_takes_a_draw_in_two_parts_and_refuses_moments(variational):
    kl = posteriors.kl_sampled(posteriors.gaussian())
    parts = FAMILY.perturb(variational, jax.random.key(1))
    together = FAMILY.sample(variational, jax.random.key(1))
    np.testing.assert_allclose(kl(variational, parts), kl(variational, together), rtol=1e-6)
    with pytest.raises(ValueError, match="weights must be a draw; got Moments"):
        kl(variational, FAMILY.moments(variational, None))


@pytest.mark.parametrize("form", ["sample", "perturb"])
def test_a_reflection_is_on_the_other_side_of_the_mean(variational, form):
    """Reflection of a draw, of its mean and noise apart, and in one entry of a dictionary. A bare draw is refused."""
    entry = posteriors.apply_to_entry(FAMILY, "network")
    for family, own, inner in (
        (FAMILY, variational, lambda x: x),
        (entry, {"network": variational}, lambda x: x["network"]),
    ):
        draw = getattr(family, form)(own, jax.random.key(2))
        pair = [inner(one) for one in (draw, family.reflect(own, draw))]
        if form == "perturb":
            pair = [jax.tree.map(jnp.add, *one) for one in pair]
        for mu, w, v in zip(*map(jax.tree.leaves, (variational.mean, *pair)), strict=True):
            np.testing.assert_allclose((w + v) / 2, mu, atol=1e-6)
            assert np.abs(w - v).max() > 1e-3


@pytest.mark.parametrize("form", ["sample", "perturb"])
def test_parts_of_a_network_have_priors_of_their_own(variational, form):
    weights = getattr(FAMILY, form)(variational, jax.random.key(3))
    kernel, bias = (
        posteriors.MeanFieldParams({"w": variational.mean["Dense_0"][name]}, {"w": variational.rho["Dense_0"][name]})
        for name in ("kernel", "bias")
    )
    draw = FAMILY.sample(variational, jax.random.key(3))["Dense_0"]
    mixture = posteriors.kl_sampled(posteriors.scale_mixture())
    expected = posteriors.kl_to_laplace(0.1)(bias, None) + mixture(kernel, {"w": draw["kernel"]})
    together = posteriors.kl.by_path({"*/bias": posteriors.kl_to_laplace(0.1), "Dense_*": mixture})
    np.testing.assert_allclose(together(variational, weights), expected, rtol=1e-5)
    log_prior = posteriors.priors.by_path({"*/bias": posteriors.laplace_prior(), "*": posteriors.gaussian(2.0)})
    exact = posteriors.laplace_prior()(draw["bias"]) + posteriors.gaussian(2.0)(draw["kernel"])
    np.testing.assert_allclose(log_prior({"Dense_0": draw}), exact, rtol=1e-6)


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("*/bias",), "must cover every leaf; none of [*]/bias matches Dense_0/kernel"),
        (("*", "Dense_7/*"), "must each be the first to match a leaf; Dense_7/[*] is not"),
    ],
)
def test_patterns_that_do_not_fit_are_named(variational, patterns, message):
    weights = FAMILY.sample(variational, jax.random.key(0))
    with pytest.raises(ValueError, match=f"divergences {message}"):
        posteriors.kl.by_path(dict.fromkeys(patterns, posteriors.kl_to_gaussian()))(variational, weights)
    with pytest.raises(ValueError, match=f"priors {message}"):
        posteriors.priors.by_path(dict.fromkeys(patterns, posteriors.gaussian()))(weights)


@pytest.mark.parametrize("kl", [posteriors.kl_to_gaussian, posteriors.kl_to_laplace, posteriors.kl_to_fan_in_gaussian])
def test_scales_must_be_positive(kl):
    with pytest.raises(ValueError, match="scale must be positive and finite; got 0"):
        kl(0.0)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_densities_of_half_precision_are_summed_in_float32(dtype):
    """Divergences and densities of 3000 weights, and a sum over 300 data, as of the same numbers in float32.

    In bfloat16 the sums would be known to 0.4 %, and energies would not decide on a step of HMC.
    """
    means, sds = np.random.default_rng(0).normal(size=(2, 3000)) * [[0.3], [0.1]]
    narrow = posteriors.MeanFieldParams({"w": jnp.asarray(means, dtype)}, {"w": jnp.asarray(sds - 2, dtype)})
    wide = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), narrow)
    prior = posteriors.laplace_prior(0.7)
    for divergence in (posteriors.kl_to_gaussian(), posteriors.kl_to_laplace(), posteriors.kl_sampled(prior)):
        found = divergence(narrow, narrow.mean)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, divergence(wide, wide.mean), rtol=1e-6)
    np.testing.assert_allclose(FAMILY.log_prob(narrow, narrow.rho), FAMILY.log_prob(wide, wide.rho), rtol=1e-6)

    data = jnp.asarray(np.random.default_rng(1).normal(size=300), dtype)

    def log_likelihood(params, rng_key, y):
        return -((y - params["w"][0]) ** 2)

    terms = np.asarray(jax.vmap(lambda y: log_likelihood(narrow.mean, None, y))(data), np.float64)
    expected = float(prior(wide.mean)) + 10 * terms.sum()
    for as_terms in (False, True):
        density = posteriors.log_posterior(log_likelihood, prior, 3000, as_terms=as_terms)
        value = density(narrow.mean, jax.random.key(0), data)[0]
        assert value.dtype == jnp.float32
        np.testing.assert_allclose(jnp.sum(value), expected, rtol=1e-6)
