"""HMC on the UCI regression sets, as the reference for MC dropout and Bayes by Backprop.

    python -m experiments.hmc_regression                                        quick: diabetes, under a minute
    python -m experiments.hmc_regression --preset paper --dataset uci/concrete  energy
    python -m experiments.hmc_regression --preset long                          bostonHousing, longer trajectories
    python -m experiments.hmc_regression --preset wine                          also large: kin8nm, five splits
    python -m experiments.hmc_regression --preset converge                      concrete, one split, many draws

The network has one hidden layer of 50 ReLU units. It has no hyper-parameter to choose, because the scale of each
layer's prior and the noise are sampled with the weights (Neal, "Bayesian learning for neural networks", 1996):

    w = s_l z / sqrt(fan-in),   b = s_l z',   z ~ N(0, 1),   log s_l ~ N(0.5, 1),   log precision ~ N(2, 2^2)

for each layer l, in units of the targets' standard deviation. Given everything else, the weights of the output layer
have a normal posterior. HMC samples the other quantities with these weights integrated out, and each kept draw has a
draw of them. The log precision moves in units of five of its standard deviations given the weights, which acts as a
mass. All splits and chains run in one program, and each chain adapts its own step size. R-hat and effective sample
sizes refer to the means at the test rows and to the noise; weights are not identified, as units may be exchanged.

Expected: no published table of HMC on these splits is known; `mc_dropout.py` quotes that of MC dropout.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm

from bayesjax import data, evaluation, kernels, plots, posteriors, training
from bayesjax.data.regression import StandardisedSplit
from bayesjax.types import Kernel
from experiments.harness import Column, Run, Table, cli, row
from experiments.harness.cli import Count, Natural, Range, RunConfig, require
from experiments.shared.regression import LOG_PRECISION, TABLE, measure, noise_scales, noise_unit


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.hmc_regression."""

    dataset: str = "diabetes"
    """Regression set: diabetes, or uci/NAME for the folder uci/NAME of --data-dir (BAYESJAX_DATA_DIR if empty)."""
    num_splits: Natural = 0
    """Number of splits to use, the first ones of the set; 0 means all."""
    hidden: Count = 50
    """Number of units of the hidden layer."""
    num_chains: Annotated[int, Range(least=2)] = 2
    """Number of independent chains of each split, at least 2."""
    num_warmup: Annotated[int, Range(least=20)] = 60
    """Number of warm-up steps of each chain, at least 20, which adapt its step size."""
    num_draws: Annotated[int, Range(least=20)] = 60
    """Number of draws that each chain keeps, at least 20."""
    shortest_step: Annotated[float, Range(above=0, most=1)] = 1.0
    """Smallest step size as a fraction of the adapted one, in (0, 1]; each trajectory draws its step size in between. A
    value below 1 frees chains that are stuck where steps are too long, but more trajectories diverge."""
    num_integration_steps: Count = 20
    """Number of leapfrog steps of a trajectory."""
    chunk_size: Natural = 1
    """Number of splits, and of chains of a split, that are computed at once; 0, which suits accelerators, is all."""


PAPER = Config(dataset="uci/concrete", num_chains=4, num_warmup=300, num_draws=500, num_integration_steps=100)
PRESETS = {
    "quick": Config(),
    "paper": PAPER,
    "long": replace(PAPER, dataset="uci/bostonHousing", num_draws=1000, num_integration_steps=300),
    "converge": replace(PAPER, num_splits=1, num_draws=3000, num_integration_steps=300),
    "wine": replace(PAPER, dataset="uci/wine-quality-red", num_warmup=250, num_draws=800, num_integration_steps=60),
    "large": replace(
        PAPER, dataset="uci/kin8nm", num_splits=5, num_warmup=200, num_draws=200, num_integration_steps=60
    ),
}
TABLES = [
    TABLE,
    Table(
        {"dataset": "data set", "method": "method", "draws": "draws of a chain"},
        [Column(f"{name} so far", name, digits) for name, digits in (("largest R-hat", 2), ("least bulk ESS", 0))],
        note=lambda config: (
            f"Convergence along {config['num_chains']} chains with {config['num_integration_steps']} leapfrog steps "
            "for a draw, over all splits of the run."
        ),
    ),
]
HEADLINE = "hmc_regression-paper-uci_concrete", {"measure": "RMSE", "method": "hmc"}
LOG_SCALE = (0.5, 1.0)  # mean and standard deviation of the normal prior of a layer's log scale
NOISE_UNIT = 5.0  # unit of the log precision, in its standard deviations given the weights


