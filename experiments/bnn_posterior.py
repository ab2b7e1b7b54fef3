"""One network, one prior, one data set, and everything that claims to know its posterior.

Papers: Izmailov, Vikram, Hoffman & Wilson, "What are Bayesian neural network posteriors really like?", ICML 2021 (HMC
as the reference; agreement and total variation, section 7); Zhang et al., "Cyclical stochastic gradient MCMC for
Bayesian deep learning", ICLR 2020.

    python -m experiments.bnn_posterior                    quick: 400 digits, 20 units, one to two minutes
    python -m experiments.bnn_posterior --preset paper     1000 digits, two layers of 50 units, half an hour of a core
    python -m experiments.bnn_posterior --preset mnist     1000 images of MNIST, 20 units
    python -m experiments.bnn_posterior --preset gap       a curve: 40 points to both sides of a gap, 50 units
    python -m experiments.bnn_posterior --preset uci       one split of a regression set (--dataset uci/NAME), 50 units

HMC runs --num-chains chains with the whole data set; the predictive of one half of the chains is the reference, and
the row `hmc` is the other half (with --reference FILE that is the reference, and the row is all chains). All others
have the same network, prior and data: NUTS; SGHMC, cyclical SGHMC, SGLD with and without RMSprop's preconditioner,
SGNHT; Bayes by Backprop; MC dropout (whose prior is its weight decay); an ensemble of modes, one mode, and the Gaussian
of its last layer. Effective sample sizes and R-hat are of what is said of test points (the log odds of their labels, or
their means and the noise): weights have no identity, since units may be exchanged. Real-valued targets have noise of an
unknown precision, which samplers draw and the others learn. Samplers move in units of the prior's deviations. Every
chain, and every member of the ensemble, has its own minibatches: those of shuffled epochs, for SGNHT independent draws.
Chains that shared minibatches would be correlated, and R-hat and ESS assume independent chains.

Expected (the paper's ResNet-20 on CIFAR-10, table 6, as recalled): HMC agrees with itself best, then SGHMC and cyclical
SGHMC and ensembles; mean-field VI and dropout are further.
"""

from experiments import common
from experiments.bnn_posterior_flags import PRESETS

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, objectives, plots, posteriors, training
from bayesjax.evaluation import agreement, uncertainty
from bayesjax.types import Kernel
from experiments import bnn_posterior_flags, bnn_posterior_problem, tables
from experiments.bnn_posterior_flags import Config
from experiments.bnn_posterior_problem import Problem
from experiments.regression import LEVELS, noise_scales


class Found(NamedTuple):
    """What a method says of the test points.

    Attributes:
      outputs: of its draws, `[num_chains, num_draws, num_test, num_outputs]`.
      passes: over the training set, of all chains.
      is_chain: whether draws of a chain are in the order of a Markov chain.
    """

    outputs: np.ndarray
    passes: float
    is_chain: bool

    @property
    def draws(self) -> np.ndarray:
        """Outputs of all chains' draws, `[num_draws, num_test, num_outputs]`."""
        return self.outputs.reshape(-1, *self.outputs.shape[2:])


def predicted(found: Problem, draws: Any) -> np.ndarray:
    """Outputs `[num_chains, num_draws, num_test, num_outputs]` of draws with leaves `[num_draws, num_chains, ...]`."""
    num_draws, num_chains = jax.tree.leaves(draws)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
    outputs = np.asarray(evaluation.predict(found.apply, flat, found.test.x))
    return outputs.reshape(num_draws, num_chains, *outputs.shape[1:]).swapaxes(0, 1)


def steps_of(config: Config, found: Problem, num_epochs: int) -> int:
    """Steps of so many epochs."""
    return num_epochs * max(1, len(found.train.x) // config.batch_size)


def passes_of(config: Config, found: Problem, num_steps: int) -> float:
    """Passes over the training set in so many steps."""
    return num_steps * config.batch_size / len(found.train.x)


def keys_of(config: Config, label: str) -> jax.Array:
    """A key for each stage."""
    return jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(label.encode()))


# ---- samplers


