"""A Metropolis-adjusted Langevin sampler of your own, interrupted and then resumed from its checkpoint, bit for bit."""

import contextlib
import tempfile
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import kernels, training


class MALAState(NamedTuple):
    position: jax.Array


class MALAInfo(NamedTuple):
    acceptance_probability: jax.Array


def mala(log_density, step_size):
    def log_proposal(end, start, gradient):  # log q(end | start), up to a constant
        return -jnp.sum((end - start - step_size * gradient) ** 2) / (4 * step_size)

    def step(rng_key, state, batch):
        density_key, noise_key, accept_key = jax.random.split(rng_key, 3)
        evaluate = jax.value_and_grad(lambda x: log_density(x, density_key, batch))
        x, (value, gradient) = state.position, evaluate(state.position)
        new = x + step_size * gradient + jnp.sqrt(2 * step_size) * jax.random.normal(noise_key, x.shape)
        new_value, new_gradient = evaluate(new)
        log_ratio = new_value - value + log_proposal(x, new, new_gradient) - log_proposal(new, x, gradient)
        is_accepted = jnp.log(jax.random.uniform(accept_key)) < log_ratio
        return MALAState(jnp.where(is_accepted, new, x)), MALAInfo(jnp.exp(jnp.minimum(0.0, log_ratio)))

    return kernels.Kernel(lambda position, rng_key: MALAState(position), step)


def run(folder, callback=None):
    chains = kernels.particles(mala(lambda x, rng_key, batch: -0.5 * jnp.sum(x**2), step_size=0.5), 50)
    start = chains.init(jnp.zeros((50, 2)), jax.random.key(0))
    options = {"num_steps": 1000, "checkpointer": training.Checkpointer(folder), "callback": callback}
    return training.run(jax.random.key(1), chains, start, **options)


def interrupt(step, state):  # as if you had pressed Ctrl-C
    if step > 500:
        raise KeyboardInterrupt


folder = tempfile.mkdtemp()
with contextlib.suppress(KeyboardInterrupt):
    run(folder, interrupt)
_, resumed = run(folder)
_, unbroken = run(tempfile.mkdtemp())
print("steps after the interruption:", resumed.steps, "variance:", resumed.draws.var())
assert resumed.steps == 500 and np.array_equal(resumed.draws, unbroken.draws) and abs(resumed.draws.var() - 1) < 0.1
