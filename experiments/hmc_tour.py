"""A tour of Hamiltonian Monte Carlo: trajectories, the energy that they conserve, and acceptance against the step size.

Source: Neal, "MCMC using Hamiltonian dynamics", 2011, sections 2 and 5 (figures 1, 3 and 5). Three facts are often
misprinted: a trajectory has half steps of the momentum only at its two ends, the mass does not enter a step of the
momentum, and a proposal is accepted with probability min(1, exp(H(old) - H(new))), where H is the energy.

    python -m experiments.hmc_tour                     quick: under a minute
    python -m experiments.hmc_tour --preset paper      more chains

The figures show paths of leapfrog, symplectic Euler and explicit Euler from one start on a correlated Gaussian of the
plane, and H along each path. Further figures show chains of random-walk Metropolis and of HMC, and the acceptance of
HMC on N(0, I) by step size and dimension.

Expected: on N(0, I) in d dimensions, the mean change of H by L leapfrog steps of size eps is exactly
d/2 sin^2(L theta) (chi - 1/chi)^2, with cos(theta) = 1 - eps^2 / 2 and chi^-2 = 1 - eps^2 / 4. For large d the change
is normal with a variance of twice its mean mu, so the mean acceptance probability is 2 Phi(-sqrt(mu / 2)), where Phi is
the normal distribution function. The measured values must agree.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from bayesjax import evaluation, kernels, plots
from experiments.harness import Column, Count, NonEmpty, Range, Run, RunConfig, Table, cli, row


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.hmc_tour."""

    dataset: Literal["synthetic/gaussians"] = "synthetic/gaussians"
    """Name of the targets in the results; they are Gaussians."""
    step_sizes: Annotated[tuple[Annotated[float, Range(above=0, below=2)], ...], NonEmpty] = (
        0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5,
    )  # fmt: skip
    """Step sizes eps, in (0, 2), at which the acceptance is measured; from eps = 2 the leapfrog integrator is
    unstable."""
    dimensions: Annotated[tuple[Count, ...], NonEmpty] = (1, 10, 100, 1000)
    """Dimensions d of N(0, I)."""
    num_integration_steps: Count = 5
    """Number L of leapfrog steps of a trajectory."""
    num_chains: Annotated[int, Range(least=2)] = 50
    """Number of chains per step size and dimension, at least 2, which start from draws of the target."""
    num_steps: Count = 100
    """Number of steps of each chain."""


PRESETS = {"quick": Config(step_sizes=(0.3, 0.7, 1.1, 1.5)), "paper": Config(num_chains=400, num_steps=500)}
TABLES = [
    Table(
        {"step_size": "step size"},
        [Column("acceptance", digits=3), Column("expected acceptance", "formula", 3)],
        across="dimension",
        heading="d = {}:",
        note=lambda config: (
            f"HMC samples N(0, I), and a trajectory has {config['num_integration_steps']} leapfrog steps. ± is the "
            f"standard error over {config['num_chains']} chains."
        ),
    )
]
HEADLINE = "hmc_tour-paper-synthetic_gaussians", {"measure": "acceptance", "dimension": 1000, "step_size": 0.5}, 3

COVARIANCE = np.array([[1.0, 0.95], [0.95, 1.0]])
PRECISION = np.linalg.inv(COVARIANCE)
STEP_SIZE, NUM_LEAPS = 0.25, 25
"""Step size and number of leapfrog steps of the trajectory in the plane, as in Neal's figure 3."""

# ---- paths in the plane


def log_density(position: jax.Array) -> jax.Array:
    """The log density, up to a constant, of two standard normal variables with a correlation of 0.95."""
    return -0.5 * position @ jnp.asarray(PRECISION, position.dtype) @ position


