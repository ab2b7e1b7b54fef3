"""The two-player game that both Bayesian GAN experiments play, whatever the networks.

    networks      a generator and a discriminator as pure functions of their parameters
    batches       minibatches of the unlabelled data
    conditionals  the paper's log posteriors of either player given the other
    optimise, sample      two ways to move a player: Adam on its negative, SGHMC on it
    play          both players, `num` networks each, taking turns
    released_losses, released_schedule    what the released program minimises instead, and how fast

Read `bayesian_gan.py` next for the paper's synthetic experiment, `bayesian_gan_semisupervised.py` for few labels.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import axes, data, kernels, models, posteriors, training
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Density, Given, Kernel, Params, Prior, PRNGKey
from experiments.bayesian_gan_flags import GameFlags
from experiments.shared import released_bayesian_gan

RELEASED_DECAY = math.exp(-3)


class Networks(NamedTuple):
    """Generator and discriminator as pure functions of their parameters."""

    init: Callable[..., dict]
    """`(rng_key, num_generators, num_discriminators) -> {"generator": stacked, "discriminator": stacked}`"""
    generate: Callable[[Params, PRNGKey, int], Array]
    """`(generator_params, rng_key, num) -> examples [num, ...]`"""
    logits: Callable[[Params, Array], Array]
    """`(discriminator_params, examples [n, ...]) -> [n, K]`"""
    features: Callable[[Params, Array], Array]
    """`(discriminator_params, examples [n, ...]) -> [n, F]`"""


class Stage(NamedTuple):
    """A kernel and how long to run it."""

    name: str
    kernel: Kernel
    num_steps: int


def networks(generator: Any, discriminator: Any, latent_dim: int, shape: tuple[int, ...]) -> Networks:
    """Two Flax modules as pure functions; the generator is fed uniform noise, the discriminator examples of `shape`."""

    def init(rng_key, num_generators, num_discriminators):
        generator_key, discriminator_key = jax.random.split(rng_key)
        stacked = {}
        for name, module, key, num, inputs in (
            ("generator", generator, generator_key, num_generators, (latent_dim,)),
            ("discriminator", discriminator, discriminator_key, num_discriminators, shape),
        ):
            variables = jax.vmap(module.init, in_axes=(0, None))(jax.random.split(key, num), jnp.zeros((1, *inputs)))
            stacked[name] = variables["params"]
        return stacked

    def generate(params, rng_key, num):
        return generator.apply({"params": params}, models.latent_noise(rng_key, num, latent_dim))

    def logits(params, x):
        return discriminator.apply({"params": params}, x)

    def features(params, x):
        return discriminator.apply({"params": params}, x, method="embed")

    return Networks(init, generate, logits, features)


def flat(params: Params) -> Array:
    """No prior: a constant log density, which makes the posterior's mode maximum likelihood."""
    return jnp.zeros(())


def log_prob_label(net: Networks) -> Callable[[Params, Array, Array], Array]:
    """`(discriminator_params, images, labels) -> [n]`: log P(label | image, real)."""
    return lambda params, x, labels: semi_supervised.log_prob_label(net.logits(params, x), labels)


def conditionals(
    net: Networks, flags: GameFlags, prior: Prior, *, num_data: int, num_labelled: int = 0
) -> tuple[Density, Density]:
    """Log posterior densities of a discriminator and of a generator, each given the other player's networks.

    Args:
      net: the networks.
      flags: the batch size and the pool.
      prior: over the weights of either network.
      num_data: N, which real examples and each generator's fakes count as.
      num_labelled: how many the labelled images count as; 0 for an unsupervised game.
    """
    log_prob_real = lambda params, x: semi_supervised.log_prob_real(net.logits(params, x))  # noqa: E731
    log_prob_fake = lambda params, x: semi_supervised.log_prob_fake(net.logits(params, x))  # noqa: E731
    discriminator = posteriors.discriminator_conditional(
        net.generate, log_prob_real, log_prob_fake, prior,
        num_data=num_data, batch_size=flags.batch_size, pool=flags.pool,
        log_prob_label=log_prob_label(net) if num_labelled else None, num_labelled=num_labelled,
    )  # fmt: skip
    generator = posteriors.generator_conditional(
        net.generate, log_prob_real, prior, num_generated=num_data, batch_size=flags.batch_size, pool=flags.pool
    )
    return discriminator, generator


