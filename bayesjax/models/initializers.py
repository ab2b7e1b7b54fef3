"""Initial weights, in Flax's form `(rng_key, shape, dtype) -> array`.

Drawn flat and then folded into shape: XLA's CPU compiler takes six times longer over a draw of several axes, and a
small network spends more on compiling its initialisation than on its training.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bayesjax.types import Array, PRNGKey

Initializer = Callable[..., Array]


def normal(scale: float) -> Initializer:
    """N(0, scale^2) for every weight; 0.02 is DCGAN's."""

    def init(rng_key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        wide = jnp.promote_types(dtype, jnp.float32)  # half precision has 128 normals, and their mean is not 0
        return (scale * jax.random.normal(rng_key, (math.prod(shape),), wide)).reshape(shape).astype(dtype)

    return init


def fan_in_normal(scale: float = 1.0) -> Initializer:
    """N(0, scale^2 / fan_in), the fan-in of `[..., in, out]` being the product of all axes but the last.

    Scale 1 keeps the variance of linear units (LeCun), sqrt(2) that of ReLU units (He). A draw from
    `posteriors.fan_in_gaussian(scale)`.
    """

    def init(rng_key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return normal(scale / math.sqrt(math.prod(shape[:-1])))(rng_key, shape, dtype)

    return init
