"""A minibatch loss is the mean over a loop, of the value and of each entry of what comes with it."""

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import objectives

BATCH = {"x": jnp.arange(12.0).reshape(4, 3), "y": jnp.array([1.0, -1, 2, 0])}


def objective(params, rng_key, example):
    """With an aux of one axis and one of none, and noise."""
    noise = jax.random.normal(rng_key, (3,))
    return params * example["y"] + noise.sum(), {"inputs": example["x"] + noise, "square": example["y"] ** 2}


def test_a_loss_is_the_mean_of_its_examples():
    """Each has its own key; an aux keeps all axes but the batch's."""
    value, aux = objectives.batch_mean(objective)(2.0, jax.random.key(0), BATCH)
    loop = [
        objective(2.0, key, jax.tree.map(lambda leaf, i=i: leaf[i], BATCH))
        for i, key in enumerate(jax.random.split(jax.random.key(0), 4))
    ]
    expected, expected_aux = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *loop)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    assert aux["inputs"].shape == (3,) and aux["square"].shape == ()
    jax.tree.map(lambda found, mean: np.testing.assert_allclose(found, mean, rtol=1e-6), aux, expected_aux)


def test_without_an_aux_there_is_an_empty_one():
    value, aux = objectives.batch_mean(lambda params, rng_key, example: params * example["y"])(
        2.0, jax.random.key(0), BATCH
    )
    assert value == 1 and aux == {}