def posterior(hidden: int, num_data: int, num_features: int) -> tuple[Callable, Callable, Callable]:
    """The posterior of a network of `hidden` ReLU units with its output weights integrated out.

    Returns `init`, `rng_key -> position`, with entries that are about standard normal a priori; `density`, `(position,
    rng_key, (x, y)) -> log density`; and `predict`, `(position, rng_key, (x, y), x_test) -> [num_test + 1]`, the means
    at the test rows, with output weights from their posterior given the position, and the log precision.
    """
    unit = NOISE_UNIT * noise_unit(num_data)

    def init(rng_key: jax.Array) -> Any:
        layer = {"kernel": jnp.zeros((num_features, hidden)), "bias": jnp.zeros(hidden)}
        network = posteriors.sample_gaussian(rng_key, layer)
        return {"hidden": network, "log_scale": jnp.full(2, LOG_SCALE[0]), "noise": jnp.zeros(())}

    def log_precision(position: Any) -> jax.Array:
        return LOG_PRECISION[0] + unit * position["noise"]

    def features(position: Any, x: jax.Array) -> jax.Array:
        """Inputs of the output layer, `[num, hidden + 1]`, scaled such that its weights are N(0, 1) a priori."""
        layer, scales = position["hidden"], jnp.exp(position["log_scale"])
        units = jax.nn.relu(scales[0] * (x @ layer["kernel"] / math.sqrt(num_features) + layer["bias"]))
        return scales[1] * jnp.append(units / math.sqrt(hidden), jnp.ones((len(x), 1)), axis=1)

    def output_layer(position: Any, batch: tuple) -> posteriors.LinearRegression:
        return posteriors.linear_regression(features(position, batch[0]), batch[1], log_precision(position))

    def density(position: Any, rng_key: jax.Array, batch: tuple) -> jax.Array:
        weights = posteriors.gaussian()(position["hidden"]) + norm.logpdf(position["log_scale"], *LOG_SCALE).sum()
        noise = norm.logpdf(log_precision(position), *LOG_PRECISION)
        return output_layer(position, batch).log_evidence + weights + noise

    def predict(position: Any, rng_key: jax.Array, batch: tuple, x_test: jax.Array) -> jax.Array:
        weights = posteriors.sample_linear_regression(rng_key, output_layer(position, batch))
        return jnp.append(features(position, x_test) @ weights, log_precision(position))

    return init, density, predict


