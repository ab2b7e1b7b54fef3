"""`training.run` warns about draws whose diagnostics show that they are not from the target, and only about those."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import evaluation, kernels, training
from bayesjax.training import diagnosis

KEY = jax.random.key(0)
DIM = 20


def normal(position, rng_key, batch):
    return -0.5 * jnp.sum(position**2)


def noisy(position, rng_key, batch):
    """A standard normal density whose gradient has noise of standard deviation 2, as minibatches have."""
    return normal(position, rng_key, batch) + 2 * jnp.sum(jax.random.normal(rng_key, (DIM,)) * position)


def two_modes(position, rng_key, batch):
    return jnp.logaddexp(-0.5 * jnp.sum((position - 9) ** 2), -0.5 * jnp.sum((position + 9) ** 2))


def neck(position, rng_key, batch):
    """A density with a curvature that step sizes of 0.5 cannot follow."""
    return -0.5 * position[0] ** 2 - 50 * jnp.sum((position[1:] * jnp.exp(position[0])) ** 2) + DIM * position[0]


def messages(kernel, start=None, num=None, num_steps=400, **options):
    """The warnings of a run of one chain, or of `num` chains."""
    start = jax.random.normal(KEY, (DIM,)) if start is None else start
    if num:
        kernel, start = kernels.particles(kernel, num), jnp.linspace(-1, 1, num)[:, None] * start
    state = kernel.init(start, KEY)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training.run(KEY, kernel, state, num_steps=num_steps, num_burnin=100, **options)
    assert all(each.category is training.SamplerWarning for each in caught)
    return [str(each.message) for each in caught]


SAMPLERS = {
    "sgld": functools.partial(kernels.sgld, step_size=0.1),
    "sghmc": functools.partial(kernels.sghmc, step_size=0.1),
    "sgnht": functools.partial(kernels.sgnht, step_size=0.1),
    "hmc": functools.partial(kernels.hmc, step_size=0.3, num_integration_steps=5),
    "nuts": functools.partial(kernels.nuts, step_size=0.3),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_no_warning_for_a_chain_at_equilibrium(name):
    assert messages(SAMPLERS[name](normal)) == []


def test_no_warning_for_chains_that_agree_or_for_an_optimiser():
    assert messages(SAMPLERS["hmc"](normal), num=4) == []
    assert messages(kernels.sghmc(normal, step_size=0.1, temperature=0.0)) == []


def test_minibatch_noise_heats_the_chain():
    """The noise of gradients, of variance V, adds eta V / (2 alpha) = 1 to T; SGNHT adapts to it, without a warning."""
    (message,) = messages(kernels.sghmc(noisy, step_size=0.05), label=None)
    assert (
        message.startswith(("the kinetic temperature is 1.9", "the kinetic temperature is 2"))
        and "but T = 1: step_size is too large" in message
    )
    assert "\n" not in message
    assert messages(kernels.sgnht(noisy, step_size=0.02), num_steps=2000) == []


def test_a_large_step_size_heats_sgld():
    (message,) = messages(kernels.sgld(normal, step_size=1.5))
    assert message.startswith("the configurational temperature is ") and "step_size is too large" in message


def test_a_chain_that_is_not_heated():
    """With a noise estimate that is too large, no noise is injected."""
    (message,) = messages(kernels.sghmc(normal, step_size=0.1, noise_estimate=1.0))
    assert "the kinetic temperature is" in message and "noise_estimate is too large" in message


def test_rejections_and_divergences():
    texts = messages(kernels.hmc(normal, step_size=1.99, num_integration_steps=20))
    assert texts[-1].startswith("the acceptance probability is ") and "reduce it, or use kernels.adapt" in texts[-1]
    texts = messages(kernels.nuts(neck, step_size=0.5), num_steps=300)
    assert "of the transitions diverged: reduce the step size" in texts[0]


def test_chains_in_different_modes():
    """Also through `particles`, with the coordinates named; the argument `warn` silences it."""
    (message,) = messages(
        kernels.hmc(two_modes, step_size=0.3, num_integration_steps=5), start=9 * jnp.ones(DIM), num=4
    )
    assert message.startswith("R-hat of a coordinate is ") and "over 4 chains: they have not converged" in message
    silent = messages(
        kernels.hmc(two_modes, step_size=0.3, num_integration_steps=5), start=9 * jnp.ones(DIM), num=4, warn=False
    )
    assert silent == []


def test_parts_and_players_are_named():
    """Infos within dictionaries and tuples have their paths; a label is put in front."""

    def density(position, rng_key, batch):
        return normal(position["a"], rng_key, batch) + noisy(position["b"], rng_key, batch)

    kernel = kernels.by_path(
        density,
        {"a": functools.partial(kernels.sghmc, step_size=0.1), "b": functools.partial(kernels.sghmc, step_size=0.05)},
    )
    (message,) = messages(kernel, start={"a": jnp.ones(DIM), "b": jnp.ones(DIM)}, label="chain")
    assert message.startswith("chain: parts.b: the kinetic temperature is ")


def test_few_draws_and_cold_steps_are_not_judged():
    """With draws of a cyclical sampler, the temperature is compared over the sampling steps alone."""
    assert messages(kernels.sghmc(noisy, step_size=0.05), num_steps=115) == []
    cycle = kernels.cyclical(0.1, num_steps=800, num_cycles=2, exploration_fraction=0.5)
    kernel = kernels.sghmc(normal, step_size=cycle.step_size, temperature=cycle.temperature, friction=0.5)
    assert messages(kernel, num_steps=800) == []


def test_r_hat_without_compilation():
    draws = np.random.default_rng(0).normal(size=(51, 3, 2)).cumsum(axis=0)
    expected = evaluation.split_r_hat(evaluation.chains_first(draws))
    np.testing.assert_allclose(diagnosis._split_r_hat(draws), expected, rtol=1e-6)
