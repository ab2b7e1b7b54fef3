"""Likelihood estimates on a linear Gaussian model, whose evidence is known; wrong variants are refused.

z ~ N(0, I_2), x | z ~ N(A z + b, s^2 I_3), so x ~ N(b, A A^T + s^2 I)
"""

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bayesjax.evaluation import likelihood

A, B, S = np.array([[1.0, 0.5], [1.0, -0.5], [-1.0, 0.0]]), np.array([0.3, -0.2, 0.1]), 0.4
EVIDENCE = scipy.stats.multivariate_normal(B, A @ A.T + S**2 * np.eye(3))
X = EVIDENCE.rvs(5, random_state=0)
POSTERIOR_VARIANCE = 1 / (1 + (A**2).sum(axis=0) / S**2)
PARAMS = {"A": jnp.asarray(A, jnp.float32), "widen": jnp.float32(1.5), "shift": jnp.float32(0.2)}


def normal(mean, scale):
    return distrax.Independent(distrax.Normal(mean, scale), 1)


def encode(params, x):
    """Near the exact posterior."""
    mean = POSTERIOR_VARIANCE * ((x - B) @ A) / S**2
    return normal(mean + params["shift"], params["widen"] * jnp.sqrt(POSTERIOR_VARIANCE))


def decode(params, z):
    return normal(params["A"] @ z + B, S * jnp.ones(3))


PRIOR = normal(jnp.zeros(2), jnp.ones(2))


def importance_sampling(params=PARAMS, prior=PRIOR, encode=encode, **options):
    return np.asarray(likelihood.importance_sampling(encode, decode, prior, params, jax.random.key(0), X, **options))


def test_importance_sampling_gives_the_evidence():
    """5000 draws: standard deviations below 0.02 nats; with a prior of twice the scale, 0.5 nats off on average."""
    np.testing.assert_allclose(importance_sampling(), EVIDENCE.logpdf(X), atol=0.1)
    wrong = importance_sampling(prior=normal(jnp.zeros(2), 2 * jnp.ones(2)))
    assert np.abs(wrong - EVIDENCE.logpdf(X)).mean() > 0.5


def test_every_draw_of_the_exact_posterior_gives_the_evidence():
    exact = {**PARAMS, "widen": jnp.float32(1), "shift": jnp.float32(0)}
    np.testing.assert_allclose(
        importance_sampling(exact, num_samples=3, sample_chunk_size=1), EVIDENCE.logpdf(X), atol=1e-4
    )


def test_batches_change_nothing_and_chunks_nothing_but_the_draws():
    """An example's draws are those of its place, however many are done at once; the last chunk has the remainder."""
    few = importance_sampling(num_samples=60, sample_chunk_size=20, chunk_size=2)
    np.testing.assert_allclose(importance_sampling(num_samples=60, sample_chunk_size=20), few, rtol=1e-5)
    repeated = likelihood.importance_sampling(
        encode,
        decode,
        PRIOR,
        PARAMS,
        jax.random.key(0),
        np.repeat(X[:1], 3, axis=0),
        num_samples=3,
        sample_chunk_size=3,
    )
    assert len(set(np.asarray(repeated).round(5))) == 3, "each place has draws of its own"


def test_bound_rises_with_the_draws():
    """The mean over 1000 repeats, of 1 draw, 8 draws and the evidence: gaps of 4 standard errors and more."""
    repeats = np.repeat(X[:1], 1000, axis=0)
    bounds = [
        np.asarray(
            likelihood.importance_sampling(
                encode, decode, PRIOR, PARAMS, jax.random.key(1), repeats, num_samples=num, sample_chunk_size=num
            )
        )
        for num in (1, 8)
    ]
    means, errors = [bound.mean() for bound in bounds], [bound.std() / np.sqrt(1000) for bound in bounds]
    assert means[0] + 4 * np.hypot(*errors) < means[1] < EVIDENCE.logpdf(X[0]) - 4 * errors[1]


