"""HMC on the regression sets of the literature: the column that MC dropout and Bayes by Backprop are held against.

    python -m experiments.hmc_regression                                          quick: diabetes, under a minute
    python -m experiments.hmc_regression --preset paper --dataset uci/concrete      and bostonHousing, energy
    python -m experiments.hmc_regression --preset wine                              red wine: more rows, fewer steps
    python -m experiments.hmc_regression --preset large                             kin8nm: five of its splits

One hidden layer of 50 ReLU units, and nothing to choose: the scale of each layer's prior and the noise are drawn with
the weights (Neal, "Bayesian learning for neural networks", 1996),

    w = s_l z / sqrt(fan-in),   b = s_l z',   z ~ N(0, 1),   log s_l ~ N(0.5, 1),   log precision ~ N(2, 2^2)

in units of the targets' spread. The noise moves in units of five of its deviations given the weights: so light, it
follows their fit along a trajectory, where with one deviation it lags behind and mixes worst of all. All splits of a
set and all their chains run in one program, each chain with a step size of its own from its warm-up. R-hat and
effective sample sizes are of the means at the test rows and of the noise: weights have no identity, since units may be
exchanged.

Expected: no table of HMC on these splits was found in print. MC dropout with its grid of 2018 has test RMSE 2.90,
4.82, 0.54, 0.62 and log-likelihood -2.40, -2.93, -1.21, -0.93 on boston, concrete, energy and wine.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.hmc_regression."""

    dataset: str = "diabetes"
    """diabetes, or uci/NAME."""
    num_splits: int = 0
    """The first so many of the set's splits; 0 for all."""
    hidden: int = 50
    """Units of the hidden layer."""
    num_chains: int = 2
    """Chains of each split."""
    num_warmup: int = 60
    """Steps of each chain's warm-up."""
    num_draws: int = 60
    """Draws that each chain keeps."""
    shortest_step: float = 1.0
    """Each draw's step size is between so much and all of what the warm-up finds. Less than 1 frees a chain that is
    stuck where the step is too long; the longest ones are then longer, and more of them diverge."""
    num_integration_steps: int = 20
    """Leapfrog steps of a trajectory."""
    at_a_time: int = 1
    """Splits that move at once, and chains of a split; 0 for all, which an accelerator wants. A processor is 1.6 times
    as fast with one: its activations stay in the cache."""


PRESETS = {
    "quick": Config(),
    "paper": dataclasses.replace(
        Config(), preset="paper", dataset="uci/bostonHousing", num_chains=4, num_warmup=300, num_draws=500,
        num_integration_steps=100,
    ),
    "wine": dataclasses.replace(
        Config(), preset="wine", dataset="uci/wine-quality-red", num_chains=4, num_warmup=250, num_draws=200,
        num_integration_steps=100,
    ),
    "large": dataclasses.replace(
        Config(), preset="large", dataset="uci/kin8nm", num_splits=5, num_chains=4, num_warmup=200, num_draws=200,
        num_integration_steps=60,
    ),
}  # fmt: skip

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation, kernels, models, plots, posteriors, training
from bayesjax.data.regression import StandardisedSplit
from bayesjax.types import Kernel
from experiments import tables
from experiments.mc_dropout_regression import stacked
from experiments.regression import LOG_PRECISION, log_likelihood, measured, noise_scales, noise_unit

LOG_SCALE = (0.5, 1.0)  # mean and deviation of a normal prior
LIGHTNESS = 5.0  # of the noise: its deviations, given the weights, to a unit


