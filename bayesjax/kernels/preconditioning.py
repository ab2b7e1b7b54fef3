"""Preconditioners of Langevin samplers: a diagonal matrix G gives each weight its own step size.

    theta <- theta + eta G grad log p + sqrt(2 eta T G) xi

G is the inverse of a mass matrix. `fixed_preconditioner` keeps it constant, which leaves the stationary law unchanged.
`rmsprop_preconditioner` estimates it from squared gradients, as RMSprop and Adam do:

    V <- decay V + (1 - decay) (g / N)^2,    G = 1 / (epsilon + sqrt(V))

with the gradient g of the log density of N examples. While G changes with theta, the chain samples a different
distribution. A position-dependent G needs the drift Gamma, Gamma_i = sum_j dG_ij / d theta_j, which contains second
derivatives of log p. Li et al. omit it, and so does this file. The error does not vanish with the step size. As (1 -
decay) / eta grows, V follows the squared gradient at the current position, and the law tends to p(theta) / G(theta). On
N(0, 1) with exact gradients, `decay` 0.99 and `epsilon` 1e-3, E theta^2 is 1.10, 1.35 and 1.75 at eta 0.1, 0.01 and
0.001 and tends to 2, where 1 is correct. G also depends on the batch whose gradient it scales. The adaptation therefore
ends: after `num_adaptation` steps G is constant and the law is that of `fixed_preconditioner`. Earlier draws belong to
the burn-in.

Sources: Li, Chen, Carlson & Carin, "Preconditioned stochastic gradient Langevin dynamics for deep neural networks",
AAAI 2016; Ma, Chen & Fox, "A complete recipe for stochastic gradient MCMC", NIPS 2015 (Gamma); Wenzel et al., "How good
is the Bayes posterior in deep neural networks really?", ICML 2020 (constant G within a cycle). Read `mass.py` next.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.mass import broadcast, check, describe
from bayesjax.types import Array, Params, PyTree


class Preconditioner(NamedTuple):
    """A diagonal preconditioner of `sgld` or `sghmc`, as three functions.

    Attributes:
      init: `position -> state`.
      update: `(state, gradient of the log density) -> state`.
      diagonal: `state -> G`, a number or a tree like the position, of numbers or arrays.
    """

    init: Callable[[Params], PyTree]
    update: Callable[[PyTree, Params], PyTree]
    diagonal: Callable[[PyTree], Params]


class RMSPropState(NamedTuple):
    """State of `rmsprop_preconditioner`.

    Attributes:
      step: int32 scalar, the number of gradients seen.
      mean_square: V, shaped like the position, in float32 or wider types. Half precision is too coarse for a running
        mean.
    """

    step: Array
    mean_square: Params


def fixed_preconditioner(diagonal: float | Params) -> Preconditioner:
    """Returns a preconditioner with a constant G.

    Args:
      diagonal: G, a number or a tree like the position. The variances of the target are a good choice.

    Raises:
      ValueError: if a value is not positive. The kernel raises it if G does not fit the position.
    """
    check(diagonal, "diagonal")

    def init(position: Params) -> PyTree:
        del position
        return ()

    return Preconditioner(init, lambda state, gradient: state, lambda state: diagonal)


def rmsprop_preconditioner(
    num_data: int, *, num_adaptation: int, decay: float = 0.99, epsilon: float = 1e-5
) -> Preconditioner:
    """Returns a preconditioner whose G follows the squared gradients in the first steps and is constant afterwards.

        V <- decay V + (1 - decay) (g / N)^2,    G = 1 / (epsilon + sqrt(V)),    g: gradient of the log density

    Args:
      num_data: N, the number of examples over which the log density is a sum. `epsilon` is then in the units of a mean
        gradient, and `step_size * num_data` is RMSprop's learning rate.
      num_adaptation: the number of steps in which G is updated, at least 1. These steps sample a different
        distribution, as the module explains, so the burn-in must be at least as long
        (`training.run(num_burnin=num_adaptation)`).
      decay: decay of the running mean in one step, in [0, 1).
      epsilon: a positive number, which limits G to at most 1 / epsilon.

    Raises:
      ValueError: if an argument is outside its range.
    """
    checks.positive(num_data=num_data, epsilon=epsilon)
    checks.count(num_adaptation=num_adaptation)
    checks.satisfies("in [0, 1)", lambda decay: (decay >= 0) & (decay < 1), decay=decay)
    checks.number(decay=decay)

    def init(position: Params) -> RMSPropState:
        return RMSPropState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, tree.widen(position)))

    def update(state: RMSPropState, gradient: Params) -> RMSPropState:
        is_adapting = state.step < num_adaptation

        def updated(v: Array, g: Array) -> Array:
            new = decay * v + (1 - decay) * jnp.square(g / num_data)
            return jnp.where(is_adapting, new, v).astype(v.dtype)

        return RMSPropState(state.step + 1, jax.tree.map(updated, state.mean_square, tree.widen(gradient)))

    def diagonal(state: RMSPropState) -> Params:
        return jax.tree.map(lambda v: 1 / (epsilon + jnp.sqrt(v)), state.mean_square)

    return Preconditioner(init, update, diagonal)


def step_sizes(step_size: float | Array, diagonal: float | Params, position: Params) -> Params:
    """Returns the step size eta G of each leaf of the position, as a tree of numbers or arrays.

    Args:
      step_size: eta.
      diagonal: G, a number, or a tree like the position of numbers or arrays.
      position: a position.

    Raises:
      ValueError: if G is neither a number nor a tree like the position.
    """
    tree_like_position = broadcast(diagonal, position)
    if tree_like_position is None:
        raise ValueError(
            "the preconditioner's diagonal must be a number or a tree like the position, "
            f"{describe(position)}; got {describe(diagonal)}"
        )
    return jax.tree.map(lambda g: step_size * g, tree_like_position)