def of_all_data(run: common.Experiment, found: Problem, name: str) -> Found:
    """HMC or NUTS from the network's initial weights, all data at once, the step size alone adapted."""
    config, density = run.config, found.density_in_units()
    is_hmc = name == "hmc"
    if is_hmc:
        make = functools.partial(kernels.hmc, density, num_integration_steps=config.num_integration_steps)
    else:
        make = functools.partial(kernels.nuts, density, max_num_doublings=config.max_num_doublings)
    one = kernels.adapt(
        functools.partial(make, full_batch=True), num_steps=config.num_warmup, step_size=0.05, mass="fixed",
        target_acceptance=0.65 if is_hmc else 0.8,
    )  # fmt: skip
    points = jax.tree.map(jnp.asarray, found.train)
    num_steps = config.num_warmup + config.num_hmc_draws
    trace = chains(
        run, found, name, one, points, num_steps=num_steps, num_burnin=config.num_warmup,
        at_a_time=config.at_a_time or None,
    )  # fmt: skip
    leaps = config.num_chains * num_steps * config.num_integration_steps
    infos = (trace.burnin_info.inner, trace.info.inner)
    passes = leaps if is_hmc else sum(int(np.sum(info.num_integration_steps)) for info in infos)
    return Found(predicted(found, trace.draws), passes, True)


class Schedule(NamedTuple):
    """The steps of a sampler with minibatches.

    Attributes:
      num_steps: of a chain.
      thinning: steps between draws.
      cycle: of the cyclical sampler.
      sampled: which of the draws of all steps are of its sampling stages.
    """

    num_steps: int
    thinning: int
    cycle: kernels.Cyclical
    sampled: np.ndarray


