"""Gradient methods for games in which all players move at once.

Let v(z) be the gradients of all players' losses, each with respect to its own parameters, at the joint position z:

    simultaneous    z <- z - eta v(z)
    extragradient   z <- z - eta v(z - eta v(z))                            (Korpelevich 1976)
    optimistic      z <- z - eta (2 v(z) - v(previous z))                   (Daskalakis et al. 2018)
    consensus       z <- z - eta (v(z) + gamma grad 1/2 |v(z)|^2)           (Mescheder et al. 2017)

The alternating method is `alternate(p=optimize(loss, optax.sgd(eta)), ...)`. On the bilinear game min_x max_y x y, a
simultaneous step multiplies the distance from the equilibrium by sqrt(1 + eta^2), so it diverges. An extragradient step
multiplies it by sqrt(1 - eta^2 + eta^4), and a consensus step by sqrt((1 - eta gamma)^2 + eta^2). Sources: Korpelevich,
"The extragradient method for finding saddle points and other problems", 1976; Daskalakis, Ilyas, Syrgkanis & Zeng,
"Training GANs with optimism", ICLR 2018; Mescheder, Nowozin & Geiger, "The numerics of GANs", NIPS 2017. Read
`experiments/adversarial_games.py` next.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from bayesjax import checks, tree
from bayesjax.kernels.alternate import naming_player
from bayesjax.kernels.gradient import as_schedule, grad_of_mean, value_and_grad
from bayesjax.types import Array, Density, Given, Kernel, PRNGKey, PyTree, Schedule

Method = Literal["simultaneous", "extragradient", "optimistic", "consensus"]
METHODS: tuple[Method, ...] = get_args(Method)


class GameDescentState(NamedTuple):
    """State of `game_descent`.

    Attributes:
      step: int32 scalar, the number of steps taken.
      position: the parameters of each player, by name.
      gradients: v at the previous position for the optimistic method; empty for the others.
    """

    step: Array
    position: dict[str, PyTree]
    gradients: dict[str, PyTree]


class GameDescentInfo(NamedTuple):
    """Diagnostics of one step, taken at the position before it.

    Attributes:
      losses: the loss of each player, by name.
      gradient_norm: |v|, which is 0 at an equilibrium.
      aux: the auxiliary output of each loss, by name.
    """

    losses: dict[str, Array]
    gradient_norm: Array
    aux: dict[str, PyTree]


def game_descent(
    losses: Mapping[str, Density],
    *,
    step_size: float | Schedule,
    method: Method = "simultaneous",
    consensus: float = 1.0,
) -> Kernel:
    """Moves all players at once by the gradients of their losses.

    Args:
      losses: the loss of each player, by name: `(params, rng_key, Given) -> scalar` or `(scalar, aux)`, to be minimised
        given the current positions of the others.
      step_size: eta > 0, or a schedule of the step count.
      method: one of the four methods that the module lists. All gradients of one step use the same keys and batch.
      consensus: gamma >= 0, for the method "consensus".

    Returns:
      A kernel whose position is a dict with one entry for each player, whose state is a `GameDescentState` and whose
      info is a `GameDescentInfo`.

    Raises:
      ValueError: if there is no player, a loss does not take three arguments, the method is unknown or a number is out
        of range. `init` raises it if the keys of the position are not the names of the players or a leaf is not a
        floating-point array. `step` raises it if a loss is not a scalar.
    """
    if not losses:
        raise ValueError("losses is empty: game_descent needs at least one player")
    if method not in METHODS:
        raise ValueError(f"method must be among {', '.join(METHODS)}; got {method!r}")
    checks.non_negative(consensus=consensus)
    schedule = as_schedule(step_size)
    evaluate = {name: value_and_grad(loss, f"the loss of {name}") for name, loss in losses.items()}

    def play(position: dict, rng_key: PRNGKey, batch: PyTree) -> tuple[dict, dict, dict]:
        """The losses, their auxiliary outputs, and v, by name."""
        keys = dict(zip(evaluate, jax.random.split(rng_key, len(evaluate)), strict=True))
        values, aux, v = {}, {}, {}
        for name, evaluate_player in evaluate.items():
            others = {other: params for other, params in position.items() if other != name}
            with naming_player(name):
                values[name], aux[name], v[name] = evaluate_player(position[name], keys[name], Given(batch, others))
        return values, aux, v

    def init(position: dict[str, PyTree], rng_key: PRNGKey) -> GameDescentState:
        del rng_key
        if set(position) != set(losses):
            raise ValueError(f"position must have the keys {sorted(losses)}; got {sorted(position)}")
        position = checks.floating(dict(position), "position")
        gradients = jax.tree.map(jnp.zeros_like, position) if method == "optimistic" else {}
        return GameDescentState(jnp.zeros((), jnp.int32), position, gradients)

    def step(rng_key: PRNGKey, state: GameDescentState, batch: PyTree) -> tuple[GameDescentState, GameDescentInfo]:
        position, eta = state.position, schedule(state.step)
        same_key = jax.random.clone(rng_key)  # all gradients of a step share its noise
        values, aux, v = play(position, rng_key, batch)
        direction, gradients = v, state.gradients
        if method == "extragradient":
            _, _, direction = play(tree.add_scaled(position, v, -eta), same_key, batch)
        elif method == "optimistic":
            previous = jax.tree.map(lambda new, old: jnp.where(state.step == 0, new, old), v, state.gradients)
            direction, gradients = jax.tree.map(lambda new, old: 2 * new - old, v, previous), v
        elif method == "consensus":

            def half_square(position: dict) -> Array:
                _, _, v = play(position, same_key, batch)
                return 0.5 * tree.dot(v, v)

            direction = tree.add_scaled(v, grad_of_mean(half_square)(position), consensus)
        moved = tree.add_scaled(position, direction, -eta)
        return GameDescentState(state.step + 1, moved, gradients), GameDescentInfo(values, tree.norm(v), aux)

    return Kernel(init, step)
