"""Games of several players: in each sweep every player takes a step, given the current positions of the others.

    for each player p in turn:   theta_p <- step_p(theta_p ; data, {theta_q : q != p})

With `optimize` kernels this is GAN training. With `sghmc` kernels of conditional log densities it is the Gibbs-like
sampler of the Bayesian GAN (Saatci & Wilson 2017, algorithm 1). With `hmc` it is Metropolis-within-Gibbs. The loss or
log density of a player receives `types.Given(data, others)` as its batch, so it can depend on all particles of another
player. Read `posteriors/bayesian_gan.py` next: it has the conditional log densities of the Bayesian GAN.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks
from bayesjax.kernels.particles import all_particles
from bayesjax.types import Array, Given, Kernel, Players, PRNGKey, PyTree, StructuredKernel


class AlternateState(NamedTuple):
    """State of `alternate`.

    Attributes:
      players: the state of each player, by name.
    """

    players: dict[str, Any]

    @property
    def position(self) -> dict[str, PyTree]:
        """The current position of each player, by name."""
        return {name: state.position for name, state in self.players.items()}


class AlternateInfo(NamedTuple):
    """Diagnostics of one sweep.

    Attributes:
      players: the info of each player's step, by name.
    """

    players: dict[str, Any]


def alternate(**players: Kernel) -> StructuredKernel:
    """Moves each player in turn, in the given order. Each receives the current positions of the other players.

    Args:
      **players: the kernel of each player, for example
        `alternate(discriminator=sghmc(d), generator=particles(sghmc(g), 10))`. For k inner steps of a player, wrap its
        kernel in `repeat`.

    Returns:
      A kernel whose position is a dict with one entry for each player. Its state is an `AlternateState` and its info an
      `AlternateInfo`.

    Raises:
      ValueError: if no player is given, or one is not a kernel. `init` raises it if the keys of the position are not
        the names of the players.
    """
    if not players:
        raise ValueError("players is empty: alternate needs at least one named kernel")
    checks.kernel(**players)

    def init(position: dict[str, PyTree], rng_key: PRNGKey) -> AlternateState:
        if set(position) != set(players):
            raise ValueError(f"position must have the keys {sorted(players)}; got {sorted(position)}")
        keys = jax.random.split(rng_key, len(players))
        return AlternateState(
            {name: kernel.init(position[name], key) for key, (name, kernel) in zip(keys, players.items(), strict=True)}
        )

    def step(rng_key: PRNGKey, state: AlternateState, batch: PyTree) -> tuple[AlternateState, AlternateInfo]:
        infos = {}
        keys = jax.random.split(rng_key, len(players))
        for key, (name, kernel) in zip(keys, players.items(), strict=True):
            others = {
                other: all_particles(players[other], position)
                for other, position in state.position.items()
                if other != name
            }
            with naming_player(name):
                player, infos[name] = kernel.step(key, state.players[name], Given(batch, others))
            state = AlternateState({**state.players, name: player})
        return state, AlternateInfo(infos)

    return StructuredKernel(init, step, Players({name: kernel.structure for name, kernel in players.items()}))


@contextlib.contextmanager
def naming_player(name: str) -> Iterator[None]:
    """Adds the name of a player, and what its density receives, to the traceback of an error in the block.

    Args:
      name: the name of the player.
    """
    try:
        yield
    except Exception as error:
        error.add_note(
            f"player {name!r}: its loss or log density receives Given(data, others); the batch is given.data"
        )
        raise


def repeat(kernel: Kernel, num_steps: int, *, part: Callable[[PyTree, Array], PyTree] | None = None) -> Kernel:
    """Takes `num_steps` steps of `kernel` in one step, each with its own key.

    Args:
      kernel: any kernel.
      num_steps: k, at least 1.
      part: `(batch, i) -> batch`, the part of the batch for inner step i = 0 .. k - 1, computed from `i`; None if every
        step receives the whole batch.

    Returns:
      A kernel with the states of `kernel`; its info is that of the last inner step.

    Raises:
      ValueError: if `num_steps` is not positive. `step` raises it if `part` does not depend on `i`, as with a function
        that reads an iterator, which is traced only once.
    """
    checks.count(num_steps=num_steps)
    if num_steps == 1 and part is None:
        return kernel

    def step(rng_key: PRNGKey, state: Any, batch: PyTree) -> tuple[Any, Any]:
        def inner_step(state: Any, key_and_index: tuple[PRNGKey, Array]) -> tuple[Any, Any]:
            key, i = key_and_index
            return checks.step_result(kernel.step(key, state, batch if part is None else part(batch, i)), state)

        if part is not None:
            checks.varies_with_step(functools.partial(part, batch), "part")
        keys = jax.random.split(rng_key, num_steps)
        state, infos = jax.lax.scan(inner_step, state, (keys, jnp.arange(num_steps)))
        return state, jax.tree.map(lambda leaf: leaf[-1], infos)

    return kernel._replace(step=step)  # keeps the structure of particles and players
