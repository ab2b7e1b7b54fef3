"""Standard posteriors: NUTS and HMC, tuned by their own warm-up, against long runs and exact answers.

Targets (`targets.py`): eight schools, centred and not; a Gaussian of 100 correlated variables; logistic regression;
Neal's funnel; a Bayesian network of 50 units. The protocol is that of posteriordb and of Stan's tests: a reference run
of --num-reference draws a chain (or the exact answer), then a run of --num-draws, whose means are to be within 4
standard errors of the reference and whose deviations within 5 %, without divergences after the warm-up.

    python -m experiments.standard_posteriors                    quick: two targets, under a minute
    python -m experiments.standard_posteriors --preset paper     all six, by steps of about one size
    python -m experiments.standard_posteriors --preset funnel    funnel and centred schools, by steps of all sizes

Expected: all of it holds but where the geometry forbids it: the centred schools and the funnel diverge in their necks,
at any fixed step size (Betancourt & Girolami, "Hamiltonian Monte Carlo for hierarchical models", 2015), and their
scales come out wrong. Steps of all sizes find the necks, at the price of large ones that diverge there and are refused.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common

TARGET_NAMES = ("schools_centred", "schools_noncentred", "gaussian", "logistic", "funnel", "network")
METHODS = ("nuts", "hmc")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.standard_posteriors."""

    dataset: str = "synthetic/posteriors"
    """The targets below; there are no others."""
    targets: tuple[str, ...] = ("schools_noncentred", "gaussian")
    """Among schools_centred, schools_noncentred, gaussian, logistic, funnel, network."""
    methods: tuple[str, ...] = METHODS
    """nuts, hmc."""
    num_chains: int = 4
    """Chains of a run."""
    num_warmup: int = 500
    """Steps of each chain's warm-up."""
    num_draws: int = 1000
    """Draws that each chain keeps."""
    num_reference: int = 4000
    """Draws that each chain of the reference keeps, with NUTS and a target acceptance of 0.95."""
    num_integration_steps: int = 16
    """Leapfrog steps of HMC."""
    hmc_shortest_step: float = 0.5
    """Each draw's step size is between so much and all of what the warm-up finds, evenly in its logarithm."""
    nuts_shortest_step: float = 1.0
    """The same of NUTS."""
    target_acceptance: float = 0.8
    """Of the warm-ups; a target may ask for more."""
    max_num_doublings: int = 9
    """Of NUTS's trajectories."""


PRESETS = {
    "quick": Config(),
    "paper": dataclasses.replace(
        Config(), preset="paper", targets=TARGET_NAMES, num_chains=8, num_warmup=1000, num_draws=2000,
        num_reference=20_000, num_integration_steps=32,
    ),
    "funnel": dataclasses.replace(
        Config(), preset="funnel", targets=("funnel", "schools_centred"), num_chains=64, num_warmup=1000,
        num_draws=10_000, num_integration_steps=64, hmc_shortest_step=0.02, nuts_shortest_step=0.02,
    ),
}  # fmt: skip

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
from typing import NamedTuple

import jax
import numpy as np

from bayesjax import evaluation, kernels, training
from bayesjax.types import Kernel
from experiments import tables
from experiments.targets import TARGETS, Target


class Run(NamedTuple):
    """What a run leaves, after its warm-up.

    Attributes:
      chains: of the quantities, `[num_chains, num_draws, num]`.
      divergent: share of the steps that diverged.
      gradients: evaluations of the gradient in all chains.
      acceptance: mean acceptance probability.
    """

    chains: np.ndarray
    divergent: float
    gradients: float
    acceptance: float


def sample(
    run: common.Experiment, target: Target, label: str, method: str, *, num_draws: int, acceptance: float, seed: int
) -> Run:
    """Warms up and samples."""
    config = run.config
    shortest = config.nuts_shortest_step if method == "nuts" else config.hmc_shortest_step

    def make(*, step_size: jax.Array, inverse_mass_matrix: jax.Array) -> Kernel:
        found = {"step_size": kernels.jittered(step_size, shortest), "inverse_mass_matrix": inverse_mass_matrix}
        if method == "nuts":
            return kernels.nuts(target.density, max_num_doublings=config.max_num_doublings, **found)
        return kernels.hmc(target.density, num_integration_steps=config.num_integration_steps, **found)

    one = kernels.adapt(make, num_steps=config.num_warmup, target_acceptance=acceptance)
    kernel = run.spread(kernels.particles(one, config.num_chains))
    start_key, init_key, run_key = jax.random.split(jax.random.key(seed), 3)
    position = jax.jit(jax.vmap(target.start))(jax.random.split(start_key, config.num_chains))
    state, trace = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, init_key),
        num_steps=config.num_warmup + num_draws, num_burnin=config.num_warmup,
        keep=lambda state: jax.vmap(target.quantities)(state.position), **run.stage(label),
    )  # fmt: skip
    del state
    info = jax.tree.map(lambda leaf: np.asarray(leaf, float), trace.info.inner)
    steps = info.num_integration_steps if method == "nuts" else config.num_integration_steps + 0 * info.energy
    return Run(
        np.asarray(evaluation.chains_first(trace.draws), float),
        float(info.is_divergent.mean()),
        float(steps.sum()),
        float(info.acceptance_probability.mean()),
    )


