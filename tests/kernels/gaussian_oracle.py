"""The exact covariance of discretised Langevin dynamics on a Gaussian, and the comparison with samples.

On a Gaussian target a Langevin step is linear, x <- A x + B xi, and its stationary covariance C solves the discrete
Lyapunov equation C = A C A' + B B'. So there is no tolerance to choose: empirical moments must lie within 4 Monte Carlo
standard errors, taken from independent chains, of the exact value. The maps A and B are written here in float64 from
the equations of the sources, in terms of v = h (1 - alpha/2) p and the noise n, not from the kernels' code.
`test_stationary.py` holds the kernels to it, `test_planted_faults.py` shows what it catches.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from bayesjax.kernels import particles

PRECISIONS = np.array([0.5, 1.0, 4.0])
NUM_CHAINS = 400


class Setting(NamedTuple):
    """One run: step size eta, friction alpha, temperature T, gradient noise sd sigma, noise estimate beta."""

    eta: float
    alpha: float = 0.2
    temperature: float = 1.0
    sigma: float = 0.0
    beta: float = 0.0


def logdensity(params, rng_key, batch):
    """N(0, 1 / precision) on each coordinate, with additive N(0, sigma^2) noise in the gradient."""
    precision, sigma = batch
    noise = jax.random.normal(rng_key, params["x"].shape)
    return -0.5 * jnp.sum(precision * params["x"] ** 2) + sigma * jnp.sum(noise * params["x"])


# The oracle, in float64.


def unit_mass(eta, alpha):
    """p = factor * v: BAOAB's h is sqrt(2 eta / (2 - alpha)); v is the drift h (1 + c) / 2 of p / c, c = 1 - alpha."""
    h, c = np.sqrt(2 * eta / (2 - alpha)), 1 - alpha
    return c / (h * (1 + c) / 2)


def sghmc_map(precision, s, position_noise=0.5, momentum_noise=None):
    """(A, Q) of (theta, v) for one coordinate; the two noise shares are arguments so that a fault can change them.

    v+ = (1 - alpha) v - eta precision theta;  theta' = theta + v+ + n / 2;  v' = v+ + (1 - alpha/2)/(1 - alpha) n.
    """
    share = (1 - s.alpha / 2) / (1 - s.alpha) if momentum_noise is None else momentum_noise
    kick = np.array([-s.eta * precision, 1 - s.alpha])
    transition = np.array([[1 + kick[0], kick[1]], kick])
    noise = np.array([position_noise, share])
    gradient_noise = s.eta * np.ones(2)
    injected = 2 * max(s.alpha * s.temperature - s.beta, 0) * s.eta
    return transition, injected * np.outer(noise, noise) + s.sigma**2 * np.outer(gradient_noise, gradient_noise)


def sghmc_moments(s, **shares):
    """Exact stationary means of theta^2 and p^2 per coordinate, and of the configurational temperature."""
    covariances = [scipy.linalg.solve_discrete_lyapunov(*sghmc_map(precision, s, **shares)) for precision in PRECISIONS]
    position = np.array([c[0, 0] for c in covariances])
    momentum = np.array([c[1, 1] for c in covariances]) * unit_mass(s.eta, s.alpha) ** 2
    return {"position": position, "momentum": momentum, "configurational": np.mean(PRECISIONS * position)}


def sgld_moments(s):
    """theta' = (1 - eta precision) theta + sqrt(2 eta T) xi + eta sigma eps."""
    noise = 2 * s.eta * s.temperature + s.eta**2 * s.sigma**2
    transition = 1 - s.eta * PRECISIONS
    position = np.array([scipy.linalg.solve_discrete_lyapunov([[a]], [[noise]])[0, 0] for a in transition])
    return {"position": position, "configurational": np.mean(PRECISIONS * position)}


def stationary(settings, make_kernel, read, num_warmup=300, num_steps=1200):
    """Time means of the squares that `read(state, setting)` gives, for each setting, chain and coordinate.

    Settings are traced and vmapped: one compilation runs them all.
    """

    def one(s):
        kernel = particles(make_kernel(s), NUM_CHAINS)
        batch = (jnp.asarray(PRECISIONS, jnp.float32), s.sigma)
        init_key, start_key, run_key = jax.random.split(jax.random.key(0), 3)
        scale = jnp.sqrt(s.temperature / jnp.asarray(PRECISIONS, jnp.float32))
        start = {"x": scale * jax.random.normal(start_key, (NUM_CHAINS, len(PRECISIONS)))}

        def advance(carry, key):
            state, sums = carry
            state, _ = kernel.step(key, state, batch)
            keep = state.step[0] > num_warmup
            return (state, jax.tree.map(lambda a, x: a + jnp.where(keep, x**2, 0), sums, read(state, s))), None

        state = kernel.init(start, init_key)
        sums = jax.tree.map(jnp.zeros_like, read(state, s))
        (_, sums), _ = jax.lax.scan(advance, (state, sums), jax.random.split(run_key, num_warmup + num_steps))
        return jax.tree.map(lambda a: a / num_steps, sums)

    stacked = jax.tree.map(lambda *column: jnp.array(column, jnp.float32), *settings.values())
    means = jax.jit(jax.vmap(one))(stacked)
    return {
        name: {"configurational": (PRECISIONS * leaf["position"]).mean(axis=1), **leaf}
        for i, name in enumerate(settings)
        for leaf in [jax.tree.map(lambda x, i=i: np.asarray(x[i], np.float64), means)]
    }


def read_sghmc(state, s):
    """theta and the unit-mass momentum."""
    return {"position": state.position["x"], "momentum": state.momentum["x"]}


def assert_within_four_standard_errors(chain_means, exact):
    """Every mean over independent chains lies within 4 standard errors of its exact value."""
    for name, value in exact.items():
        estimate = chain_means[name].mean(axis=0)
        standard_error = chain_means[name].std(axis=0, ddof=1) / np.sqrt(len(chain_means[name]))
        z = (estimate - value) / standard_error
        assert np.isfinite(z).all(), f"{name}: {estimate} is not finite"
        assert (np.abs(z) < 4).all(), f"{name}: {estimate}, exact {value}, off by {z} standard errors"
