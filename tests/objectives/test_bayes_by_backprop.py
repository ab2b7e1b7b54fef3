"""Bayes by Backprop on a linear model, where everything is known: the bound, its optimum, the weight of the KL."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from bayesjax import data, kernels, objectives, posteriors

NOISE, PRIOR, NUM = 0.5, 1.3, 40
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(NUM, 3)) @ np.array([[1.0, 0.6, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
Y = X @ np.array([0.8, -0.5, 0.2]) + NOISE * RANDOM.normal(size=NUM)
BATCH = jnp.asarray(X, jnp.float32), jnp.asarray(Y, jnp.float32)
PRECISION = X.T @ X / NOISE**2 + np.eye(3) / PRIOR**2
MEAN = np.linalg.solve(PRECISION, X.T @ Y / NOISE**2)
EVIDENCE = stats.multivariate_normal(np.zeros(NUM), NOISE**2 * np.eye(NUM) + PRIOR**2 * X @ X.T).logpdf(Y)


def log_likelihood(params, rng_key, example):
    del rng_key
    x, y = example
    return -0.5 * ((y - x @ params) / NOISE) ** 2 - math.log(NOISE) - 0.5 * math.log(2 * math.pi)


def loss_of(num_samples=1, num_data=NUM):
    family = posteriors.mean_field()
    return objectives.bayes_by_backprop(
        log_likelihood, family.sample, posteriors.kl_to_gaussian(PRIOR), num_data=num_data, num_samples=num_samples
    )


def gaussian(mean, sd):
    return posteriors.MeanFieldParams(jnp.asarray(mean, jnp.float32), jnp.log(jnp.expm1(jnp.asarray(sd, jnp.float32))))


def exact_bound(mean, covariance):
    """The ELBO of any Gaussian q, in closed form."""
    residual = Y - X @ mean
    fit = -0.5 * (residual @ residual + np.trace(X @ covariance @ X.T)) / NOISE**2
    fit -= NUM * (math.log(NOISE) + 0.5 * math.log(2 * math.pi))
    kl = 0.5 * (np.trace(covariance) + mean @ mean) / PRIOR**2 - 1.5 + 3 * math.log(PRIOR)
    return fit - (kl - 0.5 * np.linalg.slogdet(covariance)[1])


def test_the_loss_is_the_negative_bound_per_example():
    """Within 4 standard errors over 200 losses: a false alarm in 1.6e4 seeds; a KL that counts N times is refused."""
    sd = np.array([0.1, 0.2, 0.1])
    variational = gaussian(MEAN, sd)
    keys = jax.random.split(jax.random.key(0), 200)

    def mean_and_error(loss):
        values = NUM * jax.jit(jax.vmap(lambda key: loss(variational, key, BATCH)[0]))(keys)
        return float(values.mean()), float(values.std() / math.sqrt(len(keys)))

    exact = -exact_bound(MEAN, np.diag(sd**2))
    mean, error = mean_and_error(loss_of(num_samples=20))
    assert abs(mean - exact) < 4 * error
    mean, error = mean_and_error(loss_of(num_samples=20, num_data=1))
    assert not abs(mean - exact) < 4 * error


def test_the_optimum_is_the_known_mean_field_solution_to_one_percent():
    """q* has the posterior's mean and the inverse of its precision's diagonal as variances, not the marginal ones."""
    kernel = kernels.optimize(loss_of(num_samples=256), optax.adam(optax.cosine_decay_schedule(0.03, 4000)))
    state = kernel.init(posteriors.mean_field(0.1).init(jnp.zeros(3)), jax.random.key(1))

    def one(state, step):
        return kernel.step(jax.random.fold_in(jax.random.key(2), step), state, BATCH)[0], None

    found = jax.jit(lambda state: jax.lax.scan(one, state, jnp.arange(4000))[0])(state).position
    sd = np.asarray(posteriors.scales(found))
    np.testing.assert_allclose(sd, np.diag(PRECISION) ** -0.5, rtol=0.01)
    np.testing.assert_allclose(found.mean, MEAN, atol=0.01)
    marginal = np.sqrt(np.diag(np.linalg.inv(PRECISION)))
    assert not np.allclose(sd, marginal, rtol=0.01)
    bound = exact_bound(np.asarray(found.mean, np.float64), np.diag(sd.astype(np.float64) ** 2))
    best = exact_bound(MEAN, np.diag(1 / np.diag(PRECISION)))
    assert best - 0.01 < bound <= best + 1e-9 < EVIDENCE


def test_aux_has_the_parts_and_what_the_likelihood_returns():
    def with_aux(params, rng_key, example):
        return log_likelihood(params, rng_key, example), {"error": jnp.abs(example[1] - example[0] @ params)}

    family = posteriors.mean_field()
    loss = objectives.bayes_by_backprop(with_aux, family.sample, posteriors.kl_to_gaussian(PRIOR), num_data=NUM)
    value, aux = loss(gaussian(MEAN, [0.1] * 3), jax.random.key(0), BATCH)
    assert set(aux) == {"nll", "kl", "error"}
    np.testing.assert_allclose(value, aux["nll"] + aux["kl"] / NUM, rtol=1e-6)


def test_one_draw_serves_the_whole_batch():
    """Two equal examples have equal likelihoods; with a draw for each they would not."""
    twice = jnp.stack([BATCH[0][0]] * 2), jnp.stack([BATCH[1][0]] * 2)
    seen = []

    def spy(params, rng_key, example):
        seen.append(params)
        return log_likelihood(params, rng_key, example), {"at": example[0] @ params}

    family = posteriors.mean_field()
    loss = objectives.bayes_by_backprop(spy, family.sample, posteriors.kl_to_gaussian(), num_data=2)
    variational = gaussian(MEAN, [0.1] * 3)
    _, aux = loss(variational, jax.random.key(3), twice)
    _, single = loss(variational, jax.random.key(3), jax.tree.map(lambda leaf: leaf[:1], twice))
    np.testing.assert_allclose(aux["at"], single["at"], rtol=1e-6)
    assert seen[0].shape == (3,)


@pytest.mark.parametrize("counts", [{"num_data": 0}, {"num_data": 5, "num_samples": 0}])
def test_counts_must_be_positive(counts):
    with pytest.raises(ValueError, match="must be at least 1; got"):
        objectives.bayes_by_backprop(log_likelihood, lambda v, k: v, lambda v, w: 0.0, **counts)


def gradient_statistics(num_samples, reflect, num=2000):
    family = posteriors.mean_field()
    loss = objectives.bayes_by_backprop(
        log_likelihood, family.sample, posteriors.kl_to_gaussian(PRIOR), num_data=NUM, num_samples=num_samples,
        reflect=family.reflect if reflect else None,
    )  # fmt: skip
    variational = gaussian(MEAN + 0.1, [0.3] * 3)
    keys = jax.random.split(jax.random.key(5), num)
    found = jax.jit(jax.vmap(lambda key: jax.grad(lambda v: loss(v, key, BATCH)[0])(variational)))(keys)
    values = np.concatenate([np.asarray(leaf, np.float64) for leaf in found], axis=1)
    return values.mean(0), values.std(0) / math.sqrt(num)


def test_antithetic_pairs_have_the_same_gradient_and_none_of_its_odd_noise():
    """On a quadratic the mean's gradient is linear in the noise, so that a pair has it exactly; 12 means within 4.5
    standard errors: a false alarm in 1.2e4 seeds."""
    single, error_of_single = gradient_statistics(2, reflect=False)
    pair, error_of_pair = gradient_statistics(2, reflect=True)
    assert (np.abs(single - pair) < 4.5 * np.hypot(error_of_single, error_of_pair)).all()
    assert (error_of_pair[:3] < 1e-3 * error_of_single[:3]).all()
    more, error_of_more = gradient_statistics(4, reflect=True)
    assert (np.abs(single - more) < 4.5 * np.hypot(error_of_single, error_of_more)).all()
    assert (error_of_more[3:] < error_of_pair[3:]).all()


def test_blundell_s_weights_halve_and_count_the_divergence_once_an_epoch():
    weights = objectives.blundell_kl_weights(5)
    found = np.array([weights(step) for step in range(10)])
    np.testing.assert_allclose(found[:5], 5 * 2.0 ** np.arange(4, -1, -1) / (2**5 - 1), rtol=1e-6)
    np.testing.assert_allclose(found[5:], found[:5])
    assert np.isfinite(objectives.blundell_kl_weights(10_000)(9_999))


@pytest.mark.parametrize(("kl_weight", "expected"), [(1.0, 1.0), (0.1, 0.1), (lambda step: 2.0 * step, 6.0)])
def test_the_weight_of_the_divergence(kl_weight, expected):
    family = posteriors.mean_field()
    loss = objectives.bayes_by_backprop(
        log_likelihood, family.sample, posteriors.kl_to_gaussian(PRIOR), num_data=NUM, kl_weight=kl_weight
    )
    batch = data.number_batches(lambda step: jax.tree.map(lambda leaf: leaf + 0 * step, BATCH))(3)
    value, aux = loss(gaussian(MEAN, [0.1] * 3), jax.random.key(0), batch)
    np.testing.assert_allclose(value, aux["nll"] + expected * aux["kl"] / NUM, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 3, "reflect": lambda v, w: w}, "num_samples must be even if reflect is given; got 3"),
        ({"kl_weight": -1.0}, "kl_weight must be non-negative and finite; got -1.0"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        objectives.bayes_by_backprop(log_likelihood, lambda v, k: v, lambda v, w: 0.0, num_data=5, **arguments)


def test_a_weight_that_changes_needs_numbered_batches():
    loss = objectives.bayes_by_backprop(
        log_likelihood, lambda v, k: v, lambda v, w: 0.0, num_data=5, kl_weight=objectives.blundell_kl_weights(3)
    )
    with pytest.raises(ValueError, match="batch must be Numbered"):
        loss(jnp.zeros(3), jax.random.key(0), BATCH)
    with pytest.raises(ValueError, match="num_batches must be at least 1; got 0"):
        objectives.blundell_kl_weights(0)
