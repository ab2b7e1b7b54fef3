"""Games of several generators and discriminators, in which every network faces all networks of the other player.

    Networks, networks      generators and discriminators as pure functions of stacked parameters
    conditionals            the log posteriors of a discriminator and of a generator, each given the other player
    populations             the kernel of a sweep: all discriminators move, then all generators
    unlabelled_batches      data by step

The ways to move a player and the stages of a game are in `games.py`.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, kernels, models, posteriors
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Density, Kernel, Params, Prior, PRNGKey


class Networks(NamedTuple):
    """Generators and discriminators as pure functions of their parameters.

    Attributes:
      init: `(rng_key, num_generators, num_discriminators) -> {"generator": stacked, "discriminator": stacked}`.
      generate: `(generator_params, rng_key, num) -> examples [num, ...]`, from uniform noise.
      logits: `(discriminator_params, examples [n, ...]) -> [n, K]`.
      features: `(discriminator_params, examples [n, ...]) -> [n, F]`.
    """

    init: Callable[..., dict]
    generate: Callable[[Params, PRNGKey, int], Array]
    logits: Callable[[Params, Array], Array]
    features: Callable[[Params, Array], Array]


def networks(generator: Any, discriminator: Any, latent_dim: int, shape: tuple[int, ...]) -> Networks:
    """Two Flax modules as pure functions, for examples of a shape."""

    def init(rng_key: PRNGKey, num_generators: int, num_discriminators: int) -> dict[str, Params]:
        generator_key, discriminator_key = jax.random.split(rng_key)

        def stacked(module: Any, key: PRNGKey, num: int, inputs: tuple[int, ...]) -> Params:
            keys, example = jax.random.split(key, num), jnp.zeros((1, *inputs))
            return jax.vmap(module.init, in_axes=(0, None))(keys, example)["params"]

        return {
            "generator": stacked(generator, generator_key, num_generators, (latent_dim,)),
            "discriminator": stacked(discriminator, discriminator_key, num_discriminators, shape),
        }

    def generate(params: Params, rng_key: PRNGKey, num: int) -> Array:
        return generator.apply({"params": params}, models.latent_noise(rng_key, num, latent_dim))

    def logits(params: Params, x: Array) -> Array:
        return discriminator.apply({"params": params}, x)

    def features(params: Params, x: Array) -> Array:
        return discriminator.apply({"params": params}, x, method="embed")

    return Networks(init, generate, logits, features)


def populations(moves: Iterable[Kernel], num_generators: int, num_discriminators: int) -> Kernel:
    """A sweep of a game of several networks: all discriminators move, then all generators.

    Args:
      moves: kernels of one discriminator and of one generator.
      num_generators: number of generators.
      num_discriminators: number of discriminators.
    """
    discriminator, generator = moves
    return kernels.alternate(
        discriminator=kernels.particles(discriminator, num_discriminators),
        generator=kernels.particles(generator, num_generators),
    )


def flat_prior(params: Params) -> Array:
    """A constant log density, with which the mode of a posterior is the maximum of the likelihood."""
    return jnp.zeros(())


def log_prob_label(net: Networks) -> Callable[[Params, Array, Array], Array]:
    """The function `(discriminator_params, images, labels) -> [n]`, log P(label | image, real)."""
    return lambda params, x, labels: semi_supervised.log_prob_label(net.logits(params, x), labels)


def conditionals(
    net: Networks, log_prior: Prior, *, num_data: int, batch_size: int, pool: str = "sum", num_labelled: float = 0
) -> tuple[Density, Density]:
    """Log posterior densities of a discriminator and of a generator, each given the other player's networks.

    Args:
      net: the networks.
      log_prior: of the weights of either network.
      num_data: N, the number for which real examples, and the fakes of each generator, count.
      batch_size: number of fakes of each generator in a step.
      pool: whether the likelihood is the "sum" or the "mean" over the other player's networks.
      num_labelled: the number for which labelled images count; 0 for an unsupervised game.
    """

    def log_prob_real(params: Params, x: Array) -> Array:
        return semi_supervised.log_prob_real(net.logits(params, x))

    def log_prob_fake(params: Params, x: Array) -> Array:
        return semi_supervised.log_prob_fake(net.logits(params, x))

    discriminator = posteriors.discriminator_conditional(
        net.generate, log_prob_real, log_prob_fake, log_prior, num_data=num_data, batch_size=batch_size, pool=pool,
        log_prob_label=log_prob_label(net) if num_labelled else None, num_labelled=num_labelled,
    )  # fmt: skip
    generator = posteriors.generator_conditional(
        net.generate, log_prob_real, log_prior, num_generated=num_data, batch_size=batch_size, pool=pool
    )
    return discriminator, generator


def generate_each(net: Networks, generators: Params, rng_key: PRNGKey, num: int) -> Array:
    """`num` examples of each of the stacked generators, `[J, num, ...]`."""
    keys = jax.random.split(rng_key, jax.tree.leaves(generators)[0].shape[0])
    return jax.vmap(net.generate, in_axes=(0, 0, None))(generators, keys, num)


def unlabelled_batches(rng_key: PRNGKey, inputs: np.ndarray, batch_size: int) -> Callable[[Array], posteriors.GANBatch]:
    """Minibatches of unlabelled data by step: `step -> GANBatch`."""
    return jax.tree_util.Partial(
        lambda batches, step: posteriors.GANBatch(batches(step)), data.Minibatches(rng_key, inputs, batch_size)
    )
