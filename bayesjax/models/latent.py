"""Latent noise, the input of a generator, with z ~ U(-1, 1) or z ~ N(0, 1) for each coordinate.

Read `dcgan.py` next for a generator.
"""

import jax
import jax.numpy as jnp

from bayesjax import axes, noise
from bayesjax.types import Array, PRNGKey

NOISE_KINDS = ("uniform", "normal")


def latent_noise(rng_key: PRNGKey, num: int, dim: int, kind: str = "uniform") -> Array:
    """Draws independent noise vectors.

    If a `data` axis is bound (`axes.py`), the result is this device's part of a larger array. All devices together have
    the vectors that a single device would draw.

    Args:
      rng_key: consumed.
      num: number of vectors on this device.
      dim: length of a vector.
      kind: "uniform" on (-1, 1), or "normal" for the standard normal distribution.

    Returns:
      `[num, dim]`.

    Raises:
      ValueError: if `kind` is unknown.
    """
    return axes.local_part(_latent_noise(rng_key, num * axes.size(axes.DATA), dim, kind), axes.DATA)


def latent_arc(rng_key: PRNGKey, num: int, dim: int) -> Array:
    """Draws noise vectors along an arc between two standard normal vectors z_0 and z_1.

        z(t) = cos(t) z_0 + sin(t) z_1,  t from 0 to pi / 2

    Each vector z(t) has the standard normal distribution. Points on the straight line from z_0 to z_1 would have
    smaller norms.

    Args:
      rng_key: consumed.
      num: number of points, both ends included.
      dim: length of a vector.

    Returns:
      The vectors z(t) for equally spaced t, `[num, dim]`.
    """
    start, end = latent_noise(rng_key, 2, dim, "normal")
    angle = jnp.linspace(0, jnp.pi / 2, num)[:, None]
    return jnp.cos(angle) * start + jnp.sin(angle) * end


def _latent_noise(rng_key: PRNGKey, num: int, dim: int, kind: str) -> Array:
    if kind == "uniform":
        if jnp.result_type(float) == jnp.float64:
            return jax.random.uniform(rng_key, (num, dim), minval=-1, maxval=1)
        return noise.uniform(rng_key, num * dim).reshape(num, dim)
    if kind == "normal":  # drawn as a vector, see initializers.py
        return jax.random.normal(rng_key, (num * dim,)).reshape(num, dim)
    raise ValueError(f"kind must be one of {', '.join(NOISE_KINDS)}; got {kind!r}")