def schedule_of(config: Config, found: Problem) -> Schedule:
    """So many steps that there are as many draws as asked for in the second half.

    Raises:
      ValueError: if the cyclical sampler would keep none.
    """
    thinning = max(1, steps_of(config, found, config.num_epochs) // 2 // config.num_draws)
    num_steps = 2 * config.num_draws * thinning
    rate = config.cyclical_factor * config.learning_rate / len(found.train.x)
    cycle = kernels.cyclical(rate, num_steps=num_steps, num_cycles=config.num_cycles, exploration_fraction=0.7)
    sampled = np.asarray(cycle.is_sampling(jnp.arange(thinning, num_steps + 1, thinning) - 1))  # the step before each
    cycles = f"--num-cycles {config.num_cycles} of {num_steps} steps"
    common.require("csghmc" not in config.methods or bool(sampled.any()), f"{cycles} leave csghmc without draws")
    return Schedule(num_steps, thinning, cycle, sampled)


def of_minibatches(run: common.Experiment, found: Problem, name: str, schedule: Schedule) -> Found:
    """A sampler with minibatches and a constant (or cyclical) step size."""
    config, density, num_data = run.config, found.density_in_units(), len(found.train.x)
    num_steps, thinning, cycle, sampled = schedule
    rate, is_cyclical = config.learning_rate / num_data, name == "csghmc"
    if is_cyclical:
        kernel = kernels.sghmc(
            density, step_size=cycle.step_size, temperature=cycle.temperature, friction=config.friction
        )
    elif name == "sgld":
        kernel = kernels.sgld(density, step_size=config.sgld_learning_rate / num_data)
    elif name == "psgld":
        rms = kernels.rmsprop_preconditioner(num_data, epsilon=1e-3, num_adaptation=num_steps // 2)
        kernel = kernels.sgld(density, step_size=config.psgld_learning_rate / num_data, preconditioner=rms)
    else:
        method = kernels.sghmc if name == "sghmc" else kernels.sgnht
        kernel = method(density, step_size=rate, friction=config.friction)
    is_noisy = config.batch_size % num_data != 0
    independent = is_noisy and name == "sgnht"  # an epoch's noise adds up to 0, which deceives it
    batches = data.independent_minibatches(
        keys_of(config, "batches"), found.train, config.batch_size, config.num_chains, with_replacement=independent
    )
    num_burnin = 0 if is_cyclical else num_steps // 2
    trace = chains(
        run, found, name, kernel, batches, batch_axis=0, num_steps=num_steps, num_burnin=num_burnin, thinning=thinning
    )
    draws = jax.tree.map(lambda leaf: leaf[sampled], trace.draws) if is_cyclical else trace.draws
    return Found(predicted(found, draws), config.num_chains * passes_of(config, found, num_steps), not is_cyclical)


def chains(
    run: common.Experiment, found: Problem, label: str, kernel: Kernel, batches: Any, *,
    num_steps: int, num_burnin: int, thinning: int = 1, batch_axis: int | None = None, at_a_time: int | None = None,
) -> training.Trace:  # fmt: skip
    """Draws of `num_chains` copies of a kernel that moves in the units, leaves `[num_draws, num_chains, ...]`, and
    their infos."""
    num_chains = run.config.num_chains
    start_key, init_key, run_key = jax.random.split(keys_of(run.config, label), 3)
    copies = run.spread(kernels.particles(kernel, num_chains, batch_axis=batch_axis, chunk_size=at_a_time))
    start = lambda key: found.in_units(found.init(key))  # noqa: E731
    position = jax.jit(jax.vmap(start))(jax.random.split(start_key, num_chains))
    state = jax.jit(copies.init)(position, init_key)
    return training.run(
        run_key, copies, state, batches, num_steps=num_steps, num_burnin=num_burnin, thinning=thinning,
        keep=lambda state: found.of_units(state.position), **run.stage(label),
    )[1]  # fmt: skip


# ---- optimisers


def minimised(
    run: common.Experiment, found: Problem, label: str, loss: Any, init: Callable, num: int, num_steps: int
) -> Any:
    """Positions of `num` trainings with Adam, leaves `[num, ...]`."""
    config = run.config
    adam = optax.adam(optax.cosine_decay_schedule(config.optimizer_learning_rate, num_steps))
    kernel = run.spread(kernels.particles(kernels.optimize(loss, adam), num, batch_axis=0))
    init_key, start_key, run_key = jax.random.split(keys_of(config, "optimised"), 3)  # one start for all
    batches = data.independent_minibatches(keys_of(config, "batches"), found.train, config.batch_size, num)
    position = jax.jit(jax.vmap(init))(jax.random.split(init_key, num))
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batches, num_steps=num_steps,
        keep=lambda state: (), **run.stage(label),
    )  # fmt: skip
    return training.fetch(state.position)


def modes(run: common.Experiment, found: Problem, label: str, num: int, network: Callable | None = None) -> Any:
    """Maxima of the posterior, from different starts, leaves `[num, ...]`; of another network if there is one."""
    loss = posteriors.as_loss(found.density(network), len(found.train.x))
    num_steps = steps_of(run.config, found, run.config.num_optimizer_epochs)
    return minimised(run, found, label, loss, found.init, num, num_steps)


def optimised(run: common.Experiment, found: Problem, name: str) -> Found:
    """The methods that train by gradient descent."""
    config = run.config
    keys = jax.random.split(keys_of(config, f"draws of {name}"), config.num_draws)
    num_epochs = config.num_bbb_epochs if name == "bbb" else config.num_optimizer_epochs
    num_steps = steps_of(config, found, num_epochs)
    passes = passes_of(config, found, num_steps)
    if name in ("map", "ensemble"):
        num = 1 if name == "map" else config.num_members
        return Found(predicted(found, with_chain(modes(run, found, name, num))), num * passes, False)
    if name == "laplace":
        mode = first_of(modes(run, found, "map", 1))  # that of `map`, not trained twice
        return Found(last_layer(found, mode, keys)[None], passes, False)
    if name == "bbb":
        family = posteriors.apply_to_entry(posteriors.mean_field(0.05), "network")
        kl = posteriors.kl.apply_to_entry(posteriors.kl_to_fan_in_gaussian(config.prior_scale), "network")
        loss = objectives.bayes_by_backprop(
            found.fit(models.flipout(found.model)), family.perturb,
            lambda variational, weights: kl(variational, weights) - found.noise_prior(variational),
            num_data=len(found.train.x),
        )  # fmt: skip
        start = lambda key: family.init(found.init(key))  # noqa: E731
        trained = minimised(run, found, name, loss, start, 1, num_steps)
        draws = jax.vmap(family.sample, in_axes=(None, 0))(first_of(trained), keys)
        return Found(predicted(found, with_chain(draws)), passes, False)
    model = found.model.clone(dropout_rate=config.dropout_rate)  # its masks are the draws

    def dropped(weights: Any, rng_key: jax.Array, x: Any) -> Any:
        return model.apply({"params": weights}, x, deterministic=False, rngs={"dropout": rng_key})

    params = first_of(modes(run, found, name, 1, dropped))
    of_mask = jax.jit(
        jax.vmap(lambda key: found.outputs(params, dropped(params["network"], key, jnp.asarray(found.test.x))))
    )
    return Found(np.asarray(of_mask(keys))[None], passes, False)


def last_layer(found: Problem, mode: Any, keys: jax.Array) -> np.ndarray:
    """Outputs `[num_draws, num_test, num_outputs]` under the Gaussian of the last layer around a mode."""
    weights = mode["network"]
    *_, last = weights

    def features(x: Any) -> Any:
        return found.model.apply({"params": weights}, x, method="embed")

    def log_likelihood(of_layer: jax.Array, target: jax.Array) -> jax.Array:
        return found.log_likelihood(found.outputs(mode, of_layer), target)

    seen, deviations = jax.jit(features)(found.train.x), found.units["network"][last]
    posterior = posteriors.last_layer_laplace(
        log_likelihood, weights[last]["kernel"], weights[last]["bias"], seen, jnp.asarray(found.train.y),
        (deviations["kernel"] ** -2, deviations["bias"] ** -2),
    )  # fmt: skip
    drawn, biases = jax.vmap(posteriors.sample_last_layer, in_axes=(None, 0))(posterior, keys)
    return np.asarray(found.outputs(mode, features(found.test.x) @ drawn + biases[:, None]))


def with_chain(draws: Any) -> Any:
    """Leaves `[num_draws, ...]` as those of one chain."""
    return jax.tree.map(lambda leaf: leaf[:, None], draws)


def first_of(stacked: Any) -> Any:
    """The first of stacked positions."""
    return jax.tree.map(lambda leaf: leaf[0], stacked)


# ---- the run


def mixing(task: Problem, found: Found) -> dict[str, Any]:
    """R-hat and effective draws of what chains say."""
    scores = task.scores(found.outputs)
    ess = np.asarray(evaluation.effective_sample_size(scores, "bulk"), float)
    return {
        "r hat": {"value": float(np.max(evaluation.r_hat(scores)))},
        "bulk ess": {"value": float(ess.min())},
        "bulk ess a 1000 passes": {"value": float(1000 * ess.min() / found.passes)},
    }


def main(config: Config) -> None:
    """Runs every method, judges it against HMC, writes table, figures and results."""
    with common.Experiment("bnn_posterior", config) as run:
        bnn_posterior_flags.check(config)
        task = bnn_posterior_problem.of_config(config)
        schedule = schedule_of(config, task)  # what is wrong with it shows before anything runs
        reference = bnn_posterior_problem.given_reference(config, task) if config.reference else np.empty(0)
        metrics, bands = {}, {}
        for name in config.methods:
            if name in ("hmc", "nuts"):
                found = of_all_data(run, task, name)
            elif name in ("bbb", "mc_dropout", "ensemble", "laplace", "map"):
                found = optimised(run, task, name)
            else:
                found = of_minibatches(run, task, name, schedule)
            of_chains = mixing(task, found) if found.is_chain else {}
            if name == "hmc" and not config.reference:
                half = config.num_chains // 2
                reference = found._replace(outputs=found.outputs[:half]).draws
                found = found._replace(outputs=found.outputs[half:], passes=found.passes / 2)
                if task.probabilities:
                    path = run.out / "parts" / "reference.csv"
                    agreement.save_reference(path, task.probabilities(reference))
            measures = {**task.judge(found.draws, reference), "passes": {"value": found.passes}, **of_chains}
            metrics |= {f"{name} {measure}": entry for measure, entry in measures.items()}
            if config.dataset == "synthetic/gap":
                means, log_precisions = found.draws[..., 0], found.draws[..., 1]
                bands[name] = uncertainty.mixture_quantiles(LEVELS, means, noise_scales(log_precisions))
        bnn_posterior_problem.figure_of_methods(run.out / "figures" / "methods.png", config.methods, metrics)
        if bands:
            points = task.train.x[:, 0], task.train.y
            plots.bands(run.out / "figures" / "bands.png", task.test.x[:, 0], bands, points, num_columns=4)
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}")


if __name__ == "__main__":
    main(CONFIG)
