"""HMC: the exact target at any step size, L gradients a step, no stale gradients. See also test_leapfrog.py."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_oracle import PRECISIONS, assert_within_four_standard_errors, stationary

from bayesjax import tree
from bayesjax.kernels import hmc
from bayesjax.types import Kernel

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
INVERSE_MASS = np.array([2.0, 1.0, 0.5], np.float32)
NUM_LEAPS = 3
BATCH = (jnp.asarray(PRECISIONS, jnp.float32), 0.0)


# ---- the stationary law


class Setting(NamedTuple):
    """One run, and how its step departs from the right one; all traced: one compilation runs them all."""

    step_size: float
    temperature: float = 1.0
    sigma: float = 0.0
    extra_kick: float = 0.0
    sign: float = 1.0
    redrawn: float = 1.0
    always_accepted: float = 0.0


class Watched(NamedTuple):
    """A kernel's state; of its last step exp(-energy error / 2T) and the root of the kinetic temperature, whose
    squares `stationary` averages."""

    inner: object
    weight: jax.Array
    root: jax.Array

    @property
    def step(self):
        return self.inner.step

    @property
    def position(self):
        return self.inner.position


def gaussian(params, rng_key, batch):
    """N(0, 1 / precision); neither key nor batch is used, so the gradient is kept."""
    return -0.5 * jnp.sum(jnp.asarray(PRECISIONS, jnp.float32) * params["x"] ** 2)


def gaussian_of_batch(params, rng_key, batch):
    """The same, from the batch: the gradient is taken anew at every step."""
    return -0.5 * jnp.sum(batch[0] * params["x"] ** 2)


def watched(s, density):
    kernel = hmc(
        density,
        step_size=s.step_size,
        num_integration_steps=NUM_LEAPS,
        inverse_mass_matrix=INVERSE_MASS,
        temperature=s.temperature,
    )

    def step(rng_key, state, batch):
        inner, info = kernel.step(rng_key, state.inner, batch)
        return Watched(inner, jnp.exp(-info.energy_error / s.temperature / 2), jnp.sqrt(info.kinetic_temperature)), info

    return Kernel(lambda position, rng_key: Watched(kernel.init(position, rng_key), jnp.ones(()), jnp.ones(())), step)


SETTINGS = {"small step": Setting(0.4), "large step": Setting(1.1), "cold": Setting(0.8, 0.1)}


@pytest.mark.parametrize("density", [gaussian, pytest.param(gaussian_of_batch, marks=pytest.mark.slow)])
def test_the_target_is_exact_at_any_step_size(density):
    """Second moments are T / precision, the mean of exp(-energy error / T) is 1, and both temperatures are T.

    Within 4 standard errors. False alarms: 18 comparisons at 6.3e-5, 0.1 %, for each density. Power: the faults below.
    """
    runs = stationary(
        SETTINGS,
        lambda s: watched(s, density),
        lambda state, s: {
            "position": state.position["x"],
            "weight": state.weight[:, None],
            "kinetic": state.root[:, None],
        },
    )
    for name, s in SETTINGS.items():
        exact = {
            "position": s.temperature / PRECISIONS,
            "configurational": s.temperature,
            "kinetic": s.temperature,
            "weight": 1.0,
        }
        assert_within_four_standard_errors(runs[name], exact)


class PlantedState(NamedTuple):
    step: jax.Array
    position: dict
    momentum: jax.Array


def planted_hmc(f):
    """HMC written out from its equations, right if no field of `f` says otherwise."""

    def init(position, rng_key):
        return PlantedState(jnp.zeros((), jnp.int32), position, jnp.zeros(3))

    def step(rng_key, state, batch):
        momentum_key, accept_key = jax.random.split(rng_key)
        energy = lambda x, p: -gaussian({"x": x}, None, None) + 0.5 * jnp.sum(INVERSE_MASS * p**2)  # noqa: E731
        grad_u = jax.grad(lambda x: -gaussian({"x": x}, None, None))
        eps = f.step_size
        drawn = jnp.sqrt(f.temperature / INVERSE_MASS) * jax.random.normal(momentum_key, (3,))
        x, p = state.position["x"], jnp.where(f.redrawn, drawn, state.momentum)
        before = energy(x, p)
        p = p - eps / 2 * grad_u(x)
        for leap in range(NUM_LEAPS):
            x = x + eps * INVERSE_MASS * p
            last = (leap == NUM_LEAPS - 1) * (1 - f.extra_kick)
            p = p - eps * (1 - last / 2) * grad_u(x)
        p = p - f.extra_kick * eps / 2 * grad_u(x)
        probability = jnp.exp(f.sign * (before - energy(x, p)) / f.temperature)
        is_accepted = (jax.random.uniform(accept_key) < probability) | (f.always_accepted > 0)
        moved = jnp.where(is_accepted, x, state.position["x"])
        return PlantedState(state.step + 1, {"x": moved}, jnp.where(is_accepted, p, state.momentum)), jnp.zeros(())

    return Kernel(init, step)


FAULTS = {
    "none": Setting(1.1),
    "a full kick too many": Setting(1.1, extra_kick=1.0),
    "exp(H(new) - H(old))": Setting(1.1, sign=-1.0),
    "momentum not redrawn": Setting(1.1, redrawn=0.0),
    "always accepted": Setting(1.1, always_accepted=1.0),
}


@functools.cache
def run_faults():
    return stationary(FAULTS, planted_hmc, lambda state, s: {"position": state.position["x"]})


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught(name):
    """The check passes the equations written out, and refuses each fault in them."""
    exact = {"position": 1 / PRECISIONS}
    if name == "none":
        assert_within_four_standard_errors(run_faults()[name], exact)
    else:
        with pytest.raises(AssertionError, match="position"):
            assert_within_four_standard_errors(run_faults()[name], exact)


# ---- the rest of the interface


def one_step(density=gaussian, position=None, **arguments):
    kernel = hmc(density, **{"step_size": 0.3, "num_integration_steps": 5, **arguments})
    state = kernel.init({"x": jnp.array([1.0, -0.5, 0.3])} if position is None else position, jax.random.key(0))
    return state, *kernel.step(jax.random.key(1), state, BATCH)


def test_draws_scale_with_the_root_of_the_temperature():
    """On a Gaussian from 0 a step at T = 0.1 is sqrt(0.1) times that at T = 1, with the same probability."""
    zero = {"x": jnp.zeros(3)}
    (_, warm, warm_info), (_, cold, cold_info) = (one_step(position=zero, temperature=t) for t in (1.0, 0.1))
    np.testing.assert_allclose(cold.position["x"], np.sqrt(0.1) * warm.position["x"], rtol=1e-5)
    np.testing.assert_allclose(cold_info.acceptance_probability, warm_info.acceptance_probability, rtol=1e-5)
    assert tree.norm(warm.position) > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"step_size": 0}, "step_size must be positive.*0"),
        ({"num_integration_steps": 0}, "num_integration_steps must be at least 1.*0"),
        ({"temperature": 0.0}, "temperature must be positive.*0"),
        ({"inverse_mass_matrix": np.array([1.0, -1.0, 1.0])}, "inverse_mass_matrix must be positive.*-1"),
        ({"inverse_mass_matrix": np.ones(4)}, r"inverse_mass_matrix must be .* its 3 elements; got .*\(4,\)"),
        ({"inverse_mass_matrix": np.ones((3, 3))}, "inverse_mass_matrix must be positive"),
        ({"inverse_mass_matrix": np.eye(4)}, r"its 3 elements; got .*\(4, 4\)"),
        ({"inverse_mass_matrix": {"y": 1.0}}, "inverse_mass_matrix must be .* a tree like the position"),
        ({"inverse_mass_matrix": {"x": np.ones(2)}}, r"inverse_mass_matrix must be .*\(2,\)"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        one_step(**arguments)


@pytest.mark.parametrize(("precision", "step_size"), [(np.nan, 0.3), (1.0, 1e10)])
def test_a_divergent_step_stays(precision, step_size):
    """A density that is not a number, or an energy that explodes: reported, refused, and the state stays finite."""
    density = lambda params, key, batch: precision * gaussian(params, key, batch)  # noqa: E731
    state, moved, info = one_step(density, step_size=step_size)
    assert info.is_divergent and not info.is_accepted and info.acceptance_probability == 0
    np.testing.assert_array_equal(moved.position["x"], state.position["x"])
    assert not one_step()[2].is_divergent


def test_info_is_of_the_step():
    """The energy before it; the log density after it, at an accepted end whose aux is reported."""
    density = lambda params, key, batch: (gaussian(params, key, batch), {"x": params["x"]})  # noqa: E731
    _, moved, info = one_step(density)
    assert info.is_accepted
    np.testing.assert_array_equal(info.aux["x"], moved.position["x"])
    np.testing.assert_allclose(info.logdensity, gaussian(moved.position, None, None), rtol=1e-6)
    np.testing.assert_allclose(moved.gradient["x"], -PRECISIONS * moved.position["x"], rtol=1e-5)
    np.testing.assert_allclose(info.acceptance_probability, min(1, np.exp(-info.energy_error)), rtol=1e-5)
    np.testing.assert_allclose(
        info.configurational_temperature, np.mean(PRECISIONS * moved.position["x"] ** 2), rtol=1e-5
    )
    end = info.energy + info.energy_error + info.logdensity  # kinetic energy, of H = K - log p at an accepted end
    np.testing.assert_allclose(info.kinetic_temperature, 2 * end / len(PRECISIONS), rtol=1e-5)
    assert info.trajectory == ()


@pytest.mark.parametrize("full_batch", [True, False])
def test_terms_give_the_draws_of_their_sum(full_batch):
    """A density that returns its terms: the same positions, energies and acceptance, and the state's scalar the sum."""

    def terms(params, rng_key, batch):
        return -0.5 * batch[0] * params["x"] ** 2

    kernels_of = [
        hmc(density, step_size=0.9, num_integration_steps=3, full_batch=full_batch)
        for density in (terms, gaussian_of_batch)
    ]
    runs = []
    for kernel in kernels_of:
        state, infos, step = kernel.init({"x": jnp.ones(3)}, jax.random.key(0)), [], quick_jit(kernel.step)
        for i in range(4):
            state, info = step(jax.random.fold_in(jax.random.key(1), i), state, BATCH)
            infos.append(info)
        runs.append((state, infos))
    for found, expected in zip(jax.tree.leaves(runs[0]), jax.tree.leaves(runs[1]), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
