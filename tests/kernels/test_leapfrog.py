"""Tests of the leapfrog integrator in float64: reversibility, volume, order, and agreement with BlackJAX."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from bayesjax import kernels, posteriors, tree
from bayesjax.kernels.leapfrog import Point, energy_change, leapfrog
from bayesjax.kernels.mass import mass
from tests.kernels.test_hmc import gaussian, one_step

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
INVERSE_MASS = {"x": np.array([2.0, 1.0, 0.5]), "b": 0.7}


def logdensity(position):
    """Neither quadratic nor separable."""
    x, b = position["x"], position["b"]
    return -jnp.sum(jnp.log(jnp.cosh(x - 0.3))) - 0.25 * jnp.sum(x**4) - jnp.tanh(b * x[0]) - b**2


gradient = jax.grad(logdensity)


def start():
    position = {"x": jnp.array([0.7, -1.3, 0.2]), "b": jnp.array(0.4)}
    return position, {"x": jnp.array([0.5, 1.1, -0.9]), "b": jnp.array(-0.2)}


def drift(position, momentum, size):
    return jax.tree.map(lambda x, m, p: x + size * m * p, position, INVERSE_MASS, momentum)


def kick(position, momentum, size):
    return jax.tree.map(lambda p, g: p + size * g, momentum, gradient(position))


def ours(position, momentum, step_size, num_steps):
    """The kernel's trajectory: the position and momentum where it ends."""

    def density(position):
        return logdensity(position), {}, gradient(position)

    velocity = mass(INVERSE_MASS, position).velocity
    end = leapfrog(density, Point(position, momentum, *density(position)), step_size, velocity, num_steps)
    return end.position, end.momentum


def a_kick_too_many(position, momentum, step_size, num_steps):
    """The listing that takes half kicks at both ends and `num_steps` whole ones."""
    position, momentum = ours(position, momentum, step_size, num_steps)
    return position, kick(position, momentum, step_size / 2)


def stepwise(step):
    """A trajectory of steps `(position, momentum, step_size) -> (position, momentum)`."""
    return lambda position, momentum, step_size, num_steps: jax.lax.fori_loop(
        0, num_steps, lambda _, point: step(*point, step_size), (position, momentum)
    )


@stepwise
def symplectic_euler(position, momentum, step_size):
    """First order: whole kicks only."""
    momentum = kick(position, momentum, step_size)
    return drift(position, momentum, step_size), momentum


@stepwise
def explicit_euler(position, momentum, step_size):
    """Both from the old ones."""
    return drift(position, momentum, step_size), kick(position, momentum, step_size)


@stepwise
def mass_in_the_kick(position, momentum, step_size):
    """Leapfrog whose kicks are eps M^-1 grad U: of the right target after the decision, and of ever less use."""

    def wrong_kick(position, momentum):
        change = jax.tree.map(jnp.subtract, kick(position, momentum, step_size / 2), momentum)
        return jax.tree.map(lambda p, m, d: p + m * d, momentum, INVERSE_MASS, change)

    momentum = wrong_kick(position, momentum)
    position = drift(position, momentum, step_size)
    return position, wrong_kick(position, momentum)


def there_and_back(trajectory):
    """Distance from the start after a trajectory, a turn of the momentum, the same trajectory and a turn."""
    there = quick_jit(functools.partial(trajectory, step_size=0.1, num_steps=20))
    flip = functools.partial(jax.tree.map, jnp.negative)
    position, momentum = there(*start())
    position, momentum = there(position, flip(momentum))
    return tree.norm(jax.tree.map(jnp.subtract, (position, flip(momentum)), start()))


def log_volume(trajectory):
    """log |det| of the trajectory's Jacobian in phase space."""
    flat, unravel = ravel_pytree(start())
    jacobian = jax.jacfwd(lambda z: ravel_pytree(trajectory(*unravel(z), step_size=0.1, num_steps=5))[0])
    return jnp.abs(jnp.linalg.slogdet(quick_jit(jacobian)(flat))[1])


