"""Games of several generators and discriminators, in which every network faces all networks of the other player.

    PopulationConfig        flags of the Bayesian GAN's games
    Networks, networks      generators and discriminators as pure functions of stacked parameters
    sweep                   the kernel of a game: all discriminators move, then all generators
    unlabelled_batches      minibatches of unlabelled data by step

The densities of the weights are in `experiments/bayesian_gan.py`, the updates of a player in `games.py`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, kernels, models, posteriors
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Kernel, Params, PRNGKey
from experiments.harness import Count, require
from experiments.shared.games import GameConfig


@dataclass(frozen=True)
class PopulationConfig(GameConfig):
    """Flags of games of several generators and discriminators, whose weights are sampled."""

    kernel: Literal["sghmc", "sgld"] = "sghmc"
    """Sampler of the Bayesian GAN."""
    latent_dim: Count = 32
    """Dimension of the generator's noise."""
    num_generators: Count = 10
    """Number J_g of generators, one for each set of noise in the paper's Monte Carlo average over the noise."""
    num_discriminators: Count = 1
    """Number J_d of discriminators."""
    num_mc_samples: Count = 1
    """Number M of networks for each of the J_g generators and J_d discriminators, as in the paper."""
    pool: Literal["sum", "mean"] = "sum"
    """Whether the log likelihood is the sum over the other player's networks, as in the paper, or the mean."""
    thinning: Count = 20
    """Number of steps between kept draws."""

    def __post_init__(self) -> None:
        """Checks that steps remain after the warm-up."""
        super().__post_init__()
        require(self.num_warmup < self.num_steps, "--num-warmup must be less than --num-steps")

    @property
    def num_networks(self) -> tuple[int, int]:
        """Numbers of generators and of discriminators in the game, M J_g and M J_d."""
        return self.num_generators * self.num_mc_samples, self.num_discriminators * self.num_mc_samples


class Networks(NamedTuple):
    """Generators and discriminators as pure functions of their parameters.

    Attributes:
      init: `(rng_key, num_generators, num_discriminators) -> {player: params with a leading axis of networks}`.
      generate: `(generator_params, rng_key, num) -> examples [num, ...]`, from uniform noise.
      logits: `(discriminator_params, examples [n, ...]) -> [n, K]`.
      features: `(discriminator_params, examples [n, ...]) -> [n, F]`.
    """

    init: Callable[..., dict]
    generate: Callable[[Params, PRNGKey, int], Array]
    logits: Callable[[Params, Array], Array]
    features: Callable[[Params, Array], Array]


def networks(generator: Any, discriminator: Any, latent_dim: int, shape: tuple[int, ...]) -> Networks:
    """Wraps two Flax modules as pure functions; `shape` is that of one example."""

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


def sweep(moves: Iterable[Kernel], num_generators: int, num_discriminators: int) -> Kernel:
    """Updates all discriminators, then all generators; `moves` has the kernels of a discriminator and a generator."""
    discriminator, generator = moves
    return kernels.alternate(
        discriminator=kernels.particles(discriminator, num_discriminators),
        generator=kernels.particles(generator, num_generators),
    )


def flat_prior(params: Params) -> Array:
    """The log density 0 of a flat prior, with which a posterior mode is a maximum of the likelihood."""
    return jnp.zeros(())


def log_prob_label(net: Networks) -> Callable[[Params, Array, Array], Array]:
    """Returns the function `(discriminator_params, images, labels) -> log P(label | image, real)` `[n]`, in nats."""
    return lambda params, x, labels: semi_supervised.log_prob_label(net.logits(params, x), labels)


def generate_each(net: Networks, generators: Params, rng_key: PRNGKey, num: int) -> Array:
    """Generates `num` examples with each of J generators, `[J, num, ...]`; `generators` has leaves `[J, ...]`."""
    keys = jax.random.split(rng_key, jax.tree.leaves(generators)[0].shape[0])
    return jax.vmap(net.generate, in_axes=(0, 0, None))(generators, keys, num)


def unlabelled_batches(rng_key: PRNGKey, inputs: np.ndarray, batch_size: int) -> Callable[[Array], posteriors.GANBatch]:
    """Returns minibatches of unlabelled data as a function `step -> GANBatch`."""
    return jax.tree_util.Partial(
        lambda batches, step: posteriors.GANBatch(batches(step)), data.Minibatches(rng_key, inputs, batch_size)
    )
