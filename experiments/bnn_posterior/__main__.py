"""The posterior of one Bayesian neural network: HMC as the reference of thirteen samplers and approximations.

Papers: Izmailov, Vikram, Hoffman & Wilson, "What are Bayesian neural network posteriors really like?", ICML 2021 (HMC
as the reference; agreement and total variation, section 7); Zhang et al., "Cyclical stochastic gradient MCMC for
Bayesian deep learning", ICLR 2020.

    python -m experiments.bnn_posterior                    quick: 200 digits, 20 units, four methods, under a minute
    python -m experiments.bnn_posterior --preset paper     1000 digits, two layers of 50 units, half an hour on one core
    python -m experiments.bnn_posterior --preset mnist     1000 images of MNIST, 20 units
    python -m experiments.bnn_posterior --preset gap       a curve: 20 points on each side of a gap, 50 units
    python -m experiments.bnn_posterior --preset uci       one split of a regression set (--dataset uci/NAME), 50 units

HMC runs --num-chains chains with the whole data set. The predictive distribution of one half of the chains is the
reference, and the row `hmc` is the other half. With --reference FILE the probabilities in that file are the reference,
and the row `hmc` is all chains. All methods share network, prior and data.

The samplers are NUTS, SGHMC, cyclical SGHMC, SGLD with and without RMSprop's preconditioner, and SGNHT. The
approximations are Bayes by Backprop, MC dropout (whose prior is its weight decay), an ensemble of modes, one mode, and
two posteriors of its last layer: the Laplace approximation, and SGHMC with all other parameters fixed at the mode.
Effective sample sizes and R-hat refer to the log odds of the test labels, or to the means at test points and the noise;
weights are not identified, because units may be exchanged. Real-valued targets have noise of an unknown precision,
which samplers draw and the other methods optimise. Samplers move in units of the prior's standard deviations. Every
chain, and every member of the ensemble, has its own minibatches, from shuffled epochs or, for SGNHT, drawn with
replacement. Chains that shared minibatches would be correlated, while R-hat and ESS assume independent chains.

Expected (the paper's ResNet-20 on CIFAR-10, table 6, as recalled): HMC agrees best with itself, then with SGHMC,
cyclical SGHMC and ensembles; mean-field VI and dropout agree less. Read `problems.py` next.
"""

import functools
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, objectives, plots, posteriors, training
from bayesjax.evaluation import agreement, uncertainty
from bayesjax.types import Kernel
from experiments.bnn_posterior import problems
from experiments.bnn_posterior.problems import Problem
from experiments.harness import Column, Run, Table, cli, row
from experiments.harness.cli import Count, Natural, NonEmpty, Positive, Range, RunConfig, require
from experiments.shared.regression import LEVELS, network_posterior, noise_scales

