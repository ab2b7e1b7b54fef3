"""Initialisers of weights, in Flax's form `(rng_key, shape, dtype) -> array`.

Weights are drawn as a vector and reshaped, because XLA's CPU compiler takes six times longer for a draw with several
axes. Small networks spend more time on compiling their initialisation than on training. Read `mlp.py` next for their
use.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bayesjax.types import Array, PRNGKey

Initializer = Callable[..., Array]


def normal(scale: float) -> Initializer:
    """Normal initialiser, N(0, scale^2) for every weight. DCGAN uses scale 0.02.

    Args:
      scale: standard deviation.

    Returns:
      `(rng_key, shape, dtype) -> array`.
    """

    def init(rng_key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        wide = jnp.promote_types(
            dtype, jnp.float32
        )  # normal draws in half precision take few values, whose mean is not 0
        return (scale * jax.random.normal(rng_key, (math.prod(shape),), wide)).reshape(shape).astype(dtype)

    return init


def fan_in_normal(scale: float = 1.0) -> Initializer:
    """Normal initialiser N(0, scale^2 / fan_in), with the product of all axes except the last as fan-in.

    Scale 1 keeps the variance of linear units, and sqrt(2) that of ReLU units. The weights are draws from the prior
    `posteriors.fan_in_gaussian(scale)`. Sources: LeCun, Bottou, Orr & Mueller, "Efficient backprop", 1998 (scale 1);
    He, Zhang, Ren & Sun, "Delving deep into rectifiers", ICCV 2015 (scale sqrt(2)).

    Args:
      scale: standard deviation for fan-in 1.

    Returns:
      `(rng_key, shape, dtype) -> array`.
    """

    def init(rng_key: PRNGKey, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
        return normal(scale / math.sqrt(math.prod(shape[:-1])))(rng_key, shape, dtype)

    return init
