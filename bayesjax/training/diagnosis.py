"""Warnings about the draws of a run whose diagnostics show that they are not from the target.

    kinetic temperature of SGHMC and SGNHT, configurational temperature of SGLD   far from T
    divergences and acceptance probability of HMC and NUTS                        above 1 %, below 10 %
    R-hat of chains (`kernels.particles`)                                         above 1.1

`run` calls `sampler_warnings` at its end, unless it is given `warn=False`. The absence of a warning does not show that
a chain has converged: see `evaluation/diagnostics.py`.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from bayesjax.types import PyTree

MIN_DRAWS = 20
MAX_TEMPERATURE_ERROR = 0.25
MAX_DIVERGENT = 0.01
MIN_ACCEPTANCE = 0.1
MAX_R_HAT = 1.1
MAX_COORDINATES = 100


class SamplerWarning(UserWarning):
    """A diagnostic of a sampler shows that its draws are not from the target."""


def sampler_warnings(draws: PyTree, info: PyTree) -> list[str]:
    """Describes what the diagnostics of draws show, one line for each problem.

    Args:
      draws: `Trace.draws`, leaves `[num_draws, ...]`, or `[num_draws, num_chains, ...]` of `kernels.particles`.
      info: `Trace.info`, an info of a kernel, or infos within tuples and dictionaries.

    Returns:
      The lines; none if there are fewer than 20 draws, or `info` is not that of a sampler.
    """
    lines = []
    for path, part in _infos(info, ""):
        prefix = f"{path}: " if path else ""
        lines += [prefix + line for line in (*_temperature(part), *_trajectories(part))]
        if not path:
            lines += _disagreement(draws, part)
    return lines


def _infos(info: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The infos of samplers in a pytree, and their paths."""
    if hasattr(info, "configurational_temperature"):
        if np.shape(info.logdensity)[0] >= MIN_DRAWS:
            yield path, info
    elif isinstance(info, dict):
        for name, part in info.items():
            yield from _infos(part, f"{path}.{name}".strip("."))
    elif hasattr(info, "_fields"):
        for name in info._fields:
            yield from _infos(getattr(info, name), f"{path}.{name}".strip("."))


def _temperature(info: Any) -> list[str]:
    """Compares a temperature with T over the draws at T > 0, in units of its standard error."""
    target = np.asarray(getattr(info, "temperature", 0.0))
    kind = "kinetic" if hasattr(info, "kinetic_temperature") else "configurational"
    is_hot = target.reshape(len(info.logdensity), -1).min(axis=1) > 0 if target.ndim else np.zeros(1, bool)
    if is_hot.sum() < MIN_DRAWS:
        return []
    measured = np.asarray(getattr(info, f"{kind}_temperature"), np.float64)[is_hot]
    target = target[is_hot].astype(np.float64)
    relative = (measured / target).reshape(len(target), -1).mean(axis=1)
    batches = [batch.mean() for batch in np.array_split(relative, 10)]
    mean, stderr = relative.mean(), np.std(batches, ddof=1) / len(batches) ** 0.5
    if not abs(mean - 1) > max(MAX_TEMPERATURE_ERROR, 5 * stderr):
        return []
    cause = (
        "step_size is too large, minibatch gradients are too noisy for it, or the chain has not reached equilibrium"
        if mean > 1
        else "the chain has not reached equilibrium, or noise_estimate is too large"
    )
    scale = target.mean()
    return [f"the {kind} temperature is {mean * scale:.3g} ± {stderr * scale:.1g}, but T = {scale:.3g}: {cause}"]


def _trajectories(info: Any) -> list[str]:
    """Reports divergent transitions and rejections of HMC and NUTS."""
    if not hasattr(info, "is_divergent"):
        return []
    divergent, acceptance = float(np.mean(info.is_divergent)), float(np.mean(info.acceptance_probability))
    lines = []
    if divergent > MAX_DIVERGENT:
        lines.append(f"{divergent:.1%} of the transitions diverged: reduce the step size, or reparameterise the model")
    if acceptance < MIN_ACCEPTANCE:
        lines.append(
            f"the acceptance probability is {acceptance:.2g}: the step size is too large for the leapfrog integrator; "
            "reduce it, or use kernels.adapt"
        )
    return lines


def _disagreement(draws: PyTree, info: Any) -> list[str]:
    """Reports the largest split R-hat of the log density and, in small models, of the coordinates of the draws."""
    logdensity = np.asarray(info.logdensity, np.float64)
    if logdensity.ndim != 2 or logdensity.shape[1] < 2:
        return []
    values = {"the log density": logdensity}
    leaves = {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_flatten_with_path(draws)[0]
        if np.shape(leaf)[:2] == logdensity.shape and np.issubdtype(leaf.dtype, np.floating)
    }
    if sum(leaf[0, 0].size for leaf in leaves.values()) <= MAX_COORDINATES:
        values |= {f"a coordinate of {path}" if path else "a coordinate": leaf for path, leaf in leaves.items()}
    largest = {name: float(np.nanmax(_split_r_hat(value), initial=1.0)) for name, value in values.items()}
    worst = max(largest, key=lambda name: largest[name])
    if largest[worst] <= MAX_R_HAT:
        return []
    return [
        f"R-hat of {worst} is {largest[worst]:.3g} over {logdensity.shape[1]} chains: they have not converged to one "
        "distribution; run longer, or compare functions of the draws by evaluation.r_hat"
    ]


def _split_r_hat(draws: np.ndarray) -> np.ndarray:
    """Split R-hat of draws `[num_draws, num_chains, ...]`, as `evaluation.split_r_hat` but without compilation."""
    half = len(draws) // 2
    chains = np.concatenate([draws[:half], draws[half : 2 * half]], axis=1).astype(np.float64)
    within, between = chains.var(axis=0, ddof=1).mean(axis=0), chains.mean(axis=0).var(axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt((half - 1) / half + between / within)