Method = Literal[
    "hmc", "nuts", "sghmc", "csghmc", "sgld", "psgld", "sgnht", "bbb", "mc_dropout", "ensemble", "last_layer",
    "laplace", "map",
]  # fmt: skip
LongEnough = Annotated[int, Range(least=20)]
Fraction = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bnn_posterior."""

    dataset: str = "digits"
    """For classification: `digits`, the name of a TensorFlow Datasets image set (mnist, fashion_mnist), or the path of
    an .npz file with labels. For regression: synthetic/gap (a curve), diabetes, or uci/NAME."""
    split: Natural = 0
    """Index of the split of a regression set, from 0."""
    num_train: Natural = 400
    """Number of training points to use, the first ones of the data set; 0 means all."""
    num_test: Natural = 360
    """Number of test points to use, the first ones of the data set; 0 means all."""
    num_validation: Natural = 0
    """Number of training points that replace the test set, to choose settings; 0 uses the test set."""
    methods: tuple[Method, ...] = (
        "hmc", "nuts", "sghmc", "csghmc", "sgld", "psgld", "sgnht", "bbb", "mc_dropout", "ensemble", "last_layer",
        "laplace", "map",
    )  # fmt: skip
    """Methods to compare; hmc comes first unless there is a --reference. csghmc is cyclical SGHMC, psgld uses RMSprop's
    preconditioner, bbb is Bayes by Backprop, last_layer samples the last layer by SGHMC, laplace approximates its
    posterior, map is one mode."""
    reference: str = ""
    """File of class probabilities, one row for each test point, with which all methods are compared; if empty, one half
    of HMC's chains is the reference. A run writes parts/reference.csv, which is for runs with another --seed: with the
    same seed, chains would be compared with themselves."""
    hidden: Annotated[tuple[Count, ...], NonEmpty] = (20,)
    """Numbers of tanh units of the hidden layers."""
    prior_scale: Positive = 3.0
    """Scale s of the prior: N(0, s^2 / fan-in) for weights, N(0, s^2) for biases."""
    num_chains: Annotated[int, Range(least=4)] = 4
    """Number of independent chains of each sampler, even and at least 4. Without --reference, one half of HMC's chains
    is the reference."""
    num_warmup: LongEnough = 150
    """Number of warm-up steps of each chain of HMC and NUTS, at least 20."""
    num_hmc_draws: LongEnough = 150
    """Number of draws of each chain of HMC and NUTS, at least 20."""
    num_integration_steps: Count = 60
    """Number of leapfrog steps of a trajectory of HMC."""
    chunk_size: Natural = 1
    """Number of chains of HMC and NUTS that are computed at once; 0 means all, which suits an accelerator. With 1, NUTS
    does not wait for the longest trajectory."""
    max_num_doublings: Count = 7
    """Largest number of doublings of NUTS's trajectories."""
    batch_size: Count = 50
    """Number of training points in a minibatch of all methods except HMC and NUTS."""
    num_epochs: Count = 200
    """Number of epochs of samplers with minibatches, or more if --num-draws needs them. The second half gives draws."""
    num_draws: LongEnough = 100
    """Number of draws of each chain of a sampler with minibatches, of bbb and laplace, and of dropout masks, at least
    20; csghmc keeps about 0.6 times as many."""
    learning_rate: Positive = 0.05
    """Step size of SGHMC and SGNHT times the number of training points, for weights divided by their prior scales."""
    last_layer_learning_rate: Positive = 0.5
    """The same for SGHMC over the last layer."""
    sgld_learning_rate: Positive = 0.01
    """Step size of SGLD times the number of training points, for weights divided by their prior scales."""
    psgld_learning_rate: Positive = 1e-3
    """Step size of psgld times the number of training points, for weights divided by their prior scales."""
    friction: Fraction = 0.1
    """Friction of SGHMC and SGNHT, the fraction of momentum that is lost in a step, in (0, 1)."""
    num_cycles: Count = 6
    """Number of cycles of csghmc."""
    cyclical_factor: Positive = 4.0
    """Ratio of the largest step size of csghmc to the step size of SGHMC."""
    noise_unit: Positive = 1.0
    """Scale of the noise's log precision in the samplers' coordinates, for regression. The unit is its approximate
    posterior standard deviation given the weights, sqrt(2 / number of training points). With a larger value the noise
    adapts faster to the fit along an HMC trajectory."""
    num_optimizer_epochs: Count = 150
    """Number of epochs of Adam for mc_dropout, ensemble, laplace and map."""
    num_bbb_epochs: Count = 1200
    """Number of epochs of Adam for bbb, in which its standard deviations must grow to those of the prior."""
    optimizer_learning_rate: Positive = 5e-3
    """Initial learning rate of Adam; it decays to 0 along a cosine."""
    dropout_rate: Fraction = 0.1
    """Dropout rate of hidden units, in (0, 1)."""
    num_members: Count = 10
    """Number of networks in the ensemble."""

    def __post_init__(self) -> None:
        """Checks that there is a reference, and that the number of chains is even."""
        super().__post_init__()
        require(
            self.methods[0] == "hmc" or bool(self.reference),
            f"--methods must begin with hmc, or --reference must name a file; got {self.methods}",
        )
        require(self.num_chains % 2 == 0, f"--num-chains must be even; got {self.num_chains}")


