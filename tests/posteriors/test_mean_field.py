"""Tests of the mean-field family: densities, entropies, moments, and the fast softplus."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import integrate, stats

from bayesjax import posteriors, tree
from bayesjax.posteriors.softplus import inverse_softplus, softplus
from tests.conftest import jax_config

MEANS, SCALES = np.array([[-1.0, 0.3], [2.0, 0.0]]), np.array([[0.5, 1e-3], [2.0, 1.0]])


@pytest.fixture
def variational():
    mean = {"kernel": jnp.asarray(MEANS, jnp.float32), "bias": jnp.array([0.7])}
    rho = {
        "kernel": jnp.asarray(np.vectorize(inverse_softplus)(SCALES), jnp.float32),
        "bias": jnp.array([inverse_softplus(0.2)]),
    }
    return posteriors.MeanFieldParams(mean, rho)


def flat(params):
    return np.concatenate([np.ravel(params["kernel"]), np.ravel(params["bias"])]).astype(np.float64)


def normal(variational):
    return stats.norm(flat(variational.mean), flat(posteriors.scales(variational)))


def test_softplus_is_exact_to_float32_at_both_ends_and_between():
    x = np.concatenate([np.linspace(-80, 80, 4001), [-1e4, 1e4, 0.0]]).astype(np.float32)
    exact = np.logaddexp(0, x.astype(np.float64))
    held = exact > np.finfo(np.float32).tiny
    assert np.abs(softplus(jnp.asarray(x))[held] / exact[held] - 1).max() < 4e-7
    naive = jnp.log(1 + jnp.exp(jnp.asarray(x)))  # what the fault would look like: wrong below, infinite above
    assert not np.abs(naive[held] / exact[held] - 1).max() < 1e-2


def test_softplus_has_the_sigmoid_as_its_gradient():
    x = jnp.array([-1e4, -30.0, -2.0, 0.0, 0.5, 30.0, 1e4])
    np.testing.assert_allclose(jax.vmap(jax.grad(softplus))(x), jax.nn.sigmoid(x), rtol=1e-6)
    with jax_config(jax_enable_x64=True):
        check_grads(softplus, (jnp.array([-2.0, 0.5, 3.0]),), order=1, modes=("fwd", "rev"))


@pytest.mark.parametrize("y", [1e-6, 0.05, 1.0, 40.0])
def test_inverse_softplus(y):
    assert math.isclose(softplus(jnp.float32(inverse_softplus(y))), y, rel_tol=2e-5)


def test_init_has_the_weights_as_means_and_the_scale_asked_for():
    params = {"kernel": jnp.ones((3, 2)), "bias": jnp.zeros(2)}
    variational = posteriors.mean_field(0.03).init(params)
    assert variational.mean is params
    for sd in jax.tree.leaves(posteriors.scales(variational)):
        np.testing.assert_allclose(sd, 0.03, rtol=1e-5)


def test_log_prob_and_entropy_are_scipy_s(variational):
    family = posteriors.mean_field()
    weights = family.sample(variational, jax.random.key(0))
    exact = normal(variational)
    np.testing.assert_allclose(family.log_prob(variational, weights), exact.logpdf(flat(weights)).sum(), rtol=1e-3)
    np.testing.assert_allclose(posteriors.entropy(variational), exact.entropy().sum(), rtol=1e-5)


def test_draws_have_the_mean_and_the_standard_deviation(variational):
    """5 means, 5 variances within 4.5 standard errors: a false alarm in 1.5e4 seeds; sigma^2 for sigma is refused."""
    num = 20_000
    draws = jax.jit(jax.vmap(posteriors.mean_field().sample, in_axes=(None, 0)))(
        variational, jax.random.split(jax.random.key(1), num)
    )
    values = np.concatenate([draws["kernel"].reshape(num, -1), draws["bias"]], axis=1).astype(np.float64)
    exact = normal(variational)

    def refused(sd):
        scores = np.concatenate(
            [
                (values.mean(0) - exact.mean()) / (sd / math.sqrt(num)),
                (values.var(0) / sd**2 - 1) / math.sqrt(2 / num),
            ]
        )
        return np.abs(scores).max() > 4.5

    assert not refused(exact.std())
    assert refused(exact.std() ** 2)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_kl_to_a_gaussian_is_the_integral(variational, scale):
    mean, sd = flat(variational.mean), flat(posteriors.scales(variational))

    def integral(mu, sigma):
        q, p = stats.norm(mu, sigma), stats.norm(0, scale)
        return integrate.quad(lambda w: q.pdf(w) * (q.logpdf(w) - p.logpdf(w)), mu - 12 * sigma, mu + 12 * sigma)[0]

    exact = sum(map(integral, mean, sd))
    found = posteriors.kl_to_gaussian(scale)(variational, None)
    np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_sampled_kl_has_the_closed_form_as_its_mean(variational):
    """Within 4 standard errors over 4000 draws: a false alarm in 1.6e4 seeds; without the entropy it is refused."""
    keys = jax.random.split(jax.random.key(2), 4000)
    family, prior = posteriors.mean_field(), posteriors.gaussian(0.8)

    def estimates(kl):
        values = jax.jit(jax.vmap(lambda key: kl(variational, family.sample(variational, key))))(keys)
        return float(values.mean()), float(values.std() / math.sqrt(len(keys)))

    exact = float(posteriors.kl_to_gaussian(0.8)(variational, None))
    mean, error = estimates(posteriors.kl_sampled(prior))
    assert abs(mean - exact) < 4 * error
    mean, error = estimates(lambda variational, weights: -prior(weights))
    assert not abs(mean - exact) < 4 * error


def mixture(w, weight, scales):
    return np.logaddexp(
        math.log(weight) + stats.norm.logpdf(w, 0, scales[0]), math.log(1 - weight) + stats.norm.logpdf(w, 0, scales[1])
    )


@pytest.mark.parametrize(("weight", "scales"), [(0.5, (1.0, math.exp(-6))), (0.25, (0.1, 1.0)), (0.75, (1.0, 1.0))])
def test_scale_mixture_is_a_mixture_for_each_weight(weight, scales):
    w = np.array([[0.0, 1e-3, -0.2], [1.0, -3.0, 50 * max(scales)]])
    log_prior = posteriors.scale_mixture(weight, scales)
    np.testing.assert_allclose(log_prior({"w": jnp.asarray(w)}), mixture(w, weight, scales).sum(), rtol=1e-5)
    components = [
        math.log(p) + stats.norm.logpdf(w, 0, s).sum(1) for p, s in zip((weight, 1 - weight), scales, strict=True)
    ]
    of_rows = np.logaddexp(*components).sum()  # the fault of a mixture for each row
    if scales[0] != scales[1]:
        assert not math.isclose(of_rows, mixture(w, weight, scales).sum(), rel_tol=1e-3)


def test_the_gradient_of_the_scale_mixture_is_finite_far_out_and_that_of_the_wide_component():
    log_prior = posteriors.scale_mixture(0.5, (1.0, math.exp(-6)))
    gradient = jax.grad(log_prior)(jnp.array([50.0, -50.0, 0.0, 1e4]))
    np.testing.assert_allclose(gradient, [-50, 50, 0, -1e4], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: posteriors.mean_field(0.0), "scale must be positive"),
        (lambda: posteriors.kl_to_gaussian(-1.0), "scale must be positive"),
        (lambda: posteriors.scale_mixture(1.0), "weight must lie strictly between 0 and 1; got 1.0"),
        (lambda: posteriors.scale_mixture(0.5, (1.0, 0.0)), "scale must lie between"),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_total_adds_leaves():
    assert tree.sum_leaves({"a": jnp.float32(1), "b": (jnp.float32(2), jnp.float32(3))}) == 6


def test_apply_to_entry_keeps_the_other_entries_as_point_estimates():
    """Every function: the entry's own, and the point as it was."""
    family, key = posteriors.mean_field(0.3), jax.random.key(3)
    beside = posteriors.apply_to_entry(family, "w")
    weights = {"a": jnp.arange(3.0)}
    position = beside.init({"w": weights, "noise": jnp.float32(2.0)})
    own = family.init(weights)

    def same(found, expected):
        jax.tree.map(np.testing.assert_array_equal, found, {"w": expected, "noise": jnp.float32(2.0)})

    same(position, own)
    draw = beside.sample(position, key)
    same(draw, family.sample(own, key))
    same(beside.perturb(position, key), family.perturb(own, key))
    same(beside.moments(position, key), family.moments(own, key))
    same(beside.reflect(position, draw), family.reflect(own, draw["w"]))
    assert beside.log_prob(position, draw) == family.log_prob(own, draw["w"])
    divergence = posteriors.kl_to_gaussian(1.5)
    assert posteriors.kl.apply_to_entry(divergence, "w")(position, draw) == divergence(own, draw["w"])
