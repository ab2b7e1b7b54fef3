"""Games of several generators and discriminators, in which every network faces all networks of the other player.

    PopulationConfig        flags of the Bayesian GAN's games
    Networks, networks      generators and discriminators as pure functions of stacked parameters
    feature_matching        the generator's loss of mean features
    with_noise              a density of weights for a discriminator with noise in its layers
    sweep                   the kernel of a game: all discriminators move, then all generators
    in_chunks               a generator of many examples, a few at once
    unlabelled_batches      minibatches of unlabelled data by step

The densities of the weights are in `experiments/bayesian_gan.py`, the updates of a player in `games.py`.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import axes, data, kernels, models, posteriors
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Density, Given, Kernel, Params, PRNGKey
from experiments.harness import Count, require
from experiments.shared.games import GameConfig

GeneratorLoss = Literal["likelihood", "feature_matching"]


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
      logits: `(discriminator_params, examples [n, ...]) -> [n, K]`; `rng_key=` adds the noise of a noisy network.
      features: `(discriminator_params, examples [n, ...]) -> [n, F]`; `rng_key=` as for logits.
      is_noisy: whether the layers of the discriminator have noise during training.
    """

    init: Callable[..., dict]
    generate: Callable[[Params, PRNGKey, int], Array]
    logits: Callable[..., Array]
    features: Callable[..., Array]
    is_noisy: bool = False


def networks(
    generator: Any, discriminator: Any, latent_dim: int, shape: tuple[int, ...], *, is_noisy: bool = False
) -> Networks:
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

    def apply(params: Params, x: Array, method: str | None = None, rng_key: PRNGKey | None = None) -> Array:
        rngs = {} if rng_key is None else {"noise": rng_key}
        return discriminator.apply({"params": params}, x, method=method, rngs=rngs)

    return Networks(init, generate, apply, functools.partial(apply, method="embed"), is_noisy)


def with_noise(net: Networks, make: Callable[[Networks], Density]) -> Density:
    """The density `make(net)` of the weights of a player; a noisy discriminator has new noise in every evaluation."""
    if not net.is_noisy:
        return make(net)

    def density(params: Params, rng_key: PRNGKey, batch: Given) -> Any:
        rng_key, noise_key = jax.random.split(rng_key)
        logits, features = (functools.partial(f, rng_key=noise_key) for f in (net.logits, net.features))
        return make(net._replace(logits=logits, features=features))(params, rng_key, batch)

    return density


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


def feature_matching(net: Networks, batch_size: int, pool: Literal["sum", "mean"]) -> Density:
    """The feature-matching loss of a generator, pooled over the discriminators' features."""

    def loss(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        fakes = net.generate(params, rng_key, axes.local_size(batch_size, axes.DATA))
        real, others = batch.data.real, batch.others["discriminator"]
        features = jax.vmap(net.features, in_axes=(0, None))
        losses = jax.vmap(semi_supervised.feature_matching)(features(others, real), features(others, fakes))
        return losses.sum() if pool == "sum" else losses.mean()

    return loss


def generate_each(net: Networks, generators: Params, rng_key: PRNGKey, num: int) -> Array:
    """Generates `num` examples with each of J generators, `[J, num, ...]`; `generators` has leaves `[J, ...]`."""
    keys = jax.random.split(rng_key, jax.tree.leaves(generators)[0].shape[0])
    return jax.vmap(net.generate, in_axes=(0, 0, None))(generators, keys, num)


def in_chunks(generate: Callable[[Params, PRNGKey, int], Array], size: int = 200) -> Callable:
    """Returns `(params, rng_key, num) -> examples [num, ...]`, which generates at most `size` examples at once."""

    def chunked(params: Params, rng_key: PRNGKey, num: int) -> Array:
        length = min(size, num)
        chunks = jax.lax.map(lambda key: generate(params, key, length), jax.random.split(rng_key, -(-num // length)))
        return chunks.reshape(-1, *chunks.shape[2:])[:num]

    return chunked


def unlabelled_batches(rng_key: PRNGKey, inputs: np.ndarray, batch_size: int) -> Callable[[Array], posteriors.GANBatch]:
    """Returns minibatches of unlabelled data as a function `step -> GANBatch`."""
    return jax.tree_util.Partial(
        lambda batches, step: posteriors.GANBatch(batches(step)), data.Minibatches(rng_key, inputs, batch_size)
    )