def energy_errors(trajectory):
    """The changes of H over one length of trajectory, in 64 steps and in 128."""

    def energy(position, momentum):
        return tree.dot(jax.tree.map(jnp.multiply, INVERSE_MASS, momentum), momentum) / 2 - logdensity(position)

    @quick_jit
    def error(step_size, num_steps):
        return energy(*trajectory(*start(), step_size, num_steps)) - energy(*start())

    return [error(0.8 / n, n) for n in (64, 128)]


def test_a_trajectory_is_reversible():
    """Back to the start within 1e-12. Power: the wrong trajectories are over 1e-3 off."""
    with jax.enable_x64(True):
        assert there_and_back(ours) < 1e-12
        for wrong in (a_kick_too_many, symplectic_euler, explicit_euler):
            assert there_and_back(wrong) > 1e-3


def test_a_trajectory_keeps_volume():
    """|det| = 1 within 1e-12. Power: explicit Euler's is over 1e-3 off."""
    with jax.enable_x64(True):
        assert log_volume(ours) < 1e-12
        assert log_volume(explicit_euler) > 1e-3


@pytest.mark.parametrize(("trajectory", "ratio"), [(ours, 4), (symplectic_euler, 2), (mass_in_the_kick, 1)])
def test_the_energy_error_is_of_second_order(trajectory, ratio):
    """Half the step, twice the steps: a quarter of the error, within 5 %.

    Power: of symplectic Euler's a half is left, and with M^-1 in the kicks all.
    """
    with jax.enable_x64(True):
        coarse, fine = energy_errors(trajectory)
        assert coarse / fine == pytest.approx(ratio, rel=0.05)


def test_the_trajectory_is_that_of_blackjax():
    """Ends where BlackJAX's velocity Verlet ends, with its diagonal in `ravel_pytree`'s order, to 1e-12."""
    from blackjax.mcmc import integrators, metrics

    with jax.enable_x64(True):
        diagonal = ravel_pytree(jax.tree.map(jnp.asarray, INVERSE_MASS))[0]
        verlet = integrators.velocity_verlet(logdensity, metrics.gaussian_euclidean(diagonal).kinetic_energy)
        state = integrators.new_integrator_state(logdensity, *start())
        state = jax.lax.fori_loop(0, 7, lambda _, state: verlet(state, 0.1), state)
        for found, expected in zip(ours(*start(), 0.1, 7), state[:2], strict=True):
            assert tree.norm(jax.tree.map(jnp.subtract, found, expected)) < 1e-12


def test_every_point_of_a_trajectory():
    """`kernels.trajectory` ends where `leapfrog` does, starts at the start, and its H stays within 1 %."""
    points = kernels.trajectory(
        logdensity, *start(), step_size=0.1, num_integration_steps=7, inverse_mass_matrix=INVERSE_MASS
    )
    last = jax.tree.map(lambda leaf: leaf[-1], points)
    for found, expected in zip(last[:2], ours(*start(), 0.1, 7), strict=True):
        assert tree.norm(jax.tree.map(jnp.subtract, found, expected)) < 1e-5
    np.testing.assert_array_equal(points.position["x"][0], start()[0]["x"])
    kinetic = jax.vmap(lambda p: tree.dot(jax.tree.map(jnp.multiply, INVERSE_MASS, p), p) / 2)(points.momentum)
    energy = kinetic - points.logdensity
    assert energy.shape == (8,) and jnp.ptp(energy) < 0.01 * jnp.abs(energy[0]) < jnp.ptp(kinetic)
    with pytest.raises(ValueError, match="num_integration_steps must be at least 1; got 0"):
        kernels.trajectory(logdensity, *start(), step_size=0.1, num_integration_steps=0)