@pytest.mark.parametrize("num", [1, 7, 50, 53])
def test_the_number_of_draws_is_exact(num):
    """The decoder is evaluated once a draw, and k draws are not rounded up to a chunk of 50."""
    evaluations = []

    def counted(params, z):
        jax.debug.callback(evaluations.append, z)
        return decode(params, z)

    likelihood.importance_sampling(encode, counted, PRIOR, PARAMS, jax.random.key(0), X[:1], num_samples=num)
    jax.effects_barrier()
    assert len(evaluations) == num
    assert len({tuple(np.asarray(z)) for z in evaluations}) == num


def test_of_one_draw_the_mean_is_the_elbo():
    """Over 4000 repeats within 4 standard errors (6e-5); the bound of 50 draws is over 10 standard errors away."""
    mean, scale = (np.asarray(getattr(encode(PARAMS, X[0]), name)()) for name in ("mean", "stddev"))
    kl = np.sum(0.5 * (scale**2 + mean**2) - 0.5 - np.log(scale))
    fit = scipy.stats.norm(A @ mean + B, S).logpdf(X[0]).sum() - 0.5 * (A**2 @ scale**2).sum() / S**2
    repeats = np.repeat(X[:1], 4000, axis=0)
    values = likelihood.importance_sampling(
        encode, decode, PRIOR, PARAMS, jax.random.key(3), repeats, num_samples=1, chunk_size=4000
    )
    error = np.std(values) / np.sqrt(4000)
    assert abs(np.mean(values) - (fit - kl)) < 4 * error
    assert EVIDENCE.logpdf(X[0]) - (fit - kl) > 10 * error


def annealed(decode=decode, prior=PRIOR, **options):
    options = {"num_temperatures": 100, "num_chains": 40, "num_integration_steps": 5, **options}
    return likelihood.annealed_importance_sampling(decode, prior, PARAMS, jax.random.key(2), X, **options)


@pytest.mark.slow
def test_annealing_gives_the_evidence():
    """Within 4 standard errors by the weights' own spread; a decoder of twice the scale is not.

    The step sizes of the pilot are those of their temperatures: exchanged among them, they accept 0.47.
    """
    found = annealed()
    weights = np.exp(found.log_weights - found.log_weights.max(axis=1, keepdims=True))
    error = weights.std(axis=1, ddof=1) / weights.mean(axis=1) / np.sqrt(weights.shape[1])
    assert (error < 0.2).all()
    assert (np.abs(found.log_likelihood - EVIDENCE.logpdf(X)) < 4 * error + 0.02).all()
    assert ((found.acceptance_probability > 0.6) & (found.acceptance_probability < 0.85)).all()

    def wide(params, z):
        return normal(params["A"] @ z + B, 2 * S * jnp.ones(3))

    assert (np.abs(annealed(wide).log_likelihood - EVIDENCE.logpdf(X)) > 4 * error + 0.02).any()


def test_the_mean_weight_is_the_evidence_at_few_temperatures():
    """E w / p(x) = 1 at any number of temperatures, within 4 standard errors of 4000 chains (6e-5) of at most 2 %.

    With 10 temperatures the order counts: chains that move at the temperature before have 0.74 here.
    """
    scale, x = 0.7, X[2]
    evidence = scipy.stats.multivariate_normal(B, A @ A.T + scale**2 * np.eye(3)).logpdf(x)
    found = likelihood.annealed_importance_sampling(
        lambda params, z: normal(params["A"] @ z + B, scale * jnp.ones(3)), PRIOR, PARAMS, jax.random.key(5), x[None],
        num_temperatures=10, num_chains=4000, num_integration_steps=3,
    )  # fmt: skip
    ratios = np.exp(np.asarray(found.log_weights[0], np.float64) - evidence)
    error = ratios.std() / np.sqrt(ratios.size)
    assert error < 0.02
    assert abs(ratios.mean() - 1) < 4 * error


def test_keys_are_used_once():
    """JAX's checker sees no key used twice over three batches of examples."""
    with jax.debug_key_reuse(True):
        annealed(num_temperatures=10, num_chains=2, chunk_size=2, num_integration_steps=1)


@pytest.mark.slow
def test_more_temperatures_have_less_variance():
    spread = [float(np.std(annealed(num_temperatures=num).log_weights, axis=1).mean()) for num in (10, 100)]
    assert spread[1] < 0.6 * spread[0]


