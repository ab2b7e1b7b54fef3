"""Partition functions along checkpoints of a run, against enumeration at each.

A comparison is within 4 standard errors, a false-alarm rate of 6e-5 each, for about 50 comparisons with fixed seeds.
"""

import functools

import jax
import numpy as np
import pytest

from bayesjax import tree
from bayesjax.evaluation import annealing, partition_function_curve
from bayesjax.models import boltzmann
from tests.evaluation.small_machines import (
    EXACT,
    KINDS,
    NUM_CHAINS,
    base_of,
    every_kind,
    exact_draws,
    machine,
    misordered_anneal,
    random_params,
    standard_errors_from_one,
)

SCALES = (0.5, 1.0, 1.8)
SCHEDULE = annealing.linear_schedule(4)


@functools.cache
def run_of(kind):
    """Checkpoints of growing weights, and of moving offsets if centred; the base; exact draws of the last; log Z."""
    checkpoints = [random_params(kind, scale) for scale in SCALES]
    if kind[1]:
        checkpoints[1]["hidden_offset"] += 0.2
    base = base_of(kind, checkpoints[-1])
    base |= {name: value for name, value in checkpoints[0].items() if "offset" in name}
    log_z = np.array([float(EXACT(machine(kind).hidden_free_energy, params)) for params in checkpoints])
    return base, tree.stack(checkpoints), exact_draws(kind, checkpoints[-1], NUM_CHAINS), log_z


def forward(kind, num_steps=3):
    base, checkpoints, _, log_z = run_of(kind)

    @jax.jit
    def run(base, checkpoints):
        return partition_function_curve.checkpoint_log_partition_functions(
            machine(kind), base, checkpoints, jax.random.key(3), inverse_temperatures=SCHEDULE, num_steps=num_steps,
            num_chains=NUM_CHAINS,
        )  # fmt: skip

    return run(base, checkpoints), log_z


def reverse(kind, num_steps=3):
    base, checkpoints, positions, log_z = run_of(kind)

    @jax.jit
    def run(base, checkpoints, positions):
        return partition_function_curve.reverse_checkpoint_log_partition_functions(
            machine(kind), base, checkpoints, jax.random.key(4), positions, inverse_temperatures=SCHEDULE,
            num_steps=num_steps,
        )  # fmt: skip

    return run(base, checkpoints, positions), log_z


def errors(result, log_z):
    """Distances of the estimates from log Z, in their own standard errors."""
    return (np.asarray(result.log_partition_function) - log_z) / np.asarray(result.standard_error)


@every_kind
def test_forward_curve(kind):
    """The mean weight is Z at each checkpoint, and a single chain is a lower bound."""
    result, log_z = forward(kind)
    assert result.log_partition_function.shape == log_z.shape and result.positions.shape == (NUM_CHAINS, 4)
    assert (np.abs(errors(result, log_z)) < 4).all()
    for logs, exact in zip(np.asarray(result.log_weights, np.float64), log_z, strict=True):
        assert abs(standard_errors_from_one(logs - exact)) < 4
        assert logs.mean() - exact < -4 * logs.std() / np.sqrt(NUM_CHAINS)


@every_kind
def test_reverse_curve(kind):
    """Each estimate is within its standard error, which the spread over parts of the chains confirms for the ratio.

    At the last checkpoint the mean weight is 1 / Z and a single chain is an upper bound.
    """
    result, log_z = reverse(kind)
    assert (np.abs(errors(result, log_z)) < 4).all()
    logs = np.asarray(result.log_weights, np.float64)
    assert abs(standard_errors_from_one(logs[-1] + log_z[-1])) < 4
    assert -logs[-1].mean() - log_z[-1] > 4 * logs[-1].std() / np.sqrt(NUM_CHAINS)
    full = logs[-1]  # log u of the last checkpoint is 0
    parts = np.exp(full - logs).reshape(len(log_z), 100, -1).mean(axis=-1) / np.exp(full).reshape(100, -1).mean(axis=-1)
    spread = np.log(parts).std(axis=1, ddof=1) / 10
    np.testing.assert_allclose(result.standard_error, spread, rtol=0.35)


@pytest.mark.slow
def test_both_curves_take_the_path_of_one_machine():
    """A run of a single checkpoint, and legs of a single step."""
    kind = KINDS[0]
    base, checkpoints, positions, log_z = run_of(kind)
    last = jax.tree.map(lambda leaf: leaf[-1:], checkpoints)
    options = {"inverse_temperatures": SCHEDULE, "num_steps": 1}
    key = jax.random.key(5)
    lower = partition_function_curve.checkpoint_log_partition_functions(
        machine(kind), base, last, key, num_chains=NUM_CHAINS, **options
    )
    upper = partition_function_curve.reverse_checkpoint_log_partition_functions(
        machine(kind), base, last, key, positions, **options
    )
    for result in (lower, upper):
        assert result.log_partition_function.shape == (1,)
        assert abs(errors(result, log_z[-1:])[0]) < 4
    assert (np.abs(errors(*forward(kind, num_steps=1))) < 4).all()


@pytest.mark.parametrize("curve", [forward, reverse])
def test_transitions_with_the_new_parameters_are_caught(curve, monkeypatch):
    """A fault of public code: chains move before their weight is taken.

    Their curve is over 6 standard errors away after the first checkpoint.
    """
    monkeypatch.setattr(annealing, "anneal", misordered_anneal(is_early=True))
    assert (np.abs(errors(*curve(KINDS[1]))[1:]) > 6).all()


def test_a_forgotten_constant_of_the_base_is_caught(monkeypatch):
    """Z of the base without the factors of 2 of the hidden units shifts both curves."""
    base_log_z = boltzmann.independent_log_partition_function
    changed = lambda params: base_log_z(params) - 3 * np.log(2)  # noqa: E731
    monkeypatch.setattr(boltzmann, "independent_log_partition_function", changed)
    for curve in (forward, reverse):
        assert (np.abs(errors(*curve(KINDS[0]))) > 6).all()


@pytest.mark.slow
def test_keys_are_used_once():
    with jax.debug_key_reuse(True):
        forward(KINDS[0], num_steps=2)
        reverse(KINDS[0], num_steps=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "num_steps must be at least 1; got 0"),
        ({"inverse_temperatures": [0.0, 2.0]}, "inverse_temperatures must begin at 0 and end at 1"),
        ({"num_chains": 1}, "num_chains must be at least 2"),
        ({"checkpoints": random_params(KINDS[0])}, "checkpoints must have one leading axis of the same length"),
    ],
)
def test_bad_input(change, message):
    base, checkpoints, _, _ = run_of(KINDS[0])
    options = {"checkpoints": checkpoints, "inverse_temperatures": SCHEDULE} | change
    with pytest.raises(ValueError, match=message):
        partition_function_curve.checkpoint_log_partition_functions(
            machine(KINDS[0]), base, rng_key=jax.random.key(0), **options
        )
