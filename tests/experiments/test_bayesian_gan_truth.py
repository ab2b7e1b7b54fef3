"""The laws of the schemes on the quadratic game, the compatibility of the conditionals, and a small comparison."""

import functools
import itertools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from bayesjax import kernels
from bayesjax.types import Given
from experiments import bayesian_gan_truth as truth
from experiments.bayesian_gan_truth import PLAYERS, Config, Scheme
from experiments.harness import report

pytestmark = pytest.mark.usefixtures("compile_once")
C = 0.6


def test_many_inner_steps_have_the_law_of_gibbs_sampling():
    """v_d = (1 + s^2) / (1 - s^2 t^2); the covariance is -t v_d after g has moved, and -s v_g after d has moved."""
    for s, t in ((C, C), (C, -C), (0.3, 0.8)):
        variances = np.array([1 + s**2, 1 + t**2]) / (1 - s**2 * t**2)
        for first, covariance in (("discriminator", -t * variances[0]), ("generator", -s * variances[1])):
            exact = truth.quadratic_covariance(Scheme("sghmc", 200, 0.2, 2.0, first), (s, t))
            np.testing.assert_allclose(np.diag(exact), variances, rtol=1e-9)
            assert exact[0, 1] == pytest.approx(covariance)


@pytest.mark.parametrize("friction_rate", [1.0, 2.0, 8.0])
def test_one_step_has_the_law_of_the_joint_diffusion(friction_rate):
    """Compatible: the joint density at any friction. Zero-sum: variance 1 / (1 - s^2 / friction^2), no correlation.

    The second follows from the moment equations of d + i g, whose force is -(1 - i s) (d + i g). Neither is the law of
    Gibbs sampling, whose variance is 1 / (1 - s^2) and whose covariance is 0.94 in absolute value.
    """
    scheme = Scheme("sghmc", 1, 1e-3, friction_rate)
    joint = np.linalg.inv([[1, C], [C, 1]])
    np.testing.assert_allclose(truth.quadratic_covariance(scheme, (C, C)), joint, atol=5e-3)
    zero_sum = np.eye(2) / (1 - C**2 / friction_rate**2)
    np.testing.assert_allclose(truth.quadratic_covariance(scheme, (C, -C)), zero_sum, atol=5e-3)


SCHEMES = {
    "one step": Scheme("sghmc", 1, 0.4, 1.5),
    "three steps": Scheme("sghmc", 3, 0.4, 1.5),
    "generator first": Scheme("sghmc", 3, 0.4, 1.5, "generator"),
    "other friction": Scheme("sghmc", 1, 0.4, 3.0),
}
NUM_CHAINS, NUM_WARMUP, NUM_SWEEPS = 1000, 60, 200


@functools.cache
def measured(name):
    """The moments [d^2, g^2, d g] of each chain of a scheme on both quadratic games, `[2, NUM_CHAINS, 3]`."""

    def density(own, other, params, rng_key, given):
        return -0.5 * params**2 - given.data[own] * params * given.others[other][0]

    densities = {own: functools.partial(density, own, other) for own, other in (PLAYERS, PLAYERS[::-1])}
    num = 2 * NUM_CHAINS
    kernel = kernels.particles(truth.sweep(SCHEMES[name], densities), num, batch_axis=0)
    signs = jnp.repeat(jnp.array([C, -C]), NUM_CHAINS)
    batch = {"discriminator": jnp.full(num, C), "generator": signs}

    def step(state, rng_key):
        state, _ = kernel.step(rng_key, state, batch)
        d, g = (state.position[player][:, 0] for player in PLAYERS)
        return state, jnp.stack([d**2, g**2, d * g], axis=-1)

    state = kernel.init(dict.fromkeys(PLAYERS, jnp.zeros((num, 1))), jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), NUM_WARMUP + NUM_SWEEPS)
    _, moments = jax.jit(lambda state: jax.lax.scan(step, state, keys))(state)
    return np.asarray(moments[NUM_WARMUP:].mean(axis=0), float).reshape(2, NUM_CHAINS, 3)


