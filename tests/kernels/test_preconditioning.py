"""Tests of preconditioners: exact laws with a fixed one, agreement with RMSprop, and invalid arguments."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.linalg
from gaussian_oracle import (
    PRECISIONS,
    Setting,
    assert_within_four_standard_errors,
    logdensity,
    sghmc_map,
    stationary,
)

from bayesjax import kernels, tree
from tests.kernels.test_sampler_properties import BATCH, START, descend, equal, quartic, sample

DIAGONAL = np.array([2.0, 0.7, 0.2])
"""G of the three coordinates; their step sizes are eta times it."""
SETTINGS = {"small step": Setting(0.05, 0.1), "large step": Setting(0.5, 0.3), "cold": Setting(0.2, 0.2, 0.1)}


def sgld_variance(s):
    """T / precision / (1 - eta G precision / 2)."""
    return s.temperature / PRECISIONS / (1 - s.eta * DIAGONAL * PRECISIONS / 2)


def sghmc_variance(s):
    """The variance of SGHMC with a separate step size for each coordinate."""
    maps = [sghmc_map(precision, s._replace(eta=s.eta * g)) for precision, g in zip(PRECISIONS, DIAGONAL, strict=True)]
    return np.array([scipy.linalg.solve_discrete_lyapunov(*each)[0, 0] for each in maps])


@pytest.mark.parametrize(("method", "variance"), [(kernels.sgld, sgld_variance), (kernels.sghmc, sghmc_variance)])
def test_the_law_is_exact(method, variance):
    """Variances within 4 standard errors of the discretisation's own, with a step size for each coordinate.

    False alarms: 12 comparisons at 6.3e-5 for each method. Power: the first coordinates are over 4 standard errors off
    if G moves the mean but not the noise.
    """

    def make(s):
        arguments = {"friction": s.alpha} if method is kernels.sghmc else {}
        fixed = kernels.fixed_preconditioner({"x": jnp.asarray(DIAGONAL, jnp.float32)})
        return method(logdensity, step_size=s.eta, temperature=s.temperature, preconditioner=fixed, **arguments)

    runs = stationary(SETTINGS, make, lambda state, s: {"position": state.position["x"]})
    for name, s in SETTINGS.items():
        assert_within_four_standard_errors(runs[name], {"position": variance(s)})
        noise_alone = s.temperature / PRECISIONS * DIAGONAL**-1
        with pytest.raises(AssertionError, match="standard errors"):
            assert_within_four_standard_errors(runs[name], {"position": noise_alone})


def test_rmsprop_at_zero_temperature_is_that_of_optax():
    """The trajectory of `optax.rmsprop` within 1e-5; with another decay it is over 1e-2 away.

    Of num_data 1, where the loss is minus the log density.
    """

    def trajectory(decay):
        rms = kernels.rmsprop_preconditioner(1, num_adaptation=100, decay=decay, epsilon=1e-3)
        return sample(kernels.sgld(quartic, step_size=0.01, temperature=0.0, preconditioner=rms), jax.jit)

    expected = descend(optax.rmsprop(0.01, decay=0.9, eps=1e-3, eps_in_sqrt=False), jax.jit)

    def distance(a):
        return tree.norm(jax.tree.map(jnp.subtract, a, expected)) / tree.norm(expected)

    assert distance(trajectory(0.9)) < 1e-5
    assert distance(trajectory(0.5)) > 1e-2


def test_the_number_of_data_is_only_a_scale():
    """A log density 1000 times as steep, with 1000 data and a thousandth of the step size, has the same descent."""

    def thousandfold(params, rng_key, batch):
        return 1000 * quartic(params, rng_key, batch)

    def trajectory(density, num_data):
        rms = kernels.rmsprop_preconditioner(num_data, num_adaptation=100)
        kernel = kernels.sgld(density, step_size=0.01 / num_data, temperature=0.0, preconditioner=rms)
        return sample(kernel, jax.jit)

    a, b = trajectory(quartic, 1), trajectory(thousandfold, 1000)
    assert tree.norm(jax.tree.map(jnp.subtract, a, b)) < 1e-4 * tree.norm(a)


def test_adaptation_ends():
    """After `num_adaptation` steps G stays as it is, and before it moves."""
    rms = kernels.rmsprop_preconditioner(1, num_adaptation=3)
    kernel = kernels.sghmc(quartic, step_size=0.01, preconditioner=rms)
    state, step, squares = kernel.init(START, jax.random.key(0)), jax.jit(kernel.step), []
    for i in range(5):
        state, _ = step(jax.random.fold_in(jax.random.key(1), i), state, BATCH)
        squares.append(state.preconditioner.mean_square)
    assert not equal(squares[1], squares[2])
    assert equal(squares[2], squares[4])


class Adapting(NamedTuple):
    """One run: step size, temperature, and the number of steps in which G moves."""

    eta: float
    temperature: float
    num_adaptation: float
    sigma: float = 0.0  # of the gradient's noise, for the oracle


def test_a_moving_preconditioner_samples_another_law_and_an_ended_one_does_not(compile_fully):
    """E theta^2 of N(0, 1) is 1.35 while G moves, as `preconditioning.py` says, where 1 is right.

    After the end of the adaptation the variances are those of a constant G, each chain's own: (T / precision) /
    (1 - eta G precision / 2), within 4 standard errors. False alarms: 6 comparisons at 6.3e-5.
    """
    settings = {
        "moving": Adapting(0.01, 1.0, 1e6),
        "ended": Adapting(0.01, 1.0, 1500),
        "ended, large step": Adapting(0.3, 0.5, 1500),
    }

    def make(s):
        rms = kernels.rmsprop_preconditioner(1, num_adaptation=s.num_adaptation.astype(int), epsilon=1e-3)
        return kernels.sgld(logdensity, step_size=s.eta, temperature=s.temperature, preconditioner=rms)

    def read(state, s):
        g = 1 / (1e-3 + jnp.sqrt(state.preconditioner.mean_square["x"]))
        shrunk = 1 - s.eta * g * jnp.asarray(PRECISIONS, jnp.float32) / 2
        return {"position": state.position["x"], "shrunk": jnp.sqrt(shrunk) * state.position["x"]}

    runs = stationary(settings, make, read, 2500, 2500)
    assert runs["moving"]["position"][:, 1].mean() == pytest.approx(1.35, abs=0.1)
    for name in ("ended", "ended, large step"):
        exact = settings[name].temperature / PRECISIONS
        assert_within_four_standard_errors({"position": runs[name]["shrunk"]}, {"position": exact})


def test_a_momentum_keeps_its_energy_when_the_preconditioner_moves():
    """Without a gradient or friction to speak of, the kinetic temperature stays while G changes a thousandfold."""
    grows = kernels.Preconditioner(
        init=lambda position: jnp.float32(1.0), update=lambda state, gradient: 10 * state, diagonal=lambda state: state
    )
    flat = lambda params, rng_key, batch: jnp.sum(0 * params["x"])  # noqa: E731
    kernel = kernels.sghmc(flat, step_size=1e-3, friction=1e-6, preconditioner=grows)
    state, found = kernel.init({"x": jnp.zeros(1000)}, jax.random.key(0)), []
    for i in range(3):
        state, info = jax.jit(kernel.step)(jax.random.fold_in(jax.random.key(1), i), state, None)
        found.append(float(info.kinetic_temperature))
    np.testing.assert_allclose(found, found[0], rtol=1e-2)
    assert found[0] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("diagonal", [{"y": 1.0}, {"x": np.ones(4)}, np.ones(3)])
def test_a_wrong_diagonal_is_refused(diagonal):
    """Neither a number nor a tree like the position."""
    kernel = kernels.sgld(logdensity, step_size=0.1, preconditioner=kernels.fixed_preconditioner(diagonal))
    state = kernel.init({"x": jnp.zeros(3)}, jax.random.key(0))
    with pytest.raises(ValueError, match="a number or a tree like the position"):
        kernel.step(jax.random.key(1), state, (jnp.ones(3), 0.0))
