"""Modules of Flax NNX and Equinox, sampled by SGHMC: `adapters.split` makes them pure functions of their parameters."""

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx

from bayesjax import adapters, data, evaluation, kernels, posteriors, training

NUM_DATA, NOISE = 200, 0.1
x = jnp.linspace(-1, 1, NUM_DATA)[:, None]
y = jnp.sin(3 * x[:, 0]) + NOISE * jax.random.normal(jax.random.key(0), (NUM_DATA,))


class Regression(nnx.Module):
    def __init__(self, rngs):
        self.body, self.head = nnx.Linear(1, 32, rngs=rngs), nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(jnp.tanh(self.body(x)))[..., 0]


def sample(apply, params):
    """Posterior draws of the parameters; `apply` computes one example."""

    def log_likelihood(params, rng_key, example):
        return -0.5 * jnp.square((example["y"] - apply(params, example["x"])) / NOISE)

    log_posterior = posteriors.log_posterior(log_likelihood, posteriors.gaussian(1.0), NUM_DATA)
    kernel = kernels.sghmc(log_posterior, step_size=1e-6, friction=0.05)
    batches = data.Minibatches(jax.random.key(1), {"x": x, "y": y}, batch_size=50)
    state = kernel.init(params, jax.random.key(2))
    _, trace = training.run(jax.random.key(3), kernel, state, batches, num_steps=4000, num_burnin=2000, thinning=50)
    return trace.draws


modules = {
    "Flax NNX": Regression(nnx.Rngs(0)),
    "Equinox": eqx.nn.MLP(1, "scalar", width_size=32, depth=1, activation=jnp.tanh, key=jax.random.key(0)),
}
for name, module in modules.items():
    apply, params = adapters.split(module)
    draws = sample(apply, params)
    mean = evaluation.predict_mean(jax.vmap(apply, in_axes=(None, 0)), draws, x)
    error = jnp.sqrt(jnp.mean((mean - jnp.sin(3 * x[:, 0])) ** 2))
    print(f"{name}: root mean squared error of the posterior mean {error:.3f}")
    assert error < 0.08