def integrators() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Paths of three integrators from the same start: positions `[NUM_LEAPS + 1, 2]` and H `[NUM_LEAPS + 1]`."""
    start, momentum = jnp.array([-1.5, -1.55]), jnp.array([-1.0, 1.0])
    gradient = jax.grad(log_density)

    def energy(position: jax.Array, momentum: jax.Array) -> jax.Array:
        return momentum @ momentum / 2 - log_density(position)

    points = kernels.trajectory(log_density, start, momentum, step_size=STEP_SIZE, num_integration_steps=NUM_LEAPS)
    paths = {"leapfrog": (points.position, jax.vmap(energy)(points.position, points.momentum))}
    for name, is_symplectic in (("symplectic Euler", True), ("explicit Euler", False)):

        def step(point: tuple, _: None, is_symplectic: bool = is_symplectic) -> tuple:
            position, momentum = point
            kicked = momentum + STEP_SIZE * gradient(position)
            new = position + STEP_SIZE * (kicked if is_symplectic else momentum), kicked
            return new, new

        _, rest = jax.lax.scan(step, (start, momentum), None, length=NUM_LEAPS)
        positions, momenta = (jnp.concatenate([a[None], b]) for a, b in zip((start, momentum), rest, strict=True))
        paths[name] = positions, jax.vmap(energy)(positions, momenta)
    return {name: (np.asarray(a, float), np.asarray(b, float)) for name, (a, b) in paths.items()}


def two_chains(seed: int, num: int = 20) -> dict[str, np.ndarray]:
    """Positions `[num, 2]` of HMC, and every 25th position of a random walk with as many density evaluations."""
    start = jnp.array([-1.5, -1.55])
    kernel = kernels.hmc(
        lambda position, rng_key, batch: log_density(position), step_size=STEP_SIZE, num_integration_steps=NUM_LEAPS
    )
    hmc_key, walk_key = jax.random.split(jax.random.key(seed))

    def hmc_step(state: Any, rng_key: jax.Array) -> tuple[Any, jax.Array]:
        state, _ = kernel.step(rng_key, state, None)
        return state, state.position

    def walk_step(position: jax.Array, rng_key: jax.Array) -> tuple[jax.Array, jax.Array]:
        move_key, accept_key = jax.random.split(rng_key)
        proposal = position + 0.18 * jax.random.normal(move_key, (2,))
        is_accepted = jnp.log(jax.random.uniform(accept_key)) < log_density(proposal) - log_density(position)
        position = jnp.where(is_accepted, proposal, position)
        return position, position

    _, by_hmc = jax.lax.scan(hmc_step, kernel.init(start, hmc_key), jax.random.split(hmc_key, num))
    _, by_walk = jax.lax.scan(walk_step, start, jax.random.split(walk_key, num * NUM_LEAPS))
    return {"HMC": np.asarray(by_hmc), "random walk": np.asarray(by_walk)[NUM_LEAPS - 1 :: NUM_LEAPS]}


# ---- acceptance on N(0, I)


def mean_energy_error(step_size: float, dim: int, num_integration_steps: int) -> float:
    """Mean change of H by a leapfrog trajectory on N(0, I), d/2 sin^2(L theta) (chi - 1/chi)^2."""
    angle = np.arccos(1 - step_size**2 / 2)
    chi = 1 / np.sqrt(1 - step_size**2 / 4)
    return float(dim / 2 * np.sin(num_integration_steps * angle) ** 2 * (chi - 1 / chi) ** 2)


def measure_acceptance(config: Config, dim: int, step_size: float) -> dict[str, np.ndarray]:
    """Mean acceptance probability and energy error of each chain of HMC on N(0, I), `[num_chains]`."""

    def normal(position: jax.Array, rng_key: jax.Array, batch: Any) -> jax.Array:
        return -0.5 * jnp.sum(position**2)

    chain = kernels.hmc(normal, step_size=step_size, num_integration_steps=config.num_integration_steps)
    kernel = kernels.particles(chain, config.num_chains)
    start_key, init_key, run_key = jax.random.split(jax.random.key(config.seed), 3)

    @jax.jit
    def means(state: Any) -> tuple[jax.Array, jax.Array]:
        _, info = jax.lax.scan(
            lambda state, key: kernel.step(key, state, None), state, jax.random.split(run_key, config.num_steps)
        )
        return info.acceptance_probability.mean(axis=0), info.energy_error.mean(axis=0)

    state = kernel.init(jax.random.normal(start_key, (config.num_chains, dim)), init_key)
    acceptance, energy_error = means(state)
    return {"acceptance": np.asarray(acceptance, float), "energy error": np.asarray(energy_error, float)}


def draw_paths(run: Run) -> None:
    """Draws the paths in the plane, and the energy H along each path."""
    paths = integrators()
    plots.curves(
        run.figure("energy.png"), {name: (np.arange(len(h)), h[None]) for name, (_, h) in paths.items()},
        xlabel="leapfrog steps", ylabel="H", log_y=True,
    )  # fmt: skip
    grid = np.linspace(-3, 3, 121)
    points = np.stack(np.meshgrid(grid, grid), axis=-1)
    density = -0.5 * np.einsum("ija,ab,ijb->ij", points, PRECISION, points)
    panels = {name: positions for name, (positions, _) in paths.items()} | two_chains(run.config.seed)
    panels = {name: {name: positions} for name, positions in panels.items()}
    plots.paths(run.figure("paths.png"), panels, logdensity=density, extent=(-3, 3, -3, 3))


def main(config: Config) -> None:
    """Draws the tour and measures the acceptance; writes the table, the figures and the results."""
    with Run("hmc_tour", config, one_device=True) as run:
        rows, curves = [], {}
        for dim in config.dimensions:
            acceptances = []
            for step_size in config.step_sizes:
                measured = run.part(
                    f"acceptance-{dim}-{step_size:g}",
                    lambda dim=dim, step_size=step_size: measure_acceptance(config, dim, step_size),
                )
                mu = mean_energy_error(step_size, dim, config.num_integration_steps)
                expected = {"acceptance": 2 * special.ndtr(-np.sqrt(mu / 2)), "energy error": mu}
                for measure, values in measured.items():
                    keys = {"dimension": dim, "step_size": step_size}
                    rows.append(row(measure, evaluation.mean_estimate(values), method="hmc", **keys))
                    rows.append(row(f"expected {measure}", expected[measure], method="hmc", **keys))
                acceptances.append(measured["acceptance"])
            curves[f"d = {dim}"] = np.array(config.step_sizes), np.array(acceptances).T
        plots.curves(run.figure("acceptance.png"), curves, xlabel="step size", ylabel="acceptance")
        draw_paths(run)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
