"""What a generator is fed."""

import jax
import jax.numpy as jnp

from bayesjax import axes, noise
from bayesjax.types import Array, PRNGKey

NOISE_KINDS = ("uniform", "normal")


def latent_noise(rng_key: PRNGKey, num: int, dim: int, kind: str = "uniform") -> Array:
    """Independent noise vectors `[num, dim]`: uniform on (-1, 1), or standard normal.

    Where a `data` axis is bound, this device's part of one larger draw: the devices together have the vectors that one
    device would have.

    Raises:
      ValueError: for another kind.
    """
    return axes.local_part(_latent_noise(rng_key, num * axes.size(axes.DATA), dim, kind), axes.DATA)


def _latent_noise(rng_key: PRNGKey, num: int, dim: int, kind: str) -> Array:
    if kind == "uniform":
        if jnp.result_type(float) == jnp.float64:
            return jax.random.uniform(rng_key, (num, dim), minval=-1, maxval=1)
        return noise.uniform(rng_key, num * dim).reshape(num, dim)
    if kind == "normal":  # drawn flat: XLA's CPU compiler takes six times longer over a draw of two axes
        return jax.random.normal(rng_key, (num * dim,)).reshape(num, dim)
    raise ValueError(f"kind must be one of {', '.join(NOISE_KINDS)}; got {kind!r}")
