"""log(1 + exp x) in a few passes of plain arithmetic, to float32 rounding at both ends.

    softplus(x) = max(x, 0) + 2 artanh(e / (2 + e)),   e = exp(-|x|)

A variational posterior takes it of every weight at every step, and XLA's CPU backend takes ten times as long over
`log1p`. The argument of artanh is at most 1/3, so eight terms of its series are exact to float32.
"""

import functools
import math

import jax
import jax.numpy as jnp

from bayesjax.types import Array

_ODD = tuple(1 / k for k in range(1, 16, 2))  # artanh(s) = s + s^3/3 + s^5/5 + ...


@jax.custom_jvp
def softplus(x: Array) -> Array:
    """log(1 + exp x), elementwise; the standard deviation of a weight whose rho is x."""
    return jax.nn.softplus(x) if x.dtype == jnp.float64 else _softplus(x, jnp.exp(-jnp.abs(x)))


def _softplus(x: Array, e: Array) -> Array:
    s = e / (2 + e)
    series = functools.reduce(lambda value, coefficient: value * (s * s) + coefficient, reversed(_ODD))
    return jnp.maximum(x, 0) + 2 * s * series


@softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    if x.dtype == jnp.float64:
        return softplus(x), tangent * jax.nn.sigmoid(x)
    e = jnp.exp(-jnp.abs(x))  # once, for the value and for its derivative
    return _softplus(x, e), tangent * jnp.where(x > 0, 1, e) / (1 + e)


def inverse_softplus(y: float) -> float:
    """The x with softplus(x) = y, for a number y > 0."""
    return y + math.log(-math.expm1(-y))
