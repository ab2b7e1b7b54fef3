"""Eight random seeds as one program: eight networks with their own initial weights and minibatches, trained together.

The test errors have a mean and a standard error over the seeds.
"""

import jax
import jax.numpy as jnp
import optax

from bayesjax import data, evaluation, kernels, models, objectives, training

NUM_SEEDS = 8
digits, network = data.load("digits"), models.MLP((50, 10))


def apply(params, x):
    return network.apply({"params": params}, x.reshape(*x.shape[:-3], -1))


def negative_log_likelihood(params, rng_key, example):
    return -jax.nn.log_softmax(apply(params, example["x"]))[example["y"]]


kernel = kernels.optimize(objectives.batch_mean(negative_log_likelihood), optax.adam(3e-3))
seeds = kernels.particles(kernel, NUM_SEEDS, batch_axis=0)
arrays = {"x": digits.train.inputs, "y": digits.train.labels}
batches = data.independent_minibatches(jax.random.key(0), arrays, batch_size=64, num_chains=NUM_SEEDS)
init_keys = jax.random.split(jax.random.key(1), NUM_SEEDS)
params = jax.vmap(lambda key: network.init(key, jnp.zeros(64))["params"])(init_keys)
state = seeds.init(params, jax.random.key(2))
state, trace = training.run(jax.random.key(3), seeds, state, batches, num_steps=600, keep=lambda state: ())

logits = evaluation.predict(apply, state.position, digits.test.inputs)  # [seeds, images, classes]
errors = [evaluation.error_rate(jax.nn.softmax(each), digits.test.labels).value for each in logits]
estimate = evaluation.mean_estimate(errors)
print(f"test error over {NUM_SEEDS} seeds: {100 * estimate.value:.2f} ± {100 * estimate.stderr:.2f} %")
assert estimate.value < 0.06 and len(set(errors)) > 1
