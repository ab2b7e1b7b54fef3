"""The losses of the released program of "Bayesian GAN", which differ from the sampler that its paper describes.

Saatci & Wilson (NIPS 2017) describe a sampler: a sum of minibatch terms scaled to the data set, noise at temperature 1,
and draws that are kept. This file follows their program (bgan.py), in which

- losses are means over the minibatch: the negative log posterior U divided by the number of data N;
- the prior is sum_tensors mean((w / sd)^2) / N, without the factor 1/2 and with a mean where a normal prior has a sum;
- the noise is sum(w * xi) / N in the loss, xi ~ N(0, 2 alpha eta): an effective temperature near 4e-13 at its settings;
- the networks of the other player are pooled by logsumexp of the losses, which gives the largest loss the most weight;
- the log-likelihood of real images is weighted by the number J of generators, that of one generator's fakes by 1;
- the generator also matches features under a Huber loss;
- the learning rate falls to exp(-3) of its initial value within the first epoch, and stays there.

`bayesjax/posteriors/bayesian_gan.py` has the conditionals of the paper.
"""

import math

import jax
import jax.numpy as jnp
import optax

from bayesjax import axes, checks, kernels, tree
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Given, Kernel, Params, PRNGKey
from experiments.shared import populations

DECAY = math.exp(-3)
"""Ratio of the final to the initial learning rate."""


def discriminator_loss(real_logits: Array, fake_logits: Array, label_log_probs: Array | None = None) -> Array:
    """The discriminator's loss, logsumexp_j [ -mean log P(label) - J mean log P(real) - mean log P(fake_j) ], in nats.

    Args:
      real_logits: `[n, K]`.
      fake_logits: `[J, n, K]`, of each generator's fakes.
      label_log_probs: `[n_s]` log P(label) of the labelled batch, or None.

    Raises:
      ValueError: if an argument has the wrong number of axes.
    """
    checks.rank("[n, K]", 2, real_logits=real_logits)
    checks.rank("[J, n, K]", 3, fake_logits=fake_logits)
    if label_log_probs is not None:
        checks.rank("[n_s]", 1, label_log_probs=label_log_probs)
    num_generators = fake_logits.shape[0]
    real = -semi_supervised.log_prob_real(real_logits).mean()
    label = 0.0 if label_log_probs is None else -label_log_probs.mean()
    fake = -semi_supervised.log_prob_fake(fake_logits).mean(axis=1)
    return jax.nn.logsumexp(label + num_generators * real + fake)


def generator_loss(fake_logits: Array, real_features: Array, fake_features: Array) -> Array:
    """A generator's loss, logsumexp_k [ -mean log P_k(real | fake) + mean Huber(features of fakes - of real images) ].

    Args:
      fake_logits: `[num_discriminators, n, K]`.
      real_features, fake_features: `[num_discriminators, n, F]`, paired in order.

    Raises:
      ValueError: if an argument has the wrong number of axes, or the features differ in shape.
    """
    checks.rank("[num_discriminators, n, K]", 3, fake_logits=fake_logits)
    checks.rank("[num_discriminators, n, F]", 3, real_features=real_features, fake_features=fake_features)
    if real_features.shape != fake_features.shape:
        raise ValueError(
            f"real_features and fake_features must have one shape; got {real_features.shape} and {fake_features.shape}"
        )
    adversarial = -semi_supervised.log_prob_real(fake_logits).mean(axis=1)
    matching = _huber(fake_features - real_features).mean(axis=(1, 2))
    return jax.nn.logsumexp(adversarial + matching)


def prior_and_noise(
    params: Params, rng_key: PRNGKey, *, num_data: int, prior_scale: float, friction: float, learning_rate: float
) -> Array:
    """Prior and noise terms of a loss, [ sum_tensors mean((w / sd)^2) + sum(w * xi) ] / N, xi ~ N(0, 2 alpha eta I).

    N is `num_data`, sd `prior_scale`, alpha `friction` and eta `learning_rate`.
    """
    prior = sum(jnp.mean((leaf / prior_scale) ** 2) for leaf in jax.tree.leaves(params))
    noise = jnp.sqrt(2 * friction * learning_rate) * tree.dot(params, tree.normal_like(rng_key, params))
    return (prior + noise) / num_data


def _huber(difference: Array) -> Array:
    size = jnp.abs(difference)
    return jnp.where(size < 1, 0.5 * difference**2, size - 0.5)


def players(
    net: populations.Networks, optimizer: optax.GradientTransformation, *,
    batch_size: int, num_data: int, prior_scale: float, friction: float, learning_rate: float,
) -> list[Kernel]:  # fmt: skip
    """The kernels of a discriminator and of a generator, with `batch_size` fakes of each generator in a step.

    The other arguments are those of `prior_and_noise`, which is added to the loss of each player.
    """
    options = {"num_data": num_data, "prior_scale": prior_scale, "friction": friction, "learning_rate": learning_rate}

    def discriminator(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        fake_key, noise_key = jax.random.split(rng_key)
        fakes = populations.generate_each(net, batch.others["generator"], fake_key, batch_size)
        fake_logits = jax.vmap(net.logits, in_axes=(None, 0))(params, fakes)
        data, label = batch.data, None
        if data.labels is not None:
            label = populations.log_prob_label(net)(params, data.labelled, data.labels)
        loss = discriminator_loss(net.logits(params, data.real), fake_logits, label)
        return loss + prior_and_noise(params, noise_key, **options)

    def generator(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        fake_key, noise_key = jax.random.split(rng_key)
        fakes = net.generate(params, fake_key, batch_size)
        all_logits, all_features = (jax.vmap(f, in_axes=(0, None)) for f in (net.logits, net.features))
        others = batch.others["discriminator"]
        real = axes.gather(batch.data.real, axes.DATA)  # the fakes are paired with the whole batch
        loss = generator_loss(all_logits(others, fakes), all_features(others, real), all_features(others, fakes))
        return loss + prior_and_noise(params, noise_key, **options)

    return [kernels.optimize(loss, optimizer) for loss in (discriminator, generator)]


def schedule(learning_rate: float, num_data: int, batch_size: int) -> optax.Schedule:
    """The learning rate by step: exponential decay to DECAY times its initial value within one epoch."""
    steps_per_epoch = max(num_data // batch_size, 1)
    return optax.exponential_decay(learning_rate, steps_per_epoch, DECAY, end_value=learning_rate * DECAY)