PRESETS = {
    "quick": Config(
        num_train=200, methods=("hmc", "sghmc", "bbb", "ensemble"), num_warmup=100, num_hmc_draws=100,
        num_integration_steps=40, num_epochs=300, num_bbb_epochs=600, num_members=5,
    ),
    # The learning rates have the best NLL of 437 held-out training images (--num-validation 437) after 500 epochs. The
    # candidates were 0.015, 0.05, 0.15 for SGHMC, 0.01, 0.05, 0.2 for SGLD, and 1e-3, 5e-3 for psgld. last_layer
    # has the smallest rate of 0.05, 0.5, 2 and 8 whose R-hat is below 1.05.
    "paper": Config(
        num_train=1000, hidden=(50, 50), num_warmup=100, num_hmc_draws=500, num_integration_steps=150,
        max_num_doublings=6, num_epochs=600, num_bbb_epochs=2000, sgld_learning_rate=0.2, psgld_learning_rate=5e-3,
    ),
    # Likewise on 1000 held-out images: SGHMC 0.015, 0.05, 0.15; SGLD 0.01, 0.05, 0.2; psgld 1e-3, 5e-3, 2e-2.
    "mnist": Config(
        dataset="mnist", num_train=1000, num_test=1000, num_warmup=100, num_hmc_draws=1000, num_integration_steps=100,
        max_num_doublings=6, num_epochs=600, num_bbb_epochs=2000, sgld_learning_rate=0.2, psgld_learning_rate=5e-3,
    ),
    "gap": Config(
        dataset="synthetic/gap", num_train=0, num_test=0, hidden=(50,), num_warmup=1000, num_hmc_draws=2000,
        num_integration_steps=100, batch_size=40, num_epochs=100_000, num_draws=500, num_optimizer_epochs=4000,
        num_bbb_epochs=20_000, learning_rate=4e-4, last_layer_learning_rate=4e-4, sgld_learning_rate=4e-4,
        friction=0.005,
    ),
    # Likewise on 144 held-out training rows (--num-validation 144): SGHMC 0.015, 0.05; SGLD 0.01, 0.05; psgld 1e-3,
    # 5e-3; csghmc 1, 2 and 4 times the rate of SGHMC.
    "uci": Config(
        dataset="uci/wine-quality-red", num_train=0, num_test=0, hidden=(50,), num_warmup=500, num_hmc_draws=5000,
        num_integration_steps=100, max_num_doublings=6, num_epochs=2000, num_draws=200, num_optimizer_epochs=400,
        learning_rate=0.015, last_layer_learning_rate=0.05, noise_unit=5.0,
    ),
}  # fmt: skip


def describe(config: dict) -> str:
    """The note of the table, which describes the reference and the measures."""
    reference = (
        f"the predictive of the file {config['reference']}."
        if config.get("reference")
        else f"one half of {config['num_chains']} chains of HMC. The row hmc is the other half, with half as many "
        "chains as the other samplers; its R-hat and ESS refer to all chains."
    )
    return (
        f"± is the standard error over the test points. The reference is {reference} The distance of f is the "
        "2-Wasserstein distance at a test point, in standard deviations of the targets; the spread of f is its "
        "standard deviation, relative to the reference's. One pass evaluates the gradient at every training point once."
    )


TABLES = [
    Table(
        {"method": "method"},
        [
            Column("error %", digits=1),
            Column("RMSE", digits=3),
            Column("NLL", digits=3),
            Column("ECE", digits=3),
            Column("% in the 90 % band", digits=1),
            Column("agreement %", "agreement with the reference %", 1),
            Column("total variation", digits=4),
            Column("ECE by the reference", "ECE if the reference were true", 3),
            Column("distance of f", digits=4),
            Column("spread of f", "relative spread of f"),
            Column("largest R-hat", digits=3),
            Column("least bulk ESS per 1000 passes"),
            Column("passes", digits=0),
        ],
        note=describe,
    )
]
HEADLINE = "bnn_posterior-paper-digits", {"measure": "total variation", "method": "sghmc"}, 4
FIGURE = (
    "error %", "RMSE", "NLL", "ECE", "% in the 90 % band", "agreement %", "total variation", "distance of f",
    "spread of f", "least bulk ESS per 1000 passes",
)  # fmt: skip
"""Measures that the figure shows."""
LOGARITHMIC = ("total variation", "distance of f", "least bulk ESS per 1000 passes")


