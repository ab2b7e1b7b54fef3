"""A GAN with a loss of your own: a squared hinge for the discriminator, with a penalty on its gradients at the data.

Each player's loss receives `given.data`, the batch, and `given.others`, the current parameters of the other player.
"""

import jax
import jax.numpy as jnp
import optax

from bayesjax import data, kernels, models, training

LATENT_DIM, BATCH_SIZE = 4, 128
generator, discriminator = models.MLP((64, 64, 2)), models.MLP((64, 64, 1))


def generate(params, rng_key, num):
    return generator.apply({"params": params}, jax.random.normal(rng_key, (num, LATENT_DIM)))


def score(params, x):
    return discriminator.apply({"params": params}, x)[..., 0]


def squared_hinge(margin):
    return jnp.square(jax.nn.relu(1 - margin)).mean()


def discriminator_loss(params, rng_key, given):
    real, fake = given.data, generate(given.others["generator"], rng_key, BATCH_SIZE)
    gradients = jax.vmap(jax.grad(score, argnums=1), in_axes=(None, 0))(params, real)
    penalty = jnp.square(gradients).sum(axis=1).mean()
    return squared_hinge(score(params, real)) + squared_hinge(-score(params, fake)) + 0.1 * penalty


def generator_loss(params, rng_key, given):
    return -score(given.others["discriminator"], generate(params, rng_key, BATCH_SIZE)).mean()


angles = jax.random.uniform(jax.random.key(0), (5000,), maxval=2 * jnp.pi)
circle = jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
params = {
    "discriminator": discriminator.init(jax.random.key(1), jnp.zeros(2))["params"],
    "generator": generator.init(jax.random.key(2), jnp.zeros(LATENT_DIM))["params"],
}
game = kernels.alternate(
    discriminator=kernels.optimize(discriminator_loss, optax.adam(1e-3, b1=0.5)),
    generator=kernels.optimize(generator_loss, optax.adam(1e-3, b1=0.5)),
)
batches = data.Minibatches(jax.random.key(3), circle, BATCH_SIZE)
state = game.init(params, jax.random.key(4))
state, trace = training.run(jax.random.key(5), game, state, batches, num_steps=1500, thinning=100)

samples = generate(state.position["generator"], jax.random.key(6), 1000)
radius_error = jnp.abs(jnp.linalg.norm(samples, axis=1) - 1).mean()
print("mean distance of the samples from the circle:", radius_error, "mean of the samples:", samples.mean(axis=0))
assert radius_error < 0.15 and jnp.abs(samples.mean(axis=0)).max() < 0.2
