"""A finished run, read back by `training.load` from its folder alone, and samples of the model that it trained.

The first function is the program of the run: a variational auto-encoder of digits. The second needs only the folder and
the module.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, models, objectives, plots, training

digits = data.load("digits")


def make_model(latent_dim):
    return models.vae.VAE(latent_dim, data_shape=(8, 8, 1), hidden=(100,))


def train(folder, config):
    model = make_model(config["latent_dim"])
    loss = objectives.elbo.negative_elbo(*models.vae.conditionals(model), model.prior())
    kernel = kernels.optimize(objectives.batch_mean(loss), optax.adam(config["learning_rate"]))
    params = model.init(jax.random.key(0), jnp.zeros((8, 8, 1)))["params"]
    batches = data.Binarised(jax.random.key(2), data.Minibatches(jax.random.key(3), digits.train.inputs, 128))
    checkpointer = training.Checkpointer(folder, config=config)
    state = kernel.init(params, jax.random.key(4))
    training.run(jax.random.key(5), kernel, state, batches, num_steps=1000, thinning=500, checkpointer=checkpointer)


def sample(folder, rng_key, num):
    saved = training.load(folder)
    print(f"step {saved.step}, {saved.config}, loss {saved.metrics[0]['loss']:.1f} -> {saved.metrics[-1]['loss']:.1f}")
    model = make_model(saved.config["latent_dim"])
    z = jax.random.normal(rng_key, (num, saved.config["latent_dim"]))
    return model.apply({"params": saved.params}, z, method="decode").mean()


folder = Path(tempfile.mkdtemp())
train(folder / "run", {"latent_dim": 8, "learning_rate": 3e-3})
images = sample(folder / "run", jax.random.key(6), 500)
plots.image_grid(folder / "samples.png", images[:20].reshape(2, 10, 8, 8, 1))
print(folder / "samples.png")
correlation = np.corrcoef(images.mean(axis=0).ravel(), digits.test.inputs.mean(axis=0).ravel())[0, 1]
assert images.shape == (500, 8, 8, 1) and correlation > 0.95
