"""Objectives of Boltzmann machines, all written with the free energy F(v) = -log sum_h exp(-E(v, h)).

    -log p(x) = F(x) + log Z,        gradient = dF(x) - E_{v ~ p} dF(v)

    contrastive divergence (CD-k)    v: k Gibbs steps from x                      biased; the bias falls with k
    persistent (PCD-k)               v: k steps of chains that are carried along  Carried(batch, chains)
    exact                            log Z by enumeration                         small machines
    pseudo-likelihood                sum_i log p(x_i | x without x_i)              no samples; exact over all bits
    deep, variational                E_q E(x, h) - entropy(q) in place of F(x)    q: mean field, held fixed

Free energies in place of drawn hidden units reduce the variance of the gradient, and they are defined for every
machine. The value of the loss F(x) - F(v) is not a likelihood and does not fall as learning proceeds. Monitor log p(x)
with `evaluation.partition_function` instead. Sources: Hinton, "Training products of experts by minimizing contrastive
divergence", 2002; Tieleman, "Training restricted Boltzmann machines using approximations to the likelihood gradient",
ICML 2008 (persistent chains); Besag, "Statistical analysis of non-lattice data", 1975 (pseudo-likelihood);
Salakhutdinov & Hinton, "Deep Boltzmann machines", AISTATS 2009. Models are in `models/boltzmann.py` and
`models/deep_boltzmann.py`. Read `evaluation/partition_function.py` next for log Z.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from bayesjax import checks, distributions, tree
from bayesjax.types import OFFSETS, Array, Carried, Conditional, Kernel, Params, PRNGKey, PyTree

FreeEnergy = Callable[[Params, Array], Array]
"""`(params, v) -> scalar`, of one visible vector."""


def contrastive_divergence(
    free_energy: FreeEnergy, kernel: Kernel, *, num_steps: int = 1
) -> Callable[[Params, PRNGKey, Array], tuple[Array, dict[str, Array]]]:
    """CD-k of one example: F(x) - F(v), where v is the state of a chain k steps after its start at x.

    Args:
      free_energy: `(params, v) -> scalar`.
      kernel: a sampler of v whose batch is the parameters, such as `kernels.block_gibbs(hidden, visible)`.
      num_steps: k, the number of steps.

    Returns:
      `(params, rng_key, x) -> (loss, aux)`; `aux` has the free energies "data" and "model".

    Raises:
      ValueError: if `num_steps` is not positive. The returned objective raises it if the free energy is not a scalar.
    """
    checks.count(num_steps=num_steps)
    free_energy = checks.scalar_valued(free_energy, "free_energy")

    def objective(params: Params, rng_key: PRNGKey, x: Array) -> tuple[Array, dict[str, Array]]:
        init_key, run_key = jax.random.split(rng_key)
        state, _ = _advance(kernel, kernel.init(x, init_key), params, run_key, num_steps)
        at_data, at_model = free_energy(params, x), free_energy(params, state.position)
        return at_data - at_model, {"data": at_data, "model": at_model}

    return objective


def persistent_contrastive_divergence(
    free_energy: FreeEnergy,
    kernel: Kernel,
    *,
    num_steps: int = 1,
    positive: Callable[[Params, PRNGKey, Array], Array] | None = None,
    samples: Callable[[Any, Any], Array] = lambda state, info: state.position,
) -> Callable[[Params, PRNGKey, Carried], tuple[Array, dict[str, PyTree]]]:
    """PCD-k: mean F(x) over the batch minus mean F(v) over chains that continue from step to step.

    The chains are the carry of `kernels.carrying(optimize(loss, optimizer), kernel.init(start, rng_key))`, so they are
    part of the training state and resume with it. With `posteriors.from_loss(loss, log_prior, num_data)` the same loss
    is the estimate of a log posterior over the weights, for `kernels.sgld` and `kernels.sghmc`.

    Args:
      free_energy: `(params, v) -> scalar`.
      kernel: a sampler of many v whose batch is the parameters, such as
        `kernels.particles(kernels.block_gibbs(...), num)`. For `kernels.parallel_tempering`, whose batch is a ladder of
        machines, give a kernel whose `step` makes the ladder from the parameters.
      num_steps: k, the number of steps of the chains per update.
      positive: `(params, rng_key, x) -> scalar`, in place of F(x), such as `variational_free_energy` of a deep machine.
      samples: `(state, info) -> v [num, V]`, reads the samples from the kernel's last step. The default takes the
        positions. For one ladder of parallel tempering, take the position at the target, `state.position[-1:]`. For
        chains of h, `block_gibbs(visible, hidden)`, take `info.other`: a step then has one matrix product less, as
        p(h | v) and the free energy of v share one.

    Returns:
      `(params, rng_key, Carried(batch, state)) -> (loss, aux)`; `aux` has the new state as "carry", and the mean free
      energies "data" and "model".

    Raises:
      ValueError: if `num_steps` is not positive. The returned loss raises it if a free energy or `positive` is not a
        scalar, or the samples are not `[num, V]`.
    """
    checks.count(num_steps=num_steps)
    free_energy = checks.scalar_valued(free_energy, "free_energy")
    positive = positive and checks.scalar_valued(positive, "positive")

    def loss(params: Params, rng_key: PRNGKey, batch: Carried) -> tuple[Array, dict[str, PyTree]]:
        positive_key, run_key = jax.random.split(rng_key)
        state, info = _advance(kernel, batch.carry, params, run_key, num_steps)
        v = lax.stop_gradient(samples(state, info))
        checks.rank("[num, V], see the argument samples", 2, samples=v)
        x = batch.batch
        # Images and chains have separate products: a product of the chains may be one that the kernel computed already.
        if positive is None:
            at_data = tree.widen(jax.vmap(free_energy, in_axes=(None, 0))(params, x)).mean()
        else:
            keys = jax.random.split(positive_key, tree.leading_axis(x, "batch"))
            at_data = tree.widen(jax.vmap(positive, in_axes=(None, 0, 0))(params, keys, x)).mean()
        at_model = tree.widen(jax.vmap(free_energy, in_axes=(None, 0))(params, v)).mean()
        return at_data - at_model, {"carry": state, "data": at_data, "model": at_model}

    return loss


def exact_negative_log_likelihood(
    free_energy: FreeEnergy, log_partition_function: Callable[[Params], Array]
) -> Callable[[Params, PRNGKey, Array], tuple[Array, dict[str, Array]]]:
    """-log p(x) = F(x) + log Z of one example, with its exact gradient.

    Args:
      free_energy: `(params, v) -> scalar`.
      log_partition_function: `params -> scalar`, differentiable, such as
        `evaluation.partition_function.log_partition_function` with its other arguments bound.

    Returns:
      `(params, rng_key, x) -> (loss, aux)`, in nats; `aux` has "log_partition_function".

    Raises:
      ValueError: the returned objective raises it if the free energy or log Z is not a scalar.
    """
    free_energy = checks.scalar_valued(free_energy, "free_energy")
    log_partition_function = checks.scalar_valued(log_partition_function, "log_partition_function")

    def objective(params: Params, rng_key: PRNGKey, x: Array) -> tuple[Array, dict[str, Array]]:
        del rng_key
        log_z = log_partition_function(params)
        return free_energy(params, x) + log_z, {"log_partition_function": log_z}

    return objective


def negative_pseudo_likelihood(
    free_energy: FreeEnergy, *, chunk_size: int = 98
) -> Callable[[Params, PRNGKey, Array], Array]:
    """Negative log pseudo-likelihood of one binary example, a sum over all of its bits.

        -sum_i log p(x_i | x without x_i) = sum_i softplus(F(x) - F(x with bit i flipped))

    Args:
      free_energy: `(params, v) -> scalar`.
      chunk_size: number of bits that are flipped at once, which bounds the memory.

    Returns:
      `(params, rng_key, x) -> scalar`, in nats.

    Raises:
      ValueError: if `chunk_size` is not positive. The returned objective raises it if x is not one vector or the free
        energy is not a scalar.
    """
    checks.count(chunk_size=chunk_size)
    free_energy = checks.scalar_valued(free_energy, "free_energy")

    def objective(params: Params, rng_key: PRNGKey, x: Array) -> Array:
        del rng_key
        checks.rank("one vector [V]", 1, x=x)
        at_x = free_energy(params, x)

        def term(bit: Array) -> Array:
            flipped = x.at[bit].set((1 - x[bit]).astype(x.dtype))
            return jax.nn.softplus(at_x - free_energy(params, flipped))

        return jnp.sum(lax.map(term, jnp.arange(x.size), batch_size=min(chunk_size, x.size)))

    return objective


def variational_free_energy(
    energy: Callable[[Params, Array, PyTree], Array], mean_field: Callable[[Params, Array], PyTree]
) -> Callable[[Params, PRNGKey, Array], Array]:
    """Mean-field bound on the free energy of one example, E_q E(x, h) - entropy(q) >= F(x).

    The means of q are held fixed, as in the variational EM algorithm: the gradient is that of the energy alone. The
    energy must be linear in each hidden unit, so that its expectation is its value at the means.

    Args:
      energy: `(params, v, hidden) -> scalar`, with `hidden` a pytree of layers.
      mean_field: `(params, v) -> means` of the hidden units, in [0, 1].

    Returns:
      `(params, rng_key, x) -> scalar`, in nats.

    Raises:
      ValueError: the returned objective raises it if the energy is not a scalar.
    """
    energy = checks.scalar_valued(energy, "energy")

    def objective(params: Params, rng_key: PRNGKey, x: Array) -> Array:
        del rng_key
        means = mean_field(*lax.stop_gradient((params, x)))  # not differentiated, so it may be a loop until convergence
        return energy(params, x, means) - bernoulli_entropy(means)

    return objective


def deep_belief_log_weight(
    hidden: Sequence[Conditional], visible: Sequence[Conditional], top_free_energy: FreeEnergy
) -> Callable[[Sequence[Params], PRNGKey, Array], Array]:
    """One draw of log [p(v, h) / q(h | v)] + log Z for a deep belief network, an RBM on top of n sigmoid layers.

        sum_{i=0}^{n-1} [log p(h_i | h_{i+1}) - log q(h_{i+1} | h_i)] - F_top(h_n)

    h_0 = v, and h_{i+1} is drawn from q(h_{i+1} | h_i). F_top is the free energy and Z the partition function of the
    RBM. The mean of this value over draws, minus log Z, is the variational bound on log p(v). The logarithm of the mean
    of its exponential, minus log Z, is a tighter bound in expectation. Source: Salakhutdinov & Murray, "On the
    quantitative analysis of deep belief networks", ICML 2008.

    Args:
      hidden: `(params, h_i) -> q(h_{i+1} | h_i)` of each sigmoid layer, from the bottom to the top.
      visible: `(params, h_{i+1}) -> p(h_i | h_{i+1})` of each sigmoid layer.
      top_free_energy: `(params, h_n) -> scalar` of the RBM.

    Returns:
      `(params, rng_key, v) -> scalar`, in nats, with one entry of `params` for each sigmoid layer and one for the RBM.

    Raises:
      ValueError: if `hidden` and `visible` differ in length. The returned function raises it if `params` does not have
        n + 1 entries, or the free energy is not a scalar.
    """
    if len(hidden) != len(visible):
        raise ValueError(f"hidden and visible must have equal lengths; got {len(hidden)} and {len(visible)}")

    top_free_energy = checks.scalar_valued(top_free_energy, "top_free_energy")

    def log_weight(params: Sequence[Params], rng_key: PRNGKey, v: Array) -> Array:
        if len(params) != len(hidden) + 1:
            raise ValueError(f"params must have {len(hidden) + 1} entries, one for each machine; got {len(params)}")
        value, units = jnp.zeros(()), v
        for index, (up, down) in enumerate(zip(hidden, visible, strict=True)):
            key = jax.random.fold_in(rng_key, index)
            above, log_q = distributions.sample_and_log_prob(up(params[index], units), key)
            value += distributions.log_prob(down(params[index], above), units) - log_q
            units = above
        return value - top_free_energy(params[-1], units)

    return log_weight


def follow_means(
    loss: Callable, hidden_mean: Callable[[Params, Array], Array]
) -> Callable[[Params, PRNGKey, Any], tuple[Array, PyTree]]:
    """Adds to a loss of a centred machine the gradient with which its offsets follow the means of the data.

        dloss / dm = m - mean of x,        dloss / dl = l - mean of p(h = 1 | x)

    m and l are the offsets of the visible and the hidden units. No gradient flows from the energy to the offsets, so an
    optimiser with learning rate a sets m to the exponential moving average (1 - a) m + a mean(x). The loss keeps its
    value. Chain the optimiser with `kernels.adjust(models.boltzmann.keep_distribution)`, so that moving the offsets
    does not move the distribution.

    Args:
      loss: `(params, rng_key, batch) -> (scalar, aux)`, with a batch of visible vectors `[n, V]`, or `Carried` of one.
      hidden_mean: `(params, x) -> means [H]` of the hidden units given one x.

    Returns:
      A loss with the same arguments, value and aux.

    Raises:
      ValueError: the returned loss raises it if the parameters have no offsets.
    """

    def centred_loss(params: Params, rng_key: PRNGKey, batch: Any) -> tuple[Array, PyTree]:
        if missing := [name for name in OFFSETS if name not in params]:
            raise ValueError(f"params must be those of a centred machine, with {missing[0]}; got {sorted(params)}")
        offsets = {name: params[name] for name in OFFSETS}
        value, aux = tree.value_and_aux(loss({**params, **lax.stop_gradient(offsets)}, rng_key, batch))
        x = batch.batch if isinstance(batch, Carried) else batch
        hidden = jax.vmap(hidden_mean, in_axes=(None, 0))(lax.stop_gradient(params), x)
        means = dict(zip(OFFSETS, (x.mean(axis=0), hidden.mean(axis=0)), strict=True))
        gap = jax.tree.map(lambda offset, mean: offset - mean, offsets, means)
        pull = 0.5 * tree.dot(gap, gap)
        return value + (pull - lax.stop_gradient(pull)), aux  # the difference is exactly 0

    return centred_loss


def bernoulli_entropy(means: PyTree) -> Array:
    """Entropy of independent Bernoulli variables, summed over all leaves, in nats.

    Args:
      means: arrays of probabilities in [0, 1].

    Returns:
      A scalar.
    """

    def of_layer(m: Array) -> Array:
        return jnp.sum(jax.scipy.special.entr(m) + jax.scipy.special.entr(1 - m))

    return tree.sum_leaves(jax.tree.map(of_layer, means))


def _advance(kernel: Kernel, state: Any, params: Params, rng_key: PRNGKey, num_steps: int) -> tuple[Any, Any]:
    """Takes `num_steps` steps of a chain, through which no gradient flows. Returns the state and the last info."""
    params, state = lax.stop_gradient((params, state))
    if num_steps > 1:

        def step(state: Any, index: Array) -> tuple[Any, None]:
            return kernel.step(jax.random.fold_in(rng_key, index), state, params)[0], None

        state, _ = lax.scan(step, state, jnp.arange(1, num_steps))
    return kernel.step(jax.random.fold_in(rng_key, 0), state, params)
