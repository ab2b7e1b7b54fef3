"""R-hat and effective sample size on chains whose answer is known."""

import functools
import re

import jax
import numpy as np
import pytest

from bayesjax import evaluation


def autoregressive(rho, shape, seed=0):
    """Stationary AR(1) chains of unit variance, `[num_chains, num_draws, ...]`."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(shape[1], shape[0], *shape[2:])) * np.sqrt(1 - rho**2)
    x = np.empty_like(noise)
    x[0] = noise[0] / np.sqrt(1 - rho**2)
    for t in range(1, len(x)):
        x[t] = rho * x[t - 1] + noise[t]
    return x.swapaxes(0, 1)


def test_split_chains():
    """Each chain becomes two of half the length; an odd draw out is dropped."""
    chains = np.arange(10).reshape(2, 5)
    np.testing.assert_array_equal(evaluation.split_chains(chains), [[0, 1], [5, 6], [2, 3], [7, 8]])


def test_split_r_hat_against_the_formula():
    """The formula at the top of diagnostics.py, by hand, on split chains, for each of several quantities."""
    chains = np.random.default_rng(0).normal(size=(3, 20, 2)) + np.array([[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    halves = np.concatenate([chains[:, :10], chains[:, 10:]])
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = 10 * halves.mean(axis=1).var(axis=0, ddof=1)
    expected = np.sqrt((within * 9 / 10 + between / 10) / within)
    np.testing.assert_allclose(evaluation.split_r_hat(chains), expected, rtol=1e-4)
    assert expected[0] > expected[1]


def test_r_hat_of_chains_that_agree():
    """Independent draws: 1 within 0.01.

    R-hat is 1 + (F - 1) / 2n with n = 500 draws a half chain and F a chi2_7 / 7, so a false alarm takes a chi2_7 above
    77: one in 10^13. The shifted chains of the next test are what it must tell apart.
    """
    chains = autoregressive(0.0, (4, 1000))
    assert evaluation.split_r_hat(chains) == pytest.approx(1, abs=0.01)
    assert evaluation.r_hat(chains) == pytest.approx(1, abs=0.01)


def test_r_hat_of_chains_that_do_not():
    """One chain three deviations off, or all chains drifting together, which only the split shows."""
    chains = autoregressive(0.0, (4, 200))
    shifted = chains + np.array([0, 0, 0, 4])[:, None]
    drifting = chains + np.linspace(0, 8, 200)
    for measure, least in ((evaluation.split_r_hat, 1.5), (evaluation.r_hat, 1.3)):  # ranks are bounded
        assert measure(shifted) > least
        assert measure(drifting) > least


def test_r_hat_of_chains_that_do_not_move():
    """Infinite where they differ, not a number where nothing does; 1 for a fair coin, whose distances are all equal."""
    differing = np.ones((4, 8)) * np.array([0.1, 0.2, 0.3, 0.3])[:, None]
    symmetric = np.ones((4, 8)) * np.array([1.0, 1.0, -1.0, -1.0])[:, None]
    equal, coin = np.full((4, 8), 0.1), np.tile([0.0, 1.0], (4, 4))
    for measure in (evaluation.r_hat, evaluation.split_r_hat):
        found = measure(np.stack([differing, symmetric, equal, coin], axis=-1))
        assert np.isposinf(found[:2]).all() and np.isnan(found[2]) and found[3] < 1.01
        assert measure(differing) > 1.01
        assert measure(autoregressive(0.0, (4, 50, 3, 1))).shape == (3, 1)
        assert np.isnan(measure(np.where(np.eye(4, 8), np.nan, differing)))


def test_effective_sample_size_does_not_see_a_chain_that_is_stuck():
    """At the mean of three others: more draws than there are; R-hat tells."""
    chains = autoregressive(0.0, (4, 200))
    chains[3] = 0
    for kind in ("mean", "bulk"):
        assert evaluation.effective_sample_size(chains, kind) > 0.9 * chains.size
    assert evaluation.r_hat(chains) > 1.1


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_effective_sample_size(rho):
    """n (1 - rho) / (1 + rho) within 25 % for AR(1) chains, n the draws of all chains together.

    Over 100 seeds of 4 chains of 10000 the ratio to the known value has mean 0.99 to 1.00 and standard deviation 0.02,
    0.03 and 0.045 (rho = 0, 0.5, 0.8), and lies within 0.86 .. 1.09: a false alarm is rarer than one in 10^4 seeds, and
    the seed is fixed. Calling all draws independent would be off by 3 and 9 times at rho = 0.5 and 0.8.
    """
    num_chains, num_draws = 4, 10000
    known = num_chains * num_draws * (1 - rho) / (1 + rho)
    estimate = float(evaluation.effective_sample_size(autoregressive(rho, (num_chains, num_draws), seed=7)))
    assert estimate == pytest.approx(known, rel=0.25)
    assert rho == 0 or num_chains * num_draws > 2 * estimate


@pytest.mark.parametrize(
    "measure", [evaluation.r_hat, evaluation.split_r_hat, evaluation.effective_sample_size, evaluation.e_bfmi]
)
@pytest.mark.parametrize("shape", [(4, 3), (12,)])
def test_too_few_draws(measure, shape):
    """Fewer than four draws, or no axis of chains, is refused with the shape."""
    with pytest.raises(ValueError, match=r"num_draws >= 4"):
        measure(np.zeros(shape))


def test_ranks_see_what_values_do_not():
    """Cauchy chains of which one is shifted, and chains of which one is wider: only the rank-normalised R-hat tells."""
    rng = np.random.default_rng(1)
    heavy = rng.standard_cauchy(size=(4, 500)) + np.array([0, 0, 0, 3])[:, None]
    wide = rng.normal(size=(4, 500)) * np.array([1, 1, 1, 3])[:, None]
    for chains in (heavy, wide):
        assert evaluation.split_r_hat(chains) < 1.05
        assert evaluation.r_hat(chains) > 1.1


def test_against_arviz():
    """R-hat, both effective sample sizes and the mean's error as ArviZ has them, of several quantities at once.

    The error of the standard deviation is a delta method in both, of slightly different estimators: 5 %.
    """
    arviz = pytest.importorskip("arviz")
    chains = autoregressive(0.6, (4, 400, 2), seed=3) ** np.array([1, 3])  # normal, and heavy tails

    def check(ours, of_one, rtol):
        np.testing.assert_allclose(ours, [of_one(chains[..., i]) for i in range(2)], rtol=rtol)

    check(evaluation.r_hat(chains), arviz.rhat, 1e-3)
    for kind in ("mean", "bulk", "tail"):
        check(evaluation.effective_sample_size(chains, kind), functools.partial(arviz.ess, method=kind), 0.02)
    check(evaluation.monte_carlo_standard_error(chains), arviz.mcse, 0.02)
    check(evaluation.monte_carlo_standard_error(chains, "sd"), functools.partial(arviz.mcse, method="sd"), 0.05)
    np.testing.assert_allclose(evaluation.e_bfmi(chains[..., 0]), arviz.bfmi(chains[..., 0]), rtol=0.01)
    np.testing.assert_allclose(
        evaluation.e_bfmi(np.array([[0.0, 1, 0, 1]])), [3 / 1]
    )  # ArviZ divides by n - 1 and by n
    odd = np.concatenate([chains, 100 + chains[:, :1]], axis=1)  # the last draw of an odd number is left out
    np.testing.assert_array_equal(evaluation.r_hat(odd), evaluation.r_hat(chains))


def test_monte_carlo_error_is_the_spread_over_runs():
    """Over 200 runs of 4 AR(1) chains, the spread of means and standard deviations is what one run says it is.

    The spread of 200 normal numbers has a relative error of 5 %; the bounds of 20 % are 4 of these, one in 16 000.
    Without the autocorrelation the error of the mean would be 1 / 1.73 of it, that of the deviation 1 / 1.29.
    """
    runs = autoregressive(0.5, (4, 500, 200))
    for of, statistic in (("mean", np.mean), ("sd", np.std)):
        claimed = np.mean(evaluation.monte_carlo_standard_error(runs, of))
        assert claimed == pytest.approx(statistic(runs, axis=(0, 1)).std(), rel=0.2)


def test_temperatures():
    """Both equal T within 4 standard errors for N(0, T C) and momenta N(0, T M); 1.2 T is refused.

    False alarms: 2 comparisons at 6.3e-5.
    """
    rng, temperature, scales = np.random.default_rng(0), 0.5, np.array([2.0, 0.3])
    theta, p = (np.sqrt(temperature) * scales * rng.normal(size=(4, 1000, 2)) for _ in range(2))
    split = lambda x: {"a": x[..., 0], "b": x[..., 1:]}  # noqa: E731
    found = {
        "configurational": evaluation.configurational_temperature(split(theta), split(-theta / scales**2)),
        "kinetic": evaluation.kinetic_temperature(split(p), split(p / scales**2)),
    }
    for values in found.values():
        assert values.shape == (4, 1000)
        error = evaluation.monte_carlo_standard_error(values)
        assert abs(values.mean() - temperature) < 4 * error < abs(values.mean() - 1.2 * temperature)
    with pytest.raises(ValueError, match=re.escape("of equal shapes; got [(4, 1000)], [(4,)]")):
        evaluation.kinetic_temperature(theta[..., 0], theta[:, 0, 0])


def test_unknown_kinds():
    """What is not a kind is refused by name."""
    with pytest.raises(ValueError, match="kind must be one of bulk, mean, sd, tail; got median"):
        evaluation.effective_sample_size(np.zeros((2, 8)), "median")
    with pytest.raises(ValueError, match="bulk"):
        evaluation.monte_carlo_standard_error(np.zeros((2, 8)), "bulk")


def test_a_large_mean_and_float64_are_kept():
    """Every measure of noise around 1e6 and around 1e9 is that of the noise.

    In float32, with steps of 0.06 and of 64, split R-hat reads 1.0013 and NaN where 1.0043 and 0.9999 are right, and
    the effective sample size 0 where 864 is.
    """
    noise = autoregressive(0.3, (4, 400, 2), seed=5)
    measures = (
        evaluation.r_hat, evaluation.split_r_hat, evaluation.effective_sample_size,
        evaluation.monte_carlo_standard_error,
        functools.partial(evaluation.effective_sample_size, kind="bulk"),
        functools.partial(evaluation.monte_carlo_standard_error, kind="sd"), lambda x: evaluation.e_bfmi(x[..., 0]),
        lambda x: evaluation.cross_chain_correlation(x).value,
    )  # fmt: skip
    for measure in measures:
        of_noise = measure(noise)
        assert of_noise.dtype == np.float64
        np.testing.assert_allclose(measure(noise + np.array([1e6, 1e9])), of_noise, rtol=1e-5)
    values = evaluation.kinetic_temperature({"p": noise + 1e9}, {"p": np.ones_like(noise)})
    np.testing.assert_allclose(values - 1e9, noise.mean(axis=-1), atol=1e-5)


def test_under_a_transformation():
    """Traced draws are computed with in their own type, axes of length 1 included."""
    chains = np.float32(autoregressive(0.3, (4, 40, 3, 1)))
    for measure in (evaluation.r_hat, evaluation.effective_sample_size, evaluation.monte_carlo_standard_error):
        traced = jax.jit(measure)(chains)
        assert traced.shape == measure(chains).shape == (3, 1)
        np.testing.assert_allclose(traced, measure(chains), rtol=1e-3)


def coupled(share, shape, rho=0.7, seed=0):
    """AR(1) chains of unit variance whose noises at a step have correlation `share`."""
    own, common = autoregressive(rho, shape, seed), autoregressive(rho, (1, *shape[1:]), seed + 1)
    return np.sqrt(1 - share) * own + np.sqrt(share) * common


def test_cross_chain_correlation():
    """The share of noise that chains have in common, within 4 of its standard errors, over 200 runs of 8 chains.

    z-scores have a root mean square of 1 within 25 %, of independent and of coupled chains. R-hat is blind to the
    coupling; the claimed standard error is sqrt(1 + 7 c) too small, within 20 % (4 errors of a spread over 200 runs).
    """
    for share in (0.0, 0.43):
        runs = coupled(share, (8, 600, 200))
        found = evaluation.cross_chain_correlation(runs)
        assert found.value.shape == found.stderr.shape == (200,)
        spread = found.value.std() / np.sqrt(200)
        assert abs(found.value.mean() - share) < 4 * spread + 0.02 * share  # a bias of order 1 / draws
        assert np.sqrt(np.mean(((found.value - share) / found.stderr) ** 2)) == pytest.approx(1, abs=0.25)
        claimed, true = evaluation.monte_carlo_standard_error(runs).mean(), runs.mean(axis=(0, 1)).std()
        assert true / claimed == pytest.approx(np.sqrt(1 + 7 * share), rel=0.2)
        assert np.median(evaluation.r_hat(runs[..., :20])) < 1.02
    assert share == 0.43 and spread < 0.01 and true > 1.6 * claimed
    with pytest.raises(ValueError, match=r"num_chains >= 2, num_draws, \.\.\.\]; got shape \(1, 9\)"):
        evaluation.cross_chain_correlation(np.zeros((1, 9)))
