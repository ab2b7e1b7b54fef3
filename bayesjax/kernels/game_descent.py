"""Gradient play: how the players of a game move by their gradients, all at once and with or without looking ahead.

With v(z) the gradients of all players' losses, each by its own parameters, at the joint position z:

    simultaneous    z <- z - eta v(z)
    extragradient   z <- z - eta v(z - eta v(z))                            (Korpelevich 1976)
    optimistic      z <- z - eta (2 v(z) - v(z before))                     (Daskalakis et al. 2018)
    consensus       z <- z - eta (v(z) + gamma grad 1/2 |v(z)|^2)           (Mescheder et al. 2017)

Players by turns, the fifth way, are `alternate(p=optimize(loss, optax.sgd(eta)), ...)`. On the bilinear game min_x
max_y x y a step multiplies the distance from the equilibrium by sqrt(1 + eta^2) simultaneously, which diverges, by
sqrt(1 - eta^2 + eta^4) with the extragradient, and by sqrt((1 - eta gamma)^2 + eta^2) with consensus. Read
`experiments/adversarial_games.py` next.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.gradient import as_schedule, grad_of_mean, value_and_grad
from bayesjax.types import Array, Density, Given, Kernel, PRNGKey, PyTree, Schedule

METHODS = ("simultaneous", "extragradient", "optimistic", "consensus")


class GameDescentState(NamedTuple):
    """Carried by `game_descent`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: each player's parameters, by name.
      gradients: v at the position before; empty but for the optimistic method.
    """

    step: Array
    position: dict[str, PyTree]
    gradients: dict[str, PyTree]


class GameDescentInfo(NamedTuple):
    """Diagnostics of one step, taken at the position before it.

    Attributes:
      losses: each player's.
      gradient_norm: |v|, 0 at an equilibrium.
      aux: what each loss returned beside the scalar.
    """

    losses: dict[str, Array]
    gradient_norm: Array
    aux: dict[str, PyTree]


def game_descent(
    losses: Mapping[str, Density],
    *,
    step_size: float | Schedule,
    method: str = "simultaneous",
    consensus: float = 1.0,
) -> Kernel:
    """All players move at once by the gradients of their losses.

    Args:
      losses: each player's, by name: `(params, rng_key, Given) -> scalar` or `(scalar, aux)`, to be minimised given
        where the others stand.
      step_size: eta, or a schedule of the step count.
      method: "simultaneous", "extragradient", "optimistic" or "consensus". The gradients of one step share its keys and
        batch.
      consensus: gamma, of the last.

    Returns:
      A kernel whose position is a dict by player's name, whose state is a `GameDescentState` and whose info is a
      `GameDescentInfo`.

    Raises:
      ValueError: if there is no player, the method is unknown or a number out of range; from `init`, if the position's
        names are not the players'.
    """
    if not losses:
        raise ValueError("losses is empty: game_descent needs at least one player")
    if method not in METHODS:
        raise ValueError(f"method must be among {', '.join(METHODS)}; got {method!r}")
    checks.non_negative(consensus=consensus)
    schedule = as_schedule(step_size)
    evaluate = {name: value_and_grad(loss, f"the loss of {name}") for name, loss in losses.items()}

    def play(position: dict, rng_key: PRNGKey, batch: PyTree) -> tuple[dict, dict, dict]:
        """Losses, what came with them, and v."""
        keys = dict(zip(evaluate, jax.random.split(rng_key, len(evaluate)), strict=True))
        found = {}
        for name, of_player in evaluate.items():
            others = {other: params for other, params in position.items() if other != name}
            found[name] = of_player(position[name], keys[name], Given(batch, others))
        values, aux, v = ({name: parts[i] for name, parts in found.items()} for i in range(3))
        return values, aux, v

    def init(position: dict[str, PyTree], rng_key: PRNGKey) -> GameDescentState:
        del rng_key
        if set(position) != set(losses):
            raise ValueError(f"position must have the keys {sorted(losses)}; got {sorted(position)}")
        position = checks.floating(dict(position), "position")
        before = jax.tree.map(jnp.zeros_like, position) if method == "optimistic" else {}
        return GameDescentState(jnp.zeros((), jnp.int32), position, before)

    def step(rng_key: PRNGKey, state: GameDescentState, batch: PyTree) -> tuple[GameDescentState, GameDescentInfo]:
        position, eta = state.position, schedule(state.step)
        again = jax.random.clone(rng_key)  # on purpose: the noise of a step is one
        values, aux, v = play(position, rng_key, batch)
        direction, kept = v, state.gradients
        if method == "extragradient":
            _, _, direction = play(tree.add_scaled(position, v, -eta), again, batch)
        elif method == "optimistic":
            before = jax.tree.map(lambda new, old: jnp.where(state.step == 0, new, old), v, state.gradients)
            direction, kept = jax.tree.map(lambda new, old: 2 * new - old, v, before), v
        elif method == "consensus":

            def half_square(position: dict) -> Array:
                _, _, v = play(position, again, batch)
                return 0.5 * tree.dot(v, v)

            direction = tree.add_scaled(v, grad_of_mean(half_square)(position), consensus)
        moved = tree.add_scaled(position, direction, -eta)
        return GameDescentState(state.step + 1, moved, kept), GameDescentInfo(values, tree.norm(v), aux)

    return Kernel(init, step)
