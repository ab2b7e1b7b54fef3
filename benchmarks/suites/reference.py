"""The reference predictive of the samplers suite: a long run of HMC on the network of 973 weights.

    python -m benchmarks.suites.reference          ten minutes on one core

The file reference.json has, for each of 64 held-out inputs, the posterior mean and standard deviation of the network's
output, the Monte Carlo standard error of the mean, and R-hat. Nothing is timed, so that the load of the machine does
not matter. The suite measures how far the predictive mean of each sampler is from this reference.
"""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, kernels
from bayesjax.training import files
from benchmarks import measure
from benchmarks import samplers_problem as problem

FILE = Path(__file__).with_name("reference.json")
NUM_DATA, NUM_INPUTS = 512, 64
STEP_SIZE, LEAPS = 0.0035, 50  # an acceptance rate of about 0.8


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.suites.reference."""

    num_chains: int = 16
    """Number of chains."""
    num_warmup: int = 300
    """Number of steps of each chain that are discarded."""
    num_draws: int = 3000
    """Number of draws of each chain."""
    out: str = str(FILE)
    """The JSON file to write."""


def inputs() -> np.ndarray:
    """The held-out inputs `[64, 8]` at which predictions are compared."""
    return problem.regression(NUM_INPUTS, seed=1)["x"]


def draws(num_chains: int, num_warmup: int, num_draws: int) -> np.ndarray:
    """Predictions `[num_chains, num_draws, 64]` of HMC at the held-out inputs."""
    kernel = kernels.particles(
        kernels.hmc(
            problem.density(NUM_DATA), step_size=STEP_SIZE, num_integration_steps=LEAPS, full_batch=True
        ),
        num_chains,
    )  # fmt: skip
    batch, x = jax.tree.map(jnp.asarray, problem.regression(NUM_DATA)), jnp.asarray(inputs())

    @functools.partial(jax.jit, static_argnums=2)
    def run(rng_key: jax.Array, state: Any, num: int) -> tuple[Any, jax.Array]:
        def one(state: Any, rng_key: jax.Array) -> tuple[Any, jax.Array]:
            state, _ = kernel.step(rng_key, state, batch)
            return state, jax.vmap(lambda params: problem.predict(params, x))(state.position)

        return jax.lax.scan(one, state, jax.random.split(rng_key, num))

    start = jax.vmap(lambda seed: problem.network().init(seed, jnp.zeros((1, problem.NUM_INPUTS)))["params"])(
        jax.random.split(jax.random.key(0), num_chains)
    )
    state, _ = run(jax.random.key(1), kernel.init(start, jax.random.key(2)), num_warmup)
    _, values = run(jax.random.key(3), state, num_draws)
    return np.swapaxes(np.asarray(values), 0, 1)


def read() -> dict[str, np.ndarray]:
    """The committed reference: mean, sd, mcse and r_hat, each `[64]`."""
    return {name: np.asarray(values) for name, values in files.read_json(FILE).items() if isinstance(values, list)}


def main(config: Config) -> None:
    """Samples and writes the file."""
    measure.require_at_least(config, 2, "num_chains")
    measure.require_at_least(config, 4, "num_draws")
    values = draws(config.num_chains, config.num_warmup, config.num_draws)
    summary = {
        "mean": values.mean(axis=(0, 1), dtype=float),
        "sd": values.std(axis=(0, 1), dtype=float),
        "mcse": np.asarray(evaluation.monte_carlo_standard_error(values), float),
        "r_hat": np.asarray(evaluation.r_hat(values), float),
    }
    origin = {name: value for name, value in measure.made_by().items() if name in ("command", "versions", "commit")}
    files.write_json(Path(config.out), origin | {name: value.tolist() for name, value in summary.items()})
    print(
        f"largest R-hat {summary['r_hat'].max():.3f}; MCSE / sd {(summary['mcse'] / summary['sd']).max():.3f} at most"
    )


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
