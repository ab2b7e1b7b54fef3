"""Measures of a generator's latent space: perceptual path length, and the influence of groups of styles.

    path length        E |d/dt f(G(z(t)))|^2,    at a random point t of a random path z(t) from z_0 to z_1
    style influence    E |f(G(w_group)) - f(G(w))|^2 / E |f(G(w')) - f(G(w))|^2

G is the generator, and f computes the features of an image, such as those of a judge (`judge.py`). w and w' are the
styles of two images, with one vector for each layer, and w_group is w with the styles of a group of layers from w'. A
small path length means that images change evenly along interpolations. Its unit is that of squared features, so values
compare only for the same f. Source of the path length: Karras, Laine & Aila, "A style-based generator architecture for
generative adversarial networks", CVPR 2019, section 4.1. Read `generation.py` for measures of the images themselves.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import checks
from bayesjax.evaluation.chunks import map_in_chunks
from bayesjax.types import Array, ArrayLike, PRNGKey

Interpolation = Literal["slerp", "lerp"]
Features = Callable[[Any, PRNGKey, Array], Array]
"""The features of the image of one code, `(params, rng_key, code) -> features`; the key draws the generator's noise."""


class PerceptualPathLength(NamedTuple):
    """A perceptual path length.

    Attributes:
      value: trimmed mean of the squared speeds, in squared units of the features.
      stderr: standard error of the mean of the squared speeds that were kept.
      num_paths: number of paths, trimmed ones included.
    """

    value: float
    stderr: float
    num_paths: int


def perceptual_path_length(
    features: Features,
    params: Any,
    rng_key: PRNGKey,
    starts: ArrayLike,
    ends: ArrayLike,
    *,
    interpolation: Interpolation = "slerp",
    epsilon: float | None = None,
    is_full: bool = True,
    trim: float = 0.01,
    chunk_size: int = 100,
) -> PerceptualPathLength:
    """Perceptual path length: the mean squared speed at which features change along interpolations of codes.

        PPL = E |f(G(z(t + epsilon))) - f(G(z(t)))|^2 / epsilon^2,    or its limit E |d/dt f(G(z(t)))|^2

    The limit is the default. Forward differentiation computes it without rounding errors or bias, at about the same
    cost as a finite difference. In float32, rounding adds about (1e-7 |f| / epsilon)^2 to the mean square of a finite
    difference, so short paths need a larger epsilon than the source's. The noise of an image is the same at both ends
    of a step. The features must be differentiable: `Judge.features` does not round images to 256 levels, unlike
    `Judge.read`.

    Args:
      features: `(params, rng_key, code) -> features of any shape`, for one code, with the generator inside.
      params: first argument of `features`.
      rng_key: consumed; path i has its own key.
      starts: codes `[num, ...]` at which the paths start: noise z, or styles w.
      ends: codes `[num, ...]` at which they end.
      interpolation: "slerp" follows a great circle at constant angular speed, with a norm that changes linearly; it is
        for z. "lerp" follows a straight line; it is for w.
      epsilon: step in t of a finite difference, 1e-4 in the source; None for the limit.
      is_full: whether t is uniform on (0, 1); otherwise t = 0, the start of each path.
      trim: fraction of the paths that is left out at each end of the sorted speeds, in [0, 0.5).
      chunk_size: number of paths that are evaluated at once.

    Returns:
      The trimmed mean of the squared speeds, its standard error and the number of paths.

    Raises:
      ValueError: if the codes differ in shape, there are none, or another argument is outside its range.
    """
    starts, ends = jnp.asarray(starts), jnp.asarray(ends)
    if starts.shape != ends.shape or starts.ndim < 2:
        raise ValueError(f"starts and ends must be [num, ...] of one shape; got {starts.shape} and {ends.shape}")
    if interpolation not in get_args(Interpolation):
        raise ValueError(f"interpolation must be slerp or lerp; got {interpolation!r}")
    checks.satisfies("in [0, 0.5)", lambda trim: (trim >= 0) & (trim < 0.5), trim=trim)
    if epsilon is not None:
        checks.positive(epsilon=epsilon)
    interpolate = _slerp if interpolation == "slerp" else _lerp

    def squared_speed(params: Any, rng_key: PRNGKey, path: Array) -> Array:
        place_key, noise_key = jax.random.split(rng_key)
        t = jax.random.uniform(place_key, dtype=path.dtype) if is_full else jnp.zeros((), path.dtype)

        def features_at(t: Array) -> Array:
            return features(params, noise_key, interpolate(path[0], path[1], t))

        if epsilon is None:
            _, speed = jax.jvp(features_at, (t,), (jnp.ones_like(t),))
        else:
            speed = (features_at(t + epsilon) - features_at(t)) / epsilon
        return jnp.sum(speed**2)

    paths = jnp.stack([starts, ends], axis=1)
    squares = np.asarray(map_in_chunks(squared_speed, params, rng_key, paths, chunk_size), np.float64)
    low, high = np.quantile(squares, trim, method="lower"), np.quantile(squares, 1 - trim, method="higher")
    kept = squares[(squares >= low) & (squares <= high)] if trim else squares
    stderr = float(kept.std(ddof=1) / np.sqrt(len(kept))) if len(kept) > 1 else np.nan
    return PerceptualPathLength(float(kept.mean()) if len(kept) else np.nan, stderr, len(squares))


