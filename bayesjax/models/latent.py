"""What a generator is fed."""

import jax

from bayesjax import noise
from bayesjax.types import Array, PRNGKey

NOISES = ("uniform", "normal")


def latent_noise(rng_key: PRNGKey, num: int, dim: int, kind: str = "uniform") -> Array:
    """Independent noise vectors `[num, dim]`: uniform on (-1, 1), or standard normal.

    Raises:
      ValueError: for another kind.
    """
    if kind == "uniform":
        return noise.uniform(rng_key, num * dim).reshape(num, dim)
    if kind == "normal":
        return jax.random.normal(rng_key, (num * dim,)).reshape(num, dim)
    raise ValueError(f"kind must be one of {', '.join(NOISES)}; got {kind!r}")