def deviations(moments, scheme):
    """Differences of the measured from the exact moments of both games in standard errors, `[6]`."""
    exact = [truth.quadratic_covariance(scheme, (C, t)) for t in (C, -C)]
    expected = np.array([[c[0, 0], c[1, 1], c[0, 1]] for c in exact])
    return ((moments.mean(axis=1) - expected) / (moments.std(axis=1) / np.sqrt(NUM_CHAINS))).ravel()


@pytest.mark.parametrize("name", ["one step", "three steps", "generator first"])
def test_the_kernels_have_the_exact_law(name):
    """All 6 moments within 4.5 standard errors (false alarms: 4e-5); the laws of all other schemes are 10 away."""
    assert np.abs(deviations(measured(name), SCHEMES[name])).max() < 4.5
    for other in set(SCHEMES) - {name}:
        assert np.abs(deviations(measured(name), SCHEMES[other])).max() > 10, other


def test_only_the_cooperative_game_is_compatible():
    """The mixed second derivatives of both conditionals are equal; in the zero-sum game they are opposite."""
    densities = truth.conditionals()
    params = truth.NETWORK.init(jax.random.key(0), truth.NOISE)["params"]
    flat, unravel = ravel_pytree(params)
    d, g = jax.random.normal(jax.random.key(1), (2, len(flat)))

    @jax.jit
    def mixed(weights):
        batch = truth.Batch(jnp.asarray(truth.REAL), *weights)

        def value(player, d, g):
            others = dict(zip(PLAYERS, (unravel(d), unravel(g)), strict=True))
            stacked = {name: jax.tree.map(lambda leaf: leaf[None], each) for name, each in others.items()}
            return densities[player](others[player], jax.random.key(0), Given(batch, stacked))[0]

        return [jax.jacfwd(jax.grad(functools.partial(value, player), 0), 1)(d, g) for player in PLAYERS]

    of_game = {game: mixed(jnp.array(weights)) for game, weights in truth.GAMES.items()}
    for own, other in (of_game["cooperative"], [of_game["zero_sum"][0], -of_game["zero_sum"][1]]):
        np.testing.assert_allclose(own, other, atol=1e-5)
        assert np.abs(own).max() > 0.1
    own, other = of_game["non_saturating"]
    assert np.abs(own - other).max() > 0.1 and np.abs(own + other).max() > 0.01


def test_rows_and_figure_of_made_up_draws(tmp_path):
    """The TV of equal laws stays near the floor, that of a scheme with another law is far above; a figure is drawn."""
    config = Config(num_chains=8, num_draws=400, num_inner_steps=(3,), friction_rates=(2.0, 4.0))
    rng, results = np.random.default_rng(0), {}
    every = list(itertools.chain(*truth.schemes(config).values()))
    for scheme in every:
        num = config.num_chains * (2 if scheme == every[0] else 1)
        draws = rng.normal(1.0 if scheme.inner == 1 else 0.0, 1, (num, config.num_draws, 5))
        results[scheme] = {game: {"draws": draws, "temperature": np.ones(num)} for game in truth.GAMES}
    assert len(results) == len(every) == 8
    rows = truth.quadratic_rows(config)
    for (scheme, values), game in itertools.product(results.items(), truth.GAMES):
        rows += truth.game_rows(config, game, scheme, values[game], results[every[0]][game]["draws"])
    joint = {
        Scheme._make(each.get(name) for name in Scheme._fields): each
        for each in rows
        if each["measure"] == "TV, joint" and each["game"] == "zero_sum"
    }
    for scheme, each in joint.items():
        assert (each["value"] > 0.5) == (scheme.inner == 1), scheme
        assert scheme.inner == 1 or each["value"] < 1.3 * each["upper_floor"] < 0.2
    run: Any = types.SimpleNamespace(config=config, figure=lambda name: tmp_path / name)
    truth.draw_figure(run, rows, results)
    assert (tmp_path / "laws.png").stat().st_size > 10_000
    assert all(report.pivot(table, [(row, {}) for row in rows]) for table in truth.TABLES)
