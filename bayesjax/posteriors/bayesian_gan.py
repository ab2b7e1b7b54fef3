"""The two conditional posteriors of the Bayesian GAN (Saatci & Wilson, NIPS 2017), for `kernels.alternate`.

    log p(th_g | z, th_d)          = log p(th_g) + sum_k sum_z log P_k(real | G(z; th_g))
    log p(th_d | z, X, Y, th_g)    = log p(th_d) + sum_j [ sum_x log P(real | x) + sum_z log P(fake | G(z; th_gj)) ]
                                     + sum_s log P(y_s | x_s)

j runs over the generators and k over the discriminators (the particles of the other player). The noise z is
marginalised by drawing it afresh, each chain its own, at every evaluation: the paper's Monte Carlo average over noise
sets. The generator's likelihood is the non-saturating one.

Two scales are a choice, and both are arguments here:
- Real images count as the N data they are (N/n per minibatch image). Fakes are not data; they count as
  `num_generated` of them, N unless told otherwise, which balances real and fake and is what the released code does.
- The other player's particles: "sum" counts the likelihood once for each of them, as the paper's algorithm 1 does;
  "mean" counts it once in all, so that adding particles does not sharpen the posterior.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import axes, checks
from bayesjax.posteriors.log_posterior import data_sum
from bayesjax.types import Array, Density, Given, Params, Prior, PRNGKey, PyTree

Generate = Callable[[Params, PRNGKey, int], Array]
"""`(generator_params, rng_key, num) -> images [num, ...]`; draws its own noise."""
LogProb = Callable[[Params, Array], Array]
"""`(discriminator_params, images [n, ...]) -> log probabilities [n]`, one scalar for each image."""


class GANBatch(NamedTuple):
    """The data that both players see.

    Attributes:
      real: unlabelled images `[n_d, ...]`.
      labelled: labelled images `[n_s, ...]`, or None.
      labels: integers `[n_s]`, or None.
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
    pool: str = "sum",
) -> Density:
    """Log p(th_g | z, th_d) given stacked discriminators in `batch.others["discriminator"]`.

    Args:
      generate: makes images from noise.
      log_prob_real: log P(real | image) by one discriminator.
      log_prior: over the generator's weights.
      num_generated: how many fakes the likelihood counts.
      batch_size: n_g, noise vectors drawn per evaluation, by all devices of a `data` axis together.
      pool: "sum" or "mean" over discriminators.

    Returns:
      `(params, rng_key, Given) -> (log density, {"log_prob_real": mean over fakes and discriminators})`.

    Raises:
      ValueError: if a number is not positive or `pool` is unknown; by the density, if `log_prob_real` does not return
        `[n]` or the prior no scalar.
    """
    factor = _pool_factor(pool)
    checks.positive(num_generated=num_generated, batch_size=batch_size)
    of_prior, of_real = checks.scalar_valued(log_prior, "log_prior"), _one_each(log_prob_real, "log_prob_real")

    def logdensity(params: Params, rng_key: PRNGKey, batch: Given) -> tuple[Array, PyTree]:
        fakes = generate(params, rng_key, axes.local_size(batch_size, axes.DATA))
        discriminators = batch.others["discriminator"]
        values = jax.vmap(of_real, in_axes=(0, None))(discriminators, fakes)
        likelihood = data_sum(values.ravel(), num_generated * factor(values.shape[0]))
        return of_prior(params) + likelihood, {"log_prob_real": values.mean()}

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
    pool: str = "sum",
    log_prob_label: Callable[[Params, Array, Array], Array] | None = None,
    num_labelled: float = 0,
) -> Density:
    """Log p(th_d | z, X, Y, th_g) given a `GANBatch` and stacked generators in `batch.others["generator"]`.

    Args:
      generate: makes images from noise.
      log_prob_real, log_prob_fake: log P(real | image) and log P(fake | image).
      log_prior: over the discriminator's weights.
      num_data: N, unlabelled images in the data set.
      num_generated: how many fakes of each generator the likelihood counts; N if None.
      batch_size: n_g, noise vectors drawn per generator and evaluation, by all devices of a `data` axis together.
      pool: "sum" or "mean" over generators, of the real and fake terms alike.
      log_prob_label: `(params, images, labels) -> [n]`, or None for an unsupervised game.
      num_labelled: N_s, how many the labelled images count as: their number, unless labels are to weigh more.

    Returns:
      `(params, rng_key, Given) -> (log density, aux)`; aux has the mean log probability of each kind of image.

    Raises:
      ValueError: if a number is not positive or `pool` is unknown; by the density, if a log probability is not `[n]` or
        the prior no scalar.
    """
    factor = _pool_factor(pool)
    num_generated = num_data if num_generated is None else num_generated
    checks.positive(num_data=num_data, num_generated=num_generated, batch_size=batch_size)
    if log_prob_label is not None:
        checks.positive(num_labelled=num_labelled)
        of_label = _one_each(log_prob_label, "log_prob_label")
    of_prior = checks.scalar_valued(log_prior, "log_prior")
    of_real, of_fake = _one_each(log_prob_real, "log_prob_real"), _one_each(log_prob_fake, "log_prob_fake")

    def logdensity(params: Params, rng_key: PRNGKey, batch: Given) -> tuple[Array, PyTree]:
        generators = batch.others["generator"]
        num_generators = jax.tree.leaves(generators)[0].shape[0]
        keys = jax.random.split(rng_key, num_generators)
        num = axes.local_size(batch_size, axes.DATA)
        fakes = jax.vmap(generate, in_axes=(0, 0, None))(generators, keys, num)
        fake = of_fake(params, fakes.reshape(-1, *fakes.shape[2:]))
        real = of_real(params, batch.data.real)
        scale = factor(num_generators)
        value = of_prior(params) + data_sum(real, num_data * scale) + data_sum(fake, num_generated * scale)
        aux = {"log_prob_real": real.mean(), "log_prob_fake": fake.mean()}
        if log_prob_label is not None:
            label = of_label(params, batch.data.labelled, batch.data.labels)
            value += data_sum(label, num_labelled)
            aux["log_prob_label"] = label.mean()
        return value, aux

    return logdensity


def _one_each(log_prob: Callable[..., Array], name: str) -> Callable[..., Array]:
    """Wraps `(params, images [n, ...], ...) -> [n]` so that every call checks the shape of the result."""

    def checked(params: Params, images: Array, *labels: Array) -> Array:
        values = log_prob(params, images, *labels)
        if jnp.shape(values) != (len(images),):
            raise ValueError(
                f"{name} must return one scalar for each image, shape {(len(images),)}; got {jnp.shape(values)}"
            )
        return values

    return checked


def _pool_factor(pool: str) -> Callable[[int], float]:
    if pool not in ("sum", "mean"):
        raise ValueError(f"pool must be 'sum' or 'mean'; got {pool!r}")
    return lambda num: num if pool == "sum" else 1
