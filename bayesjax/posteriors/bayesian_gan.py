"""The two conditional posteriors of the Bayesian GAN (Saatci & Wilson, NIPS 2017), for `kernels.alternate`.

    log p(th_g | z, th_d)          = log p(th_g) + sum_k sum_z log P_k(real | G(z; th_g))
    log p(th_d | z, X, Y, th_g)    = log p(th_d) + sum_j [ sum_x log P(real | x) + sum_z log P(fake | G(z; th_gj)) ]
                                     + sum_s log P(y_s | x_s)

th_g are the weights of the generator and th_d those of the discriminator. X are the unlabelled images x, and Y the
labelled images x_s with their labels y_s. j runs over the generators and k over the discriminators, which are the
particles of the other player. The noise z is drawn anew at every evaluation and for each chain, which corresponds to
the paper's Monte Carlo average over noise sets. The likelihood of the generator is the non-saturating one.

Two scales of the likelihood are set by arguments:
- Each image of a minibatch of n counts N/n times, so the real images count as N examples. Generated images are not
  data. They count as `num_generated` images, N by default, which balances real and generated images as in the released
  code.
- With `pool="sum"` the likelihood counts once for each particle of the other player, as in the paper's algorithm 1.
  With "mean" it counts once in total, so that adding particles does not sharpen the posterior.

The two conditionals are in general incompatible: no joint density has both. The stationary law of a sampler depends on
its inner steps and its friction, see `experiments/bayesian_gan_truth.py`. Read `kernels/alternate.py` next.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import axes, checks
from bayesjax.posteriors.log_posterior import data_sum
from bayesjax.types import Array, Density, Given, Params, Prior, PRNGKey, PyTree

Generate = Callable[[Params, PRNGKey, int], Array]
"""`(generator_params, rng_key, num) -> images [num, ...]`, which draws the noise of the images."""
LogProb = Callable[[Params, Array], Array]
"""`(discriminator_params, images [n, ...]) -> log probabilities [n]`, one for each image."""
Pool = Literal["sum", "mean"]
"""How the likelihoods under several particles of the other player are combined: by their sum or by their mean."""


class GANBatch(NamedTuple):
    """A minibatch for the two players, generator and discriminator.

    Attributes:
      real: unlabelled images `[n_d, ...]`.
      labelled: labelled images `[n_s, ...]`, or None.
      labels: integer labels `[n_s]`, or None.
    """

    real: Array
    labelled: Array | None = None
    labels: Array | None = None


def generator_conditional(
    generate: Generate,
    log_prob_real: LogProb,
    log_prior: Prior,
    *,
    num_generated: float,
    batch_size: int = 64,
    pool: Pool = "sum",
) -> Density:
    """Returns the log density of the conditional posterior of the generator's weights th_g, up to a constant.

        log p(th_g | z, th_d) = log p(th_g) + num_generated / n_g sum_k sum_z log P_k(real | G(z; th_g))

    k runs over the discriminators in `batch.others["discriminator"]`, which are stacked along the leading axis. With
    pool "mean", the sum over k is a mean.

    Args:
      generate: `(generator_params, rng_key, num) -> images [num, ...]`, which draws the noise from its key.
      log_prob_real: `(discriminator_params, images [n, ...]) -> log P(real | image) [n]` in nats.
      log_prior: `generator_params -> log p(th_g)`, a scalar.
      num_generated: weight of the generated images in the likelihood, in which they count as this many examples.
      batch_size: n_g, number of noise vectors drawn at each evaluation, by all devices of a `data` axis together.
      pool: "sum" or "mean", the combination of the likelihoods under the discriminators.

    Returns:
      `(params, rng_key, Given) -> (log density, aux)`; aux has "log_prob_real", the mean over images and
      discriminators in nats.

    Raises:
      ValueError: if a number is not positive or `pool` is unknown. The returned density raises it if `log_prob_real`
        does not return `[n]` or the prior does not return a scalar.
    """
    factor = _pool_factor(pool)
    checks.positive(num_generated=num_generated, batch_size=batch_size)
    log_prior = checks.scalar_valued(log_prior, "log_prior")
    log_prob_real = _one_per_image(log_prob_real, "log_prob_real")

    def logdensity(params: Params, rng_key: PRNGKey, batch: Given) -> tuple[Array, PyTree]:
        images = generate(params, rng_key, axes.local_size(batch_size, axes.DATA))
        discriminators = batch.others["discriminator"]
        values = jax.vmap(log_prob_real, in_axes=(0, None))(discriminators, images)
        likelihood = data_sum(values.ravel(), num_generated * factor(values.shape[0]))
        return log_prior(params) + likelihood, {"log_prob_real": values.mean()}

    return logdensity


def discriminator_conditional(
    generate: Generate,
    log_prob_real: LogProb,
    log_prob_fake: LogProb,
    log_prior: Prior,
    *,
    num_data: int,
    num_generated: float | None = None,
    batch_size: int = 64,
    pool: Pool = "sum",
    log_prob_label: Callable[[Params, Array, Array], Array] | None = None,
    num_labelled: float = 0,
) -> Density:
    """Returns the log density of the conditional posterior of the discriminator's weights th_d, up to a constant.

        log p(th_d | z, X, Y, th_g) = log p(th_d) + N_s / n_s sum_s log P(y_s | x_s)
            + sum_j [ N / n_d sum_x log P(real | x) + num_generated / n_g sum_z log P(fake | G(z; th_gj)) ]

    x are the n_d unlabelled and x_s the n_s labelled images of a `GANBatch`. j runs over the generators in
    `batch.others["generator"]`, which are stacked along the leading axis. With pool "mean", the sum over j is a mean.

    Args:
      generate: `(generator_params, rng_key, num) -> images [num, ...]`, which draws the noise from its key.
      log_prob_real, log_prob_fake: `(discriminator_params, images [n, ...]) -> [n]`, log P(real | image) and
        log P(fake | image) in nats.
      log_prior: `discriminator_params -> log p(th_d)`, a scalar.
      num_data: N, number of unlabelled images in the data set.
      num_generated: weight of the images of each generator in the likelihood, in which they count as this many
        examples; None means N.
      batch_size: n_g, number of noise vectors drawn for each generator at each evaluation, by all devices of a `data`
        axis together.
      pool: "sum" or "mean" over generators, for the terms of real and of generated images.
      log_prob_label: `(params, images, labels) -> log P(label | image) [n]`, or None for an unsupervised game.
      num_labelled: N_s, weight of the labelled images in the likelihood, in which they count as this many examples. A
        number above that of the labelled images gives more weight to the labels.

    Returns:
      `(params, rng_key, Given) -> (log density, aux)`; aux has the means over images "log_prob_real", "log_prob_fake"
      and, with `log_prob_label`, "log_prob_label", in nats.

    Raises:
      ValueError: if a number is not positive or `pool` is unknown. The returned density raises it if a log probability
        is not `[n]` or the prior does not return a scalar.
    """
    factor = _pool_factor(pool)
    num_generated = num_data if num_generated is None else num_generated
    checks.positive(num_data=num_data, num_generated=num_generated, batch_size=batch_size)
    if log_prob_label is not None:
        checks.positive(num_labelled=num_labelled)
        log_prob_label = _one_per_image(log_prob_label, "log_prob_label")
    log_prior = checks.scalar_valued(log_prior, "log_prior")
    log_prob_real = _one_per_image(log_prob_real, "log_prob_real")
    log_prob_fake = _one_per_image(log_prob_fake, "log_prob_fake")

    def logdensity(params: Params, rng_key: PRNGKey, batch: Given) -> tuple[Array, PyTree]:
        generators = batch.others["generator"]
        num_generators = jax.tree.leaves(generators)[0].shape[0]
        keys = jax.random.split(rng_key, num_generators)
        num = axes.local_size(batch_size, axes.DATA)
        images = jax.vmap(generate, in_axes=(0, 0, None))(generators, keys, num)
        fake = log_prob_fake(params, images.reshape(-1, *images.shape[2:]))
        real = log_prob_real(params, batch.data.real)
        scale = factor(num_generators)
        value = log_prior(params) + data_sum(real, num_data * scale) + data_sum(fake, num_generated * scale)
        aux = {"log_prob_real": real.mean(), "log_prob_fake": fake.mean()}
        if log_prob_label is not None:
            label = log_prob_label(params, batch.data.labelled, batch.data.labels)
            value += data_sum(label, num_labelled)
            aux["log_prob_label"] = label.mean()
        return value, aux

    return logdensity


def _one_per_image(log_prob: Callable[..., Array], name: str) -> Callable[..., Array]:
    """Wraps `(params, images [n, ...], ...) -> [n]` with a check of the shape of its result."""

    def checked(params: Params, images: Array, *labels: Array) -> Array:
        values = log_prob(params, images, *labels)
        if jnp.shape(values) != (len(images),):
            raise ValueError(
                f"{name} must return one scalar for each image, shape {(len(images),)}; got {jnp.shape(values)}"
            )
        return values

    return checked


def _pool_factor(pool: Pool) -> Callable[[int], float]:
    """The weight of the pooled likelihood as a function of the number of particles."""
    if pool not in ("sum", "mean"):
        raise ValueError(f"pool must be 'sum' or 'mean'; got {pool!r}")
    return lambda num: num if pool == "sum" else 1
