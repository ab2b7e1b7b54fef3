"""A convolutional network of your own, sampled by cyclical SGHMC, with predictions averaged over the sampling draws."""

import flax.linen as nn
import jax
import numpy as np

from bayesjax import data, evaluation, kernels, models, posteriors, training

NUM_STEPS, THINNING = 600, 10


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(16, (3, 3), strides=2)(x))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2)(x))
        return nn.Dense(10)(x.reshape(*x.shape[:-3], -1))


network = models.fast(CNN())  # the same module, with convolutions that are also fast on a CPU
digits = data.load("digits")
num_data = len(digits.train)


def log_likelihood(params, rng_key, example):
    return jax.nn.log_softmax(network.apply({"params": params}, example["x"]))[example["y"]]


def probabilities(params, x):
    return jax.nn.softmax(network.apply({"params": params}, x))


cycle = kernels.cyclical(0.05 / num_data, num_steps=NUM_STEPS, num_cycles=3, exploration_fraction=0.7)
log_posterior = posteriors.log_posterior(log_likelihood, posteriors.fan_in_gaussian(1.4), num_data)
kernel = kernels.sghmc(log_posterior, step_size=cycle.step_size, temperature=cycle.temperature, friction=0.03)

arrays = {"x": digits.train.inputs, "y": digits.train.labels}
batches = data.Minibatches(jax.random.key(0), arrays, batch_size=128)
params = network.init(jax.random.key(1), digits.train.inputs[:1])["params"]
state = kernel.init(params, jax.random.key(2))
state, trace = training.run(jax.random.key(3), kernel, state, batches, num_steps=NUM_STEPS, thinning=THINNING)

is_sampling = cycle.sampling_draws(NUM_STEPS, thinning=THINNING)
draws = jax.tree.map(lambda leaf: leaf[is_sampling], trace.draws)
predictions = evaluation.predict(probabilities, draws, digits.test.inputs)  # [draws, images, classes]
error = evaluation.error_rate(predictions.mean(axis=0), digits.test.labels).value
error_of_draw = np.mean([evaluation.error_rate(each, digits.test.labels).value for each in predictions])
print(f"test error of the average of {len(predictions)} draws {error:.3f}, of a single draw {error_of_draw:.3f}")
assert len(predictions) == 18 and error < 0.07 and error < error_of_draw
