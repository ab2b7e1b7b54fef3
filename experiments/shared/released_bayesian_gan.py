"""What the released code of "Bayesian GAN" minimises, for comparison with what its paper describes.

Saatci & Wilson (NIPS 2017) describe a sampler: the sum over minibatch terms scaled to the data set, noise at
temperature 1, draws kept. Their program (bgan.py) differs, and this file follows the program:

- losses are means over the minibatch, so they are U/N;
- the prior is sum_tensors mean((w / sd)^2) / N: no 1/2, and a mean where a Gaussian prior has a sum;
- the noise is sum(w * xi) / N in the loss, xi ~ N(0, 2 alpha eta): at its settings an effective temperature near 4e-13;
- the networks of the other player are pooled by logsumexp of the losses, which puts the weight on the worst;
- real images are weighted by the number of generators against one generator's fakes;
- the generator also matches features under a Huber loss.

`posteriors/bayesian_gan.py` has the paper's conditionals.
"""

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Params, PRNGKey


def discriminator_loss(real_logits: Array, fake_logits: Array, label_log_probs: Array | None = None) -> Array:
    """logsumexp_j [ -mean log P(label) - J mean log P(real) - mean log P(fake_j) ].

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
    """logsumexp_k [ -mean log P_k(real | fake) + mean Huber(features of fakes - features of real images) ].

    Args:
      fake_logits: `[num_discriminators, n, K]`.
      real_features, fake_features: `[num_discriminators, n, F]`, paired as they come.

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
    """[ sum_tensors mean((w / sd)^2) + sum(w * xi) ] / N with xi ~ N(0, 2 alpha eta I)."""
    prior = sum(jnp.mean((leaf / prior_scale) ** 2) for leaf in jax.tree.leaves(params))
    noise = jnp.sqrt(2 * friction * learning_rate) * tree.dot(params, tree.normal_like(rng_key, params))
    return (prior + noise) / num_data


def _huber(difference: Array) -> Array:
    size = jnp.abs(difference)
    return jnp.where(size < 1, 0.5 * difference**2, size - 0.5)