def test_inverse_temperatures():
    """From 0 to 1, and dense at both ends (Wu et al. 2017)."""
    values = np.asarray(likelihood.inverse_temperatures(100))
    assert values.shape == (101,) and values[0] == 0 and values[-1] == pytest.approx(1)
    steps = np.diff(values)
    assert (steps > 0).all() and steps[50] > 5 * max(steps[0], steps[-1])


def test_parzen_window_is_the_mixture():
    """Against scipy's normals in float64, far tails included; the sum in place of the mean is refused."""
    random = np.random.default_rng(0)
    samples, x = random.normal(size=(7, 2, 3)), random.normal(size=(4, 2, 3))
    x[0] += 5
    logs = scipy.stats.norm.logpdf(x.reshape(4, 1, 6), samples.reshape(1, 7, 6), 0.3).sum(axis=-1)
    expected = np.logaddexp.reduce(logs, axis=1) - np.log(7)
    found = likelihood.parzen_window(samples, x, 0.3, chunk_size=3)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert not np.allclose(found, np.logaddexp.reduce(logs, axis=1), rtol=1e-3)


def test_parzen_scale_is_chosen_on_validation():
    """Samples and data of one normal: neither the narrowest nor the widest; of the samples alone, the narrowest."""
    random = np.random.default_rng(1)
    samples, validation = random.normal(size=(500, 3)), random.normal(size=(200, 3))
    scales = (1e-3, 0.3, 30.0)
    assert likelihood.parzen_scale(samples, validation, scales) == 0.3
    assert likelihood.parzen_scale(samples, samples, scales) == 1e-3


def test_active_units():
    """One dimension follows the data, one is constant, one varies by less than the threshold."""
    x = np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32)

    def partly(params, x):
        return normal(jnp.stack([x[0], 3.0 + 0 * x[1], 0.05 * x[2]]), jnp.ones(3))

    assert likelihood.active_units(partly, None, x).tolist() == [True, False, False]
    assert likelihood.active_units(partly, None, x, threshold=1e-4).tolist() == [True, False, True]


def test_bits_per_dimension():
    """A uniform density on [0, 1]^d is 8 bits a pixel; a fair coin a pixel is one."""
    assert likelihood.bits_per_dimension(0.0, 784) == pytest.approx(8)
    assert likelihood.bits_per_dimension(784 * np.log(0.5), 784, num_levels=1) == pytest.approx(1)


def loose(params, x):
    """Several distributions of a number each, where one of a vector is asked for."""
    return encode(params, x).distribution


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: importance_sampling(num_samples=0), "num_samples must be at least 1; got 0"),
        (lambda: annealed(num_temperatures=3), "num_temperatures must be at least 10; got 3"),
        (lambda: annealed(target_acceptance=1.0), "target_acceptance must lie strictly between 0 and 1; got 1.0"),
        (lambda: likelihood.parzen_window(X, X[:, :2], 1.0), r"samples must be .* examples of shape \(2,\)"),
        (lambda: likelihood.parzen_window(X, X, 0.0), "scale must be positive and finite; got 0.0"),
        (lambda: likelihood.parzen_scale(X, X, ()), "scales must not be empty"),
        (lambda: likelihood.parzen_scale(X, X + np.nan, (1.0, 2.0)), "must be finite; their mean log density is NaN"),
        # As many draws as dimensions: the sum over both would broadcast.
        (
            lambda: importance_sampling(encode=loose, num_samples=2, sample_chunk_size=2),
            "encode must give a distribution",
        ),
        (
            lambda: importance_sampling(prior=loose(PARAMS, X[0]), num_samples=2, sample_chunk_size=2),
            "prior must give a",
        ),
        (lambda: annealed(decode=lambda params, z: loose(params, B)), r"decode must give .* of shape \(3,\)"),
        (lambda: annealed(prior=loose(PARAMS, X[0])), r"prior must return a scalar; got an array of shape \(2,\)"),
        (lambda: likelihood.active_units(encode, PARAMS, X[:0]), r"x must be \[num >= 1, ...\]; got shape \(0, 3\)"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
