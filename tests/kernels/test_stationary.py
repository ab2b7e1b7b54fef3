"""Stationary covariances of samplers against the exact ones of their discretisation (`gaussian_oracle.py`)."""

import functools

import numpy as np
import pytest
import scipy.linalg
from gaussian_oracle import (
    PRECISIONS,
    Setting,
    assert_within_four_standard_errors,
    logdensity,
    read_sghmc,
    sghmc_moments,
    sgld_moments,
    stationary,
)

from bayesjax.kernels import sghmc, sgld

SGHMC_SETTINGS = {
    "small step": Setting(0.02, 0.1),
    "large step": Setting(0.4, 0.3),
    "cold": Setting(0.1, 0.2, 0.1),
    "gradient noise": Setting(0.1, 0.2, 1.0, 1.5),
    "gradient noise, estimated": Setting(0.1, 0.2, 1.0, 1.5, 0.1 / 2 * 1.5**2),
    "cold, gradient noise, estimated": Setting(0.1, 0.3, 0.1, 0.5, 0.1 / 2 * 0.5**2),
    "gradient noise beyond the friction": Setting(0.1, 0.1, 0.1, 1.0, 0.1 / 2 * 1.0**2),
}
SGLD_SETTINGS = {
    "step 0.4": Setting(0.4),
    "step 0.2": Setting(0.2),
    "step 0.1": Setting(0.1),
    "cold": Setting(0.2, temperature=0.1),
    "gradient noise": Setting(0.2, sigma=1.5),
}


@pytest.mark.parametrize("eta", [1e-4, 0.05, 0.3, 0.44])
@pytest.mark.parametrize("alpha", [0.05, 0.5])
def test_sghmc_equations_have_no_step_size_bias(eta, alpha):
    """The equations' position variance is T / precision to 1e-9 at any step size, their p is BAOAB's (T - O(eta)).

    The first-order scheme (all noise before the drift), for contrast, is off by more than 1 % at eta precision >= 0.05.
    """
    s = Setting(eta, alpha, 0.7)
    np.testing.assert_allclose(sghmc_moments(s)["position"], 0.7 / PRECISIONS, rtol=1e-9)
    first_order = sghmc_moments(s, position_noise=1, momentum_noise=1)["position"] * PRECISIONS / 0.7 - 1
    assert (np.abs(first_order[PRECISIONS * eta >= 0.05]) > 0.01).all()
    # BAOAB itself, one matrix a letter, started after its first half kick, as the merged kicks are.
    h, c = np.sqrt(2 * eta / (2 - alpha)), 1 - alpha
    for precision, variance in zip(PRECISIONS, sghmc_moments(s)["momentum"], strict=True):
        kick, drift = np.array([[1, 0], [-h * precision, 1]]), np.array([[1, h / 2], [0, 1]])
        transition = drift @ np.diag([1, c]) @ drift @ kick
        noise = drift @ [0, np.sqrt(0.7 * (1 - c**2))]
        covariance = scipy.linalg.solve_discrete_lyapunov(transition, np.outer(noise, noise))
        np.testing.assert_allclose(covariance[1, 1], variance, rtol=1e-9)


def test_sgld_equation_has_the_closed_form():
    """The oracle's own check: T / (1 - eta precision / 2) / precision."""
    s = Setting(0.3, temperature=0.7)
    expected = 0.7 / (1 - s.eta * PRECISIONS / 2) / PRECISIONS
    np.testing.assert_allclose(sgld_moments(s)["position"], expected, rtol=1e-12)


@functools.cache
def run_sghmc():
    return stationary(
        SGHMC_SETTINGS,
        lambda s: sghmc(
            logdensity, step_size=s.eta, friction=s.alpha, temperature=s.temperature, noise_estimate=s.beta
        ),
        read_sghmc,
    )


@functools.cache
def run_sgld():
    return stationary(
        SGLD_SETTINGS,
        lambda s: sgld(logdensity, step_size=s.eta, temperature=s.temperature),
        lambda state, s: {"position": state.position["x"]},
    )


@pytest.mark.parametrize("name", SGHMC_SETTINGS)
def test_sghmc_has_the_exact_covariance(name):
    """Position, kinetic and configurational second moments within 4 standard errors of the exact ones.

    False alarms: 7 comparisons a setting at 6.3e-5, 0.3 % over the 7 settings. The standard errors are 0.3 to 1 %, and
    the faults below are caught by the same function.
    """
    s = SGHMC_SETTINGS[name]
    assert_within_four_standard_errors(run_sghmc()[name], sghmc_moments(s))
    if s.sigma == 0:
        assert_within_four_standard_errors(run_sghmc()[name], {"position": s.temperature / PRECISIONS})


def test_noise_estimate_matters():
    """Power for gradient noise: each of the runs with and without the estimate fails the other's exact covariance."""
    given, ignored = "gradient noise, estimated", "gradient noise"
    for name, other in ((given, ignored), (ignored, given)):
        with pytest.raises(AssertionError, match="standard errors"):
            assert_within_four_standard_errors(run_sghmc()[name], sghmc_moments(SGHMC_SETTINGS[other]))


def test_noise_estimate_restores_the_temperature():
    """With beta = eta sigma^2 / 2 the exact configurational temperature is T within 5 %; without, over 1.3 T."""
    estimated = sghmc_moments(SGHMC_SETTINGS["gradient noise, estimated"])
    naive = sghmc_moments(SGHMC_SETTINGS["gradient noise"])
    assert estimated["configurational"] == pytest.approx(1, abs=0.05)
    assert naive["configurational"] > 1.3


@pytest.mark.parametrize("name", SGLD_SETTINGS)
def test_sgld_has_the_exact_variance(name):
    """Variances within 4 standard errors of the exact ones.

    False alarms: 4 comparisons a setting at 6.3e-5, 0.13 % over the 5 settings. Power: T / precision, the target's own
    variance, is refused at every step here.
    """
    s, means = SGLD_SETTINGS[name], run_sgld()[name]
    assert_within_four_standard_errors(means, sgld_moments(s))
    with pytest.raises(AssertionError, match="standard errors"):
        assert_within_four_standard_errors(means, {"position": s.temperature / PRECISIONS})


def test_sgld_bias_is_of_first_order():
    """Halving the step divides the bias by 2 (1 - x/2) / (1 - x), x = eta precision / 2: order 1, not 0 or 2.

    False alarms: 6 comparisons at 6.3e-5, 0.04 %. Power: ratios 1 (order 0) and 4 (order 2) are over 4 standard errors
    away for the stiffest coordinate.
    """
    runs = run_sgld()
    for coarse, fine in (("step 0.4", "step 0.2"), ("step 0.2", "step 0.1")):
        bias, error = [], []
        for name in (coarse, fine):
            position = runs[name]["position"]
            bias.append(position.mean(axis=0) - 1 / PRECISIONS)
            error.append(position.std(axis=0, ddof=1) / np.sqrt(len(position)))
        ratio = bias[0] / bias[1]
        standard_error = np.hypot(error[0], ratio * error[1]) / bias[1]
        x = SGLD_SETTINGS[coarse].eta * PRECISIONS / 2
        assert (np.abs(ratio - 2 * (1 - x / 2) / (1 - x)) < 4 * standard_error).all()
        if coarse == "step 0.2":  # x small enough for the ratio to be near 2
            assert abs(ratio[-1] - 1) > 4 * standard_error[-1]
            assert abs(ratio[-1] - 4) > 4 * standard_error[-1]