def sample(run: common.Experiment, splits: StandardisedSplit) -> training.Trace:
    """Chains of every split: means at its test rows and log precision, `[num_draws, splits, chains, num_test + 1]`."""
    config, (num, num_data, num_features) = run.config, splits.x.shape
    model = models.MLP((config.hidden, 1))
    unit = LIGHTNESS * noise_unit(num_data)

    def weights(position: Any) -> Any:
        """The network's, and the precision, from numbers that are about standard normal."""
        deviations = posteriors.fan_in_scales(position["network"])
        network = {
            name: jax.tree.map(lambda z, sd, scale=scale: jnp.exp(scale) * sd * z, layer, deviations[name])
            for (name, layer), scale in zip(position["network"].items(), position["log_scale"], strict=True)
        }
        return {"network": network, "log_precision": LOG_PRECISION[0] + unit * position["noise"]}

    def log_prior(position: Any) -> jax.Array:
        standard = posteriors.gaussian()
        of_scales = jnp.sum(((position["log_scale"] - LOG_SCALE[0]) / LOG_SCALE[1]) ** 2)
        of_noise = (unit * position["noise"] / LOG_PRECISION[1]) ** 2
        return standard(position["network"]) - 0.5 * (of_scales + of_noise)

    fit = log_likelihood(lambda network, rng_key, x: model.apply({"params": network}, x))
    density = posteriors.log_posterior(
        lambda position, rng_key, row: fit(weights(position), rng_key, row), log_prior, num_data
    )

    def start(rng_key: jax.Array) -> Any:
        shapes = jax.eval_shape(model.init, rng_key, jnp.zeros(num_features))["params"]
        return {
            "network": posteriors.sample_gaussian(rng_key, shapes),
            "log_scale": jnp.full(2, LOG_SCALE[0]),
            "noise": jnp.zeros(()),
        }

    def make(*, step_size: jax.Array, inverse_mass_matrix: jax.Array) -> Kernel:
        return kernels.hmc(
            density, step_size=kernels.jittered(step_size, config.shortest_step), full_batch=True,
            num_integration_steps=config.num_integration_steps, inverse_mass_matrix=inverse_mass_matrix,
        )  # fmt: skip

    one = kernels.adapt(make, num_steps=config.num_warmup, step_size=0.01, mass="fixed", target_acceptance=0.65)
    at_a_time = config.at_a_time or None
    of_split = kernels.particles(one, config.num_chains, chunk_size=at_a_time)
    kernel = run.spread(kernels.particles(of_split, num, batch_axis=0, chunk_size=at_a_time))

    def said(x: jax.Array, position: Any) -> jax.Array:
        found = weights(position)
        means: Any = model.apply({"params": found["network"]}, x)
        return jnp.append(means[:, 0], found["log_precision"])

    start_key, init_key, run_key = jax.random.split(jax.random.key(config.seed), 3)
    keys = jax.random.split(start_key, (num, config.num_chains))
    position = jax.jit(jax.vmap(jax.vmap(start)))(keys)
    of_chains = jax.vmap(jax.vmap(said, in_axes=(None, 0)))
    _, trace = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, init_key), (jnp.asarray(splits.x), jnp.asarray(splits.y)),
        num_steps=config.num_warmup + config.num_draws, num_burnin=config.num_warmup,
        keep=lambda state: of_chains(jnp.asarray(splits.x_test), state.position), **run.stage("hmc"),
    )  # fmt: skip
    return trace


def judged(splits: StandardisedSplit, draws: np.ndarray) -> dict[str, list[float]]:
    """Measures of each split, from `[num_draws, splits, chains, num_test + 1]`."""
    found: dict[str, list[float]] = {
        name: [] for name in ("rmse", "log-likelihood", "in the 90 % band", "r hat", "median r hat", "ess")
    }
    for split in range(draws.shape[1]):
        y, target_scale = splits.y_test[split], float(splits.target_scale[split])
        flat = draws[:, split].reshape(-1, draws.shape[-1]).astype(float)
        means, scales = flat[:, :-1], noise_scales(flat[:, -1:])
        chains = evaluation.chains_first(draws[:, split])
        measures = measured(y, means, scales, target_scale)
        found["rmse"].append(measures.rmse.value)
        found["log-likelihood"].append(-measures.nll.value)
        found["in the 90 % band"].append(100 * measures.in_band.value)
        r_hats = np.asarray(evaluation.r_hat(chains))
        found["r hat"].append(float(r_hats.max()))
        found["median r hat"].append(float(np.median(r_hats)))
        found["ess"].append(float(np.min(evaluation.effective_sample_size(chains, "bulk"))))
    return found


def main(config: Config) -> None:
    """Samples all splits, judges them, writes table, figure and results."""
    with common.Experiment("hmc_regression", config) as run:
        common.require_at_least(config, 1, "hidden", "num_integration_steps")
        common.require_at_least(config, 0, "at_a_time", "num_splits")
        share = config.shortest_step
        common.require(0 < share <= 1, f"--shortest-step must lie in (0, 1]; got {share}")
        common.require_at_least(config, 2, "num_chains")
        common.require_at_least(config, 20, "num_warmup", "num_draws")
        regression = data.load_regression(config.dataset, data_dir=config.data_dir or None)
        available = len(regression.splits)
        common.require(
            config.num_splits <= available,
            f"--num-splits must be at most {available}, those of {config.dataset}; got {config.num_splits}",
        )
        first = regression.splits[: config.num_splits or available]
        splits = stacked(dataclasses.replace(regression, splits=first))
        trace = sample(run, splits)
        of_splits = judged(splits, np.asarray(trace.draws))
        metrics: dict[str, dict] = {
            f"hmc {name}": {**evaluation.mean_estimate(of_splits[name])._asdict(), "splits": of_splits[name]}
            for name in ("rmse", "log-likelihood", "in the 90 % band")
        }
        metrics["hmc largest r hat"] = {"value": max(of_splits["r hat"]), "splits": of_splits["r hat"]}
        metrics["hmc median r hat"] = {"value": float(np.median(of_splits["median r hat"]))}
        metrics["hmc least bulk ess"] = {"value": min(of_splits["ess"]), "splits": of_splits["ess"]}
        metrics["hmc acceptance"] = {"value": float(trace.info.inner.acceptance_probability.mean())}
        metrics["hmc divergent %"] = {"value": 100 * float(trace.info.inner.is_divergent.mean())}
        noise = {f"split {i}": trace.draws[:, i, :, -1].T for i in range(min(4, trace.draws.shape[1]))}
        plots.traces(run.out / "figures" / "log_precision.png", noise)
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}")


if __name__ == "__main__":
    main(CONFIG)
