"""R-hat and effective sample size on chains whose answer is known."""

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


def test_r_hat_against_the_formula():
    """The formula at the top of diagnostics.py, by hand, on split chains, for each of several quantities."""
    chains = np.random.default_rng(0).normal(size=(3, 20, 2)) + np.array([[[0.0, 0.0]], [[1.0, 0.0]], [[0.0, 0.0]]])
    halves = np.concatenate([chains[:, :10], chains[:, 10:]])
    within = halves.var(axis=1, ddof=1).mean(axis=0)
    between = 10 * halves.mean(axis=1).var(axis=0, ddof=1)
    expected = np.sqrt((within * 9 / 10 + between / 10) / within)
    np.testing.assert_allclose(evaluation.r_hat(chains), expected, rtol=1e-4)
    assert expected[0] > expected[1]


def test_r_hat_of_chains_that_agree():
    """Independent draws: 1 within 0.01.

    R-hat is 1 + (F - 1) / 2n with n = 500 draws a half chain and F a chi2_7 / 7, so a false alarm takes a chi2_7 above
    77: one in 10^13. The shifted chains of the next test are what it must tell apart.
    """
    assert evaluation.r_hat(autoregressive(0.0, (4, 1000))) == pytest.approx(1, abs=0.01)


def test_r_hat_of_chains_that_do_not():
    """One chain three deviations off, or all chains drifting together, which only the split shows."""
    chains = autoregressive(0.0, (4, 200))
    shifted = chains + np.array([0, 0, 0, 4])[:, None]
    drifting = chains + np.linspace(0, 8, 200)
    assert evaluation.r_hat(shifted) > 1.5
    assert evaluation.r_hat(drifting) > 1.5


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


@pytest.mark.parametrize("measure", [evaluation.r_hat, evaluation.effective_sample_size])
@pytest.mark.parametrize("shape", [(4, 3), (12,)])
def test_too_few_draws(measure, shape):
    """Fewer than four draws, or no axis of chains, is refused with the shape."""
    with pytest.raises(ValueError, match=r"num_draws >= 4"):
        measure(np.zeros(shape))