@pytest.mark.parametrize("step_size", [0.3, 1e4])
def test_the_trajectory_is_that_of_the_step(step_size):
    """On request, L + 1 points: from the position to the end that is accepted, or refused; the step is the same."""
    state, moved, info = one_step(step_size=step_size, keep_trajectory=True)
    _, expected, plain = one_step(step_size=step_size)
    points = info.trajectory
    assert points.position["x"].shape == points.momentum["x"].shape == (6, 3)
    assert info.is_accepted == plain.is_accepted == (step_size < 1)
    np.testing.assert_allclose(moved.position["x"], expected.position["x"], rtol=1e-5)
    np.testing.assert_array_equal(points.position["x"][0], state.position["x"])
    np.testing.assert_array_equal(points.position["x"][-1] == moved.position["x"], info.is_accepted)
    energies = 0.5 * jnp.sum(points.momentum["x"] ** 2, axis=1) - points.logdensity
    np.testing.assert_allclose(energies[0], info.energy, rtol=1e-5)
    np.testing.assert_allclose(energies[-1] - energies[0], info.energy_error, rtol=1e-4, atol=1e-5)
    kept = points.momentum["x"][-1 if info.is_accepted else 0]
    np.testing.assert_allclose(info.kinetic_temperature, jnp.mean(kept**2), rtol=1e-5)
    with pytest.raises(ValueError, match="must be a Python int if keep_trajectory is true; got Array"):
        kernels.hmc(gaussian, step_size=0.1, num_integration_steps=jnp.array(3), keep_trajectory=True)


@pytest.mark.parametrize("as_terms", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        functools.partial(kernels.hmc, num_integration_steps=3),
        functools.partial(kernels.nuts, max_num_doublings=2),
    ],
    ids=["hmc", "nuts"],
)
def test_a_step_s_energy_error_survives_float32(make, as_terms):
    """60 000 labels and a step so short that the energy error is below 1e-5 and every acceptance 1. With the terms of
    the log density 1e-3 are missing at most, by the rounding of terms; with their sum, of 4e4, by the rounding of it
    more."""
    x = np.random.default_rng(0).normal(size=(60_000, 3)).astype(np.float32)
    batch = jnp.asarray(x), jnp.asarray(x[:, 0] > 0, jnp.float32)

    def log_likelihood(params, rng_key, row):
        logit = row[0] @ params
        return row[1] * logit - jnp.logaddexp(0.0, logit)

    density = posteriors.log_posterior(log_likelihood, posteriors.gaussian(), len(x), as_terms=as_terms)
    kernel = make(density, step_size=1e-5, full_batch=True)
    state, missing = kernel.init(jnp.array([0.3, -0.2, 0.1]), jax.random.key(0)), []
    step = jax.jit(kernel.step)
    for i in range(8):
        state, info = step(jax.random.fold_in(jax.random.key(1), i), state, batch)
        missing.append(1 - float(info.acceptance_probability))
    assert (max(missing) < 1e-3) == as_terms, missing


def test_the_energy_change_survives_float32():
    """With 60 000 terms of size 3 and 40 000 momenta, H is 1e5 and its change is known to 1e-4; of sums, to 1e-2.

    The change of either kind is compared with that in float64.
    """
    rng = np.random.default_rng(0)
    terms, momentum = rng.normal(-3, 1, size=60_000), rng.normal(size=40_000)
    changes = 1e-3 * rng.normal(size=60_000), 1e-3 * rng.normal(size=40_000)

    def point(terms, momentum, dtype):
        return Point({}, {"p": jnp.asarray(momentum, dtype)}, jnp.asarray(terms, dtype), {}, {})

    ends = [(terms, momentum), (terms + changes[0], momentum + changes[1])]
    single = [point(*end, jnp.float32) for end in ends]
    exact = np.sum(np.square(np.float32(ends[1][1]), dtype=float) - np.square(np.float32(momentum), dtype=float)) / 2
    exact -= np.sum(np.float32(ends[1][0]).astype(float) - np.float32(terms).astype(float))
    found = energy_change(*single, lambda momentum: momentum)
    of_sums = [jnp.sum(jnp.square(end.momentum["p"])) / 2 - jnp.sum(end.logdensity) for end in single]
    assert abs(found - exact) < 1e-4
    assert abs(of_sums[1] - of_sums[0] - exact) > 1e-3
