"""How probable a latent-variable model holds data to be: log p(x) of a decoder, which no formula gives.

    log p(x) = log E_{z ~ q(z | x)} [ p(x, z) / q(z | x) ]                    importance sampling with the encoder
    log p(x) = log E [ prod_t p(x | z_t)^(b_{t+1} - b_t) ]                    annealed: no encoder; z_0 ~ p(z), each z_t
                                                                              by a step that keeps p(z) p(x | z)^b_t
    log p(x) ~ log 1/n sum_i N(x; y_i, s^2 I),  y_i ~ the model               Parzen window: of samples alone

Averages of unbiased estimates of p(x) under the logarithm, the first two are lower bounds in expectation. The last is
no bound, and poor in many dimensions (Theis, van den Oord & Bethge, ICLR 2016); it is here because the literature
reports it. Sources: Burda, Grosse & Salakhutdinov, ICLR 2016; Neal, "Annealed importance sampling", 2001, as Wu et
al. apply it, "On the quantitative analysis of decoder-based generative models", ICLR 2017; Breuleux, Bengio & Vincent
2011.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesjax import checks, kernels
from bayesjax.objectives import elbo
from bayesjax.types import Array, ArrayLike, Conditional, Distribution, Params, PRNGKey

MIN_PILOT, PILOT_STEPS = 30, 3  # temperatures of the pilot run, and steps at each


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
    """Log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x), z_i ~ q(z | x), of each example: a lower bound that rises with k.

    Args:
      encode: `(params, x) -> q(z | x)`, of one example.
      decode: `(params, z) -> p(x | z)`, of one latent vector.
      prior: p(z).
      params: of both.
      rng_key: each example has its own, by its place.
      x: examples `[num, ...]`.
      num_samples: k, the exact number of draws; for k = 1 the mean of the result is the ELBO.
      chunk_size: examples at once.
      sample_chunk_size: draws at once; the last chunk has the remainder. Memory is that of
        `chunk_size * sample_chunk_size` evaluations of the decoder, whatever `num` and `num_samples` are.

    Returns:
      Nats `[num]`.

    Raises:
      ValueError: if a count is not positive, `x` has no examples, or a distribution is not over whole vectors.
    """
    checks.count(num_samples=num_samples, chunk_size=chunk_size, sample_chunk_size=sample_chunk_size)
    num_chunks, remainder = divmod(num_samples, sample_chunk_size)

    def of_example(params: Params, key: PRNGKey, example: Array) -> Array:
        def log_sum(index: Array | int, num: int) -> Array:
            """The logarithm of the sum of a chunk's `num` weights."""
            negative_bound = elbo.negative_iwae_bound(encode, decode, prior, num_samples=num)
            value, _ = negative_bound(params, jax.random.fold_in(key, index), example)
            return math.log(num) - value

        parts = []
        if num_chunks:
            parts.append(lax.map(lambda index: log_sum(index, sample_chunk_size), jnp.arange(num_chunks)))
        if remainder:
            parts.append(log_sum(num_chunks, remainder)[None])
        return jax.nn.logsumexp(jnp.concatenate(parts)) - math.log(num_samples)

    return _in_batches(of_example, params, rng_key, x, chunk_size)


