"""AIS of small Boltzmann machines in both directions: mean weights, bounds, and the faults that they reveal.

A comparison is within 4 standard errors, a false-alarm rate of 6e-5 each, for about 90 comparisons with fixed seeds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.evaluation import annealing
from bayesjax.models import boltzmann
from tests.evaluation.small_machines import (
    EXACT,
    KINDS,
    NUM_CHAINS,
    SCHEDULES,
    H,
    V,
    bidirectional,
    estimates,
    every_kind,
    exact_draws,
    largest_error,
    machine,
    misordered_anneal,
    problem,
)
from tests.parameters import some


@pytest.mark.parametrize("schedule", SCHEDULES)
@every_kind
def test_mean_weights_are_unbiased_and_their_logarithms_are_bounds(kind, schedule):
    """E exp(log w) = Z forward and 1 / Z in reverse, for good and bad schedules; E log w is on the right side."""
    result, log_z = estimates(kind, SCHEDULES[schedule])
    assert largest_error(result, log_z) < 4
    for sign, direction in ((1, result.forward), (-1, result.reverse)):
        logs = np.asarray(direction.log_weights, np.float64)
        assert logs.mean() - sign * log_z < -4 * logs.std() / np.sqrt(NUM_CHAINS), "a single chain is a strict bound"
        assert abs(float(direction.log_partition_function) - log_z) < 4 * float(direction.standard_error)
        assert 0 < float(direction.standard_error) < 0.1
        assert 1 < float(direction.effective_sample_size) < NUM_CHAINS
        error = np.sqrt((NUM_CHAINS / float(direction.effective_sample_size) - 1) / NUM_CHAINS)
        assert float(direction.standard_error) == pytest.approx(error, rel=1e-2)


def test_two_temperatures():
    """The worst schedule, importance sampling from the base, is unbiased as well."""
    result, log_z = estimates(KINDS[1], [0.0, 1.0])
    assert largest_error(result, log_z) < 4


@pytest.mark.slow
def test_the_gap_closes_with_more_temperatures():
    """500 temperatures: both single-chain bounds are within 0.05 nats; of ten temperatures they are over 0.2 apart."""

    params, base, positions, log_z = problem(KINDS[1])

    def gap(num):
        schedule = jnp.asarray(annealing.salakhutdinov_schedule(num), jnp.float32)
        result = bidirectional(machine(KINDS[1]), 1000)(schedule, base, params, positions[:1000])
        lower, upper = float(result.forward.log_weights.mean()), -float(result.reverse.log_weights.mean())
        assert lower < log_z < upper
        assert float(result.gap) == pytest.approx(
            float(result.reverse.log_partition_function - result.forward.log_partition_function)
        )
        return upper - lower

    assert gap(500) < 0.05 and gap(10) > 0.2


def test_final_positions_are_draws_of_the_last_machine():
    """Weighted means of the units are those of exact draws (forward), and of the base (reverse), within 4 errors."""
    result, log_z = estimates(KINDS[1], SCHEDULES["linear"])
    _, base, positions, _ = problem(KINDS[1])
    expected = np.asarray(positions).mean(axis=0), 1 / (1 + np.exp(-np.asarray(base["visible_bias"])))
    for mean, direction, shift in zip(expected, (result.forward, result.reverse), (-log_z, log_z), strict=True):
        weights = np.exp(np.asarray(direction.log_weights, np.float64) + shift)
        terms = weights[:, None] * (np.asarray(direction.positions) - mean)
        error = np.hypot(terms.std(axis=0), np.asarray(positions).std(axis=0)) / np.sqrt(NUM_CHAINS)
        assert (np.abs(terms.mean(axis=0)) < 4 * error).all()


def without_offsets(function):
    """A function of a machine that takes its offsets for 0."""

    def forgetful(params, *units):
        return function({k: jnp.zeros_like(v) if "offset" in k else v for k, v in params.items()}, *units)

    return forgetful


BASE_LOG_Z = boltzmann.independent_log_partition_function


FAULTS = "moves first", "moves last", "no log 2", "one phase", "base offsets", "transition offsets"


@pytest.mark.parametrize("fault", some(FAULTS, "moves first", "no log 2", "base offsets"))
def test_planted_faults_are_caught(fault, monkeypatch):
    """Each fault moves a mean weight by more than 6 standard errors, where the right one is within 4."""
    kind = KINDS[1]
    params, right = problem(kind)[0], machine(kind)
    wrong = right
    if fault in ("moves first", "moves last"):
        monkeypatch.setattr(annealing, "anneal", misordered_anneal(fault == "moves first"))
    elif fault == "no log 2":
        changed = lambda params: BASE_LOG_Z(params) - H * np.log(2)  # noqa: E731
        monkeypatch.setattr(boltzmann, "independent_log_partition_function", changed)
    elif fault == "base offsets":
        monkeypatch.setattr(boltzmann, "independent_log_partition_function", without_offsets(BASE_LOG_Z))
    elif fault == "transition offsets":
        wrong = right._replace(hidden=without_offsets(right.hidden))
    else:  # the temperature enters p(v | h) alone
        wrong = right._replace(hidden=lambda _, v: right.hidden(params, v))
    result, log_z = estimates(kind, SCHEDULES["linear"], bidirectional(wrong))
    assert largest_error(result, log_z) > 6


@pytest.mark.slow
def test_reverse_estimate_from_one_mode_is_too_low():
    """Samples of one of two modes, on the side of the base: the upper bound fails by up to -log of the mode's share."""
    params = {"kernel": jnp.full((V, H), 6.0), "visible_bias": jnp.full(V, -9.0), "hidden_bias": jnp.full(H, -12.0)}
    log_z = float(EXACT(machine(KINDS[0]).hidden_free_energy, params))
    draws = exact_draws(KINDS[0], params, 1000)
    is_on = np.asarray(draws).sum(axis=1) > V / 2
    assert 0.2 < is_on.mean() < 0.8
    one_mode = draws[np.resize(np.flatnonzero(is_on), 1000)]
    base = boltzmann.independent_units(params, jnp.full(V, 0.8))
    schedule = jnp.asarray(annealing.salakhutdinov_schedule(500), jnp.float32)
    run = bidirectional(machine(KINDS[0]), 2)
    exact, biased = (run(schedule, base, params, v).reverse for v in (draws, one_mode))
    assert float(exact.log_partition_function) > log_z - 4 * float(exact.standard_error)
    assert float(biased.log_partition_function) < log_z - 0.1


def test_keys_are_used_once():
    params, base, positions, _ = problem(KINDS[0])
    with jax.debug_key_reuse(True):
        bidirectional(machine(KINDS[0]), 5)(jnp.linspace(0, 1, 3), base, params, positions[:4])
