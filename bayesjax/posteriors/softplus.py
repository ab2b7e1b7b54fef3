"""log(1 + exp x) in a few passes of plain arithmetic, to float32 rounding at both ends.

    softplus(x) = max(x, 0) - log(1 - p),   p = min(d, 1 - d),   d = 1 / (1 + exp -x) = softplus'(x)

A variational posterior takes it of every weight at every step, and XLA's CPU backend takes ten times as long over
`log1p`. Here p is at most 1/2, where p times a polynomial is -log(1 - p). Only the derivative d has to go through
memory: the value is made of it again wherever it is needed, and the gradient is a product with it.
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
    """log(1 + exp x), elementwise; the standard deviation of a weight whose rho is x."""
    return _value_and_derivative(x)[0]


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