class AnnealedImportanceSampling(NamedTuple):
    """What `annealed_importance_sampling` found for each example.

    Attributes:
      log_likelihood: nats `[num]`, the logarithm of the mean weight.
      log_weights: `[num, num_chains]`; their spread tells how far the estimate can be trusted.
      acceptance_probability: `[num]`, the mean over all transitions.
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

    The inverse temperatures b_0 = 0, ..., b_n = 1 are those of a sigmoid, dense at both ends. The step sizes come from
    a pilot run with a tenth of the temperatures (at least 30) and three steps at each, which adapts them by example
    towards an acceptance probability; the run itself takes them as given, so that its weights are unbiased.

    Args:
      decode: `(params, z) -> p(x | z)`, of one latent vector.
      prior: p(z), of `event_shape` `[latent_dim]`.
      params: the decoder's.
      rng_key: each example has its own, by its place.
      x: examples `[num, ...]`.
      num_temperatures: n, at least 10.
      num_chains: independent chains of an example, whose weights are averaged.
      num_integration_steps: leapfrog steps of a transition.
      target_acceptance: of a transition.
      chunk_size: examples at once.

    Raises:
      ValueError: if an argument is out of range, `x` has no examples, p(x | z) is not over one, or the prior's density
        of one vector is not a scalar.
    """
    checks.count(num_chains=num_chains, num_integration_steps=num_integration_steps, chunk_size=chunk_size)
    if num_temperatures < 10:
        raise ValueError(f"num_temperatures must be at least 10; got {num_temperatures}")
    if not 0 < target_acceptance < 1:
        raise ValueError(f"target_acceptance must lie strictly between 0 and 1; got {target_acceptance}")

    def of_example(params: Params, key: PRNGKey, example: Array) -> AnnealedImportanceSampling:
        def log_likelihood(z: Array) -> Array:
            return elbo.log_likelihood(decode, params, z, example)

        def tempered(z: Array, rng_key: PRNGKey, inverse_temperature: Array) -> Array:
            del rng_key
            log_prior = checks.scalar(prior.log_prob(z), "log_prob of prior")
            return log_prior + inverse_temperature * log_likelihood(z)

        def move(key: PRNGKey, z: Array, inverse_temperature: Array, step_size: Array) -> tuple[Array, Array]:
            """All chains a step on, and their mean acceptance probability."""
            kernel = kernels.hmc(tempered, step_size=lambda _: step_size, num_integration_steps=num_integration_steps)

            def one(key: PRNGKey, z: Array) -> tuple[Array, Array]:
                state, info = kernel.step(key, kernel.init(z, key), inverse_temperature)
                return state.position, info.acceptance_probability

            z, accepted = jax.vmap(one)(jax.random.split(key, num_chains), z)
            return z, accepted.mean()

        def start(key: PRNGKey) -> Array:
            return jax.vmap(lambda key: prior.sample(seed=key))(jax.random.split(key, num_chains))

        def pilot(key: PRNGKey, num: int) -> Array:
            """A step size for each of `num` temperatures, adapted in a few transitions at each."""
            start_key, run_key = jax.random.split(key)
            schedule = jnp.repeat(inverse_temperatures(num)[1:], PILOT_STEPS)

            def advance(carry: tuple[Array, Array], step: Array) -> tuple[tuple[Array, Array], Array]:
                z, size = carry
                z, accepted = move(jax.random.fold_in(run_key, step), z, schedule[step], size)
                size = (size * jnp.where(accepted > target_acceptance, 1.15, 0.85)).astype(size.dtype)
                return (z, size), size

            _, sizes = lax.scan(advance, (start(start_key), jnp.full((), 0.1)), jnp.arange(len(schedule)))
            return jnp.exp(jnp.log(sizes).reshape(num, PILOT_STEPS).mean(axis=1))

        def anneal(key: PRNGKey, step_sizes: Array) -> tuple[Array, Array]:
            """Log weights `[num_chains]` and acceptance probabilities `[num_temperatures]`."""
            start_key, run_key = jax.random.split(key)
            schedule = inverse_temperatures(num_temperatures)

            def advance(carry: tuple[Array, Array], step: Array) -> tuple[tuple[Array, Array], Array]:
                z, log_weights = carry
                log_weights += (schedule[step + 1] - schedule[step]) * jax.vmap(log_likelihood)(z)
                z, accepted = move(jax.random.fold_in(run_key, step), z, schedule[step + 1], step_sizes[step])
                return (z, log_weights), accepted

            (_, log_weights), accepted = lax.scan(
                advance, (start(start_key), jnp.zeros(num_chains)), jnp.arange(num_temperatures)
            )
            return log_weights, accepted

        pilot_key, run_key = jax.random.split(key)
        num_pilot = max(MIN_PILOT, num_temperatures // 10)
        sizes = pilot(pilot_key, num_pilot)
        at = jnp.linspace(0, num_pilot - 1, num_temperatures)
        log_weights, accepted = anneal(run_key, jnp.interp(at, jnp.arange(num_pilot), sizes))
        return AnnealedImportanceSampling(
            jax.nn.logsumexp(log_weights) - math.log(num_chains), log_weights, accepted.mean()
        )

    return _in_batches(of_example, params, rng_key, x, chunk_size)


def inverse_temperatures(num: int, steepness: float = 4.0) -> Array:
    """b_0 = 0, ..., b_num = 1: a sigmoid, evenly from -steepness to steepness, `[num + 1]` (Wu et al. 2017)."""
    values = jax.nn.sigmoid(jnp.linspace(-steepness, steepness, num + 1))
    return (values - values[0]) / (values[-1] - values[0])


def parzen_window(samples: ArrayLike, x: ArrayLike, scale: float, *, chunk_size: int = 256) -> Array:
    """Log 1/n sum_i N(x; samples_i, scale^2 I), of each example.

    Args:
      samples: of the model, `[n, ...]`.
      x: examples `[num, ...]`, of the same shape each.
      scale: the kernel's standard deviation, chosen on other data (`parzen_scale`).
      chunk_size: examples at once; memory is that of `chunk_size * n` numbers.

    Returns:
      Nats `[num]`.

    Raises:
      ValueError: if the shapes differ or the scale is not positive.
    """
    return _parzen(samples, x, [float(scale)], chunk_size)[:, 0]


def parzen_scale(samples: ArrayLike, validation: ArrayLike, scales: Sequence[float]) -> float:
    """Of `scales`, the one under which `validation` is most probable: data that are neither trained nor tested on.

    Raises:
      ValueError: if there are no scales or numbers that are not finite, and as `parzen_window`.
    """
    if not len(scales):
        raise ValueError("scales is empty: parzen_scale chooses one of them")
    means = np.asarray(_parzen(samples, validation, scales).mean(axis=0))
    if np.isnan(means).any():
        raise ValueError("samples and validation must be finite: their mean log density is NaN")
    return float(scales[int(np.argmax(means))])


def _parzen(samples: ArrayLike, x: ArrayLike, scales: Sequence[float], chunk_size: int = 256) -> Array:
    """`parzen_window` under every scale, `[num, num_scales]`, from one computation of the distances."""
    samples, x = (np.asarray(a, np.float32) for a in (samples, x))
    if samples.shape[1:] != x.shape[1:] or not len(samples):
        raise ValueError(f"samples must be [n, ...] of x's shape {x.shape[1:]}; got {samples.shape}")
    for scale in scales:
        checks.positive(scale=scale)
    centre = samples.mean(axis=0)  # smaller numbers, smaller rounding errors
    flat = (samples - centre).reshape(len(samples), -1)
    sd = np.asarray(scales, float)
    log_normalisers = math.log(len(flat)) + flat.shape[1] * (np.log(sd) + 0.5 * math.log(2 * math.pi))

    def of_example(given: tuple[Array, Array], key: PRNGKey, example: Array) -> Array:
        del key
        samples, half_precisions = given
        products = jnp.dot(samples, example, precision=lax.Precision.HIGHEST)
        distances = jnp.sum(samples**2, axis=1) - 2 * products + jnp.sum(example**2)
        return lax.map(lambda h: jax.nn.logsumexp(-h * jnp.maximum(distances, 0)), half_precisions)

    given = jnp.asarray(flat), jnp.asarray(0.5 / sd**2, jnp.float32)
    examples = (x - centre).reshape(len(x), -1)
    return _in_batches(of_example, given, jax.random.key(0), examples, chunk_size) - log_normalisers[None]


def active_units(
    encode: Conditional,
    params: Params,
    x: ArrayLike,
    *,
    threshold: float = 0.01,
    chunk_size: int = 1024,
) -> Array:
    """Which latent dimensions the encoder uses: those whose posterior mean varies over the data by more than
    `threshold` (variance). Booleans `[latent_dim]`.

    Source: Burda, Grosse & Salakhutdinov, ICLR 2016, section 5.
    """
    means = _in_batches(
        lambda params, key, example: encode(params, example).mean(), params, jax.random.key(0), x, chunk_size
    )
    return jnp.var(means, axis=0) > threshold


def bits_per_dimension(log_likelihood: ArrayLike, num_dimensions: int, num_levels: int = 256) -> Array:
    """-log_2 p(x) / dimensions, of nats.

    Args:
      log_likelihood: of examples, any shape.
      num_dimensions: of one example: pixels times channels.
      num_levels: for a density of values (level + u) / num_levels with u uniform on [0, 1), where the result bounds the
        code length of the levels (Theis et al. 2016). `data.load` divides bytes by 255 and adds no u: a density of such
        values bounds nothing. 1 for probabilities of discrete data.
    """
    checks.positive(num_dimensions=num_dimensions, num_levels=num_levels)
    return -jnp.asarray(log_likelihood) / (num_dimensions * math.log(2)) + math.log2(num_levels)


# ---- many examples


def _in_batches(
    of_example: Callable[[Any, PRNGKey, Array], Any], params: Any, rng_key: PRNGKey, x: ArrayLike, chunk_size: int
) -> Any:
    """`of_example(params, key, example)` of all examples `[num, ...]`, `chunk_size` at once, in one compiled loop."""
    examples = jnp.asarray(x)
    num = len(examples) if examples.ndim else 0
    if num == 0:
        raise ValueError(f"x must be [num >= 1, ...]; got shape {examples.shape}")

    # Batches of one size, the last filled up: a remainder would be compiled as a program of its own.
    num_batches = -(-num // chunk_size)
    size = -(-num // num_batches)

    @jax.jit
    def loop(params: Any, rng_key: PRNGKey, examples: Array) -> Any:
        index = jnp.arange(num_batches * size) % num
        keys = jax.vmap(functools.partial(jax.random.fold_in, rng_key))(index)

        def one_batch(batch: tuple[Array, PRNGKey]) -> Any:
            places, keys = batch
            return jax.vmap(functools.partial(of_example, params))(keys, examples[places])

        results = lax.map(one_batch, (index.reshape(num_batches, size), keys.reshape(num_batches, size)))
        return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:num], results)

    return loop(params, rng_key, examples)
