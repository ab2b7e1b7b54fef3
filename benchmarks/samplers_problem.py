"""The targets of `samplers.py`: the weights of a small network on a regression data set, and a known Gaussian.

The regression set is synthetic: 8 standard normal inputs, y = sin(x_1 + x_2) + x_3 x_4 / 2 + noise of standard
deviation 0.3. The network has tanh units and a N(0, 1 / fan-in) prior on its weights; the noise level is fixed to its
true value.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import models, posteriors
from bayesjax.types import Density, Params

NUM_INPUTS, NOISE = 8, 0.3
HIDDEN = (28, 24)
"""Widths of the hidden layers, which give the network 973 weights."""


def regression(num_data: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs `[num_data, 8]` and outputs `[num_data]`."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(num_data, NUM_INPUTS))
    y = np.sin(x[:, 0] + x[:, 1]) + x[:, 2] * x[:, 3] / 2 + NOISE * random.normal(size=num_data)
    return {"x": x.astype(np.float32), "y": y.astype(np.float32)}


def network(hidden: Sequence[int] = HIDDEN) -> models.MLP:
    """The network, with one output."""
    return models.MLP((*hidden, 1), jnp.tanh)


def initial_weights(hidden: Sequence[int] = HIDDEN, seed: int = 0) -> Params:
    """Random initial weights of the network."""
    return network(hidden).init(jax.random.key(seed), jnp.zeros((1, NUM_INPUTS)))["params"]


def predict(params: Params, x: Any, hidden: Sequence[int] = HIDDEN) -> jax.Array:
    """Outputs `[num]` at inputs `[num, 8]`."""
    out: Any = network(hidden).apply({"params": params}, x)
    return out[..., 0]


def density(num_data: int, hidden: Sequence[int] = HIDDEN) -> Density:
    """The log posterior density, from a minibatch or from the whole data set."""

    def log_likelihood(params: Params, rng_key: jax.Array, example: dict[str, jax.Array]) -> jax.Array:
        del rng_key
        return -0.5 * ((example["y"] - predict(params, example["x"], hidden)) / NOISE) ** 2

    return posteriors.log_posterior(log_likelihood, posteriors.fan_in_gaussian(1.0), num_data)


def closure(num_data: int, hidden: Sequence[int] = HIDDEN) -> Callable[[Params], jax.Array]:
    """The log posterior of the whole data set as a function of the weights only, as given to every JAX library."""
    arrays, of_batch = jax.tree.map(jnp.asarray, regression(num_data)), density(num_data, hidden)

    def logdensity(params: Params) -> jax.Array:
        out: Any = of_batch(params, jax.random.key(0), arrays)
        return out[0]

    return logdensity


def matrix_flops(num_data: int, hidden: Sequence[int] = HIDDEN) -> int:
    """FLOPs of the matrix products of one gradient: the forward pass, and the backward pass to weights and inputs."""
    sizes = [NUM_INPUTS, *hidden, 1]
    products = [2 * num_data * a * b for a, b in itertools.pairwise(sizes)]
    return 3 * sum(products) - products[0]  # no gradient with respect to the data


@functools.cache
def minibatches(num_data: int, batch_size: int, num: int) -> dict[str, np.ndarray]:
    """Draws `num` batches of the set with replacement, `[num, batch_size, ...]`."""
    index = np.random.default_rng(1).integers(num_data, size=(num, batch_size))
    return {name: array[index] for name, array in regression(num_data).items()}


def gaussian(params: Params, rng_key: Any, batch: Any) -> jax.Array:
    """The log density of N(0, I), up to a constant."""
    del rng_key, batch
    return -0.5 * jnp.sum(params["x"] ** 2)
