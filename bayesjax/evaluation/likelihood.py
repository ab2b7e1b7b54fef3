"""Estimates of the log-likelihood log p(x) of latent-variable models, which has no closed form.

    importance sampling   log p(x) = log E_{z ~ q(z | x)} [ p(x, z) / q(z | x) ]          q: the encoder
    annealed (AIS)        log p(x) = log E [ prod_t p(x | z_t)^(b_{t+1} - b_t) ]          z_0 ~ p(z); no encoder
    Parzen window         log p(x) ~ log 1/n sum_i N(x; y_i, s^2 I),  y_i ~ the model     samples alone

In AIS each z_t is a Markov transition that leaves p(z) p(x | z)^b_t invariant. The first two estimates are logarithms
of unbiased estimates of p(x), so in expectation they are lower bounds. The Parzen window is not a bound and is poor in
many dimensions (Theis, van den Oord & Bethge, "A note on the evaluation of generative models", ICLR 2016); it is here
because the literature reports it. Sources: Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR
2016; Neal, "Annealed importance sampling", 2001; Wu et al., "On the quantitative analysis of decoder-based generative
models", ICLR 2017; Breuleux, Bengio & Vincent, "Quickly generating representative samples from an RBM-derived process",
2011 (Parzen windows). Read `annealing.py` next for the weights of AIS.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesjax import checks, distributions, kernels
from bayesjax.evaluation import annealing
from bayesjax.evaluation.chunks import map_in_chunks
from bayesjax.objectives import elbo
from bayesjax.types import Array, ArrayLike, Conditional, Distribution, Params, PRNGKey

MIN_PILOT, PILOT_STEPS = 30, 3  # fewest temperatures of the pilot run, and its steps at each


def importance_sampling(
    encode: Conditional,
    decode: Conditional,
    prior: Distribution,
    params: Params,
    rng_key: PRNGKey,
    x: ArrayLike,
    *,
    num_samples: int = 5000,
    chunk_size: int = 64,
    sample_chunk_size: int = 50,
) -> Array:
    """Importance-sampling estimate of log p(x) for each example, with the encoder as proposal.

        log p(x) ~ log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x),    z_i ~ q(z | x)

    In expectation it is a lower bound that rises with k.

    Args:
      encode: `(params, x) -> q(z | x)`, for one example.
      decode: `(params, z) -> p(x | z)`, for one latent vector.
      prior: p(z).
      params: parameters of encoder and decoder.
      rng_key: an example's own key is derived from it by the example's index.
      x: examples `[num, ...]`.
      num_samples: k, the number of draws. For k = 1 the mean of the result estimates the ELBO.
      chunk_size: number of examples that are evaluated at once.
      sample_chunk_size: number of draws that are evaluated at once; the last chunk has the remainder. The memory is
        that of `chunk_size * sample_chunk_size` evaluations of the decoder.

    Returns:
      Log-likelihoods in nats, `[num]`.

    Raises:
      ValueError: if a count is not positive, `x` has no examples, or the log density of a whole vector z or x under one
        of the distributions is not a scalar.
    """
    checks.count(num_samples=num_samples, chunk_size=chunk_size, sample_chunk_size=sample_chunk_size)
    num_chunks, remainder = divmod(num_samples, sample_chunk_size)

    def evaluate_example(params: Params, key: PRNGKey, example: Array) -> Array:
        def log_sum(index: Array | int, num: int) -> Array:
            """Logarithm of the sum of the `num` importance weights of a chunk."""
            negative_bound = elbo.negative_iwae_bound(encode, decode, prior, num_samples=num)
            value, _ = negative_bound(params, jax.random.fold_in(key, index), example)
            return math.log(num) - value

        parts = []
        if num_chunks:
            parts.append(lax.map(lambda index: log_sum(index, sample_chunk_size), jnp.arange(num_chunks)))
        if remainder:
            parts.append(log_sum(num_chunks, remainder)[None])
        return jax.nn.logsumexp(jnp.concatenate(parts)) - math.log(num_samples)

    return map_in_chunks(evaluate_example, params, rng_key, x, chunk_size)


class AnnealedImportanceSampling(NamedTuple):
    """Result of `annealed_importance_sampling` for each example.

    Attributes:
      log_likelihood: logarithm of the mean weight, in nats, `[num]`.
      log_weights: log weights of the chains, `[num, num_chains]`. A wide spread means an unreliable estimate.
      acceptance_probability: mean over all chains and transitions, `[num]`.
    """

    log_likelihood: Array
    log_weights: Array
    acceptance_probability: Array


def annealed_importance_sampling(
    decode: Conditional,
    prior: Distribution,
    params: Params,
    rng_key: PRNGKey,
    x: ArrayLike,
    *,
    num_temperatures: int = 1000,
    num_chains: int = 16,
    num_integration_steps: int = 10,
    target_acceptance: float = 0.65,
    chunk_size: int = 64,
) -> AnnealedImportanceSampling:
    """Annealed importance sampling from the prior to the posterior of each example, one HMC step per temperature.

        log p(x) ~ log 1/m sum_j prod_t p(x | z_jt)^(b_{t+1} - b_t),    z_jt ~ a transition that keeps p(z) p(x | z)^b_t

    The inverse temperatures b_0 = 0, ..., b_n = 1 follow a sigmoid, which is dense at both ends. A pilot run with a
    tenth of the temperatures (at least 30) and three steps at each adapts the step sizes of each example to the target
    acceptance probability. The main run uses these fixed step sizes, so that its weights are unbiased.

    Args:
      decode: `(params, z) -> p(x | z)`, for one latent vector.
      prior: p(z), with `event_shape` `[latent_dim]`.
      params: parameters of the decoder.
      rng_key: an example's own key is derived from it by the example's index.
      x: examples `[num, ...]`.
      num_temperatures: n, at least 10.
      num_chains: m, the number of independent chains of each example.
      num_integration_steps: number of leapfrog steps of a transition.
      target_acceptance: acceptance probability that the pilot run adapts to, between 0 and 1.
      chunk_size: number of examples that are evaluated at once.

    Returns:
      Log-likelihoods, log weights and acceptance probabilities.

    Raises:
      ValueError: if an argument is out of range, `x` has no examples, or the log density of one example under p(x | z)
        or of one latent vector under the prior is not a scalar.
    """
    checks.count(num_chains=num_chains, num_integration_steps=num_integration_steps, chunk_size=chunk_size)
    if num_temperatures < 10:
        raise ValueError(f"num_temperatures must be at least 10; got {num_temperatures}")
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance must lie strictly between 0 and 1; got {target_acceptance}")

    def evaluate_example(params: Params, key: PRNGKey, example: Array) -> AnnealedImportanceSampling:
        def log_likelihood(z: Array) -> Array:
            return elbo.log_likelihood(decode, params, z, example)

        def tempered(z: Array, rng_key: PRNGKey, inverse_temperature: Array) -> Array:
            del rng_key
            log_prior = checks.scalar(distributions.log_prob(prior, z), "log_prob of prior")
            return log_prior + inverse_temperature * log_likelihood(z)

        def move(key: PRNGKey, z: Array, level: tuple[Array, Array]) -> tuple[Array, Array]:
            """One transition of a chain at an inverse temperature and a step size, and its acceptance probability."""
            inverse_temperature, step_size = level
            kernel = kernels.hmc(tempered, step_size=lambda _: step_size, num_integration_steps=num_integration_steps)
            state, info = kernel.step(key, kernel.init(z, key), inverse_temperature)
            return state.position, info.acceptance_probability

        def start(key: PRNGKey) -> Array:
            return jax.vmap(lambda key: distributions.sample(prior, key))(jax.random.split(key, num_chains))

        def pilot(key: PRNGKey, num: int) -> Array:
            """A step size for each of `num` temperatures, adapted over a few transitions at each."""
            start_key, run_key = jax.random.split(key)
            schedule = jnp.repeat(inverse_temperatures(num)[1:], PILOT_STEPS)

            def advance(carry: tuple[Array, Array], step: Array) -> tuple[tuple[Array, Array], Array]:
                z, size = carry
                keys = jax.random.split(jax.random.fold_in(run_key, step), num_chains)
                z, accepted = jax.vmap(lambda key, z: move(key, z, (schedule[step], size)))(keys, z)
                size = (size * jnp.where(accepted.mean() > target_acceptance, 1.15, 0.85)).astype(size.dtype)
                return (z, size), size

            _, sizes = lax.scan(advance, (start(start_key), jnp.full((), 0.1)), jnp.arange(len(schedule)))
            return jnp.exp(jnp.log(sizes).reshape(num, PILOT_STEPS).mean(axis=1))

        def log_ratio(z: Array, level: tuple[Array, Array], next_level: tuple[Array, Array]) -> Array:
            return (next_level[0] - level[0]) * log_likelihood(z)

        pilot_key, run_key = jax.random.split(key)
        num_pilot = max(MIN_PILOT, num_temperatures // 10)
        sizes = pilot(pilot_key, num_pilot)
        at = jnp.linspace(0, num_pilot - 1, num_temperatures)
        step_sizes = jnp.interp(at, jnp.arange(num_pilot), sizes)
        start_key, run_key = jax.random.split(run_key)
        levels = inverse_temperatures(num_temperatures), jnp.concatenate([step_sizes[:1], step_sizes])
        chains = annealing.anneal(log_ratio, move, start(start_key), run_key, levels)
        log_likelihoods = annealing.log_mean_weight(chains.log_weights)
        return AnnealedImportanceSampling(log_likelihoods, chains.log_weights, chains.info.mean())

    return map_in_chunks(evaluate_example, params, rng_key, x, chunk_size)


def inverse_temperatures(num: int, steepness: float = 4.0) -> Array:
    """Inverse temperatures b_0 = 0, ..., b_num = 1 along a sigmoid, as in Wu et al. (2017).

        b_t = (s(x_t) - s(x_0)) / (s(x_num) - s(x_0)),    x_t evenly spaced from -steepness to steepness

    s is the logistic sigmoid.

    Args:
      num: number of steps.
      steepness: half the range of the sigmoid's argument.

    Returns:
      `[num + 1]`.
    """
    values = jax.nn.sigmoid(jnp.linspace(-steepness, steepness, num + 1))
    return (values - values[0]) / (values[-1] - values[0])


def parzen_window(samples: ArrayLike, x: ArrayLike, scale: float, *, chunk_size: int = 256) -> Array:
    """Parzen-window log density of each example, log 1/n sum_i N(x; samples_i, scale^2 I).

    Args:
      samples: samples of the model, `[n, ...]`.
      x: examples `[num, ...]`, each of the shape of a sample.
      scale: standard deviation of the kernel, chosen on other data by `parzen_scale`.
      chunk_size: number of examples that are evaluated at once. The memory is that of `chunk_size * n` numbers.

    Returns:
      Log densities in nats, `[num]`.

    Raises:
      ValueError: if the shapes differ or the scale is not positive.
    """
    return _parzen(samples, x, [float(scale)], chunk_size)[:, 0]


def parzen_scale(samples: ArrayLike, validation: ArrayLike, scales: Sequence[float]) -> float:
    """Returns the scale with the largest mean Parzen-window log density of validation data.

    Args:
      samples: samples of the model, `[n, ...]`.
      validation: held-out examples that are used neither for training nor for testing, `[num, ...]`.
      scales: candidate standard deviations.

    Returns:
      One of `scales`.

    Raises:
      ValueError: if there are no scales, a number is not finite, or an argument is invalid as in `parzen_window`.
    """
    if not len(scales):
        raise ValueError("scales must not be empty")
    means = np.asarray(_parzen(samples, validation, scales).mean(axis=0))
    if np.isnan(means).any():
        raise ValueError("samples and validation must be finite; their mean log density is NaN")
    return float(scales[int(np.argmax(means))])


def _parzen(samples: ArrayLike, x: ArrayLike, scales: Sequence[float], chunk_size: int = 256) -> Array:
    """`parzen_window` for every scale, `[num, num_scales]`, with distances computed once."""
    samples, x = (np.asarray(a, np.float32) for a in (samples, x))
    if samples.shape[1:] != x.shape[1:] or not len(samples):
        raise ValueError(f"samples must be [n, ...] with examples of shape {x.shape[1:]} as x has; got {samples.shape}")
    for scale in scales:
        checks.positive(scale=scale)
    centre = samples.mean(axis=0)  # centring reduces rounding errors
    flat = (samples - centre).reshape(len(samples), -1)
    sd = np.asarray(scales, float)
    log_normalisers = math.log(len(flat)) + flat.shape[1] * (np.log(sd) + 0.5 * math.log(2 * math.pi))

    def evaluate_example(given: tuple[Array, Array], key: PRNGKey, example: Array) -> Array:
        del key
        samples, half_precisions = given
        products = jnp.dot(samples, example, precision=lax.Precision.HIGHEST)
        distances = jnp.sum(samples**2, axis=1) - 2 * products + jnp.sum(example**2)
        return lax.map(lambda h: jax.nn.logsumexp(-h * jnp.maximum(distances, 0)), half_precisions)

    given = jnp.asarray(flat), jnp.asarray(0.5 / sd**2, jnp.float32)
    examples = (x - centre).reshape(len(x), -1)
    return map_in_chunks(evaluate_example, given, jax.random.key(0), examples, chunk_size) - log_normalisers[None]


def active_units(
    encode: Conditional,
    params: Params,
    x: ArrayLike,
    *,
    threshold: float = 0.01,
    chunk_size: int = 1024,
) -> Array:
    """Marks the latent dimensions that the encoder uses: Var_x E[z | x] > threshold.

    Source: Burda, Grosse & Salakhutdinov, ICLR 2016, section 5.

    Args:
      encode: `(params, x) -> q(z | x)`, for one example.
      params: parameters of the encoder.
      x: examples `[num, ...]`.
      threshold: smallest variance of the posterior mean over examples.
      chunk_size: number of examples that are evaluated at once.

    Returns:
      Booleans `[latent_dim]`.

    Raises:
      ValueError: if `x` has no examples.
    """
    means = map_in_chunks(
        lambda params, key, example: distributions.mean(encode(params, example)),
        params,
        jax.random.key(0),
        x,
        chunk_size,
    )
    return jnp.var(means, axis=0) > threshold


def bits_per_dimension(log_likelihood: ArrayLike, num_dimensions: int, num_levels: int = 256) -> Array:
    """Bits per dimension, -log_2 p(x) / num_dimensions + log_2 num_levels.

    Args:
      log_likelihood: log-likelihoods in nats, of any shape.
      num_dimensions: number of dimensions of one example, pixels times channels for an image.
      num_levels: number of levels of data (level + u) / num_levels with u uniform on [0, 1). The result then bounds the
        code length of the levels (Theis et al. 2016). Data from `data.load` are bytes divided by 255 without u, for
        which the result is not a bound. Use 1 for probabilities of discrete data.

    Returns:
      Bits per dimension, of the shape of `log_likelihood`.

    Raises:
      ValueError: if a number is not positive.
    """
    checks.positive(num_dimensions=num_dimensions, num_levels=num_levels)
    return -jnp.asarray(log_likelihood) / (num_dimensions * math.log(2)) + math.log2(num_levels)
