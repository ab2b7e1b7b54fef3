"""Local convergence of gradient descent on games: the factor by which a step changes the distance from an equilibrium.

Near an equilibrium at z = 0 the gradients of the players' losses are linear in the joint position z, v(z) = J z. A step
of size eta multiplies z by a matrix whose spectral radius is the factor. The players converge if it is below 1:

    simultaneous    I - eta J
    alternating     the product of I - eta J_p over the players p, where J_p has only the rows of player p
    extragradient   I - eta J (I - eta J)
    optimistic      [[I - 2 eta J, eta J], [I, 0]], a matrix of two successive positions
    consensus       I - eta (J + gamma J^T J)

Source: Mescheder, Nowozin & Geiger, "The numerics of GANs", NIPS 2017. Read `experiments/adversarial_games.py` next.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from bayesjax.types import Density, Given, PRNGKey, PyTree

Method = Literal["simultaneous", "alternating", "extragradient", "optimistic", "consensus"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Kinds of gradient descent: those of `kernels.game_descent`, and "alternating" for `kernels.alternate`."""


def game_jacobian(
    losses: Mapping[str, Density], position: Mapping[str, PyTree], rng_key: PRNGKey, data: PyTree = None
) -> np.ndarray:
    """Computes J, the Jacobian of the gradients v of all losses, each with respect to its own player's parameters.

    Args:
      losses: the loss of each player, by name: `(params, rng_key, Given) -> scalar`.
      position: the parameters of each player, by name; the Jacobian has the order of the names in `losses`.
      rng_key: the key of every loss.
      data: the data that every loss receives.

    Returns:
      `[num_params, num_params]`, where `num_params` is the number of parameters of all players together.
    """
    start, unravel = ravel_pytree([position[name] for name in losses])

    def v(z: jax.Array) -> jax.Array:
        players = dict(zip(losses, unravel(z), strict=True))
        given = Given(data, players)
        return ravel_pytree([jax.grad(loss)(players[name], rng_key, given) for name, loss in losses.items()])[0]

    return np.asarray(jax.jacobian(v)(jnp.asarray(start)))


def convergence_factor(
    jacobian: np.ndarray,
    method: Method,
    step_size: float,
    *,
    consensus: float = 1.0,
    num_params: Sequence[int] | None = None,
) -> float:
    """Computes the factor by which a step changes the distance from the equilibrium in the long run.

    It is the spectral radius of the matrix that the module lists for the method.

    Args:
      jacobian: J, `[n, n]`.
      method: one of METHODS.
      step_size: eta.
      consensus: gamma, for the method "consensus".
      num_params: number of parameters of each player, in the order of their steps, for the method "alternating"; None
        stands for players of one parameter each.

    Returns:
      The factor. The players converge if it is below 1.

    Raises:
      ValueError: if the method is unknown, or the numbers of parameters do not add up to the size of the Jacobian.
    """
    one, step = np.eye(len(jacobian)), step_size * jacobian
    if method == "simultaneous":
        matrix = one - step
    elif method == "alternating":
        sizes = num_params or [1] * len(jacobian)
        if sum(sizes) != len(jacobian):
            raise ValueError(f"num_params must add up to {len(jacobian)}, the size of the Jacobian; got {sizes}")
        matrix = one
        for rows in np.split(np.arange(len(jacobian)), np.cumsum(sizes)[:-1]):
            matrix = (one - np.diag(one[rows].sum(axis=0)) @ step) @ matrix
    elif method == "extragradient":
        matrix = one - step @ (one - step)
    elif method == "optimistic":
        matrix = np.block([[one - 2 * step, step], [one, 0 * one]])
    elif method == "consensus":
        matrix = one - step - consensus * step_size * jacobian.T @ jacobian
    else:
        raise ValueError(f"method must be among {', '.join(METHODS)}; got {method!r}")
    return float(np.abs(np.linalg.eigvals(matrix)).max())
