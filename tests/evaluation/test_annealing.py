"""The weights of annealed chains on normal densities, whose constants are known; wrong orders are refused."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.evaluation import annealing

PRECISIONS = np.array([0.5, 1.0, 3.0], np.float32)
WIDER = np.array([3.0, 2.2, 1.7], np.float32)
RATIO = np.sqrt(PRECISIONS[0] / PRECISIONS[-1])
"""Z_n / Z_0 of exp(-precision x^2 / 2)."""
NUM_CHAINS = 10_000


def log_ratio(x, precision, next_precision):
    return 0.5 * (precision - next_precision) * x**2


def transition(key, x, precision):
    """An autoregressive step that keeps N(0, 1 / precision), with a correlation of 0.8."""
    return 0.8 * x + 0.6 * jax.random.normal(key) / jnp.sqrt(precision), x**2


def chains(order, levels=PRECISIONS):
    start, run = jax.random.split(jax.random.key(0))
    x = jax.random.normal(start, (NUM_CHAINS,)) / np.sqrt(levels[0])
    return order(log_ratio, transition, x, run, levels)


def misordered(uses_old_level):
    """Chains that move before their weight is taken, or that move at the level before."""

    def anneal(log_ratio, transition, x, rng_key, levels):
        log_weights = jnp.zeros(len(x))
        for index, (level, next_level) in enumerate(itertools.pairwise(levels)):
            keys = jax.random.split(jax.random.fold_in(rng_key, index), len(x))
            at = level if uses_old_level else next_level
            moved, _ = jax.vmap(lambda key, x, at=at: transition(key, x, at))(keys, x)
            weighted = x if uses_old_level else moved
            log_weights += jax.vmap(lambda x, a=level, b=next_level: log_ratio(x, a, b))(weighted)
            x = moved
        return annealing.AnnealedChains(x, log_weights, None)

    return anneal


def standard_errors_from_one(log_weights, expected):
    ratios = np.exp(np.asarray(log_weights, np.float64)) / expected
    return abs(ratios.mean() - 1) * np.sqrt(ratios.size) / ratios.std()


@pytest.mark.parametrize("levels", [PRECISIONS, WIDER], ids=["narrower", "wider"])
def test_the_mean_weight_is_the_ratio_of_constants(levels):
    """Within 4 standard errors of 10 000 chains (6e-5), in both directions."""
    expected = np.sqrt(levels[0] / levels[-1])
    assert standard_errors_from_one(chains(annealing.anneal, levels).log_weights, expected) < 4


@pytest.mark.parametrize("uses_old_level", [False, True])
def test_wrong_orders_are_caught(uses_old_level):
    """They are over 10 standard errors away."""
    assert standard_errors_from_one(chains(misordered(uses_old_level)).log_weights, RATIO) > 10


def test_positions_and_diagnostics():
    """Weighted positions have the last variance within 4 standard errors (6e-5); info is a mean over chains."""
    result = chains(annealing.anneal)
    weights = np.exp(np.asarray(result.log_weights, np.float64)) / RATIO
    terms = weights * (np.asarray(result.positions, np.float64) ** 2 - 1 / PRECISIONS[-1])
    assert abs(terms.mean()) < 4 * terms.std() / np.sqrt(NUM_CHAINS)
    assert result.info.shape == (2,)
    assert abs(result.info[0] - 1 / PRECISIONS[0]) < 4 * np.sqrt(2 / NUM_CHAINS) / PRECISIONS[0]


def test_levels_and_positions_may_be_trees():
    """`params_at` gives both functions the same object, of both ends of a step."""
    levels = {"scale": jnp.array([1.0, 2.0, 4.0])}

    def ratio(x, a, b):
        return jnp.sum(x["v"]) * (b["twice"] - a["twice"])

    def move(key, x, at):
        return {"v": x["v"] + at["twice"]}, {"level": at["twice"]}

    def twice(level):
        return {"twice": 2 * level["scale"]}

    result = annealing.anneal(ratio, move, {"v": jnp.ones((5, 3))}, jax.random.key(0), levels, params_at=twice)
    np.testing.assert_allclose(result.log_weights, np.full(5, 3 * 2 + 3 * 5 * 4))
    np.testing.assert_allclose(result.positions["v"], np.full((5, 3), 13.0))
    np.testing.assert_allclose(result.info["level"], [4.0, 8.0])


def test_keys_are_used_once():
    with jax.debug_key_reuse(True):
        chains(annealing.anneal)


def test_statistics_of_weights():
    """Against their definitions in float64, at log weights whose exponentials overflow; rows are separate."""
    log_weights = np.random.default_rng(0).normal(size=(2, 50)) + 1000
    weights = np.exp(log_weights - 1000)
    mean = weights.mean(axis=1)
    np.testing.assert_allclose(annealing.log_mean_weight(log_weights), 1000 + np.log(mean), rtol=1e-6)
    errors = weights.std(axis=1, ddof=1) / mean / np.sqrt(50)
    np.testing.assert_allclose(annealing.log_mean_weight_standard_error(log_weights), errors, rtol=1e-3)
    sizes = weights.sum(axis=1) ** 2 / (weights**2).sum(axis=1)
    np.testing.assert_allclose(annealing.weight_effective_sample_size(log_weights), sizes, rtol=1e-3)
    equal = np.full(7, -300.0)
    assert annealing.weight_effective_sample_size(equal) == pytest.approx(7)
    assert annealing.log_mean_weight_standard_error(equal) == 0
    assert annealing.weight_effective_sample_size(np.array([0.0, -500.0, -500.0])) == pytest.approx(1)


def test_salakhutdinov_schedule():
    """The default is the published one; every other number of temperatures follows the same curve."""
    parts = np.arange(0, 0.5, 1e-3), np.arange(0.5, 0.9 - 1e-9, 1e-4), np.arange(0.9, 1 - 1e-9, 1e-5), [1.0]
    default = annealing.salakhutdinov_schedule()
    np.testing.assert_allclose(default, np.concatenate(parts), atol=1e-12)
    assert len(default) == 14_501
    np.testing.assert_allclose(annealing.salakhutdinov_schedule(29_000)[::2], default, atol=1e-12)
    np.testing.assert_allclose(annealing.salakhutdinov_schedule(29), default[::500], atol=1e-12)
    np.testing.assert_allclose(annealing.linear_schedule(4), [0, 0.25, 0.5, 0.75, 1])


@pytest.mark.parametrize("num", [1, 2, 17, 200_000])
@pytest.mark.parametrize("schedule", [annealing.linear_schedule, annealing.salakhutdinov_schedule])
def test_schedules_are_schedules(schedule, num):
    """They increase, also after rounding to float32."""
    values = schedule(num)
    assert len(values) == num + 1
    assert annealing.check_schedule(values.astype(np.float32)) is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: annealing.check_schedule([0.0, 0.5]), "must begin at 0 and end at 1; got 0.0 and 0.5"),
        (lambda: annealing.check_schedule([0.1, 1.0]), "must begin at 0 and end at 1; got 0.1 and 1.0"),
        (lambda: annealing.check_schedule([1.0, 0.5, 0.0]), "must begin at 0 and end at 1; got 1.0 and 0.0"),
        (lambda: annealing.check_schedule([0.0, 0.5, 0.5, 1.0]), "must increase; got 0.5 after 0.5"),
        (lambda: annealing.check_schedule([0.0, 0.7, 0.2, 1.0]), "must increase; got 0.2 after 0.7"),
        (lambda: annealing.check_schedule([0.0, np.nan, 1.0]), "must increase; got nan after 0.0"),
        (lambda: annealing.check_schedule([1.0]), "must have at least 2 values, 0 and 1; got 1"),
        (lambda: annealing.check_schedule(np.ones((2, 2))), r"must be \[num_levels\]; got an array of shape \(2, 2\)"),
        (lambda: annealing.check_schedule(100), r"must be \[num_levels\]; got an array of shape \(\)"),
        (lambda: annealing.linear_schedule(0), "num_temperatures must be at least 1; got 0"),
        (lambda: annealing.salakhutdinov_schedule(1.5), "num_temperatures must be an integer"),
        (lambda: annealing.log_mean_weight_standard_error([0.0]), "must have at least 2 chains .*; got 1"),
        (lambda: chains(annealing.anneal, PRECISIONS[:1]), "levels must have .* at least 2 levels; got 1"),
        (
            lambda: annealing.anneal(log_ratio, transition, jnp.ones((3, 2)), jax.random.key(0), PRECISIONS),
            r"log_ratio must return a scalar; got an array of shape \(2,\)",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
