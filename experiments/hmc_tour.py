"""A tour of Hamiltonian Monte Carlo: trajectories, the energy they keep, and acceptance against the step size.

Source: Neal, "MCMC using Hamiltonian dynamics", 2011, sections 2 and 5 (figures 1, 3 and 5), with the formulas
corrected that are often printed wrongly: a trajectory has half kicks at its two ends and none more, the mass has no
part in a kick, and a step is accepted with probability min(1, exp(H(old) - H(new))).

    python -m experiments.hmc_tour                     quick: under a minute
    python -m experiments.hmc_tour --preset paper      more chains

Figures: leapfrog, symplectic Euler and explicit Euler from one start on a correlated Gaussian of the plane, and H along
them; chains of random-walk Metropolis and of HMC; the acceptance of HMC on N(0, I) against step size and dimension.

Expected: on N(0, I) in d dimensions, L leapfrog steps of size eps change H by d/2 sin^2(L theta) (chi - 1/chi)^2 in the
mean, cos(theta) = 1 - eps^2 / 2 and chi^-2 = 1 - eps^2 / 4, exactly. Where d is large the change is normal with a
variance of twice its mean mu, so that the mean acceptance is 2 Phi(-sqrt(mu / 2)), which the kernel's must show.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.hmc_tour."""

    dataset: str = "synthetic/gaussians"
    """The Gaussians above; there are no others."""
    step_sizes: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)
    """eps, of the acceptance."""
    dimensions: tuple[int, ...] = (1, 10, 100, 1000)
    """d."""
    num_integration_steps: int = 5
    """L."""
    num_chains: int = 50
    """Chains of each step size and dimension, started in the target."""
    num_steps: int = 100
    """Steps of a chain."""


PRESETS = {"quick": Config(), "paper": dataclasses.replace(Config(), preset="paper", num_chains=400, num_steps=500)}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from bayesjax import evaluation, kernels, plots
from experiments import tables

COVARIANCE = np.array([[1.0, 0.95], [0.95, 1.0]])
PRECISION = np.linalg.inv(COVARIANCE)
STEP_SIZE, NUM_LEAPS = 0.25, 25  # Neal's, of figure 3


def plane(position: jax.Array) -> jax.Array:
    """Two normals of correlation 0.95."""
    return -0.5 * position @ jnp.asarray(PRECISION, position.dtype) @ position


def integrators() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Positions `[NUM_LEAPS + 1, 2]` and H `[NUM_LEAPS + 1]` from one start, by three integrators."""
    start, momentum = jnp.array([-1.5, -1.55]), jnp.array([-1.0, 1.0])
    gradient = jax.grad(plane)

    def energy(position: jax.Array, momentum: jax.Array) -> jax.Array:
        return momentum @ momentum / 2 - plane(position)

    points = kernels.trajectory(plane, start, momentum, step_size=STEP_SIZE, num_integration_steps=NUM_LEAPS)
    found = {"leapfrog": (points.position, jax.vmap(energy)(points.position, points.momentum))}
    for name, is_symplectic in (("symplectic Euler", True), ("explicit Euler", False)):

        def step(point: tuple, _: None, is_symplectic: bool = is_symplectic) -> tuple:
            position, momentum = point
            kicked = momentum + STEP_SIZE * gradient(position)
            new = position + STEP_SIZE * (kicked if is_symplectic else momentum), kicked
            return new, new

        _, rest = jax.lax.scan(step, (start, momentum), None, length=NUM_LEAPS)
        positions, momenta = (jnp.concatenate([a[None], b]) for a, b in zip((start, momentum), rest, strict=True))
        found[name] = positions, jax.vmap(energy)(positions, momenta)
    return {name: (np.asarray(a, float), np.asarray(b, float)) for name, (a, b) in found.items()}


def two_chains(seed: int, num: int = 20) -> dict[str, np.ndarray]:
    """HMC's positions, and those of a random walk with as many evaluations of the density: each 25th of its steps."""
    start = jnp.array([-1.5, -1.55])
    kernel = kernels.hmc(
        lambda position, rng_key, batch: plane(position), step_size=STEP_SIZE, num_integration_steps=NUM_LEAPS
    )
    hmc_key, walk_key = jax.random.split(jax.random.key(seed))

    def hmc_step(state: Any, rng_key: jax.Array) -> tuple[Any, jax.Array]:
        state, _ = kernel.step(rng_key, state, None)
        return state, state.position

    def walk_step(position: jax.Array, rng_key: jax.Array) -> tuple[jax.Array, jax.Array]:
        move_key, accept_key = jax.random.split(rng_key)
        proposal = position + 0.18 * jax.random.normal(move_key, (2,))
        is_accepted = jnp.log(jax.random.uniform(accept_key)) < plane(proposal) - plane(position)
        position = jnp.where(is_accepted, proposal, position)
        return position, position

    _, by_hmc = jax.lax.scan(hmc_step, kernel.init(start, hmc_key), jax.random.split(hmc_key, num))
    _, by_walk = jax.lax.scan(walk_step, start, jax.random.split(walk_key, num * NUM_LEAPS))
    return {"HMC": np.asarray(by_hmc), "random walk": np.asarray(by_walk)[NUM_LEAPS - 1 :: NUM_LEAPS]}


