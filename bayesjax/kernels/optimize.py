"""Optimisation as a kernel: any Optax optimiser minimises a loss.

    theta <- theta + update(grad loss(theta), optimiser state)

Line searches, Polyak's step size and the reduction of the learning rate on a plateau need more than the gradient. They
receive the value, the gradient, and the loss as a function of the parameters with the key and the batch of the step.
Value, gradient and function are averaged over devices.

This kernel computes point estimates. A GAN is `alternate(discriminator=optimize(...), generator=optimize(...))`. With
`sghmc` in place of `optimize`, it is a Bayesian GAN. Read `sghmc.py` next.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from bayesjax import checks, tree
from bayesjax.kernels.gradient import value_and_grad, value_of
from bayesjax.types import Array, Density, Kernel, Params, PRNGKey, PyTree


class OptimizeState(NamedTuple):
    """State of `optimize`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: the parameters.
      optimizer_state: the state of the Optax optimiser.
    """

    step: Array
    position: Params
    optimizer_state: PyTree


class OptimizeInfo(NamedTuple):
    """Diagnostics of one step, taken at the position before it.

    Attributes:
      loss: scalar.
      gradient_norm: Euclidean norm of the gradient.
      aux: the auxiliary output of the loss.
    """

    loss: Array
    gradient_norm: Array
    aux: PyTree


def optimize(loss: Density, optimizer: optax.GradientTransformation) -> Kernel:
    """Minimises `loss` with an Optax optimiser.

    Args:
      loss: `(params, rng_key, batch) -> scalar` or `(scalar, aux)`, a mean over examples.
      optimizer: an Optax optimiser, such as `optax.adam(1e-3)`, with its own learning-rate schedule. Its `update` also
        receives Optax's extra arguments `value`, `grad` and `value_fn`, which `optax.lbfgs()`, `optax.polyak_sgd()` and
        `optax.contrib.reduce_on_plateau()` require.

    Returns:
      A kernel whose state is an `OptimizeState` and whose info is an `OptimizeInfo`.

    Raises:
      ValueError: if `loss` does not take three arguments. `init` raises it if a leaf of the position is not a
        floating-point array. `step` raises it if the loss is not a scalar, or the update does not have the shapes of
        the position.
    """
    evaluate = value_and_grad(loss, "loss")
    value_at, optimizer = value_of(evaluate), optax.with_extra_args_support(optimizer)

    def init(position: Params, rng_key: PRNGKey) -> OptimizeState:
        del rng_key
        position = checks.floating(position, "position")
        return OptimizeState(jnp.zeros((), jnp.int32), position, optimizer.init(position))

    def step(rng_key: PRNGKey, state: OptimizeState, batch: PyTree) -> tuple[OptimizeState, OptimizeInfo]:
        value, aux, gradient = evaluate(state.position, rng_key, batch)
        updates, optimizer_state = optimizer.update(
            gradient, state.optimizer_state, state.position, value=value, grad=gradient,
            value_fn=lambda params: value_at(params, jax.random.clone(rng_key), batch),  # with the noise of this step
        )  # fmt: skip
        position = optax.apply_updates(state.position, updates)
        shapes, expected = (jax.tree.map(jnp.shape, each) for each in (position, state.position))
        if shapes != expected:
            raise ValueError(f"optimizer must keep the shapes of the position, {expected}; got {shapes}")
        # The barrier separates this norm from squares that the optimiser computes. XLA would store the shared squares,
        # which costs two more passes over memory on a CPU.
        info = OptimizeInfo(value, tree.norm(jax.lax.optimization_barrier(gradient)), aux)
        return OptimizeState(state.step + 1, position, optimizer_state), info

    return Kernel(init, step)


def adjust(function: Callable[[Params, Params], Params]) -> optax.GradientTransformation:
    """Returns an Optax transformation that changes the parameters after every update.

        new <- function(old, new)

    Make it the last transformation of an `optax.chain`. Its `update` must receive the parameters.

    Args:
      function: `(old, new) -> params`. It receives the parameters before and after the update, and returns those that
        replace `new`.

    Returns:
      An Optax transformation. Its updates are differences to the old parameters, so the new parameters are those of
      `function` up to rounding. Without the parameters, its `update` raises a ValueError.
    """

    def update(updates: Params, state: PyTree, params: Params | None = None) -> tuple[Params, PyTree]:
        if params is None:
            raise ValueError("params must be passed to the update of an optimiser that adjusts them; got None")
        adjusted = function(params, optax.apply_updates(params, updates))
        return jax.tree.map(lambda new, old: new - old, adjusted, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def clip_weights(bound: float) -> optax.GradientTransformation:
    """Clips every weight to [-bound, bound] after the update, for a Wasserstein critic.

    Make it the last transformation of an `optax.chain`. Source: Arjovsky, Chintala & Bottou, "Wasserstein GAN", 2017,
    algorithm 1.

    Args:
      bound: largest absolute value of a weight, positive.

    Raises:
      ValueError: if `bound` is not positive and finite.
    """
    checks.positive(bound=bound)
    return adjust(lambda old, new: jax.tree.map(lambda w: jnp.clip(w, -bound, bound), new))
