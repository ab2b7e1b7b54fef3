"""Parallel tempering: one chain at each level of a ladder of distributions, and exchanges between neighbouring levels.

    levels i and i + 1 exchange x_i and x_{i+1} with probability
        min(1, exp(l_i(x_{i+1}) + l_{i+1}(x_i) - l_i(x_i) - l_{i+1}(x_{i+1}))),        l_i: log density of level i
    then every level moves by the kernel:    x_i <- step(x_i ; batch_i)

Both parts leave the product of the distributions of all levels invariant, so the draws of each level have its
distribution. Level 0 is the reference, which should mix fast, and level num - 1 is the target. The batch determines the
distribution of a level. For a Boltzmann machine it is

    jax.vmap(lambda t: boltzmann.interpolate(base, target, t))(jnp.linspace(0.0, 1.0, num))

and the log density is minus the free energy of v. The kernel moves last, so that the state and the info of a level
belong together: after a step of block Gibbs sampling, v at each level was drawn given the h of the info. A position
that arrives at the target has also moved under the target's current parameters before it is used.

Even pairs (0, 1), (2, 3), ... and odd pairs (1, 2), (3, 4), ... take turns. Positions then travel through the ladder in
one direction for many steps, where random choices of pairs would let them diffuse. Sources: Geyer, "Markov chain Monte
Carlo maximum likelihood", 1991; Syed, Bouchard-Cote, Deligiannidis & Doucet, "Non-reversible parallel tempering: a
scalable highly parallel MCMC scheme", JRSSB 2021; Desjardins et al., "Tempered Markov chain Monte Carlo for training of
restricted Boltzmann machines", AISTATS 2010. Read `models/boltzmann.py` next for the ladder of a machine.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import axes, checks, tree
from bayesjax.types import Array, ArrayLike, Density, Kernel, Params, PRNGKey, PyTree


class ParallelTemperingState(NamedTuple):
    """State of `parallel_tempering`.

    Attributes:
      step: int32 scalar, the number of steps taken. Its parity decides which pairs the next step tries.
      inner: the state of the kernel at each level, with leaves `[num, ...]`. Only positions are exchanged. A momentum
        or a step size stays at its level.
      replicas: int32 `[num]`, the number of the replica at each level. Replica i starts at level i.
    """

    step: Array
    inner: Any
    replicas: Array

    @property
    def position(self) -> Params:
        """The position at each level, with leaves `[num, ...]`. The last one is the position at the target."""
        return self.inner.position


class ParallelTemperingInfo(NamedTuple):
    """Diagnostics of one step.

    Attributes:
      inner: the info of the kernel's step at each level, with leaves `[num, ...]`.
      acceptance_probability: acceptance probability of the exchange of levels i and i + 1, `[num - 1]`; 0 for pairs
        that were not tried.
      is_tried: `[num - 1]`, the pairs that were tried in this step. The mean acceptance of a pair over a run is the sum
        of `acceptance_probability` divided by that of `is_tried`; see `rejection_rates`.
      replicas: int32 `[num]`, the number of the replica at each level after the exchanges; see `round_trips`.
    """

    inner: Any
    acceptance_probability: Array
    is_tried: Array
    replicas: Array


def parallel_tempering(kernel: Kernel, logdensity: Density, num: int) -> Kernel:
    """Runs a kernel at each level of a ladder of distributions, and exchanges positions between neighbouring levels.

    For several moves between exchanges, wrap the kernel in `repeat`. For several ladders, wrap the result in
    `particles`.

    Args:
      kernel: moves a position and leaves the density of its level, `exp(logdensity(., rng_key, batch_i))`, invariant.
      logdensity: `(position, rng_key, batch_i) -> scalar` or `(scalar, aux)`, up to a constant for each level. All
        evaluations of a step share one key; aux is not used. Exchanges are exact only if it does not use its key.
      num: number of levels, at least 2.

    Returns:
      A kernel whose state is a `ParallelTemperingState` and whose info is a `ParallelTemperingInfo`. Its `init` takes a
      position with leaves `[num, ...]`, and its `step` a batch with leaves `[num, ...]`, one entry for each level. A
      step costs one step of the kernel and two evaluations of the log density for each level.

    Raises:
      ValueError: if `num` is less than 2 or `logdensity` does not take three arguments. `init` raises it if the
        position does not have `num` levels or the state of the kernel does not give access to its position. `step`
        raises it if the batch does not have `num` levels or is divided over several devices of a `data` axis.
    """
    checks.count(num=num)
    checks.satisfies("at least 2", lambda num: num >= 2, num=num)
    checks.density(logdensity, "logdensity")

    def init(position: Params, rng_key: PRNGKey) -> ParallelTemperingState:
        _check_levels(position, num, "position")
        inner = jax.vmap(kernel.init)(position, jax.random.split(rng_key, num))
        _replace_position(inner, position)  # raises where step would
        return ParallelTemperingState(jnp.zeros((), jnp.int32), inner, jnp.arange(num, dtype=jnp.int32))

    def step(
        rng_key: PRNGKey, state: ParallelTemperingState, batch: PyTree
    ) -> tuple[ParallelTemperingState, ParallelTemperingInfo]:
        if axes.size(axes.DATA) > 1:
            raise ValueError(f"batch must be whole on one device, with all levels; got {axes.size(axes.DATA)} parts")
        density_key, swap_key, move_key = jax.random.split(rng_key, 3)
        probability, is_tried = swap_probabilities(logdensity, density_key, state.position, batch, state.step)
        is_swapped = jax.random.uniform(swap_key, (num - 1,), probability.dtype) < probability
        position, replicas = _swap((state.position, state.replicas), is_swapped)
        inner = _replace_position(state.inner, position)
        inner, info = jax.vmap(kernel.step)(jax.random.split(move_key, num), inner, batch)
        state = ParallelTemperingState(state.step + 1, inner, replicas)
        return state, ParallelTemperingInfo(info, probability, is_tried, replicas)

    return Kernel(init, step)


def swap_probabilities(
    logdensity: Density, rng_key: PRNGKey, position: Params, batch: PyTree, step: Array | int
) -> tuple[Array, Array]:
    """The Metropolis probabilities with which `parallel_tempering` exchanges neighbours.

        a_i = min(1, exp(l_i(x_{i+1}) + l_{i+1}(x_i) - l_i(x_i) - l_{i+1}(x_{i+1})))

    Args:
      logdensity: `(position, rng_key, batch_i) -> scalar` or `(scalar, aux)`.
      rng_key: the key that all evaluations share.
      position: positions by level, with leaves `[num, ...]`.
      batch: the batch that determines the distribution of each level, with leaves `[num, ...]`.
      step: number of steps taken; pairs (i, i + 1) with i = step mod 2 are tried.

    Returns:
      The probabilities `[num - 1]`, which are 0 for pairs that are not tried or whose ratio is not a number, and
      whether each pair is tried, `[num - 1]`.

    Raises:
      ValueError: if `batch` does not have the levels of `position`, or the log density is not a scalar.
    """
    num = tree.leading_axis(position, "position")
    _check_levels(batch, num, "batch")
    value_of = checks.scalar_valued(logdensity, "logdensity")
    is_tried = jnp.arange(num - 1, dtype=jnp.int32) % 2 == step % 2

    def value(position: Params, rng_key: PRNGKey, batch: PyTree) -> Array:
        return tree.value_and_aux(value_of(position, rng_key, batch))[0].astype(jnp.result_type(float))

    both = jax.tree.map(lambda *leaves: jnp.stack(leaves, axis=1), position, _swap(position, is_tried))
    own, swapped = jax.vmap(jax.vmap(value, (0, None, None)), (0, None, 0))(both, rng_key, batch).T
    gain = swapped - own
    probability = jnp.minimum(1.0, jnp.exp(gain[:-1] + gain[1:]))
    return jnp.where(is_tried & ~jnp.isnan(probability), probability, 0.0), is_tried


def rejection_rates(info: ParallelTemperingInfo) -> Array:
    """Mean rejection probability of the exchange of each pair of neighbours, over the steps in which it was tried.

    The sum of the rates, r_0 + ... + r_{num-2}, estimates the communication barrier, which hardly depends on the
    ladder. If each step of the kernel drew an independent position, a step would complete
    1 / (2 + 2 sum_i r_i / (1 - r_i)) round trips on average. For a given sum of the rates, this number is largest if
    all rates are equal.

    Args:
      info: the infos of consecutive steps, with leaves `[num_steps, ..., num - 1]`. Each step tries only half of the
        pairs.

    Returns:
      Rates `[num - 1]`.

    Raises:
      ValueError: if a pair was not tried in these steps.

    Source: Syed et al. 2021, section 3 and theorem 1.
    """
    steps = tuple(range(info.is_tried.ndim - 1))
    num_tried = jnp.sum(info.is_tried, axis=steps)
    checks.satisfies("true at least once for every pair", lambda num_tried: num_tried > 0, is_tried=num_tried)
    return 1 - jnp.sum(info.acceptance_probability, axis=steps) / num_tried


def round_trips(replica_history: ArrayLike) -> Array:
    """Number of round trips of each replica, from level 0 to level num - 1 and back to level 0.

    Args:
      replica_history: int `[num_steps, num]`, the replica at each level after each step, such as
        `ParallelTemperingInfo.replicas` of all steps. Steps left out may hide a visit to an end.

    Returns:
      int32 `[num]`, by replica. Their sum divided by `num_steps` is the rate of round trips of a long run.

    Raises:
      ValueError: if `replica_history` does not have two axes with at least two levels.
    """
    checks.rank("[num_steps, num]", 2, replica_history=jnp.asarray(replica_history))
    num = replica_history.shape[1]
    if num < 2:
        raise ValueError(f"replica_history must have at least 2 levels; got {num}")
    numbers = jnp.arange(num, dtype=jnp.int32)

    def count(carry: tuple[Array, Array, Array], replicas: Array) -> tuple[tuple[Array, Array, Array], None]:
        is_going_up, is_going_down, num_trips = carry
        is_at_reference, is_at_target = numbers == replicas[0], numbers == replicas[-1]
        num_trips = num_trips + (is_at_reference & is_going_down)
        is_going_down = (is_going_down | (is_at_target & is_going_up)) & ~is_at_reference
        return ((is_going_up | is_at_reference) & ~is_at_target, is_going_down, num_trips), None

    nowhere = jnp.zeros(num, bool)
    start = nowhere, nowhere, jnp.zeros(num, jnp.int32)
    return jax.lax.scan(count, start, jnp.asarray(replica_history))[0][2]


def _swap(values: PyTree, is_swapped: Array) -> PyTree:
    """Exchanges entries i and i + 1 of the leading axis where `is_swapped[i]`, which holds for no two consecutive i."""
    up = is_swapped.astype(jnp.int32)
    source = jnp.arange(up.size + 1, dtype=jnp.int32) + jnp.pad(up, (0, 1)) - jnp.pad(up, (1, 0))
    return jax.tree.map(lambda leaf: jnp.take(leaf, source, axis=0), values)


def _replace_position(state: Any, position: Params) -> Any:
    """The state of a kernel, or of the kernel inside it, with another position."""
    fields = getattr(state, "_fields", ())
    if "position" in fields:
        return state._replace(position=position)
    if "inner" in fields:
        return state._replace(inner=_replace_position(state.inner, position))
    if "players" in fields:
        players = {name: _replace_position(player, position[name]) for name, player in state.players.items()}
        return state._replace(players=players)
    raise ValueError(f"kernel must have a state with the field position, inner or players; got {type(state).__name__}")


def _check_levels(values: PyTree, num: int, name: str) -> None:
    """Raises ValueError unless every leaf has `num` levels; a tree without leaves is the same at all levels."""
    for shape in [np.shape(leaf) for leaf in jax.tree.leaves(values)]:
        if shape[:1] != (num,):
            raise ValueError(f"{name} must stack {num} levels on the leading axis of every leaf; got the shape {shape}")
