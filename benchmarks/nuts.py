"""Effective draws per gradient of NUTS after its warm-up, compared with BlackJAX and NumPyro with their defaults.

    python -m benchmarks.nuts                          ten minutes on two cores
    python -m benchmarks.nuts --num-groups 3           a short check

The targets are those of `bayesjax.evaluation.targets`, in float32. Every library starts from the same points and has
the same numbers of warm-up steps and draws. All adapt a step size towards an acceptance probability of 0.8, and a
diagonal mass matrix. Each of the --num-groups groups of --num-chains chains is evaluated separately, which gives a
standard error. The measure is the smallest bulk effective sample size (Vehtari et al., "Rank-normalization, folding,
and localization", 2021) over the quantities of a target, per 1000 gradients of the kept draws. The gradients of the
warm-up are reported separately.

Libraries are compared only where they sample the same distribution: the R-hat of all chains is below 1.01, and the
means agree within 4 standard errors, also with exact values where these are known. The centred schools and the funnel
have narrow necks in which no step size is suitable. A library that avoids the neck would have higher numbers. Nothing
is timed, so the load of the machine does not matter.

All three libraries use the same algorithm and the warm-up of Stan, so the expected ratio is 1. The bar is that no ratio
is below 1 by more than two standard errors. Results: benchmarks/results/nuts.json.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesjax import evaluation, kernels, tree
from bayesjax.evaluation.targets import TARGETS, Target
from benchmarks import measure


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.nuts."""

    targets: tuple[str, ...] = tuple(TARGETS)
    """Targets to sample: schools_centred, schools_noncentred, gaussian, logistic, funnel, network."""
    num_groups: int = 16
    """Number of runs of each library on each target."""
    num_chains: int = 4
    """Number of chains in a run."""
    num_warmup: int = 1000
    """Number of warm-up steps of each chain."""
    num_draws: int = 1000
    """Number of draws that each chain keeps."""
    seed: int = 0
    """Random seed of the starting points and of the draws."""
    out: str = str(measure.RESULTS / "nuts.json")
    """The JSON file to write."""


class Drawn(NamedTuple):
    """The draws and gradient counts of one library.

    Attributes:
      quantities: values of the target's quantities, `[num_chains, num_draws, num]`, for the chains of all groups.
      gradients: number of gradients in each chain's draws, `[num_chains]`.
      warmup_gradients: number of gradients in each chain's warm-up, `[num_chains]`.
      divergent: fraction of steps after the warm-up that diverged.
    """

    quantities: np.ndarray
    gradients: np.ndarray
    warmup_gradients: np.ndarray
    divergent: float


