"""Binary images from grey ones."""

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import noise


def binarise(images: np.ndarray, seed: int) -> np.ndarray:
    """One Bernoulli draw of every pixel, whose grey value is the probability of a 1."""
    return np.asarray(jax.jit(noise.bernoulli)(jax.random.key(seed), jnp.asarray(images)))
