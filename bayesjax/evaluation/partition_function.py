"""Partition functions of Boltzmann machines: exact by enumeration, and estimated by annealed importance sampling (AIS).

    log p(v) = -F(v) - log Z,        log Z = log sum_v exp(-F(v)) = log sum_h exp(-F_hidden(h))

    enumeration    exact, over all 2^n states of the smaller side, n <= 20           `log_partition_function`
    forward AIS    from exact draws of the base: E exp(log Z-hat) = Z                `annealed_log_partition_function`
    reverse AIS    from exact draws of the target: E exp(-log Z-hat) = 1 / Z         `reverse_annealed_...`
    both           forward <= log Z <= reverse in expectation; their gap             `bidirectional_...`
    checkpoints    chains that follow a training run: log Z at each checkpoint       `partition_function_curve.py`

The forward estimate of log Z is a stochastic lower bound by Jensen's inequality, so a likelihood from it is optimistic.
It can be off by many nats while its standard error is small, if no chain has reached a region where the machine has
much of its mass. A small gap to the reverse estimate shows that both are right, if the samples are exact. Convergence
of the forward estimate as temperatures are added is weaker evidence.

Z depends on the parameterisation: a centred and a plain machine of one distribution have different Z and F, and the
same p(v). The offsets are part of F and of the closed form of the base, so use both from one set of parameters.
Sources: Salakhutdinov & Murray, "On the quantitative analysis of deep belief networks", ICML 2008; Burda, Grosse &
Salakhutdinov, "Accurate and conservative estimates of MRF log-likelihood using reverse annealing", AISTATS 2015;
Grosse, Ghahramani & Adams, "Sandwiching the marginal likelihood using bidirectional Monte Carlo", 2015. Read
`annealing.py` for the weights and the schedules, and `models/boltzmann.py` for the machines.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax import checks, distributions, kernels, tree
from bayesjax.evaluation import annealing
from bayesjax.models import boltzmann
from bayesjax.models.boltzmann import EnergyFunction, Machine
from bayesjax.types import Array, ArrayLike, Params, PRNGKey

MAX_UNITS = 20


class AnnealedPartitionFunction(NamedTuple):
    """An estimate of log Z, or one estimate for each checkpoint.

    Attributes:
      log_partition_function: the estimate of log Z in nats, a scalar or `[num_checkpoints]`.
      standard_error: its standard error by the delta method, of the same shape. It does not include the bias of the
        logarithm, and is too small if the effective sample size is.
      log_weights: log weights of the chains, `[num_chains]` or `[num_checkpoints, num_chains]`. The mean of their
        exponentials is unbiased for Z (forward) or 1 / Z (reverse).
      effective_sample_size: effective sample size of the weights, between 1 and `num_chains`, of the same shape.
      positions: visible units at the end of the chains, `[num_chains, V]`: approximate draws of the last machine, after
        resampling by the weights.
    """

    log_partition_function: Array
    standard_error: Array
    log_weights: Array
    effective_sample_size: Array
    positions: Array


class BidirectionalPartitionFunction(NamedTuple):
    """Forward and reverse estimates of one log Z.

    Attributes:
      forward: a lower bound in expectation.
      reverse: an upper bound in expectation, if the given samples were exact.
      gap: reverse minus forward, in nats.
    """

    forward: AnnealedPartitionFunction
    reverse: AnnealedPartitionFunction
    gap: Array


def log_partition_function(
    free_energy: EnergyFunction, params: Params, num_units: int, *, chunk_size: int = 4096
) -> Array:
    """Exact log Z of a Boltzmann machine, by enumeration of one of its two sides.

        log Z = log sum_s exp(-F(s)),    s in {0, 1}^num_units

    It is differentiable in the parameters, with the gradient -E[grad F(s)]. The backward pass recomputes the free
    energies, so both passes need memory for one chunk of states only.

    Args:
      free_energy: `machine.hidden_free_energy` to enumerate the hidden units, `machine.free_energy` for Bernoulli
        visible units.
      params: parameters of the machine.
      num_units: number of units of the enumerated side, at most 20.
      chunk_size: number of states that are evaluated at once.

    Returns:
      A scalar in nats.

    Raises:
      ValueError: if a number is out of range or the free energy of one state is not a scalar.
    """
    checks.count(num_units=num_units, chunk_size=chunk_size)
    if num_units > MAX_UNITS:
        raise ValueError(
            f"num_units must be at most {MAX_UNITS}, as 2^num_units states are summed (use AIS); got {num_units}"
        )
    num_states, dtype = 2**num_units, tree.float_type(params)
    chunk_size = min(chunk_size, num_states)

    def negative_free_energy(index: Array) -> Array:
        state = ((index >> jnp.arange(num_units)) & 1).astype(dtype)
        value = -checks.scalar(free_energy(params, state), "free_energy")
        return jnp.where(index < num_states, value, -jnp.inf)

    @jax.checkpoint
    def log_sum(start: Array) -> Array:
        return jax.nn.logsumexp(jax.vmap(negative_free_energy)(start + jnp.arange(chunk_size)))

    return jax.nn.logsumexp(lax.map(log_sum, jnp.arange(0, num_states, chunk_size)))


def annealed_log_partition_function(
    machine: Machine,
    base: Params,
    target: Params,
    rng_key: PRNGKey,
    *,
    inverse_temperatures: ArrayLike,
    num_chains: int = 100,
) -> AnnealedPartitionFunction:
    """Estimates log Z by AIS from a machine of independent units, with a sweep of block Gibbs at each temperature.

        log Z_base + log 1/m sum_j prod_k exp(F(v_jk; k) - F(v_jk; k + 1)),    v_j0 ~ the base, v_jk -> level k by Gibbs

    Level k has the parameters `boltzmann.interpolate(base, target, b_k)`. The mean of Z-hat is Z for every schedule, so
    the mean of its logarithm is a lower bound. Call it within `jax.jit` for repeated use. For a machine of 784
    and 500 units and 100 chains, a temperature takes about 7 ms of processor time, 60 % of it in matrix products. XLA
    divides it evenly between two CPU cores, which is about 70 s for 20 000 temperatures if both are free.

    Args:
      machine: `boltzmann.machine(model)`.
      base: `boltzmann.independent_units(target, mean)`, with the mean of the training data.
      target: parameters of the machine.
      rng_key: consumed.
      inverse_temperatures: increasing values from 0 to 1, `[num_levels]`, such as `annealing.salakhutdinov_schedule()`.
      num_chains: number m of independent chains, at least 2.

    Returns:
      The estimate with its standard error, weights and final positions.

    Raises:
      ValueError: if the schedule does not increase from 0 to 1, the base has connections or the wrong structure or
        shapes, or there are fewer than two chains.
    """
    schedule = annealing.check_schedule(inverse_temperatures)
    check_base(base, target)
    start_key, run_key = jax.random.split(rng_key)
    positions = base_draws(machine, base, start_key, num_chains)
    chains = anneal_machines(machine, base, target, positions, run_key, schedule)
    log_weights = chains.log_weights + boltzmann.independent_log_partition_function(base)
    return estimate(1, log_weights, chains.positions)


def reverse_annealed_log_partition_function(
    machine: Machine,
    base: Params,
    target: Params,
    rng_key: PRNGKey,
    positions: ArrayLike,
    *,
    inverse_temperatures: ArrayLike,
) -> AnnealedPartitionFunction:
    """Estimates log Z by AIS from samples of the target to the base.

        log Z_base - log 1/m sum_j prod_k exp(F(v_jk; k) - F(v_jk; k - 1)),    v_jn ~ the target

    With exact samples the mean of exp(-log Z-hat) is 1 / Z for every schedule, so the mean of log Z-hat is an upper
    bound. Samples of a Markov chain that has not converged give no bound. If they all lie in modes with a share s of
    the target's mass, the estimate can be as low as log Z + log s. It can then agree with a forward estimate that has
    missed the same modes. Chains that were started at data hide the machine's other modes in this way. Samples that
    depend on one another keep the bound, but their standard error is too small.

    Args:
      machine: `boltzmann.machine(model)`.
      base: `boltzmann.independent_units(target, mean)`.
      target: parameters of the machine.
      rng_key: consumed.
      positions: visible units `[num_chains >= 2, V]`, samples of the target, for example of parallel tempering.
      inverse_temperatures: increasing values from 0 to 1, `[num_levels]`, as for the forward estimate.

    Returns:
      The estimate; its positions are approximate draws of the base.

    Raises:
      ValueError: if the schedule does not increase from 0 to 1, the base has connections or the wrong structure or
        shapes, or the positions have the wrong shape.
    """
    schedule = annealing.check_schedule(inverse_temperatures)
    check_base(base, target)
    chains = anneal_machines(machine, base, target, as_positions(positions, target), rng_key, schedule[::-1])
    return estimate(-1, chains.log_weights - boltzmann.independent_log_partition_function(base), chains.positions)


def bidirectional_log_partition_function(
    machine: Machine,
    base: Params,
    target: Params,
    rng_key: PRNGKey,
    positions: ArrayLike,
    *,
    inverse_temperatures: ArrayLike,
    num_chains: int = 100,
) -> BidirectionalPartitionFunction:
    """Brackets log Z between forward and reverse AIS (bidirectional Monte Carlo).

        E forward <= log Z <= E reverse,    the latter if `positions` are exact samples of the target

    Args:
      machine, base, target, positions, inverse_temperatures: as in `reverse_annealed_log_partition_function`.
      rng_key: consumed.
      num_chains: number of chains of the forward estimate; the reverse one has a chain for each position.

    Returns:
      Both estimates and their gap.

    Raises:
      ValueError: in the cases that the functions of the two estimates state.
    """
    forward_key, reverse_key = jax.random.split(rng_key)
    forward = annealed_log_partition_function(
        machine, base, target, forward_key, inverse_temperatures=inverse_temperatures, num_chains=num_chains
    )
    reverse = reverse_annealed_log_partition_function(
        machine, base, target, reverse_key, positions, inverse_temperatures=inverse_temperatures
    )
    return BidirectionalPartitionFunction(
        forward, reverse, reverse.log_partition_function - forward.log_partition_function
    )


def anneal_machines(
    machine: Machine, start: Params, end: Params, positions: Array, rng_key: PRNGKey, schedule: ArrayLike
) -> annealing.AnnealedChains:
    """Moves chains of visible units along the path between two machines, with a sweep of block Gibbs at each level.

    A level takes three matrix products: two with v for the weight, of which XLA shares the second with p(h | v) of the
    sweep, and one with h.

    Args:
      machine: `boltzmann.machine(model)`.
      start, end: parameters of the machines at 0 and 1 of the path.
      positions: visible units `[num_chains, V]`, exact draws of the first machine of the schedule.
      rng_key: consumed.
      schedule: places on the path `boltzmann.interpolate(start, end, .)`, `[num_levels]`; from 1 to 0 for the
        way back.

    Returns:
      Final positions and log weights.
    """
    gibbs = kernels.block_gibbs(machine.hidden, machine.visible)

    def log_ratio(v: Array, before: Params, after: Params) -> Array:
        return machine.free_energy(before, v) - machine.free_energy(after, v)

    def transition(rng_key: PRNGKey, v: Array, params: Params) -> tuple[Array, None]:
        state, _ = gibbs.step(rng_key, gibbs.init(v, rng_key), params)
        return state.position, None

    return annealing.anneal(
        log_ratio,
        transition,
        positions,
        rng_key,
        jnp.asarray(schedule, tree.float_type(end)),
        params_at=functools.partial(boltzmann.interpolate, start, end),
    )


def as_positions(positions: ArrayLike, params: Params) -> Array:
    """Returns visible units in the type of the parameters.

    Raises:
      ValueError: if the visible units are not `[num_chains >= 2, V]`.
    """
    shape, num_visible = jnp.shape(positions), params["visible_bias"].shape[-1]
    if len(shape) != 2 or shape[0] < 2 or shape[1] != num_visible:
        raise ValueError(f"positions must be [num_chains >= 2, {num_visible}]; got an array of shape {shape}")
    return jnp.asarray(positions, tree.float_type(params))


def base_draws(machine: Machine, base: Params, rng_key: PRNGKey, num_chains: int) -> Array:
    """Independent draws of the visible units of a machine without connections, `[num_chains, V]`.

    Raises:
      ValueError: if `num_chains` is less than 2.
    """
    checks.count(num_chains=num_chains)
    if num_chains < 2:
        raise ValueError(f"num_chains must be at least 2, for a standard error; got {num_chains}")
    visible = machine.visible(base, jnp.zeros_like(base["hidden_bias"]))  # the same for every h, because W is 0
    return jax.vmap(lambda key: distributions.sample(visible, key))(jax.random.split(rng_key, num_chains))


def check_base(base: Params, target: Params) -> None:
    """Raises ValueError unless the base has no connections and the structure and shapes of the target."""
    shapes = [jax.tree.map(jnp.shape, params) for params in (base, target)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"base must have the structure and shapes of the machine, {shapes[1]}; got {shapes[0]}")
    checks.satisfies("0 in base (see boltzmann.independent_units)", lambda value: value == 0, kernel=base["kernel"])


def estimate(sign: int, log_weights: Array, positions: Array) -> AnnealedPartitionFunction:
    """The estimate of log Z from log weights whose exponentials have the mean Z^sign.

    Args:
      sign: 1 for the forward estimate, -1 for the reverse one.
      log_weights: log weights of the chains, `[..., num_chains]`.
      positions: visible units at the end of the chains, `[num_chains, V]`.
    """
    return AnnealedPartitionFunction(
        sign * annealing.log_mean_weight(log_weights),
        annealing.log_mean_weight_standard_error(log_weights),
        log_weights,
        annealing.weight_effective_sample_size(log_weights),
        positions,
    )
