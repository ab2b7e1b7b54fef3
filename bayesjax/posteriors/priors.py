"""Priors over a pytree of weights, such as independent normals.

    log p(w) = sum_j log N(w_j; 0, sd^2)

Each prior is a normalised log density `params -> scalar` in nats. Scales may be traced values, for example to optimise
or sample them. Draw from `gaussian` with `sample_gaussian`, and from `fan_in_gaussian` with
`models.initializers.fan_in_normal`. Read `log_posterior.py` next.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from bayesjax import checks, tree
from bayesjax.posteriors.softplus import softplus
from bayesjax.types import Array, Params, Prior, PRNGKey


def gaussian(scale: float = 1.0) -> Prior:
    """Independent normal priors on every weight and bias.

        log p(w) = sum_j log N(w_j; 0, scale^2)

    Args:
      scale: standard deviation.

    Returns:
      The log prior `params -> scalar`, in nats.

    Raises:
      ValueError: if `scale` is not between 1e-15 and 1e15.
    """
    _check_scale(scale)
    return lambda params: _gaussian_log_prob(params, jax.tree.map(lambda _: scale, params))


def fan_in_gaussian(scale: float = 1.0, *, out_axis: int | None = None) -> Prior:
    """Independent normal priors whose variance is divided by the fan-in of a layer.

        w_j ~ N(0, scale^2 / fan_in) for weights with two axes or more
        w_j ~ N(0, scale^2) for other parameters, such as biases and normalisation scales

    The prior variance of a unit's input then does not grow with the width (Neal, "Bayesian learning for neural
    networks", 1996).

    Args:
      scale: standard deviation where the fan-in is 1.
      out_axis: as in `fan_in_scales`; 0 for PyTorch's and Equinox's `[out, in, ...]`.

    Returns:
      The log prior `params -> scalar`, in nats.

    Raises:
      ValueError: if `scale` is not between 1e-15 and 1e15. The returned prior raises it in the cases that
        `fan_in_scales` states.
    """
    _check_scale(scale)
    return lambda params: _gaussian_log_prob(params, fan_in_scales(params, scale, out_axis=out_axis))


def scale_mixture(weight: float = 0.5, scales: tuple[float, float] = (1.0, math.exp(-6))) -> Prior:
    """A mixture of two normals as the prior of every weight.

        log p(w) = sum_j log [weight N(w_j; 0, scales[0]^2) + (1 - weight) N(w_j; 0, scales[1]^2)]

    The narrow component pulls most weights to 0, and the wide one allows large weights. The gradient is finite
    everywhere. Source: Blundell et al., "Weight uncertainty in neural networks", ICML 2015, equation 7.

    Args:
      weight: weight of the first component, strictly between 0 and 1.
      scales: standard deviations of the two components. Unlike the scales of other priors, they must not be traced.

    Returns:
      The log prior `params -> scalar`, in nats.

    Raises:
      ValueError: if `weight` is not strictly between 0 and 1, or a scale is traced or not between 1e-15 and 1e15.
    """
    if isinstance(weight, Tracer) or any(isinstance(scale, Tracer) for scale in scales):
        raise ValueError("weight and scales of a scale_mixture must be numbers; got a traced value")
    if not 0 < weight < 1:
        raise ValueError(f"weight must lie strictly between 0 and 1; got {weight}")
    for scale in scales:
        _check_scale(scale)
    offsets = [
        math.log(part) - math.log(scale) - 0.5 * math.log(2 * math.pi)
        for part, scale in zip((weight, 1 - weight), scales, strict=True)
    ]
    half_precisions = [0.5 / scale**2 for scale in scales]

    def log_prob(w: Array) -> Array:
        square = tree.widen(w) ** 2
        lead = (offsets[1] - offsets[0]) - (half_precisions[1] - half_precisions[0]) * square
        values = softplus(lead) - half_precisions[0] * square
        if values.dtype == jnp.float32:  # rounds nothing, but prevents the fusion into the sum, which is slow on CPUs
            values = jax.lax.reduce_precision(values, exponent_bits=8, mantissa_bits=23)
        return jnp.sum(values) + w.size * offsets[0]

    return lambda params: tree.sum_leaves(jax.tree.map(log_prob, params))


def laplace_prior(scale: float = 1.0) -> Prior:
    """Independent Laplace priors on every weight and bias, which act as an L1 penalty.

        log p(w) = -sum_j [ |w_j| / scale + log(2 scale) ]

    Args:
      scale: mean absolute value of a weight.

    Returns:
      The log prior `params -> scalar`, in nats.

    Raises:
      ValueError: if `scale` is not between 1e-15 and 1e15.
    """
    _check_scale(scale)

    def log_prob(w: Array) -> Array:
        return -jnp.sum(jnp.abs(tree.widen(w))) / scale - w.size * log_of_scale(2 * scale)

    return lambda params: tree.sum_leaves(jax.tree.map(log_prob, params))


def by_path(priors: Mapping[str, Prior]) -> Prior:
    """Combines different priors for different parts of the network.

    A leaf has the prior of the first pattern that its path matches (`tree.match_paths`). An example of the argument is
    `{"Dense_0/*": laplace_prior(0.1), "*/bias": gaussian(10.0), "*": scale_mixture()}`.

    Args:
      priors: a prior for each pattern of paths, whose keys are joined by "/".

    Returns:
      The log prior `params -> scalar`, in nats.

    Raises:
      ValueError: the returned prior raises it if a leaf matches no pattern, a pattern is the first match of no leaf, or
        the prior of a part does not return a scalar.
    """

    def log_prior(params: Params) -> Array:
        leaves = tree.leaves_by_path(params)
        chosen = tree.match_paths(leaves, tuple(priors), "priors")
        total = jnp.zeros(())
        for name, prior in priors.items():
            part = {path: leaf for (path, leaf), pattern in zip(leaves.items(), chosen, strict=True) if pattern == name}
            total += checks.scalar(prior(part), f"the prior of {name}")
        return total

    return log_prior


def fan_in_scales(params: Params, scale: float = 1.0, *, out_axis: int | None = None) -> Params:
    """The standard deviation of each leaf under `fan_in_gaussian`, as a pytree of floats.

        sd = scale / sqrt(fan_in) for leaves of two axes or more, with fan_in the product of all axes except `out_axis`
        sd = scale for other leaves

    `posteriors.kl_to_fan_in_gaussian` uses the same standard deviations.

    Args:
      params: weights, or a pytree of `jax.ShapeDtypeStruct` with their shapes.
      scale: standard deviation where the fan-in is 1.
      out_axis: axis of the outputs in weights of two axes or more: -1 for `[..., in, out]` (Flax, Haiku), 0 for
        `[out, in, ...]` (PyTorch, Equinox). None means -1, and refuses leaves with the names that PyTorch and Equinox
        use for `[out, in, ...]`: "weight", or names that contain it, such as "weight_ih".

    Raises:
      ValueError: if `out_axis` is None and a leaf of two axes or more has such a name, or `out_axis` is not an axis of
        a leaf of two axes or more.
    """
    axis = -1 if out_axis is None else out_axis

    def deviation(keys: Any, w: Array) -> float:
        if w.ndim < 2:
            return scale
        path = jax.tree_util.keystr(keys, simple=True, separator="/")
        if out_axis is None and "weight" in re.split(r"[/.]", path)[-1].split("_"):
            raise ValueError(
                f"out_axis must be given for {path} {w.shape}: 0 if it is [out, in, ...], as PyTorch's and Equinox's "
                f"weights are, or -1 if it is [..., in, out]"
            )
        if not -w.ndim <= axis < w.ndim:
            raise ValueError(f"out_axis must be an axis of {path} {w.shape}; got {axis}")
        fan_in = math.prod(size for i, size in enumerate(w.shape) if i != axis % w.ndim)
        return scale / math.sqrt(fan_in)

    return jax.tree.map_with_path(deviation, params)


def sample_gaussian(rng_key: PRNGKey, params: Params, scale: float = 1.0) -> Params:
    """Draws weights from the prior `gaussian(scale)`, shaped like `params`.

    Args:
      rng_key: consumed.
      params: a pytree whose shapes and types the draw has.
      scale: standard deviation of every weight.
    """
    return jax.tree.map(lambda xi: scale * xi, tree.normal_like(rng_key, params))


def _gaussian_log_prob(params: Params, scales: Params) -> Array:
    def leaf_log_prob(w: Array, sd: float) -> Array:
        return -0.5 * jnp.sum(tree.widen(w) ** 2) / sd**2 - w.size * (log_of_scale(sd) + 0.5 * math.log(2 * math.pi))

    return tree.sum_leaves(jax.tree.map(leaf_log_prob, params, scales))


def _check_scale(scale: float) -> None:
    checks.number(scale=scale)
    if not isinstance(scale, Tracer) and not 1e-15 <= scale <= 1e15:
        raise ValueError(f"scale must lie between 1e-15 and 1e15, so that float32 holds its square; got {scale}")


def log_of_scale(scale: float | Array) -> float | Array:
    """The logarithm of a scale: a Python float, or an array if the scale is traced."""
    return jnp.log(scale) if isinstance(scale, Tracer) else math.log(scale)