def of_bayesjax(config: Config, target: Target, position: Any, rng_key: jax.Array) -> Drawn:
    """Samples with `kernels.adapt` around `kernels.nuts`."""

    make = functools.partial(kernels.nuts, target.density, full_batch=True)
    kernel = kernels.adapt(make, num_steps=config.num_warmup)

    def chain(rng_key: jax.Array, position: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        def one(state: Any, rng_key: jax.Array) -> tuple[Any, Any]:
            state, info = kernel.step(rng_key, state, None)
            return state, (target.quantities(state.position), info.inner.num_integration_steps, info.inner.is_divergent)

        init_key, run_key = jax.random.split(rng_key)
        keys = jax.random.split(run_key, config.num_warmup + config.num_draws)
        return jax.lax.scan(one, kernel.init(position, init_key), keys)[1]

    found = jax.jit(jax.vmap(chain))(jax.random.split(rng_key, tree.leading_axis(position, "position")), position)
    quantities, steps, diverged = (np.asarray(each) for each in found)
    warm = config.num_warmup
    return Drawn(quantities[:, warm:], steps[:, warm:].sum(1), steps[:, :warm].sum(1), diverged[:, warm:].mean())


def of_blackjax(config: Config, target: Target, position: Any, rng_key: jax.Array) -> Drawn:
    """Samples with `blackjax.window_adaptation` and `blackjax.nuts`."""
    import blackjax

    def chain(rng_key: jax.Array, position: Any) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        warmup_key, run_key = jax.random.split(rng_key)
        warmup: Any = blackjax.window_adaptation(blackjax.nuts, target.logdensity)
        (state, parameters), info = warmup.run(warmup_key, position, num_steps=config.num_warmup)
        kernel: Any = blackjax.nuts(target.logdensity, **parameters)

        def one(state: Any, rng_key: jax.Array) -> tuple[Any, Any]:
            state, info = kernel.step(rng_key, state)
            return state, (target.quantities(state.position), info.num_integration_steps, info.is_divergent)

        _, (quantities, steps, diverged) = jax.lax.scan(one, state, jax.random.split(run_key, config.num_draws))
        return quantities, steps, diverged, info.info.num_integration_steps

    found = jax.jit(jax.vmap(chain))(jax.random.split(rng_key, tree.leading_axis(position, "position")), position)
    quantities, steps, diverged, warm = (np.asarray(each) for each in found)
    return Drawn(quantities, steps.sum(1), warm.sum(1), float(diverged.mean()))


def of_numpyro(config: Config, target: Target, position: Any, rng_key: jax.Array) -> Drawn:
    """Samples with `numpyro.infer.MCMC` and `numpyro.infer.NUTS`, with vectorised chains."""
    from numpyro.infer import MCMC, NUTS  # pyright: ignore[reportMissingImports]

    mcmc = MCMC(
        NUTS(potential_fn=lambda position: -target.logdensity(position)),
        num_warmup=config.num_warmup, num_samples=config.num_draws, num_chains=tree.leading_axis(position, "position"),
        chain_method="vectorized", progress_bar=False,
    )  # fmt: skip
    warmup_key, run_key = jax.random.split(rng_key)
    mcmc.warmup(warmup_key, init_params=position, collect_warmup=True, extra_fields=("num_steps",))
    warm = np.asarray(mcmc.get_extra_fields(group_by_chain=True)["num_steps"])
    mcmc.run(run_key, extra_fields=("num_steps", "diverging"))
    draws = mcmc.get_samples(group_by_chain=True)
    infos = mcmc.get_extra_fields(group_by_chain=True)
    quantities = jax.jit(jax.vmap(jax.vmap(target.quantities)))(draws)
    steps, diverged = np.asarray(infos["num_steps"]), np.asarray(infos["diverging"])
    return Drawn(np.asarray(quantities), steps.sum(1), warm.sum(1), float(diverged.mean()))


SAMPLERS: dict[str, Callable[..., Drawn]] = {"bayesjax": of_bayesjax, "BlackJAX": of_blackjax, "NumPyro": of_numpyro}
LIBRARIES = tuple(SAMPLERS)


def judged(drawn: Drawn, num_chains: int) -> dict[str, Any]:
    """Efficiency and diagnostics of one library on one target, for the results file.

    Returns:
      Effective draws per 1000 gradients for each group ("groups"), with mean ("value") and standard error ("stderr");
      gradients per draw and of the warm-up; R-hat, divergences, and the means of the quantities with their errors.
    """
    bulk = jax.jit(functools.partial(evaluation.effective_sample_size, kind="bulk"))
    efficiency, r_hats = [], []
    for first in range(0, len(drawn.quantities), num_chains):
        group = drawn.quantities[first : first + num_chains]
        efficiency.append(float(1000 * np.min(bulk(group)) / drawn.gradients[first : first + num_chains].sum()))
        r_hats.append(float(np.max(evaluation.r_hat(group))))
    return {
        "groups": efficiency,
        "value": float(np.mean(efficiency)),
        "stderr": float(np.std(efficiency, ddof=1) / np.sqrt(len(efficiency))),
        "gradients_per_draw": float(drawn.gradients.mean() / drawn.quantities.shape[1]),
        "warmup_gradients": float(drawn.warmup_gradients.mean()),
        "largest_r_hat": max(r_hats),
        "divergent_percent": 100 * drawn.divergent,
        "r_hat_of_all_chains": float(np.max(evaluation.r_hat(drawn.quantities))),
        "mean": drawn.quantities.mean(axis=(0, 1), dtype=float).tolist(),
        "mean_error": np.asarray(evaluation.monte_carlo_standard_error(drawn.quantities), float).tolist(),
    }


def is_same_law(one: dict[str, Any], other: dict[str, Any], exact: np.ndarray | None = None) -> bool:
    """Whether two runs have converged to the same distribution, by their R-hat and their means."""
    apart = np.subtract(one["mean"], other["mean"]) / np.hypot(one["mean_error"], other["mean_error"])
    off = [] if exact is None else [np.subtract(run["mean"], exact) / run["mean_error"] for run in (one, other)]
    worst = max(float(np.abs(z).max()) for z in [apart, *off])
    return max(run["r_hat_of_all_chains"] for run in (one, other)) < 1.01 and worst < 4


def ratio(own: dict[str, Any], peer: dict[str, Any], *, is_comparable: bool) -> dict[str, Any]:
    """The ratio of two means over groups, its first-order standard error, and whether the bar is met."""
    if not is_comparable or min(own["value"], peer["value"]) <= 0:
        return {"value": None, "stderr": None, "met": None}
    value = own["value"] / peer["value"]
    stderr = float(value * np.hypot(own["stderr"] / own["value"], peer["stderr"] / peer["value"]))
    return {"value": value, "stderr": stderr, "met": bool(value + 2 * stderr >= 1)}


def main(config: Config) -> None:
    """Samples every target with every library, prints the table and writes the file."""
    measure.require_modules("numpyro")
    if not config.targets or len(set(config.targets)) < len(config.targets) or not set(config.targets) <= set(TARGETS):
        measure.fail(f"--targets must be among {', '.join(TARGETS)}, each at most once; got {config.targets}")
    measure.require_at_least(config, 1, "num_chains")
    measure.require_at_least(config, 2, "num_groups")
    measure.require_at_least(config, 20, "num_warmup", "num_draws")
    measure.make_folder(config.out)
    efficiency: dict[str, dict] = {}
    ratios: dict[str, dict] = {}
    for name in config.targets:
        target = TARGETS[name]()
        start_key, run_key = jax.random.split(jax.random.key(config.seed))
        num = config.num_groups * config.num_chains
        position = jax.jit(jax.vmap(target.start))(jax.random.split(start_key, num))
        for index, (library, sampler) in enumerate(SAMPLERS.items()):
            drawn = sampler(config, target, position, jax.random.fold_in(run_key, index))
            efficiency[f"{name} {library}"] = found = judged(drawn, config.num_chains)
            print(f"{name} {library}: {found['value']:.2f} ± {found['stderr']:.2f} draws per 1000 gradients")
        own = efficiency[f"{name} bayesjax"]
        for library in LIBRARIES[1:]:
            peer = efficiency[f"{name} {library}"]
            is_comparable = is_same_law(own, peer, target.exact[0] if target.exact else None)
            ratios[f"{name} / {library}"] = ratio(own, peer, is_comparable=is_comparable)
    results = {
        **measure.made_by("blackjax", "numpyro"),
        "config": {key: getattr(config, key) for key in ("num_groups", "num_chains", "num_warmup", "num_draws")},
        "targets": list(config.targets),
        "effective_draws_per_1000_gradients": efficiency,
        "ratios": ratios,
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