def optimise(flags: GameFlags, num_data: int) -> Callable[[Density], Kernel]:
    """Adam on the negative log density per datum."""

    def move(logdensity: Density) -> Kernel:
        return kernels.optimize(posteriors.as_loss(logdensity, num_data), optax.adam(flags.adam_learning_rate, b1=0.5))

    return move


def sample(flags: GameFlags, num_data: int, temperature: float) -> Callable[[Density], Kernel]:
    """SGHMC; the flag's learning rate is that of U/N."""
    step_size = flags.learning_rate / num_data
    return lambda density: kernels.sghmc(density, step_size=step_size, friction=flags.friction, temperature=temperature)


def play(players: Iterable[Kernel], num: tuple[int, int]) -> Kernel:
    """A sweep: all discriminators move, then all generators.

    Args:
      players: ways to move one discriminator and one generator.
      num: how many generators and discriminators there are.
    """
    discriminator, generator = players
    num_generators, num_discriminators = num
    return kernels.alternate(
        discriminator=kernels.particles(discriminator, num_discriminators),
        generator=kernels.particles(generator, num_generators),
    )


def batches(rng_key: PRNGKey, inputs: np.ndarray, batch_size: int) -> Callable[[Array], posteriors.GANBatch]:
    """Minibatches of unlabelled data by step: `step -> GANBatch`."""
    return jax.tree_util.Partial(
        lambda minibatches, step: posteriors.GANBatch(minibatches(step)), data.Minibatches(rng_key, inputs, batch_size)
    )


def generate_each(net: Networks, generators: Params, rng_key: PRNGKey, num: int) -> Array:
    """`num` examples of each of the stacked generators, `[J, num, ...]`."""
    keys = jax.random.split(rng_key, jax.tree.leaves(generators)[0].shape[0])
    return jax.vmap(net.generate, in_axes=(0, 0, None))(generators, keys, num)


def timings(trace: training.Trace) -> dict[str, float]:
    """Milliseconds of a step and the share of time outside compiled chunks; NaN if a resumed run had nothing to do."""
    running = trace.seconds - trace.compile_seconds
    return {
        "ms_per_step": 1e3 * trace.chunk_seconds / trace.steps if trace.steps else math.nan,
        "fraction_outside_chunks": 1 - trace.chunk_seconds / running if trace.steps else math.nan,
    }


def released_schedule(learning_rate: float, num_data: int, batch_size: int) -> optax.Schedule:
    """The released program's learning rate: within the first epoch it falls to RELEASED_DECAY of itself, and stays."""
    steps_per_epoch = max(num_data // batch_size, 1)
    end_value = learning_rate * RELEASED_DECAY
    return optax.exponential_decay(learning_rate, steps_per_epoch, RELEASED_DECAY, end_value=end_value)


def released_losses(
    net: Networks, batch_size: int, prior_and_noise: Callable[[Params, PRNGKey], Array]
) -> tuple[Callable, Callable]:
    """The released program's losses of a discriminator and of a generator, for `kernels.optimize`."""

    def discriminator_loss(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        fake_key, noise_key = jax.random.split(rng_key)
        fakes = generate_each(net, batch.others["generator"], fake_key, batch_size)
        fake_logits = jax.vmap(net.logits, in_axes=(None, 0))(params, fakes)
        data, label = batch.data, None
        if data.labels is not None:
            label = log_prob_label(net)(params, data.labelled, data.labels)
        loss = released_bayesian_gan.discriminator_loss(net.logits(params, data.real), fake_logits, label)
        return loss + prior_and_noise(params, noise_key)

    def generator_loss(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        fake_key, noise_key = jax.random.split(rng_key)
        fakes = net.generate(params, fake_key, batch_size)
        all_logits, all_features = (jax.vmap(f, in_axes=(0, None)) for f in (net.logits, net.features))
        others = batch.others["discriminator"]
        real = axes.gather(batch.data.real, axes.DATA)  # the fakes are paired with all of the batch
        loss = released_bayesian_gan.generator_loss(
            all_logits(others, fakes), all_features(others, real), all_features(others, fakes)
        )
        return loss + prior_and_noise(params, noise_key)

    return discriminator_loss, generator_loss


if __name__ == "__main__":
    from experiments import common

    common.not_a_command()
