"""A step size for each weight: Langevin samplers with a diagonal preconditioner G, the inverse of a mass matrix.

    theta <- theta + eta G grad log p + sqrt(2 eta T G) xi

`fixed` has a constant G, and the stationary law stays what it is. `rmsprop` follows the gradients' squares,

    V <- decay V + (1 - decay) (g / N)^2,    G = 1 / (epsilon + sqrt(V))

as Adam and RMSprop do. While G moves with theta, the chain samples another law. A position-dependent G needs the drift
Gamma, Gamma_i = sum_j dG_ij / d theta_j, whose derivatives are those of the gradient; the source drops it, and so does
this file. The error does not vanish with the step size: as (1 - decay) / eta grows, V follows the squared gradient at
the current position, and the law tends to p(theta) / G(theta). On N(0, 1) with exact gradients, `decay` 0.99 and
`epsilon` 1e-3, E theta^2 is 1.10, 1.35 and 1.75 at eta 0.1, 0.01 and 0.001, and tends to 2; 1 is right. G also depends
on the batch whose gradient it scales. So the adaptation has to end: after `num_adaptation` steps G is constant and the
law is that of `fixed`. Draws from before belong to the burn-in. Sources: Li, Chen, Carlson & Carin, "Preconditioned
stochastic gradient Langevin dynamics for deep neural networks", AAAI 2016; Ma, Chen & Fox, "A complete recipe for
stochastic gradient MCMC", NIPS 2015 (Gamma); Wenzel et al., "How good is the Bayes posterior in deep neural networks
really?", ICML 2020 (who keep G constant within a cycle).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.mass import broadcast, check, described
from bayesjax.types import Array, Params, PyTree


class Preconditioner(NamedTuple):
    """Pass it to `sgld` or `sghmc`.

    Attributes:
      init: of a position, the state that the kernel carries.
      update: of the state and a gradient of the log density, the next state.
      diagonal: of the state, G: a tree like the position, of numbers or arrays.
    """

    init: Callable[[Params], PyTree]
    update: Callable[[PyTree, Params], PyTree]
    diagonal: Callable[[PyTree], Params]


class RMSPropState(NamedTuple):
    """Carried by `rmsprop`.

    Attributes:
      step: int32 scalar, the gradients seen.
      mean_square: V, like the position, in float32 or wider types: half precision would not hold a running mean.
    """

    step: Array
    mean_square: Params


def fixed_preconditioner(diagonal: float | Params) -> Preconditioner:
    """A constant G.

    Args:
      diagonal: a number, or a tree like the position; best near the variances of the target.

    Raises:
      ValueError: from `diagonal`, if it does not fit.
    """
    check(diagonal, "diagonal")

    def init(position: Params) -> PyTree:
        del position
        return ()

    return Preconditioner(init, lambda state, gradient: state, lambda state: diagonal)


def rmsprop_preconditioner(
    num_data: int, *, num_adaptation: int, decay: float = 0.99, epsilon: float = 1e-5
) -> Preconditioner:
    """G from the running mean of squared gradients in the first steps, and constant after them.

    Args:
      num_data: N: gradients of a log density are of sums over N examples, and are divided by it, so that `epsilon` has
        the size of a mean gradient and `step_size * num_data` is RMSprop's learning rate.
      num_adaptation: the number of steps in which G follows the gradients, at least 1. They sample another law (see
        above): the burn-in must be at least as long (`training.run(num_burnin=num_adaptation)`).
      decay: of the running mean, in [0, 1).
      epsilon: keeps G below 1 / epsilon.

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
        moving = state.step < num_adaptation

        def of_leaf(v: Array, g: Array) -> Array:
            new = decay * v + (1 - decay) * jnp.square(g / num_data)
            return jnp.where(moving, new, v).astype(v.dtype)

        return RMSPropState(state.step + 1, jax.tree.map(of_leaf, state.mean_square, tree.widen(gradient)))

    def diagonal(state: RMSPropState) -> Params:
        return jax.tree.map(lambda v: 1 / (epsilon + jnp.sqrt(v)), state.mean_square)

    return Preconditioner(init, update, diagonal)


def step_sizes(step_size: float | Array, diagonal: float | Params, position: Params) -> Params:
    """The step size of each leaf of the position, eta G: a tree of numbers or arrays.

    Raises:
      ValueError: if G is neither a number nor a tree like the position.
    """
    known = broadcast(diagonal, position)
    if known is None:
        raise ValueError(
            "the preconditioner's diagonal must be a number or a tree like the position, "
            f"{described(position)}; got {described(diagonal)}"
        )
    return jax.tree.map(lambda g: step_size * g, known)
