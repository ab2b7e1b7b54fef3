"""Small Boltzmann machines with exact log Z, exact draws and both AIS estimates, for several test files."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.evaluation import annealing, partition_function
from bayesjax.models import boltzmann

V, H, NUM_CHAINS = 4, 3, 10_000
KINDS = [("bernoulli", False), ("bernoulli", True), ("gaussian", False), ("gaussian", True)]
every_kind = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind in (KINDS[0], KINDS[3]) else []) for kind in KINDS]
)
"""Both kinds of units and both parameterisations; two of the four combinations are in `make test-slow`."""
SCHEDULES = {
    "a jump": np.append(np.linspace(0, 1e-3, 10), 1.0),
    "linear": annealing.linear_schedule(10),
    "Salakhutdinov": annealing.salakhutdinov_schedule(10),
}
EXACT = functools.partial(partition_function.log_partition_function, num_units=H)


def random_params(kind, scale=1.5, seed=1):
    """Parameters of a machine with connections strong enough that its base is far from it."""
    units, is_centred = kind
    random = np.random.default_rng(seed)
    params = {
        "kernel": scale * random.normal(size=(V, H)),
        "visible_bias": random.normal(size=V),
        "hidden_bias": random.normal(size=H),
    }
    if units == "gaussian":
        params["kernel"] *= 0.5
        params["log_variance"] = 0.3 * random.normal(size=V)
    if is_centred:
        params |= {"visible_offset": random.uniform(size=V), "hidden_offset": random.uniform(size=H)}
    return {name: jnp.asarray(value, jnp.float32) for name, value in params.items()}


@functools.cache
def machine(kind):
    units, is_centred = kind
    return boltzmann.machine(boltzmann.RBM(V, H, units, is_centred))


def base_of(kind, params):
    """For Gaussian units it is wider than the machine, so that weights have a finite variance."""
    if kind[0] == "bernoulli":
        return boltzmann.independent_units(params, jnp.array([0.5, 0.6, 0.4, 0.7]))
    draws = np.asarray(exact_draws(kind, params, 4000))
    return boltzmann.independent_units(params, draws.mean(axis=0), 1.5 * draws.var(axis=0))


@functools.partial(jax.jit, static_argnums=(0, 2))
def exact_draws(kind, params, num, seed=1):
    """Independent draws of v: h from its enumerated distribution, then v given h."""
    hidden_key, visible_key = jax.random.split(jax.random.key(seed))
    states = jnp.stack(jnp.meshgrid(*[jnp.array([0.0, 1.0])] * H, indexing="ij"), axis=-1).reshape(-1, H)
    logits = jax.vmap(lambda h: -machine(kind).hidden_free_energy(params, h))(states)
    h = states[jax.random.categorical(hidden_key, logits, shape=(num,))]
    keys = jax.random.split(visible_key, num)
    return jax.vmap(lambda key, h: machine(kind).visible(params, h).sample(seed=key))(keys, h)


def bidirectional(machine, num_chains=NUM_CHAINS):
    """Both estimates as one compiled function `(schedule, base, params, positions)`."""

    @jax.jit
    def run(schedule, base, params, positions):
        return partition_function.bidirectional_log_partition_function(
            machine, base, params, jax.random.key(7), positions, inverse_temperatures=schedule, num_chains=num_chains
        )

    return run


@functools.cache
def problem(kind):
    """A machine with its base, exact draws and exact log Z."""
    params = random_params(kind)
    log_z = float(EXACT(machine(kind).hidden_free_energy, params))
    return params, base_of(kind, params), exact_draws(kind, params, NUM_CHAINS), log_z


@functools.cache
def compiled(kind):
    return bidirectional(machine(kind))


def estimates(kind, schedule, run=None):
    params, base, positions, log_z = problem(kind)
    return (run or compiled(kind))(jnp.asarray(schedule, jnp.float32), base, params, positions), log_z


def standard_errors_from_one(log_ratios):
    ratios = np.exp(np.asarray(log_ratios, np.float64))
    return (ratios.mean() - 1) * np.sqrt(ratios.size) / ratios.std()


def largest_error(result, log_z):
    """Distance of the mean weights from Z and from 1 / Z, in standard errors: the larger of the two."""
    forward = standard_errors_from_one(result.forward.log_weights - log_z)
    reverse = standard_errors_from_one(result.reverse.log_weights + log_z)
    return max(abs(forward), abs(reverse))


def misordered_anneal(is_early):
    """The wrong cores: chains move at the new level before the weight is taken, or after it at the old level."""

    def anneal(log_ratio, transition, positions, rng_key, levels, *, params_at):
        def advance(carry, step):
            positions, log_weights = carry
            index, *at = step
            level, next_level = map(params_at, at)
            keys = jax.random.split(jax.random.fold_in(rng_key, index), len(positions))
            at = next_level if is_early else level
            moved, _ = jax.vmap(lambda key, v: transition(key, v, at))(keys, positions)
            log_weights += jax.vmap(lambda v: log_ratio(v, level, next_level))(moved if is_early else positions)
            return (moved, log_weights), None

        steps = jnp.arange(len(levels) - 1), levels[:-1], levels[1:]
        (positions, log_weights), _ = jax.lax.scan(advance, (positions, jnp.zeros(len(positions))), steps)
        return annealing.AnnealedChains(positions, log_weights, None)

    return anneal
