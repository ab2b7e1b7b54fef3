"""An ensemble on four devices: four networks in two parts, and each batch in two parts.

The four devices are virtual devices of the CPU. The result is that of one device, up to the rounding of sums. On a
machine with four accelerators, leave out the line that sets `jax_num_cpu_devices`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, models, objectives, training

jax.config.update("jax_num_cpu_devices", 4)  # before the first computation
NUM_NETWORKS = 4
digits, network = data.load("digits"), models.MLP((50, 10))


def negative_log_likelihood(params, rng_key, example):
    return -jax.nn.log_softmax(network.apply({"params": params}, example["x"].reshape(64)))[example["y"]]


def train(kernel):
    init_keys = jax.random.split(jax.random.key(0), NUM_NETWORKS)
    params = jax.vmap(lambda key: network.init(key, jnp.zeros(64))["params"])(init_keys)
    arrays = {"x": digits.train.inputs, "y": digits.train.labels}
    batches = data.Minibatches(jax.random.key(1), arrays, batch_size=64)
    state = kernel.init(params, jax.random.key(2))
    return training.run(jax.random.key(3), kernel, state, batches, num_steps=300, keep=lambda state: ())


kernel = kernels.optimize(objectives.batch_mean(negative_log_likelihood), optax.adam(1e-3))
ensemble = kernels.particles(kernel, NUM_NETWORKS)
_, single = train(ensemble)
state, spread = train(training.spread(ensemble, data=2, particle=2))

weights = state.position["layers_0"]["kernel"]
print("devices that hold the weights:", len(weights.sharding.device_set))
print("losses of the four networks:", spread.info.loss[-1])
assert len(weights.sharding.device_set) == 4
assert weights.addressable_shards[0].data.shape == (2, 64, 50)  # two of the four networks on each device
np.testing.assert_allclose(spread.info.loss[-1], single.info.loss[-1], rtol=1e-3)
assert spread.info.loss[-1].max() < 0.5
