"""Tests of `full_batch` of HMC: the number of gradients a step costs, and gradients that are void in games."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_oracle import assert_within_four_standard_errors

from bayesjax import tree
from bayesjax.kernels import alternate, hmc, particles
from bayesjax.types import Given
from tests.kernels.test_hmc import BATCH, gaussian, gaussian_of_batch, quick_jit


class Counter:
    """A density that counts its evaluations."""

    def __init__(self, density):
        self.count, self.density = 0, density

    def __call__(self, params, rng_key, batch):
        jax.debug.callback(lambda: setattr(self, "count", self.count + 1))
        return self.density(params, rng_key, batch)

    def per_step(self, kernel, position, batch, num_steps=3):
        """Evaluations in each of the first steps."""
        state, step, counts = kernel.init(position, jax.random.key(0)), quick_jit(kernel.step), []
        for key in jax.random.split(jax.random.key(1), num_steps):
            self.count = 0
            state, _ = jax.block_until_ready(step(key, state, batch))
            jax.effects_barrier()
            counts.append(self.count)
        return counts


def with_key(params, rng_key, batch):
    return gaussian(params, rng_key, batch) + jax.random.normal(rng_key) * params["x"][0]


def with_aux_of_key(params, rng_key, batch):
    return gaussian(params, rng_key, batch), {"noise": jax.random.normal(rng_key)}


def with_split_keys(params, rng_key, batch):
    """Splits its key for examples that ignore it, one chunk after the other, as `log_posterior` does."""
    of_example = jax.checkpoint(lambda key: gaussian(params, key, batch))
    return jax.lax.map(of_example, jax.random.split(rng_key, 2), batch_size=1).mean()


@pytest.mark.parametrize("num_chains", [None, 4])
@pytest.mark.parametrize(
    ("density", "full_batch", "batch", "counts"),
    [
        (gaussian, None, None, [6, 5, 5]),
        (gaussian, None, BATCH, [6, 6, 6]),
        (gaussian, False, None, [6, 6, 6]),
        (with_aux_of_key, None, None, [6, 5, 5]),
        (with_split_keys, None, None, [6, 5, 5]),
        (with_key, None, None, [6, 6, 6]),
        (gaussian_of_batch, True, BATCH, [6, 5, 5]),
        (gaussian_of_batch, None, BATCH, [6, 6, 6]),
    ],
)
def test_a_step_costs_as_many_gradients_as_leaps(density, full_batch, batch, counts, num_chains):
    """L after the first step if the density stays the same, L + 1 if its key or batch may change; chains the same."""
    counter, position = Counter(density), {"x": jnp.ones(3)}
    kernel = hmc(counter, step_size=0.3, num_integration_steps=5, full_batch=full_batch)
    if num_chains:
        kernel, position = particles(kernel, num_chains), tree.stack([position] * num_chains)
    assert counter.per_step(kernel, position, batch) == counts


def test_a_random_density_cannot_be_promised_to_stay():
    kernel = hmc(with_key, step_size=0.3, num_integration_steps=2, full_batch=True)
    with pytest.raises(ValueError, match=r"full_batch promises one log density .* depends on its rng_key"):
        kernel.step(jax.random.key(0), kernel.init({"x": jnp.ones(3)}, jax.random.key(0)), BATCH)


def conditional(params, rng_key, given):
    """The conditional density of one of two correlated normals, given the other."""
    (other,) = given.others.values()
    return -0.5 * params**2 - 0.8 * params * other


def gibbs_moments(num_chains=500, num_sweeps=150, num_warmup=30):
    """Time means of a^2, b^2 and a b over chains of Metropolis-within-Gibbs."""
    player = hmc(conditional, step_size=1.0, num_integration_steps=2)
    kernel = particles(alternate(a=player, b=player), num_chains)
    state = kernel.init({"a": jnp.zeros(num_chains), "b": jnp.zeros(num_chains)}, jax.random.key(0))

    def sweep(state, key):
        state, _ = kernel.step(key, state, None)
        a, b = state.position["a"], state.position["b"]
        return state, {"a^2": a**2, "b^2": b**2, "a b": a * b}

    _, moments = quick_jit(lambda state, keys: jax.lax.scan(sweep, state, keys))(
        state, jax.random.split(jax.random.key(1), num_sweeps)
    )
    return {name: np.asarray(value[num_warmup:].mean(axis=0), np.float64) for name, value in moments.items()}


def test_players_that_move_make_the_gradient_void(monkeypatch):
    """Two players of a game sample their joint normal: covariances exact within 4 standard errors.

    False alarms: 3 comparisons at 6.3e-5. Power: with gradient and log density kept from the sweep before, though the
    other player has moved since, they are refused.
    """
    (variance, covariance), _ = np.linalg.inv([[1, 0.8], [0.8, 1]])
    exact = {"a^2": variance, "b^2": variance, "a b": covariance}
    assert_within_four_standard_errors(gibbs_moments(), exact)
    monkeypatch.setitem(hmc.__globals__, "density_is_fixed", lambda *arguments, **keywords: True)
    with pytest.raises(AssertionError, match="standard errors"):
        assert_within_four_standard_errors(gibbs_moments(), exact)


def test_a_player_cannot_be_promised_one_batch():
    kernel = hmc(conditional, step_size=1.0, num_integration_steps=2, full_batch=True)
    with pytest.raises(ValueError, match="full_batch promises one batch for all steps; got that of a game"):
        kernel.step(jax.random.key(0), kernel.init(jnp.zeros(()), jax.random.key(0)), Given(None, {"b": jnp.ones(())}))