class Predictions(NamedTuple):
    """Predictions of a method at the test points.

    Attributes:
      outputs: network outputs of the draws, `[num_chains, num_draws, num_test, num_outputs]`.
      passes: number of passes over the training set, summed over chains.
      is_chain: whether the draws are those of Markov chains, in order.
    """

    outputs: np.ndarray
    passes: float
    is_chain: bool

    @property
    def draws(self) -> np.ndarray:
        """Outputs of all chains' draws, `[num_draws, num_test, num_outputs]`."""
        return self.outputs.reshape(-1, *self.outputs.shape[2:])


def predict(problem: Problem, draws: Any) -> np.ndarray:
    """Outputs `[num_chains, num_draws, num_test, num_outputs]` of draws with leaves `[num_draws, num_chains, ...]`."""
    num_draws, num_chains = jax.tree.leaves(draws)[0].shape[:2]
    flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws)
    outputs = np.asarray(evaluation.predict(problem.apply, flat, problem.test.x))
    return outputs.reshape(num_draws, num_chains, *outputs.shape[1:]).swapaxes(0, 1)


def count_steps(config: Config, problem: Problem, num_epochs: int) -> int:
    """Number of minibatch steps in `num_epochs` epochs."""
    return num_epochs * max(1, len(problem.train.x) // config.batch_size)


def count_passes(config: Config, problem: Problem, num_steps: int) -> float:
    """Number of passes over the training set in `num_steps` minibatch steps."""
    return num_steps * config.batch_size / len(problem.train.x)


def stage_key(config: Config, label: str) -> jax.Array:
    """The random key of the stage with a label."""
    return jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(label.encode()))


# ---- samplers


def run_chains(
    run: Run, problem: Problem, label: str, kernel: Kernel, batches: Any, *,
    num_steps: int, num_burnin: int, thinning: int = 1, batch_axis: int | None = None, chunk_size: int | None = None,
    start: Any = None,
) -> training.Trace:  # fmt: skip
    """Runs --num-chains copies of a kernel, which moves parameters divided by the problem's units.

    All chains begin at the parameters `start`, or at initial weights of their own if it is None.

    Returns:
      The trace: draws of the parameters with leaves `[num_draws, num_chains, ...]`, and the kernel's infos.
    """
    num_chains = run.config.num_chains
    start_key, init_key, run_key = jax.random.split(stage_key(run.config, label), 3)
    copies = kernels.particles(kernel, num_chains, batch_axis=batch_axis, chunk_size=chunk_size)
    copies, options = run.stage(label, copies)
    init = jax.vmap(lambda key: problem.scale(problem.init(key) if start is None else start))
    state = jax.jit(copies.init)(jax.jit(init)(jax.random.split(start_key, num_chains)), init_key)
    _, trace = training.run(
        run_key, copies, state, batches, num_steps=num_steps, num_burnin=num_burnin, thinning=thinning,
        keep=lambda state: problem.unscale(state.position), **options,
    )  # fmt: skip
    return trace