def sample(run: Run, splits: StandardisedSplit) -> training.Trace:
    """Samples every split; draws are test means and log precision, `[num_draws, splits, chains, num_test + 1]`."""
    config, (num, num_data, num_features) = run.config, splits.x.shape
    init, density, predict = posterior(config.hidden, num_data, num_features)

    def make(*, step_size: jax.Array, inverse_mass_matrix: jax.Array) -> Kernel:
        return kernels.hmc(
            density, step_size=kernels.jittered(step_size, config.shortest_step), full_batch=True,
            num_integration_steps=config.num_integration_steps, inverse_mass_matrix=inverse_mass_matrix,
        )  # fmt: skip

    one = kernels.adapt(make, num_steps=config.num_warmup, step_size=0.01, mass="fixed", target_acceptance=0.65)
    size = config.chunk_size or None
    chains = kernels.particles(one, config.num_chains, chunk_size=size)
    kernel, options = run.stage("hmc", kernels.particles(chains, num, batch_axis=0, chunk_size=size))
    start_key, init_key, run_key = jax.random.split(jax.random.key(config.seed), 3)
    position = jax.jit(jax.vmap(jax.vmap(init)))(jax.random.split(start_key, (num, config.num_chains)))
    batch, x_test = (jnp.asarray(splits.x), jnp.asarray(splits.y)), jnp.asarray(splits.x_test)

    def keep(state: Any) -> jax.Array:
        keys = jax.random.split(jax.random.fold_in(run_key, state.step.ravel()[0]), (num, config.num_chains))
        return jax.vmap(jax.vmap(predict, in_axes=(0, 0, None, None)))(state.position, keys, batch, x_test)

    return training.run(
        run_key, kernel, jax.jit(kernel.init)(position, init_key), batch,
        num_steps=config.num_warmup + config.num_draws, num_burnin=config.num_warmup, keep=keep, **options,
    )[1]  # fmt: skip


def evaluate(splits: StandardisedSplit, draws: np.ndarray) -> dict[str, np.ndarray]:
    """Measures of each split, `[num_splits]`, from draws `[num_draws, num_splits, num_chains, num_test + 1]`."""
    measures: dict[str, list] = {}
    for split in range(draws.shape[1]):
        flat = draws[:, split].reshape(-1, draws.shape[-1]).astype(float)
        means, scales = flat[:, :-1], noise_scales(flat[:, -1:])
        quality = measure(splits.y_test[split], means, scales, float(splits.target_scale[split]))
        chains = evaluation.chains_first(draws[:, split])
        r_hats = np.asarray(evaluation.r_hat(chains))
        for name, value in {
            "RMSE": quality.rmse.value,
            "log-likelihood": -quality.nll.value,
            "% in the 90 % band": 100 * quality.in_band.value,
            "largest R-hat": r_hats.max(),
            "median R-hat": np.median(r_hats),
            "least bulk ESS": np.min(evaluation.effective_sample_size(chains, "bulk")),
        }.items():
            measures.setdefault(name, []).append(float(value))
    return {name: np.array(values) for name, values in measures.items()}


def main(config: Config) -> None:
    """Samples all splits and evaluates them; writes the figure and the results."""
    with Run("hmc_regression", config) as run:
        regression = data.load_regression(config.dataset, data_dir=config.data_dir or None)
        num, available = config.num_splits, len(regression.splits)
        require(num <= available, f"--num-splits must be at most {available}, those of {config.dataset}; got {num}")
        splits = replace(regression, splits=regression.splits[: num or available]).standardise_all()
        trace = sample(run, splits)
        measures, info = evaluate(splits, np.asarray(trace.draws)), trace.info.inner
        worst: dict[str, Callable] = {"largest R-hat": np.max, "median R-hat": np.median, "least bulk ESS": np.min}
        rows = []
        for part in (8, 4, 2, 1):  # how far the chains have converged after a part of their draws
            so_far = evaluate(splits, np.asarray(trace.draws)[: max(config.num_draws // part, 4)])
            for name in ("largest R-hat", "least bulk ESS"):
                value = worst[name](so_far[name])
                rows.append(row(f"{name} so far", value, method="hmc", draws=config.num_draws // part))
        for name, values in measures.items():
            value = worst[name](values) if name in worst else evaluation.mean_estimate(values)
            by_split = {} if name == "median R-hat" else {"n": len(values), "values": values}
            rows.append(row(name, value, method="hmc", **by_split))
        of_chains = {"acceptance": info.acceptance_probability.mean(), "divergent %": 100 * info.is_divergent.mean()}
        rows += [row(name, float(value), method="hmc") for name, value in of_chains.items()]
        noise = {f"split {i}": trace.draws[:, i, :, -1].T for i in range(min(4, len(splits.x)))}
        plots.traces(run.figure("log_precision.png"), noise)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
