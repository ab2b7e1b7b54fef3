"""NUTS and HMC on standard posteriors, against long runs and exact answers.

Targets (`bayesjax.evaluation.targets`): eight schools, centred and non-centred; a Gaussian of 100 correlated variables;
logistic regression; Neal's funnel; a Bayesian neural network of 50 hidden units. The protocol is that of posteriordb
and of Stan's tests. The reference is the exact answer where it is known, and otherwise a run of --num-reference draws
per chain. The means of a run of --num-draws must lie within 4 standard errors of the reference, and its standard
deviations within 5 %, without divergences after the warm-up.

    python -m experiments.standard_posteriors                    quick: eight schools, under a minute
    python -m experiments.standard_posteriors --preset paper     all six targets
    python -m experiments.standard_posteriors --preset funnel    funnel and centred schools, with randomised step sizes

Expected: the protocol is met except where the geometry forbids it. Chains on the centred schools and on the funnel
diverge in the necks at any fixed step size (Betancourt & Girolami, "Hamiltonian Monte Carlo for hierarchical models",
2015), and their estimates of the scales are wrong. Randomising the step size lets chains enter the necks; trajectories
with large steps diverge there and are rejected.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np

from bayesjax import evaluation, kernels, training
from bayesjax.evaluation.targets import TARGETS, Target
from bayesjax.types import Kernel
from experiments.harness import Column, Count, Range, Run, RunConfig, Table, cli, row

LongEnough = Annotated[int, Range(least=20)]
Share = Annotated[float, Range(above=0, most=1)]


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.standard_posteriors."""

    dataset: Literal["synthetic/posteriors"] = "synthetic/posteriors"
    """Name of the collection of targets."""
    targets: tuple[
        Literal["schools_centred", "schools_noncentred", "gaussian", "logistic", "funnel", "network"], ...
    ] = ("schools_noncentred", "gaussian")
    """Targets to sample."""
    methods: tuple[Literal["nuts", "hmc"], ...] = ("nuts", "hmc")
    """Samplers to compare."""
    num_chains: Annotated[int, Range(least=2)] = 4
    """Number of independent chains, at least 2."""
    num_warmup: LongEnough = 500
    """Number of warm-up steps of each chain, at least 20, which adapt the step size and the mass matrix."""
    num_draws: LongEnough = 1000
    """Number of draws that each chain keeps, at least 20."""
    num_reference: LongEnough = 4000
    """Number of draws, at least 20, of each chain of the reference run, which is a run of NUTS with a target acceptance
    of 0.95."""
    num_integration_steps: Count = 16
    """Number of leapfrog steps of an HMC trajectory."""
    hmc_shortest_step: Share = 0.5
    """Smallest step size of HMC as a fraction of the adapted one, in (0, 1]; each draw's step size is log-uniform in
    between."""
    nuts_shortest_step: Share = 1.0
    """Smallest step size of NUTS as a fraction of the adapted one, in (0, 1]; each draw's step size is log-uniform in
    between."""
    target_acceptance: Annotated[float, Range(above=0, below=1)] = 0.8
    """Target acceptance probability of the warm-up, in (0, 1); some targets set a higher value, which takes
    precedence."""
    max_num_doublings: Count = 9
    """Maximal number of doublings of a NUTS trajectory."""


