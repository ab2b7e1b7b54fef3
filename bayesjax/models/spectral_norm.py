"""Spectral normalisation divides kernels by their largest singular value, here as a pure function of the weights.

    W / sigma(W),    sigma(W) = max over |v| = 1 of |W v| = u' W v

W is the matrix `[in, out]` of a dense kernel, or `[height * width * in, out]` of the kernel of a convolution, as in the
paper. u and v are singular vectors of W. A normalised dense layer has Lipschitz constant 1. The Lipschitz constant of a
convolution is at most (height width / stride^2)^1/2, the square root of the number of patches that share a pixel.
Gradients differentiate u' W v with constant u and v, which gives the gradient of sigma once u and v have converged.

The paper keeps u from step to step and makes one power iteration in each step. Here no state is kept, so the network
remains a function of its parameters alone and its weights can be sampled. Each call starts from the same vector and
makes 2^k power iterations by squaring the smaller of W'W and WW' k times.

`spectrally_normalised` wraps the `apply` of any module, or any other function of weights:

    apply = models.spectrally_normalised(discriminator.apply)
    logits = apply({"params": params}, images)

Group normalisation between the layers would undo the effect, so build the discriminator with `norm="none"`. Source:
Miyato, Kataoka, Koyama & Yoshida, "Spectral normalization for generative adversarial networks", ICLR 2018. Read
`objectives/adversarial.py` next for the games.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesjax.types import Array, Params

TINY = 1e-12  # lower bound of divisors, so that a kernel of zeros stays 0


def largest_singular_value(kernel: Array, num_squarings: int = 8) -> Array:
    """Lower bound of the largest singular value of a kernel, by power iteration.

        sigma(W) = max over |v| = 1 of |W v|

    After n = 2^num_squarings iterations, the weight of any other singular value s has decreased by (s / sigma)^4n. For
    n = 256 the result is too small by at most 0.05 % for Gaussian kernels up to width 512, and by about 1 % in the
    worst case. For n = 8 it is too small by up to 10 %.

    Args:
      kernel: `[..., in, out]` with at least two axes. All axes but the last are rows of the matrix W.
      num_squarings: number of matrix squarings, each of which doubles the number of power iterations.

    Returns:
      A scalar.

    Raises:
      ValueError: if the kernel has fewer than two axes, or `num_squarings` is negative.
    """
    if kernel.ndim < 2:
        raise ValueError(f"kernel must have two axes or more; got shape {kernel.shape}")
    if num_squarings < 0:
        raise ValueError(f"num_squarings must be at least 0; got {num_squarings}")
    matrix = kernel.reshape(-1, kernel.shape[-1])
    matrix = matrix.astype(jnp.promote_types(matrix.dtype, jnp.float32))  # half precision would overflow
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    constant = lax.stop_gradient(matrix)
    power = _product(constant.T, constant)
    for _ in range(num_squarings):
        power = power / jnp.maximum(jnp.linalg.norm(power), TINY)  # avoids overflow
        power = _product(power, power)
    v = _unit(_product(power, _start(power.shape[0], power.dtype)))
    u = _unit(_product(constant, v))
    return _product(u, _product(matrix, v)).astype(kernel.dtype)


def normalise(params: Params, num_squarings: int = 8) -> Params:
    """Divides every leaf named "kernel" of one network by its largest singular value.

    All other leaves are unchanged. For stacked weights of several networks, apply the function under `vmap`.

    Args:
      params: a pytree of dictionaries, such as Flax parameters.
      num_squarings: as in `largest_singular_value`.

    Returns:
      A pytree of the same structure.
    """

    def normalised(path: Any, leaf: Array) -> Array:
        if getattr(path[-1] if path else None, "key", None) != "kernel":
            return leaf
        return leaf / jnp.maximum(
            largest_singular_value(leaf, num_squarings), max(TINY, float(jnp.finfo(leaf.dtype).tiny))
        )

    return jax.tree_util.tree_map_with_path(normalised, params)


def spectrally_normalised(apply: Callable[..., Any], num_squarings: int = 8) -> Callable[..., Any]:
    """Wraps a function of weights, such as a module's `apply`, so that it uses normalised weights.

    Args:
      apply: `(params, *args, **kwargs)`, whose first argument is a pytree of weights or Flax variables.
      num_squarings: as in `largest_singular_value`.

    Returns:
      A function of the same arguments.
    """

    def normalised(params: Params, *args: Any, **kwargs: Any) -> Any:
        return apply(normalise(params, num_squarings), *args, **kwargs)

    return normalised


def _product(a: Array, b: Array) -> Array:
    """Matrix product in full precision, also on devices whose default is a lower one."""
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def _unit(vector: Array) -> Array:
    return vector / jnp.maximum(jnp.linalg.norm(vector), TINY)


def _start(size: int, dtype: Any) -> Array:
    """The initial vector cos(1), cos(4), cos(9), ..., which is practically never orthogonal to a singular vector."""
    return jnp.asarray(np.cos(np.arange(1.0, size + 1) ** 2), dtype)
