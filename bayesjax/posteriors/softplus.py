"""A fast softplus, log(1 + exp x), accurate to float32 rounding everywhere.

    softplus(x) = max(x, 0) - log(1 - p),   p = min(d, 1 - d),   d = 1 / (1 + exp -x) = softplus'(x)

A variational posterior evaluates it for every weight at every step, and `log1p` takes ten times as long with XLA's CPU
backend. Here p is at most 1/2, and -log(1 - p) is p times a polynomial. Only the derivative d is stored in memory. The
value is computed from d where it is needed, and the backward pass multiplies by d. Read `mean_field.py` next, which
uses it.
"""

import functools
import math

import jax
import jax.numpy as jnp

from bayesjax.types import Array

# -log(1 - p) / p on [0, 1/2], interpolated at the Chebyshev nodes; relative error 4e-9.
_RATIO = (
    0.999999997, 0.500001199, 0.333255162, 0.251956794, 0.175440773,
    0.340746471, -0.590088703, 1.95987057, -2.45896188, 1.73361195,
)  # fmt: skip


@jax.custom_jvp
def softplus(x: Array) -> Array:
    """log(1 + exp x), elementwise; it gives the standard deviation sigma of a weight from its parameter rho."""
    return _value_and_derivative(x)[0]


@jax.jit  # its 30 operations are traced and lowered once for all leaves of one shape in a program
def _value_and_derivative(x: Array) -> tuple[Array, Array]:
    if x.dtype == jnp.float64:
        return jax.nn.softplus(x), jax.nn.sigmoid(x)
    wide = x.astype(jnp.float32)  # float16 cannot hold exp 12
    derivative = jax.nn.sigmoid(wide)
    p = jnp.minimum(derivative, 1 - derivative)
    ratio = functools.reduce(lambda value, coefficient: value * p + coefficient, reversed(_RATIO))
    return (jnp.maximum(wide, 0) + p * ratio).astype(x.dtype), derivative.astype(x.dtype)


@softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (tangent,) = primals, tangents
    value, derivative = _value_and_derivative(x)
    return value, tangent * derivative


def inverse_softplus(y: float) -> float:
    """The x with softplus(x) = y, for a number y > 0."""
    return y + math.log(-math.expm1(-y))