PRESETS = {
    "quick": Config(targets=("schools_noncentred",), num_warmup=300, num_reference=2000),
    "paper": Config(
        targets=("schools_centred", "schools_noncentred", "gaussian", "logistic", "funnel", "network"), num_chains=8,
        num_warmup=1000, num_draws=2000, num_reference=20_000, num_integration_steps=32,
    ),
    "funnel": Config(
        targets=("funnel", "schools_centred"), num_chains=64, num_warmup=1000, num_draws=10_000,
        num_integration_steps=64, hmc_shortest_step=0.02, nuts_shortest_step=0.02,
    ),
}  # fmt: skip
TABLES = [
    Table(
        {"target": "target", "method": "method"},
        [
            Column("largest error of a mean (standard errors)", "worst mean (st. errors)", 1),
            Column("largest error of a standard deviation %", "worst sd (%)", 1),
            Column("largest standard error of a standard deviation %", "largest error of an sd (%)", 1),
            Column("divergent %", "divergent (%)", 2),
            Column("largest R-hat", digits=3),
            Column("least bulk ESS", digits=0),
            Column("bulk ESS per 1000 gradients", "of 1000 gradients", 1),
            Column("gradients per draw", digits=1),
            Column("acceptance", digits=2),
        ],
        where={"method": ("nuts", "hmc")},
        note=lambda config: (
            f"Each sampler has {config['num_chains']} chains of {config['num_draws']} draws after "
            f"{config['num_warmup']} warm-up steps. References are exact (gaussian, funnel) or have "
            f"{config['num_reference']} draws per chain."
        ),
    ),
    Table(
        {"target": "reference run of"},
        [Column("largest R-hat", digits=4), Column("least bulk ESS", digits=0), Column("divergent %", digits=".3g")],
        where={"method": "reference"},
    ),
]
HEADLINE = (
    "standard_posteriors-paper-synthetic_posteriors",
    {"measure": "bulk ESS per 1000 gradients", "target": "network", "method": "nuts"},
)


class Sample(NamedTuple):
    """Result of one run, after its warm-up.

    Attributes:
      chains: values of the target's quantities, `[num_chains, num_draws, num_quantities]`.
      divergent: fraction of divergent steps.
      gradients: number of gradient evaluations, summed over chains.
      acceptance: mean acceptance probability.
    """

    chains: np.ndarray
    divergent: float
    gradients: float
    acceptance: float


def draw(
    run: Run, target: Target, label: str, method: str, *, num_draws: int, target_acceptance: float, seed: int
) -> Sample:
    """Runs adapted chains of NUTS or HMC on a target."""
    config = run.config
    shortest = config.nuts_shortest_step if method == "nuts" else config.hmc_shortest_step

    def make(*, step_size: jax.Array, inverse_mass_matrix: jax.Array) -> Kernel:
        adapted = {"step_size": kernels.jittered(step_size, shortest), "inverse_mass_matrix": inverse_mass_matrix}
        if method == "nuts":
            return kernels.nuts(target.density, max_num_doublings=config.max_num_doublings, **adapted)
        return kernels.hmc(target.density, num_integration_steps=config.num_integration_steps, **adapted)

    chain = kernels.adapt(make, num_steps=config.num_warmup, target_acceptance=target_acceptance)
    kernel, options = run.stage(label, kernels.particles(chain, config.num_chains))
    start_key, init_key, run_key = jax.random.split(jax.random.key(seed), 3)
    position = jax.jit(jax.vmap(target.start))(jax.random.split(start_key, config.num_chains))
    _, trace = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, init_key),
        num_steps=config.num_warmup + num_draws, num_burnin=config.num_warmup,
        keep=lambda state: jax.vmap(target.quantities)(state.position), **options,
    )  # fmt: skip
    info = jax.tree.map(lambda leaf: np.asarray(leaf, float), trace.info.inner)
    steps = info.num_integration_steps if method == "nuts" else config.num_integration_steps + 0 * info.energy
    return Sample(
        np.asarray(evaluation.chains_first(trace.draws), float),
        float(info.is_divergent.mean()),
        float(steps.sum()),
        float(info.acceptance_probability.mean()),
    )