def style_influence(
    features: Features,
    params: Any,
    rng_key: PRNGKey,
    styles: ArrayLike,
    other_styles: ArrayLike,
    groups: Mapping[str, Sequence[int]],
    *,
    chunk_size: int = 100,
) -> dict[str, float]:
    """How much images change when the styles of a group of layers come from other images.

        influence = E |f(G(w_group)) - f(G(w))|^2 / E |f(G(w')) - f(G(w))|^2

    It is 0 if the styles of the group have no effect, and 1 if no other styles have an effect. Suppose that each layer
    affects separate features. The influences of disjoint groups that together contain all layers then add up to 1. The
    noise of an image is the same for all its styles.

    Args:
      features: `(params, rng_key, styles [num_layers, dim]) -> features of any shape`, for one image: those of a
        judge, or the pixels.
      params: first argument of `features`.
      rng_key: consumed; pair i has its own key.
      styles: styles w of images, `[num, num_layers, dim]`.
      other_styles: styles w' of other images, of the same shape.
      groups: layers of each group by its name, such as `{"coarse": range(0, 2), "fine": range(2, 6)}`.
      chunk_size: number of pairs of images that are evaluated at once.

    Returns:
      The influence of each group, by its name.

    Raises:
      ValueError: if the styles differ in shape or have other axes, or a layer of a group does not exist.
    """
    styles, other_styles = jnp.asarray(styles), jnp.asarray(other_styles)
    if styles.ndim != 3 or styles.shape != other_styles.shape:
        raise ValueError(
            f"styles and other_styles must be [num, num_layers, dim] of one shape; got {styles.shape} and "
            f"{other_styles.shape}"
        )
    num_layers = styles.shape[1]
    for name, layers in groups.items():
        if not all(0 <= layer < num_layers for layer in layers):
            raise ValueError(f"layers of groups must lie in 0 .. {num_layers - 1}; got {name}: {list(layers)}")
    is_exchanged = jnp.array([[layer in group for layer in range(num_layers)] for group in groups.values()])
    is_exchanged = jnp.concatenate([is_exchanged.reshape(-1, num_layers), jnp.ones((1, num_layers), bool)])

    def squared_changes(params: Any, rng_key: PRNGKey, pair: Array) -> Array:
        own = features(params, rng_key, pair[0])

        def squared_change(is_exchanged: Array) -> Array:
            return jnp.sum((features(params, rng_key, jnp.where(is_exchanged[:, None], pair[1], pair[0])) - own) ** 2)

        return jax.lax.map(squared_change, is_exchanged)

    pairs = jnp.stack([styles, other_styles], axis=1)
    squares = np.asarray(map_in_chunks(squared_changes, params, rng_key, pairs, chunk_size), np.float64).mean(axis=0)
    return {name: float(square / squares[-1]) for name, square in zip(groups, squares, strict=False)}


def _lerp(start: Array, end: Array, t: Array) -> Array:
    return start + t * (end - start)


def _slerp(start: Array, end: Array, t: Array) -> Array:
    """The point at fraction t of the angle between two codes, with a norm that changes linearly."""
    start_norm, end_norm = (jnp.sqrt(jnp.sum(code**2)) for code in (start, end))
    start_direction, end_direction = start / start_norm, end / end_norm
    cosine = jnp.sum(start_direction * end_direction)
    across = end_direction - cosine * start_direction
    sine = jnp.sqrt(jnp.sum(across**2))
    angle = t * jnp.arctan2(sine, cosine)
    direction = jnp.cos(angle) * start_direction + jnp.sin(angle) * across / jnp.where(sine > 0, sine, 1.0)
    return _lerp(start_norm, end_norm, t) * direction
