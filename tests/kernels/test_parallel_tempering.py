"""Tests of parallel tempering: invariance to 1e-12 by enumeration, mixing, round trips and rejection rates.

Read `test_tempered_kernels.py` next for the kernels that it moves replicas with, devices and arguments."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels
from bayesjax.models import boltzmann
from bayesjax.types import Kernel
from tests.kernels.enumerated_machine import gibbs_matrix, law, machine, parameters, states

V, H, NUM = 2, 2, 4
pytestmark = pytest.mark.usefixtures("compile_once")


def minus_free_energy(v, rng_key, params):
    """log p(v) up to a constant, of any Bernoulli machine."""
    del rng_key
    return -machine(*params["kernel"].shape, is_centred="visible_offset" in params).free_energy(params, v)


def ladder(target, mean, num):
    """Machines from independent units to the target."""
    base = boltzmann.independent_units(target, mean)
    return jax.vmap(lambda t: boltzmann.interpolate(base, target, t))(jnp.linspace(0.0, 1.0, num))


# The exact transition matrix over the product of the levels


def wrong_sign(logdensity, rng_key, position, batch, step):
    """The reciprocal of the ratio."""
    return kernels.swap_probabilities(lambda *args: -logdensity(*args), rng_key, position, batch, step)


def wrong_level(logdensity, rng_key, position, batch, step):
    """The energies of a neighbouring level in place of its own."""
    shifted = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), batch)
    return kernels.swap_probabilities(logdensity, rng_key, position, shifted, step)


def lower_level_only(logdensity, rng_key, position, batch, step):
    """The change of the energy of level i, without that of level i + 1."""
    values = jax.vmap(lambda x, b: logdensity(x, rng_key, b))
    _, is_tried = kernels.swap_probabilities(logdensity, rng_key, position, batch, step)
    lower = jax.tree.map(lambda leaf: leaf[:-1], batch)
    return is_tried * jnp.minimum(1, jnp.exp(values(position[1:], lower) - values(position[:-1], lower))), is_tried


PRODUCT = np.array(list(itertools.product(range(2**V), repeat=NUM)))  # state of each level, the reference slowest


def swap_matrix(rule, batch, step):
    """The transition matrix of the exchanges of one step, from the probabilities of all pairs in all states."""
    swap = functools.partial(rule, minus_free_energy, jax.random.key(0), batch=batch, step=step)
    probability, is_tried = (np.asarray(x) for x in jax.vmap(lambda x: swap(position=x))(states(V)[PRODUCT]))
    assert (probability[~is_tried] == 0).all() and (is_tried == is_tried[0]).all()
    matrix, rows = np.zeros((len(PRODUCT), len(PRODUCT))), np.arange(len(PRODUCT))
    pairs = np.flatnonzero(is_tried[0])
    for is_swapped in itertools.product((False, True), repeat=len(pairs)):
        chance, order = np.ones(len(PRODUCT)), np.arange(NUM)
        for pair, swapped in zip(pairs, is_swapped, strict=True):
            chance *= probability[:, pair] if swapped else 1 - probability[:, pair]
            if swapped:
                order[[pair, pair + 1]] = order[[pair + 1, pair]]
        np.add.at(matrix, (rows, PRODUCT[:, order] @ (2**V) ** np.arange(NUM - 1, -1, -1)), chance)
    return matrix


@pytest.mark.slow
@pytest.mark.parametrize("is_centred", [False, True])
def test_a_sweep_leaves_the_product_law_invariant(is_centred):
    """Exchanges, moves and both in turn keep p_0 x p_1 x p_2 x p_3 to 1e-12; three wrong rules do not."""
    with jax.enable_x64(True):
        functions = machine(V, H, is_centred=is_centred)
        batch = ladder(parameters(V, H, is_centred=is_centred, scale=2.0), jnp.array([0.4, 0.7]), NUM)
        levels = [jax.tree.map(lambda leaf, i=i: leaf[i], batch) for i in range(NUM)]
        product = functools.reduce(np.kron, [law(functions, params, V) for params in levels])
        moves = functools.reduce(np.kron, [gibbs_matrix(functions, params, V, H) for params in levels])
        uniform = np.full(len(PRODUCT), 1 / len(PRODUCT))
        for step in (0, 1):
            swaps = swap_matrix(kernels.swap_probabilities, batch, step)
            np.testing.assert_allclose(swaps.sum(axis=1), 1, atol=1e-12)
            assert product @ np.diag(swaps) < 0.95
            for transition in (swaps, moves, swaps @ moves):
                np.testing.assert_allclose(product @ transition, product, rtol=0, atol=1e-12)
            for rule in (wrong_sign, wrong_level, lower_level_only):
                wrong = product @ swap_matrix(rule, batch, step)
                assert np.abs(wrong - product).sum() > 1e-2, rule.__name__
            assert np.abs(uniform @ swaps @ moves - uniform).sum() > 1e-2  # the sweep keeps no other law


class Still(NamedTuple):
    """The state of a kernel that never moves."""

    position: jax.Array


still = Kernel(lambda position, rng_key: Still(position), lambda rng_key, state, batch: (state, Still(jnp.zeros(()))))


def normal(x, rng_key, precision):
    """N(0, 1 / precision) in every coordinate."""
    del rng_key
    return -0.5 * precision * jnp.sum(x**2)


PRECISIONS = jnp.array([0.3, 1.0, 2.0, 4.0])
POINTS = jnp.array([[1.5, 0.9], [1.0, -0.55], [0.9, 0.3], [0.3, -0.55]])


def test_the_kernel_exchanges_with_these_probabilities():
    """Frequencies of exchanges in 20 000 steps from one state are within 4.5 standard errors, pairs independent.

    False alarms: 5 comparisons at 6.8e-6. Positions go with their replicas, and pairs that are not tried stay.
    """
    kernel, num = kernels.parallel_tempering(still, normal, NUM), 20_000
    start = kernel.init(POINTS, jax.random.key(0))

    @jax.jit
    def steps(step):
        keys = jax.random.split(jax.random.key(1), num)
        return jax.vmap(lambda key: kernel.step(key, start._replace(step=step), PRECISIONS))(keys)

    for step, tried in ((0, [0, 2]), (1, [1])):
        state, info = steps(jnp.int32(step))
        p, is_tried = kernels.swap_probabilities(normal, jax.random.key(0), POINTS, PRECISIONS, step)
        assert np.flatnonzero(is_tried).tolist() == tried and (state.step == step + 1).all()
        np.testing.assert_allclose(info.acceptance_probability, jnp.tile(p, (num, 1)), rtol=1e-6)
        np.testing.assert_array_equal(state.position, POINTS[state.replicas])
        np.testing.assert_array_equal(info.replicas, state.replicas)
        is_swapped = np.asarray(state.replicas[:, :-1] == np.arange(1, NUM))
        assert 0.05 < p[tried[0]] < 0.95
        for pair in range(NUM - 1):
            error = np.sqrt(p[pair] * (1 - p[pair]) / num)
            assert abs(is_swapped[:, pair].mean() - p[pair]) <= 4.5 * error
        both, apart = is_swapped[:, tried].all(axis=1).mean(), np.prod(p[np.array(tried)])
        assert abs(both - apart) <= 4.5 * np.sqrt(apart * (1 - apart) / num)


# Mixing


def test_it_mixes_two_modes_where_block_gibbs_does_not():
    """A machine with modes 000000 and 111111, whose second has about 30 % of the mass; all chains start in the first.

    The mass of the second, over 400 ladders at 20 times from step 60 on, is within 4 standard errors of the enumerated
    one (false alarms 6.3e-5). With block Gibbs sampling alone less than 1 % of the chains are there.
    """
    size, num_levels, num_chains = 6, 6, 400
    target = {
        "kernel": jnp.full((size, 3), 3.4), "visible_bias": jnp.full(size, -5.25), "hidden_bias": jnp.full(3, -10.2)
    }  # fmt: skip
    functions = machine(size, 3)
    p = law(functions, target, size)
    exact, is_second = float(p[states(size).sum(axis=1) > 3].sum()), lambda v: v.sum(axis=-1) > 3
    assert 0.2 < exact < 0.4 and p[0] + p[-1] > 0.9
    single = kernels.block_gibbs(functions.hidden, functions.visible)
    ladders = kernels.particles(kernels.parallel_tempering(single, minus_free_energy, num_levels), num_chains)
    chains = kernels.particles(single, num_chains)

    @functools.partial(jax.jit, static_argnums=(0, 3))
    def run(kernel, start, batch, num_steps):
        def step(state, key):
            state, _ = kernel.step(key, state, batch)
            return state, is_second(state.position)

        keys = jax.random.split(jax.random.key(1), num_steps)
        return jax.lax.scan(step, kernel.init(start, jax.random.key(0)), keys)

    batch = ladder(target, jnp.full(size, 0.5), num_levels)
    _, is_right = run(ladders, jnp.zeros((num_chains, num_levels, size)), batch, 160)
    of_chains = np.asarray(is_right[60::5, :, -1], float).mean(axis=0)
    assert abs(of_chains.mean() - exact) < 4 * of_chains.std(ddof=1) / np.sqrt(num_chains)
    _, is_stuck = run(chains, jnp.zeros((num_chains, size)), target, 160)
    assert np.mean(is_stuck[60:]) < 0.01


# Round trips and rejection rates


def slow_round_trips(history):
    """Counts visits to the reference after the target after the reference, for each replica in plain Python."""
    trips = []
    for replica in range(history.shape[1]):
        ends = [level for level in np.argmax(history == replica, axis=1) if level in (0, history.shape[1] - 1)]
        turns = [level for level, _ in itertools.groupby(ends)]
        trips.append(max(0, turns.count(0) - 1))
    return trips


def test_round_trips_are_counted_from_the_reference_to_the_target_and_back():
    """A written history, and 300 random steps against plain Python; half trips do not count."""
    levels = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1], [2, 1, 0], [1, 2, 0], [0, 2, 1], [0, 1, 2], [1, 0, 2]])
    history = np.argsort(levels, axis=1)  # the replica at each level
    assert kernels.round_trips(history).tolist() == [1, 1, 0]
    random = np.random.default_rng(0)
    history, order = [], np.arange(NUM)
    for step in range(300):
        for pair in range(step % 2, NUM - 1, 2):
            if random.uniform() < 0.7:
                order[[pair, pair + 1]] = order[[pair + 1, pair]]
        history.append(order.copy())
    trips = jax.jit(kernels.round_trips)(np.array(history))
    assert trips.dtype == jnp.int32 and trips.tolist() == slow_round_trips(np.array(history))
    assert trips.min() > 5
    with pytest.raises(ValueError, match="replica_history must have at least 2 levels; got 1"):
        kernels.round_trips(np.zeros((5, 1), int))
    with pytest.raises(ValueError, match=r"replica_history must be \[num_steps, num\]; got an array of shape \(5,\)"):
        kernels.round_trips(np.zeros(5, int))


def test_rejection_rates_are_means_over_the_steps_that_tried_a_pair():
    """The plain mean over all steps would halve the acceptance; a pair that was never tried has no rate."""
    probability = jnp.array([[0.5, 0.0], [0.0, 0.2], [0.7, 0.0], [0.0, 0.4]])
    is_tried = jnp.array([[True, False], [False, True]] * 2)
    info = kernels.ParallelTemperingInfo((), probability, is_tried, jnp.zeros((4, 3), jnp.int32))
    np.testing.assert_allclose(kernels.rejection_rates(info), [0.4, 0.7], rtol=1e-6)
    of_chains = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf], axis=1), info)
    np.testing.assert_allclose(kernels.rejection_rates(of_chains), [0.4, 0.7], rtol=1e-6)
    assert np.abs(1 - probability.mean(axis=0) - np.array([0.4, 0.7])).min() > 0.1
    with pytest.raises(ValueError, match=r"is_tried must be true at least once for every pair; got \[2 0\]"):
        kernels.rejection_rates(jax.tree.map(lambda leaf: leaf[::2], info))


def test_densities_that_are_not_finite_are_never_exchanged_by_nan():
    """An impossible position is not exchanged for a possible one at a level where it stays impossible."""

    def bounded(x, rng_key, bound):
        return jnp.where(jnp.abs(x) < bound, 0.0, -jnp.inf)

    bounds, key = jnp.array([3.0, 2.0, 1.0]), jax.random.key(0)
    for position, expected in (([2.5, 0.0, 0.0], 0.0), ([5.0, 0.0, 0.0], 0.0), ([0.5, 2.5, 0.0], 1.0)):
        probability, _ = kernels.swap_probabilities(bounded, key, jnp.array(position), bounds, 0)
        np.testing.assert_array_equal(probability, [expected, 0.0])
    probability, _ = kernels.swap_probabilities(lambda x, key, b: jnp.nan * x, key, jnp.zeros(3), bounds, 0)
    np.testing.assert_array_equal(probability, 0.0)