def moments(chains: np.ndarray) -> dict[str, list[float]]:
    """Means and deviations of the quantities with their Monte Carlo errors, and how the chains mixed."""
    return {
        "mean": chains.mean(axis=(0, 1)).tolist(),
        "mean error": np.asarray(evaluation.monte_carlo_error(chains), float).tolist(),
        "deviation": chains.std(axis=(0, 1)).tolist(),
        "deviation error": np.asarray(evaluation.monte_carlo_error(chains, "sd"), float).tolist(),
        "r hat": np.atleast_1d(evaluation.r_hat(chains)).astype(float).tolist(),
        "bulk ess": np.atleast_1d(evaluation.effective_sample_size(chains, "bulk")).astype(float).tolist(),
        "tail ess": np.atleast_1d(evaluation.effective_sample_size(chains, "tail")).astype(float).tolist(),
    }


def reference(run: common.Experiment, name: str) -> dict[str, list[float]]:
    """The exact answer, or that of a long run."""
    config, target = run.config, TARGETS[name]()
    if target.exact is not None:
        mean, deviation = target.exact
        zero = np.zeros(len(mean)).tolist()
        return {"mean": mean.tolist(), "mean error": zero, "deviation": deviation.tolist(), "deviation error": zero}
    long = sample(
        run, target, f"{name}-reference", "nuts",
        num_draws=config.num_reference, acceptance=0.95, seed=config.seed + 10**6,
    )  # fmt: skip
    return moments(long.chains) | {"divergent": [long.divergent]}


def judged(run: common.Experiment, name: str, method: str, known: dict[str, list[float]]) -> dict[str, float]:
    """A run of ordinary length against the reference."""
    config, target = run.config, TARGETS[name]()
    found = sample(
        run, target, f"{name}-{method}", method, num_draws=config.num_draws,
        acceptance=max(config.target_acceptance, target.acceptance), seed=config.seed,
    )  # fmt: skip
    own = {key: np.array(values) for key, values in moments(found.chains).items()}
    exact = {key: np.array(values) for key, values in known.items()}
    z = (own["mean"] - exact["mean"]) / np.hypot(own["mean error"], exact["mean error"])
    error = np.hypot(own["deviation error"], exact["deviation error"]) / exact["deviation"]
    return {
        "worst mean (standard errors)": float(np.abs(z).max()),
        "worst deviation %": float(100 * np.abs(own["deviation"] / exact["deviation"] - 1).max()),
        "its error %": float(100 * error.max()),
        "divergent %": 100 * found.divergent,
        "largest r hat": float(own["r hat"].max()),
        "least bulk ess": float(own["bulk ess"].min()),
        "bulk ess a 1000 gradients": float(1000 * own["bulk ess"].min() / found.gradients),
        "tail ess a 1000 gradients": float(1000 * own["tail ess"].min() / found.gradients),
        "gradients a draw": found.gradients / found.chains[..., 0].size,
        "acceptance": found.acceptance,
    }


def main(config: Config) -> None:
    """Samples every target with every method; writes table and results."""
    with common.Experiment("standard_posteriors", config) as run:
        common.require_choice(config, "dataset", ("synthetic/posteriors",))
        common.require_names(config, "targets", TARGET_NAMES)
        common.require_names(config, "methods", METHODS)
        common.require_at_least(config, 1, "num_integration_steps", "max_num_doublings")
        common.require_at_least(config, 2, "num_chains")
        for method in METHODS:
            shortest = getattr(config, f"{method}_shortest_step")
            common.require(0 < shortest <= 1, f"--{method}-shortest-step must lie in (0, 1]; got {shortest}")
        common.require_at_least(config, 20, "num_warmup", "num_draws", "num_reference")
        metrics: dict[str, dict] = {}
        for name in config.targets:
            target = TARGETS[name]()
            of = target.reference or name
            known = run.cached(f"{of}-reference", functools.partial(reference, run, of))
            if "r hat" in known:  # of exact answers nobody asks
                metrics[f"{name} reference largest r hat"] = {"value": max(known["r hat"])}
                metrics[f"{name} reference least bulk ess"] = {"value": min(known["bulk ess"])}
                metrics[f"{name} reference divergent %"] = {"value": 100 * known["divergent"][0]}
                for quantity, mean, error, deviation in zip(
                    target.names, known["mean"], known["mean error"], known["deviation"], strict=True
                ):
                    metrics[f"{name} reference mean of {quantity}"] = {"value": mean, "stderr": error}
                    metrics[f"{name} reference deviation of {quantity}"] = {"value": deviation}
            for method in config.methods:
                found = run.cached(f"{name}-{method}", functools.partial(judged, run, name, method, known))
                metrics |= {f"{name} {method} {measure}": {"value": value} for measure, value in found.items()}
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}")


if __name__ == "__main__":
    main(CONFIG)
