"""Draws, log densities and divergences of distributions of distrax, NumPyro and distreqx, through the same functions.

    sample(distribution, rng_key, sample_shape)                 draws
    sample_and_log_prob(distribution, rng_key, sample_shape)    draws and their log densities
    log_prob(distribution, values, sample_shape)                log densities
    kl_divergence(distribution, other)                          in closed form, for two distributions of one library
    mean(distribution)                                          the mean
    shapes(distribution)                                        event shape and batch shape
    is_reparameterised(distribution, draws)                     whether draws are differentiable in the parameters

The library calls distributions through these functions alone, so encoders, decoders, priors and the conditionals of
Gibbs samplers may be distributions of any of the three. A class of your own needs the methods of distrax:
`sample(seed=, sample_shape=)`, `log_prob`, and if available `sample_and_log_prob` and `kl_divergence`. None of the
libraries is imported here. Read `objectives/elbo.py` next.
"""

import contextlib
import math
import sys
from typing import Any

import jax
import jax.numpy as jnp

from bayesjax.types import Array, Distribution, PRNGKey, PyTree

NOT_REPARAMETERISED = ("Bernoulli", "Categorical", "OneHotCategorical", "MixtureSameFamily", "MixtureOfTwo")
"""Classes of distrax and distreqx whose draws have no gradient or a wrong one, whatever their type of number."""


def sample(distribution: Distribution, rng_key: PRNGKey, sample_shape: tuple[int, ...] = ()) -> PyTree:
    """Draws from a distribution.

    Args:
      distribution: of distrax, NumPyro or distreqx.
      rng_key: consumed.
      sample_shape: shape of the array of draws; () for one draw.

    Returns:
      `[*sample_shape, *batch_shape, *event_shape]`.
    """
    library = _library(distribution)
    with _broadcasting(library, sample_shape):
        if library == "numpyro":
            return distribution.sample(rng_key, sample_shape)
        if library == "distreqx":
            return _of_many(distribution.sample, _keys(rng_key, sample_shape), sample_shape)
        options = {"sample_shape": sample_shape} if sample_shape else {}
        return distribution.sample(seed=rng_key, **options)


def log_prob(distribution: Distribution, values: PyTree, sample_shape: tuple[int, ...] = ()) -> Array:
    """The log density, or log probability, of given values.

    Args:
      distribution: of distrax, NumPyro or distreqx.
      values: `[*sample_shape, *batch_shape, *event_shape]`.
      sample_shape: the leading axes of `values`; () for one value.

    Returns:
      `[*sample_shape, *batch_shape]`.
    """
    library = _library(distribution)
    with _broadcasting(library, sample_shape):
        if library == "distreqx":
            if _is_any(distribution, "Bernoulli"):  # its derivative fails for whole numbers
                values = jnp.asarray(values, float)
            return _of_many(distribution.log_prob, values, sample_shape)
        return distribution.log_prob(values)


def sample_and_log_prob(
    distribution: Distribution, rng_key: PRNGKey, sample_shape: tuple[int, ...] = ()
) -> tuple[PyTree, Array]:
    """Draws from a distribution, and the log density of each draw.

    Args:
      distribution: of distrax, NumPyro or distreqx.
      rng_key: consumed.
      sample_shape: shape of the array of draws; () for one draw.

    Returns:
      Draws `[*sample_shape, *batch_shape, *event_shape]` and log densities `[*sample_shape, *batch_shape]`.
    """
    library = _library(distribution)
    in_one_call = hasattr(distribution, "sample_and_log_prob") and library != "numpyro"
    if not in_one_call or (library == "distreqx" and _is_any(distribution, "Bernoulli")):
        drawn = sample(distribution, rng_key, sample_shape)
        return drawn, log_prob(distribution, drawn, sample_shape)
    with _broadcasting(library, sample_shape):
        if library == "distreqx":
            return _of_many(distribution.sample_and_log_prob, _keys(rng_key, sample_shape), sample_shape)
        options = {"sample_shape": sample_shape} if sample_shape else {}
        return distribution.sample_and_log_prob(seed=rng_key, **options)


