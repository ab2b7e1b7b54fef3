"""Parallel tempering of every kind of kernel, of many ladders on one or several devices, and its arguments."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import axes, kernels
from bayesjax.training.parallel import spread
from bayesjax.types import Kernel
from tests.kernels.enumerated_machine import machine, parameters
from tests.kernels.test_parallel_tempering import NUM, POINTS, PRECISIONS, minus_free_energy, normal, still

tempering_module = importlib.import_module("bayesjax.kernels.parallel_tempering")  # hidden by its function
hmc = functools.partial(kernels.hmc, normal, step_size=0.3, num_integration_steps=2)
pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.mark.slow
def test_what_a_kernel_remembers_of_a_density_stays_at_its_level(monkeypatch):
    """HMC that keeps its last gradient moves as HMC that computes it; exchanges of whole states would change that."""

    def positions(full_batch):
        kernel = kernels.parallel_tempering(hmc(full_batch=full_batch), normal, NUM)

        def step(state, key):
            state, _ = kernel.step(key, state, PRECISIONS)
            return state, (state.position, state.replicas)

        run = jax.jit(lambda state: jax.lax.scan(step, state, jax.random.split(jax.random.key(1), 8)))
        return run(kernel.init(POINTS, jax.random.key(0)))[1]

    moved, replicas = positions(False)
    assert (replicas[-1] != np.arange(NUM)).any()
    np.testing.assert_allclose(positions(True)[0], moved, rtol=1e-4, atol=1e-5)

    def exchange_whole_states(state, position):
        distances = jnp.abs(state.position[None] - position[:, None]).sum(axis=-1)
        return jax.tree.map(lambda leaf: leaf[jnp.argmin(distances, axis=1)], state)

    monkeypatch.setattr(tempering_module, "_replace_position", exchange_whole_states)
    assert np.abs(positions(True)[0] - moved).max() > 1e-2


def carried_normal(x, rng_key, carried):
    return normal(x, rng_key, carried.batch), {"carry": carried.carry}


def normal_of_levels(x, rng_key, precisions):
    """The joint density of a ladder inside the ladder."""
    return jnp.sum(jax.vmap(normal, (0, None, 0))(x, rng_key, precisions))


def normal_of_players(x, rng_key, precision):
    return normal(x["a"], rng_key, precision) + normal(x["b"], rng_key, precision)


def player():
    return kernels.sgld(lambda x, rng_key, given: normal(x, rng_key, given.data), step_size=0.1)


INSIDE = {
    "sghmc": kernels.sghmc(normal, step_size=0.1),
    "optimize": kernels.optimize(lambda *args: -normal(*args), optax.adam(0.1)),
    "averaging": kernels.averaging(hmc()),
    "carrying": kernels.carrying(kernels.sgld(carried_normal, step_size=0.1), jnp.zeros(())),
    "adapt": kernels.adapt(functools.partial(kernels.nuts, normal), num_steps=20),
    "repeat": kernels.repeat(hmc(), 3),
    "alternate": kernels.alternate(a=player(), b=kernels.averaging(player())),
    "tempering": kernels.parallel_tempering(hmc(), normal, 2),
}


@pytest.mark.parametrize("name", INSIDE)
def test_any_kernel_may_be_inside(name):
    """Positions are exchanged, wherever the state holds them, and a step keeps the types of the state."""
    position, batch, density = POINTS, PRECISIONS, normal
    if name == "alternate":
        position, density = {"a": POINTS, "b": POINTS}, normal_of_players
    if name == "tempering":
        position, batch, density = jnp.stack([POINTS, POINTS], axis=1), jnp.ones((NUM, 2)), normal_of_levels
    kernel = kernels.parallel_tempering(INSIDE[name], density, NUM)
    before = jax.eval_shape(kernel.init, position, jax.random.key(0))
    after, _ = jax.eval_shape(kernel.step, jax.random.key(1), before, batch)
    assert before == after
    state = jax.vmap(INSIDE[name].init)(position, jax.random.split(jax.random.key(0), NUM))
    reverse = jax.tree.map(lambda leaf: leaf[::-1], position)
    replaced = tempering_module._replace_position(state, reverse)
    jax.tree.map(np.testing.assert_array_equal, replaced.position, reverse)


def ladders(num):
    functions = machine(4, 3)
    single = kernels.block_gibbs(functions.hidden, functions.visible)
    return kernels.particles(kernels.parallel_tempering(single, minus_free_energy, 3), num)


def run(kernel):
    """The last state and all infos of four steps of eight ladders of three machines."""
    batch = jax.vmap(lambda t: jax.tree.map(lambda leaf: t * leaf, parameters(4, 3)))(jnp.linspace(0.0, 1.0, 3))

    @jax.jit
    def steps(state):
        return jax.lax.scan(
            lambda state, key: kernel.step(key, state, batch), state, jax.random.split(jax.random.key(1), 4)
        )

    return jax.device_get(steps(kernel.init(jnp.zeros((8, 3, 4)), jax.random.key(0))))


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["shard_map", "pmap"])
def test_ladders_spread_over_devices_are_those_of_one_device(transform):
    """States are equal bit for bit and probabilities to rounding; ladders have their own keys."""
    state, info = run(ladders(8))
    assert len(np.unique(state.position.reshape(8, -1), axis=0)) > 4
    spread_state, spread_info = run(spread(ladders(8), particle=2, transform=transform))
    jax.tree.map(np.testing.assert_array_equal, spread_state, state)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), spread_info, info)


def tempered(kernel=still, num=NUM, logdensity=normal):
    return kernels.parallel_tempering(kernel, logdensity, num)


def step(kernel, batch):
    return kernel.step(jax.random.key(1), kernel.init(POINTS, jax.random.key(0)), batch)


hidden = Kernel(lambda position, rng_key: (position,), still.step)
BAD_CALLS = {
    "one level": (lambda: tempered(num=1), "num must be at least 2; got 1"),
    "half a level": (lambda: tempered(num=2.5), "num must be an integer, and at least 1; got 2.5"),
    "density": (
        lambda: tempered(logdensity=lambda x: x),
        r"logdensity must take \(params, rng_key, batch\); got \(x\)",
    ),
    "vector density": (
        lambda: step(tempered(logdensity=lambda x, rng_key, batch: x), PRECISIONS),
        r"logdensity must return a scalar; got an array of shape \(2,\)",
    ),
    "position": (
        lambda: tempered(num=3).init(POINTS, jax.random.key(0)),
        r"position must stack 3 levels on the leading axis of every leaf; got the shape \(4, 2\)",
    ),
    "batch": (
        lambda: step(tempered(), PRECISIONS[:3]),
        r"batch must stack 4 levels on the leading axis of every leaf; got the shape \(3,\)",
    ),
    "scalar batch": (lambda: step(tempered(), jnp.ones(())), r"batch must stack 4 levels .* got the shape \(\)"),
    "state": (
        lambda: tempered(hidden).init(POINTS, jax.random.key(0)),
        "kernel must have a state with the field position, inner or players; got tuple",
    ),
    "data axis": (
        lambda: jax.vmap(lambda batch: step(tempered(), batch), axis_name=axes.DATA)(PRECISIONS.reshape(2, 2)),
        "batch must be whole on one device, with all levels; got 2 parts",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_wrong_argument_is_named(case):
    """ValueError with the argument's name, what was expected and what came."""
    call, message = BAD_CALLS[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_batch_without_arrays_gives_all_levels_one_law():
    """Every exchange is then accepted."""
    kernel = kernels.parallel_tempering(still, lambda x, rng_key, batch: normal(x, rng_key, 1.0), NUM)
    _, info = step(kernel, None)
    np.testing.assert_array_equal(info.acceptance_probability, [1.0, 0.0, 1.0])