def moments(chains: np.ndarray) -> dict[str, np.ndarray]:
    """Means and standard deviations, their Monte Carlo errors, R-hat and ESS of each quantity, `[num_quantities]`."""
    summary = {
        "mean": chains.mean(axis=(0, 1)),
        "mean error": evaluation.monte_carlo_standard_error(chains),
        "deviation": chains.std(axis=(0, 1)),
        "deviation error": evaluation.monte_carlo_standard_error(chains, "sd"),
        "r hat": evaluation.r_hat(chains),
        "bulk ess": evaluation.effective_sample_size(chains, "bulk"),
        "tail ess": evaluation.effective_sample_size(chains, "tail"),
    }
    return {name: np.atleast_1d(np.asarray(values, float)) for name, values in summary.items()}


def reference(run: Run, name: str) -> dict[str, Any]:
    """Exact moments of a target if they are known, and otherwise the moments of a long run."""
    config, target = run.config, TARGETS[name]()
    if target.exact is not None:
        mean, deviation = target.exact
        return {"mean": mean, "mean error": 0 * mean, "deviation": deviation, "deviation error": 0 * deviation}
    long = draw(
        run, target, f"{name}-reference", "nuts",
        num_draws=config.num_reference, target_acceptance=0.95, seed=config.seed + 10**6,
    )  # fmt: skip
    return moments(long.chains) | {"divergent": long.divergent}


def compare(run: Run, name: str, method: str, exact: dict[str, Any]) -> dict[str, float]:
    """Measures of a run of --num-draws; errors are relative to `exact`, the moments of the reference."""
    config, target = run.config, TARGETS[name]()
    sample = draw(
        run, target, f"{name}-{method}", method, num_draws=config.num_draws,
        target_acceptance=max(config.target_acceptance, target.acceptance), seed=config.seed,
    )  # fmt: skip
    own = moments(sample.chains)
    z = (own["mean"] - exact["mean"]) / np.hypot(own["mean error"], exact["mean error"])
    error = np.hypot(own["deviation error"], exact["deviation error"]) / exact["deviation"]
    return {
        "largest error of a mean (standard errors)": np.abs(z).max(),
        "largest error of a standard deviation %": 100 * np.abs(own["deviation"] / exact["deviation"] - 1).max(),
        "largest standard error of a standard deviation %": 100 * error.max(),
        "divergent %": 100 * sample.divergent,
        "largest R-hat": own["r hat"].max(),
        "least bulk ESS": own["bulk ess"].min(),
        "bulk ESS per 1000 gradients": 1000 * own["bulk ess"].min() / sample.gradients,
        "tail ESS per 1000 gradients": 1000 * own["tail ess"].min() / sample.gradients,
        "gradients per draw": sample.gradients / sample.chains[..., 0].size,
        "acceptance": sample.acceptance,
    }


def reference_rows(name: str, quantities: tuple[str, ...], exact: dict[str, Any]) -> list[dict]:
    """Rows of a reference run: how its chains mixed, and the moments of each quantity."""
    keys: dict[str, Any] = {"method": "reference", "target": name}
    rows = [
        row("largest R-hat", exact["r hat"].max(), **keys),
        row("least bulk ESS", exact["bulk ess"].min(), **keys),
        row("divergent %", 100 * exact["divergent"], **keys),
    ]
    for index, quantity in enumerate(quantities):
        rows.append(row("mean", exact["mean"][index], exact["mean error"][index], quantity=quantity, **keys))
        rows.append(row("standard deviation", exact["deviation"][index], quantity=quantity, **keys))
    return rows


def main(config: Config) -> None:
    """Samples every target with every method; writes the tables and the results."""
    with Run("standard_posteriors", config) as run:
        rows = []
        for name in config.targets:
            target = TARGETS[name]()
            source = target.reference or name
            exact = run.part(f"{source}-reference", lambda source=source: reference(run, source))
            if target.exact is None:
                rows += reference_rows(name, target.names, exact)
            for method in config.methods:
                measures = run.part(
                    f"{name}-{method}", lambda name=name, method=method, exact=exact: compare(run, name, method, exact)
                )
                rows += [row(measure, value, method=method, target=name) for measure, value in measures.items()]
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