def kl_divergence(distribution: Distribution, other: Distribution) -> Array:
    """KL(distribution || other) in closed form.

    Args:
      distribution, other: two distributions of the same library.

    Returns:
      `[*batch_shape]`, in nats.

    Raises:
      ValueError: if the library has no closed form for the two, or they belong to different libraries.
    """
    library, other_library = _library(distribution), _library(other)
    is_known = _name(distribution) == _name(other) or library != "distreqx"  # it applies formulas to any other class
    if library == other_library and is_known:
        # All three libraries raise NotImplementedError for a pair without a formula; the error below names the pair.
        with contextlib.suppress(NotImplementedError), _broadcasting(library, ()):
            if library == "numpyro":
                from numpyro.distributions import kl_divergence  # pyright: ignore[reportMissingImports]

                return kl_divergence(distribution, other)
            return distribution.kl_divergence(other)
    raise ValueError(
        f"kl: there is no closed form between {_name(distribution)} of {library} and {_name(other)} of "
        f"{other_library}; use kl='sampled'"
    )


def mean(distribution: Distribution) -> Array:
    """The mean of a distribution, `[*batch_shape, *event_shape]`; NumPyro has it as an attribute."""
    value = distribution.mean
    return value if isinstance(value, jax.Array) else value()


def shapes(distribution: Distribution) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The event shape and the batch shape of a distribution; those of distreqx have no batch axes."""
    return tuple(distribution.event_shape), tuple(getattr(distribution, "batch_shape", ()))


def is_reparameterised(distribution: Distribution, draws: PyTree) -> bool:
    """Whether draws are differentiable functions of the parameters, as those of a normal distribution are.

    Args:
      distribution: of distrax, NumPyro or distreqx.
      draws: from `distribution`; whole numbers are not differentiable.
    """
    if _library(distribution) == "numpyro":
        return bool(distribution.has_rsample)
    if not all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(draws)):
        return False
    return not _is_any(distribution, *NOT_REPARAMETERISED)


def _library(distribution: Any) -> str:
    """ "numpyro" or "distreqx" if the distribution is of these libraries, otherwise "distrax"."""
    if isinstance(distribution, _loaded("numpyro.distributions", "Distribution")):
        return "numpyro"
    return (
        "distreqx" if isinstance(distribution, _loaded("distreqx.distributions", "AbstractDistribution")) else "distrax"
    )


def _loaded(module: str, *names: str) -> tuple[type, ...]:
    """Classes of a module; none if it is not loaded, because then no object of them can exist."""
    loaded = sys.modules.get(module)
    return tuple(getattr(loaded, name) for name in names if hasattr(loaded, name))


def _name(distribution: Any) -> str:
    """The names of the classes of a distribution and of those inside."""
    return " ".join(type(layer).__name__ for layer in _layers(distribution))


def _layers(distribution: Any) -> list[Any]:
    """A distribution, and those inside of independent or transformed ones."""
    layers = [distribution]
    while (inner := getattr(layers[-1], "distribution", getattr(layers[-1], "base_dist", None))) is not None:
        layers.append(inner)
    return layers


def _is_any(distribution: Any, *names: str) -> bool:
    """Whether a distribution, or one inside, is of one of these classes of distrax or distreqx."""
    classes = _loaded("distrax", *names) + _loaded("distreqx.distributions", *names)
    return any(isinstance(layer, classes) for layer in _layers(distribution))


def _broadcasting(library: str, sample_shape: tuple[int, ...]) -> Any:
    """The context of calls that broadcast parameters against draws, as NumPyro and distreqx do even for one draw."""
    return contextlib.nullcontext() if library == "distrax" and not sample_shape else jax.numpy_rank_promotion("allow")


def _keys(rng_key: PRNGKey, sample_shape: tuple[int, ...]) -> PRNGKey:
    """A key for each draw; one draw uses the key itself."""
    return jax.random.split(rng_key, sample_shape) if sample_shape else rng_key


def _of_many(function: Any, values: PyTree, sample_shape: tuple[int, ...]) -> Any:
    """`function` of one value, over the leading axes `sample_shape` of `values`."""
    num_axes = len(sample_shape)
    if not num_axes:
        return function(values)
    flat = jax.tree.map(lambda leaf: leaf.reshape(math.prod(sample_shape), *leaf.shape[num_axes:]), values)
    outputs = jax.vmap(function)(flat)
    return jax.tree.map(lambda leaf: leaf.reshape(*sample_shape, *leaf.shape[1:]), outputs)
