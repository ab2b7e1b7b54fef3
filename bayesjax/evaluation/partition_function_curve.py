"""Partition functions at the checkpoints of one training run, by annealed importance sampling along the run.

    base -> checkpoint 0 -> checkpoint 1 -> ...        one set of chains; the weight up to i has the mean Z_i / Z_base

A few interpolated machines between consecutive checkpoints replace a full schedule of temperatures for each. The
likelihood at all checkpoints then costs little more than the likelihood of the last machine. Source: Bereux, Decelle,
Furtlehner, Rosset & Seoane, "Fast training and sampling of restricted Boltzmann machines", arXiv 2405.15376. Read
`partition_function.py` first, for what the two directions bound.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesjax import checks, tree
from bayesjax.evaluation import annealing, partition_function
from bayesjax.evaluation.partition_function import AnnealedPartitionFunction
from bayesjax.models import boltzmann
from bayesjax.models.boltzmann import Machine
from bayesjax.types import Array, ArrayLike, Params, PRNGKey


def checkpoint_log_partition_functions(
    machine: Machine,
    base: Params,
    checkpoints: Params,
    rng_key: PRNGKey,
    *,
    inverse_temperatures: ArrayLike,
    num_steps: int = 10,
    num_chains: int = 100,
) -> AnnealedPartitionFunction:
    """Estimates log Z at every checkpoint of one training run, with chains that follow the run.

        base -> checkpoint 0 by inverse temperatures,    checkpoint i -> i + 1 by `num_steps` interpolated machines

    The weights accumulate along the run, so each estimate is a lower bound of its log Z in expectation. The run is
    often a better path than one of temperatures, because the machines change little between checkpoints.

    Args:
      machine: `boltzmann.machine(model)`.
      base: `boltzmann.independent_units(first_checkpoint, mean)`.
      checkpoints: parameters in the order of training, leaves `[num_checkpoints, ...]`.
      rng_key: consumed.
      inverse_temperatures: increasing values from 0 to 1 of the path from the base to the first checkpoint.
      num_steps: number of levels from one checkpoint to the next, each with a sweep of block Gibbs.
      num_chains: number of independent chains, at least 2.

    Returns:
      An estimate with a leading axis `[num_checkpoints]`, and the positions at the last checkpoint.

    Raises:
      ValueError: if the schedule does not increase from 0 to 1, a count is not positive, or shapes differ.
    """
    schedule, first, path = _check_run(base, checkpoints, inverse_temperatures, num_steps)
    start_key, base_key, run_key = jax.random.split(rng_key, 3)
    positions = partition_function.base_draws(machine, base, start_key, num_chains)
    chains = partition_function.anneal_machines(machine, base, first, positions, base_key, schedule)
    start = chains.log_weights + boltzmann.independent_log_partition_function(base)
    positions, log_weights = _follow(machine, path, chains.positions, start, run_key, num_steps)
    return partition_function.estimate(1, jnp.concatenate([start[None], log_weights]), positions)


def reverse_checkpoint_log_partition_functions(
    machine: Machine,
    base: Params,
    checkpoints: Params,
    rng_key: PRNGKey,
    positions: ArrayLike,
    *,
    inverse_temperatures: ArrayLike,
    num_steps: int = 10,
) -> AnnealedPartitionFunction:
    """Estimates log Z at every checkpoint, with chains that go from samples of the last checkpoint back to the base.

        log Z_i = log Z_base - log (sum_j w_j / sum_j u_ij)

    Here u_ij is the weight of chain j from the last checkpoint to checkpoint i, and w_j that to the base. At the last
    checkpoint u is 1, and the estimate is an upper bound in expectation if the samples are exact. At the others it is a
    ratio of two means: it converges to log Z_i with more chains and is not a bound.

    Args:
      machine, base, checkpoints, inverse_temperatures, num_steps: as in `checkpoint_log_partition_functions`.
      rng_key: consumed.
      positions: visible units `[num_chains >= 2, V]`, samples of the last checkpoint.

    Returns:
      An estimate with a leading axis `[num_checkpoints]`, and the positions at the base. Row i of `log_weights` is
      log w_j - log u_ij - log Z_base; the effective sample size is that of w, at every checkpoint.

    Raises:
      ValueError: if the schedule does not increase from 0 to 1, a count is not positive, or shapes differ.
    """
    schedule, first, path = _check_run(base, checkpoints, inverse_temperatures, num_steps)
    base_key, run_key = jax.random.split(rng_key)
    v = partition_function.as_positions(positions, first)
    zeros = jnp.zeros(len(v), tree.float_type(first))
    v, log_weights = _follow(machine, path, v, zeros, run_key, num_steps, is_reverse=True)
    partial = jnp.concatenate([log_weights, zeros[None]])  # log u
    chains = partition_function.anneal_machines(machine, base, first, v, base_key, schedule[::-1])
    full = partial[0] + chains.log_weights - boltzmann.independent_log_partition_function(base)
    difference = len(v) * (jax.nn.softmax(full)[None] - jax.nn.softmax(partial, axis=-1))
    return AnnealedPartitionFunction(
        annealing.log_mean_weight(partial) - annealing.log_mean_weight(full),
        jnp.std(difference, axis=-1, ddof=1) / jnp.sqrt(len(v)),
        full[None] - partial,
        jnp.broadcast_to(annealing.weight_effective_sample_size(full), len(partial)),
        chains.positions,
    )


def _follow(
    machine: Machine,
    path: tuple[Params, Params],
    positions: Array,
    log_weights: Array,
    rng_key: PRNGKey,
    num_steps: int,
    *,
    is_reverse: bool = False,
) -> tuple[Array, Array]:
    """Moves chains along the run. A leg is the path between two consecutive checkpoints.

    Returns:
      The final positions, and the log weights at the end of each leg, `[num_legs, num_chains]`.
    """
    schedule = annealing.linear_schedule(num_steps)

    def follow_leg(carry: tuple[Array, Array], leg: tuple[Array, Params, Params]) -> tuple[tuple, Array]:
        positions, log_weights = carry
        index, earlier, later = leg
        start, end = (later, earlier) if is_reverse else (earlier, later)
        chains = partition_function.anneal_machines(
            machine, start, end, positions, jax.random.fold_in(rng_key, index), schedule
        )
        log_weights = log_weights + chains.log_weights
        return (chains.positions, log_weights), log_weights

    legs = (jnp.arange(tree.leading_axis(path)), *path)
    (positions, _), log_weights = lax.scan(follow_leg, (positions, log_weights), legs, reverse=is_reverse)
    return positions, log_weights


def _check_run(
    base: Params, checkpoints: Params, inverse_temperatures: ArrayLike, num_steps: int
) -> tuple[Array | np.ndarray, Params, tuple[Params, Params]]:
    """Checks the arguments of both estimates.

    Returns:
      The schedule, the first checkpoint, and the earlier and the later checkpoints of all consecutive pairs, stacked.
    """
    schedule = annealing.check_schedule(inverse_temperatures)
    checks.count(num_steps=num_steps)
    tree.leading_axis(checkpoints, "checkpoints")
    first, earlier, later = (
        jax.tree.map(lambda leaf, at=at: leaf[at], checkpoints) for at in (0, slice(None, -1), slice(1, None))
    )
    partition_function.check_base(base, first)
    return schedule, first, (earlier, later)