def sample_full_batch(run: Run, problem: Problem, method: str) -> Predictions:
    """Predicts with draws of HMC or NUTS on all data, from initial weights; only the step size is adapted."""
    config, density, is_hmc = run.config, problem.scaled_density(), method == "hmc"
    if is_hmc:
        make = functools.partial(kernels.hmc, density, num_integration_steps=config.num_integration_steps)
    else:
        make = functools.partial(kernels.nuts, density, max_num_doublings=config.max_num_doublings)
    kernel = kernels.adapt(
        functools.partial(make, full_batch=True), num_steps=config.num_warmup, step_size=0.05, mass="fixed",
        target_acceptance=0.65 if is_hmc else 0.8,
    )  # fmt: skip
    num_steps = config.num_warmup + config.num_hmc_draws
    trace = run_chains(
        run, problem, method, kernel, jax.tree.map(jnp.asarray, problem.train), num_steps=num_steps,
        num_burnin=config.num_warmup, chunk_size=config.chunk_size or None,
    )  # fmt: skip
    if is_hmc:
        passes = config.num_chains * num_steps * config.num_integration_steps
    else:
        infos = (trace.burnin_info.inner, trace.info.inner)
        passes = sum(int(np.sum(info.num_integration_steps)) for info in infos)
    return Predictions(predict(problem, trace.draws), passes, is_chain=True)


class Schedule(NamedTuple):
    """The steps of a sampler with minibatches.

    Attributes:
      num_steps: number of steps of a chain.
      thinning: number of steps between draws.
      cycle: step size and temperature of csghmc.
      is_sampling: whether each draw belongs to a sampling stage of csghmc, booleans `[num_steps // thinning]`.
    """

    num_steps: int
    thinning: int
    cycle: kernels.Cyclical
    is_sampling: np.ndarray