def mean_energy_error(step_size: float, dim: int, num_steps: int) -> float:
    """Of leapfrog on N(0, I): d/2 sin^2(L theta) (chi - 1/chi)^2."""
    angle = np.arccos(1 - step_size**2 / 2)
    chi = 1 / np.sqrt(1 - step_size**2 / 4)
    return dim / 2 * np.sin(num_steps * angle) ** 2 * (chi - 1 / chi) ** 2


def acceptance(config: Config, dim: int, step_size: float) -> dict[str, list[float]]:
    """Acceptance and energy error of HMC on N(0, I), each chain's mean."""

    def normal(position: jax.Array, rng_key: jax.Array, batch: Any) -> jax.Array:
        return -0.5 * jnp.sum(position**2)

    kernel = kernels.particles(
        kernels.hmc(normal, step_size=step_size, num_integration_steps=config.num_integration_steps),
        config.num_chains,
    )
    start_key, init_key, run_key = jax.random.split(jax.random.key(config.seed), 3)

    @jax.jit
    def means(state: Any) -> tuple[jax.Array, jax.Array]:
        _, info = jax.lax.scan(
            lambda state, key: kernel.step(key, state, None), state, jax.random.split(run_key, config.num_steps)
        )
        return info.acceptance_probability.mean(axis=0), info.energy_error.mean(axis=0)

    state = kernel.init(jax.random.normal(start_key, (config.num_chains, dim)), init_key)
    accepted, error = means(state)
    return {"acceptance": np.asarray(accepted, float).tolist(), "energy error": np.asarray(error, float).tolist()}


def main(config: Config) -> None:
    """Draws the tour and measures the acceptance; writes table, figures and results."""
    with common.Experiment("hmc_tour", config) as run:
        common.require_choice(config, "dataset", ("synthetic/gaussians",))
        common.require_all_positive(config, "step_sizes", "dimensions")
        common.require(max(config.step_sizes) < 2, f"--step-sizes must be below 2; got {config.step_sizes}")
        common.require_at_least(config, 1, "num_integration_steps", "num_steps")
        common.require_at_least(config, 2, "num_chains")
        metrics: dict[str, dict] = {}
        curves: dict[str, tuple] = {}
        for dim in config.dimensions:
            measured = []
            for step_size in config.step_sizes:
                compute = functools.partial(acceptance, config, dim, step_size)
                found = run.cached(f"acceptance-{dim}-{step_size:g}", compute)
                mu = mean_energy_error(step_size, dim, config.num_integration_steps)
                name = f"d={dim} eps={step_size:g}"
                metrics[f"{name} acceptance"] = evaluation.mean_estimate(found["acceptance"])._asdict()
                metrics[f"{name} expected acceptance"] = {"value": float(2 * stats.norm.cdf(-np.sqrt(mu / 2)))}
                metrics[f"{name} energy error"] = evaluation.mean_estimate(found["energy error"])._asdict()
                metrics[f"{name} expected energy error"] = {"value": float(mu)}
                measured.append(found["acceptance"])
            x = np.array(config.step_sizes)
            curves[f"d = {dim}"] = x, np.array(measured).T
        folder = run.out / "figures"
        plots.curves(folder / "acceptance.png", curves, xlabel="step size", ylabel="acceptance")
        paths = integrators()
        plots.curves(
            folder / "energy.png", {name: (np.arange(len(h)), h[None]) for name, (_, h) in paths.items()},
            xlabel="leapfrog steps", ylabel="H", log_y=True,
        )  # fmt: skip
        grid = np.linspace(-3, 3, 121)
        at = np.stack(np.meshgrid(grid, grid), axis=-1)
        density = -0.5 * np.einsum("ija,ab,ijb->ij", at, PRECISION, at)
        panels = {name: {name: positions} for name, (positions, _) in paths.items()}
        panels |= {name: {name: positions} for name, positions in two_chains(config.seed).items()}
        plots.paths(folder / "paths.png", panels, logdensity=density, extent=(-3, 3, -3, 3))
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {folder}")


if __name__ == "__main__":
    main(CONFIG)