def make_schedule(config: Config, problem: Problem) -> Schedule:
    """The schedule whose second half of steps has --num-draws draws.

    Raises:
      ValueError: if csghmc would keep no draw.
    """
    thinning = max(1, count_steps(config, problem, config.num_epochs) // 2 // config.num_draws)
    num_steps = 2 * config.num_draws * thinning
    rate = config.cyclical_factor * config.learning_rate / len(problem.train.x)
    cycle = kernels.cyclical(rate, num_steps=num_steps, num_cycles=config.num_cycles, exploration_fraction=0.7)
    is_sampling = cycle.sampling_draws(num_steps, thinning=thinning)
    require(
        "csghmc" not in config.methods or bool(is_sampling.any()),
        f"--num-cycles {config.num_cycles} of {num_steps} steps leave csghmc without draws",
    )
    return Schedule(num_steps, thinning, cycle, is_sampling)


def sample_minibatches(run: Run, problem: Problem, method: str, schedule: Schedule) -> Predictions:
    """Predicts with draws of SGHMC, SGLD, psgld, SGNHT or last_layer at a constant step size, or of cyclical SGHMC."""
    config, density, num_data = run.config, problem.scaled_density(), len(problem.train.x)
    num_steps, thinning, cycle, is_sampling = schedule
    is_cyclical, start = method == "csghmc", None
    if is_cyclical:
        kernel = kernels.sghmc(
            density, step_size=cycle.step_size, temperature=cycle.temperature, friction=config.friction
        )
    elif method == "sgld":
        kernel = kernels.sgld(density, step_size=config.sgld_learning_rate / num_data)
    elif method == "psgld":
        rms = kernels.rmsprop_preconditioner(num_data, epsilon=1e-3, num_adaptation=num_steps // 2)
        kernel = kernels.sgld(density, step_size=config.psgld_learning_rate / num_data, preconditioner=rms)
    elif method == "last_layer":
        start = take_one(find_modes(run, problem, "map", 1))  # the same stage as for `map` and `laplace`
        *_, last = start["network"]
        sample = functools.partial(
            kernels.sghmc, step_size=config.last_layer_learning_rate / num_data, friction=config.friction
        )
        kernel = kernels.by_path(density, {f"network/{last}/*": sample, "*": None})
    else:
        make = kernels.sghmc if method == "sghmc" else kernels.sgnht
        kernel = make(density, step_size=config.learning_rate / num_data, friction=config.friction)
    # The gradient noise of an epoch's minibatches sums to 0, which biases the noise estimate of SGNHT.
    with_replacement = method == "sgnht" and config.batch_size % num_data != 0
    batches = data.independent_minibatches(
        stage_key(config, "batches"), problem.train, config.batch_size, config.num_chains,
        with_replacement=with_replacement,
    )  # fmt: skip
    trace = run_chains(
        run, problem, method, kernel, batches, batch_axis=0, num_steps=num_steps,
        num_burnin=0 if is_cyclical else num_steps // 2, thinning=thinning, start=start,
    )  # fmt: skip
    draws = jax.tree.map(lambda leaf: leaf[is_sampling], trace.draws) if is_cyclical else trace.draws
    passes = config.num_chains * count_passes(config, problem, num_steps)
    return Predictions(predict(problem, draws), passes, is_chain=not is_cyclical)


# ---- optimisers


def minimise(run: Run, problem: Problem, label: str, loss: Any, init: Callable, num: int, num_steps: int) -> Any:
    """Minimises a loss `num` times with Adam, from different starts; returns positions with leaves `[num, ...]`."""
    config = run.config
    adam = optax.adam(optax.cosine_decay_schedule(config.optimizer_learning_rate, num_steps))
    kernel, options = run.stage(label, kernels.particles(kernels.optimize(loss, adam), num, batch_axis=0))
    init_key, start_key, run_key = jax.random.split(stage_key(config, "optimised"), 3)  # all methods start alike
    batches = data.independent_minibatches(stage_key(config, "batches"), problem.train, config.batch_size, num)
    position = jax.jit(jax.vmap(init))(jax.random.split(init_key, num))
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batches, num_steps=num_steps,
        keep=lambda state: (), **options,
    )  # fmt: skip
    return training.fetch(state.position)


def find_modes(run: Run, problem: Problem, label: str, num: int, network: Callable | None = None) -> Any:
    """Finds `num` posterior modes, leaves `[num, ...]`; `network`, if given, replaces that of the problem."""
    loss = posteriors.as_loss(problem.density(network), len(problem.train.x))
    num_steps = count_steps(run.config, problem, run.config.num_optimizer_epochs)
    return minimise(run, problem, label, loss, problem.init, num, num_steps)


def take_one(stacked: Any) -> Any:
    """The first of the stacked positions."""
    return jax.tree.map(lambda leaf: leaf[0], stacked)


def predict_draws(problem: Problem, draws: Any) -> np.ndarray:
    """Test outputs `[1, num_draws, num_test, num_outputs]` of draws with leaves `[num_draws, ...]`."""
    return predict(problem, jax.tree.map(lambda leaf: leaf[:, None], draws))


def optimise(run: Run, problem: Problem, method: str) -> Predictions:
    """Trains map, ensemble, laplace, bbb or mc_dropout with Adam, and predicts the test points."""
    config = run.config
    keys = jax.random.split(stage_key(config, f"draws of {method}"), config.num_draws)
    num_epochs = config.num_bbb_epochs if method == "bbb" else config.num_optimizer_epochs
    num_steps = count_steps(config, problem, num_epochs)
    passes = count_passes(config, problem, num_steps)
    if method in ("map", "ensemble"):
        num = 1 if method == "map" else config.num_members
        outputs, passes = predict_draws(problem, find_modes(run, problem, method, num)), num * passes
    elif method == "laplace":
        mode = take_one(find_modes(run, problem, "map", 1))  # the same stage as for `map`, which is trained only once
        outputs = predict_last_layer(problem, mode, keys)[None]
    elif method == "bbb":
        family, kl = network_posterior(0.05, config.prior_scale)
        loss = objectives.bayes_by_backprop(
            problem.point_likelihood(models.flipout(problem.model)), family.perturb,
            lambda variational, weights: kl(variational, weights) - problem.log_noise_prior(variational),
            num_data=len(problem.train.x),
        )  # fmt: skip
        trained = minimise(run, problem, method, loss, lambda key: family.init(problem.init(key)), 1, num_steps)
        outputs = predict_draws(problem, jax.vmap(family.sample, in_axes=(None, 0))(take_one(trained), keys))
    else:
        model = problem.model.clone(dropout_rate=config.dropout_rate)

        def masked(weights: Any, rng_key: jax.Array, x: Any) -> Any:
            return model.apply({"params": weights}, x, deterministic=False, rngs={"dropout": rng_key})

        params = take_one(find_modes(run, problem, method, 1, masked))
        x = jnp.asarray(problem.test.x)
        predict_mask = jax.vmap(lambda key: problem.outputs(params, masked(params["network"], key, x)))
        outputs = np.asarray(jax.jit(predict_mask)(keys))[None]
    return Predictions(outputs, passes, is_chain=False)


def predict_last_layer(problem: Problem, mode: Any, keys: jax.Array) -> np.ndarray:
    """Outputs `[num_draws, num_test, num_outputs]` under the Laplace approximation of the last layer around a mode."""
    weights = mode["network"]
    *_, last = weights

    def features(x: Any) -> Any:
        return problem.model.apply({"params": weights}, x, method="embed")

    def log_likelihood(network_output: jax.Array, target: jax.Array) -> jax.Array:
        return problem.log_likelihood(problem.outputs(mode, network_output), target)

    inputs, scales = jax.jit(features)(problem.train.x), problem.units["network"][last]
    posterior = posteriors.last_layer_laplace(
        log_likelihood, weights[last]["kernel"], weights[last]["bias"], inputs, jnp.asarray(problem.train.y),
        (scales["kernel"] ** -2, scales["bias"] ** -2),
    )  # fmt: skip
    kernel_draws, biases = jax.vmap(posteriors.sample_last_layer, in_axes=(None, 0))(posterior, keys)
    return np.asarray(problem.outputs(mode, features(problem.test.x) @ kernel_draws + biases[:, None]))


# ---- the run


def measure_mixing(problem: Problem, predictions: Predictions) -> dict[str, float]:
    """R-hat and effective sample sizes of the chains' predictions."""
    scores = problem.scores(predictions.outputs)
    scores = scores[..., np.ptp(scores, axis=(0, 1)) > 0]  # last_layer does not move the precision of the noise
    ess = np.asarray(evaluation.effective_sample_size(scores, "bulk"), float).min()
    return {
        "largest R-hat": np.max(evaluation.r_hat(scores)),
        "least bulk ESS": ess,
        "least bulk ESS per 1000 passes": 1000 * ess / predictions.passes,
    }


def main(config: Config) -> None:
    """Runs every method and compares it with the reference; writes the figures and the results."""
    with Run("bnn_posterior", config) as run:
        problem = problems.load(config)
        schedule = make_schedule(config, problem)  # checks flags before anything runs
        reference = problems.load_reference(config, problem) if config.reference else np.empty(0)
        rows, bands = [], {}
        for method in config.methods:
            if method in ("hmc", "nuts"):
                predictions = sample_full_batch(run, problem, method)
            elif method in ("bbb", "mc_dropout", "ensemble", "laplace", "map"):
                predictions = optimise(run, problem, method)
            else:
                predictions = sample_minibatches(run, problem, method, schedule)
            mixing = measure_mixing(problem, predictions) if predictions.is_chain else {}
            if method == "hmc" and not config.reference:
                halves = np.split(predictions.outputs, 2)
                reference = predictions._replace(outputs=halves[0]).draws
                predictions = predictions._replace(outputs=halves[1], passes=predictions.passes / 2)
                if problem.probabilities:
                    path = run.out / "parts" / "reference.csv"
                    agreement.save_reference(path, problem.probabilities(reference))
            measures = problem.evaluate(predictions.draws, reference) | {"passes": predictions.passes} | mixing
            rows += [row(measure, value, method=method) for measure, value in measures.items()]
            if config.dataset == "synthetic/gap":
                means, log_precisions = predictions.draws[..., 0], predictions.draws[..., 1]
                bands[method] = uncertainty.mixture_quantiles(LEVELS, means, noise_scales(log_precisions))
        panels = {name: {each["method"]: each for each in rows if each["measure"] == name} for name in FIGURE}
        panels = {name: entries for name, entries in panels.items() if entries}
        plots.estimates(run.figure("methods.png"), panels, log_x=LOGARITHMIC)
        if bands:
            points = problem.train.x[:, 0], problem.train.y
            plots.bands(run.figure("bands.png"), problem.test.x[:, 0], bands, points, num_columns=4)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
