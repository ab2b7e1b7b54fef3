"""The memory of full-batch HMC on data of MNIST's size: a step over 60 000 images at once, and in chunks.

    python -m benchmarks.hmc_memory                    two minutes on two idle cores
    python -m benchmarks.hmc_memory --repeats 1        a short check

One chain samples the log posterior of a 784-50-50-10 network (42 310 weights, Gaussian prior) on 60 000 images of
noise, with differences of the energy taken term by term (`posteriors.log_posterior(as_terms=True)`). Each of three rows
runs in its own process, so that peak memory is measured separately: all images at once, chunks of 1000 images, and
chunks with four chains.

Bar: no process uses more than 4 GiB. Results: benchmarks/results/hmc_memory.json.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import kernels, models, posteriors, tree
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood
from benchmarks import measure

WIDTHS, NUM_PIXELS, NUM_CLASSES, BAR_MIB = (50, 50), 784, 10, 4096


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.hmc_memory."""

    repeats: int = 3
    """Number of times that every row is measured."""
    num_data: int = 60_000
    """Number of images in the data set."""
    chunk_size: int = 1000
    """Number of images in a chunk."""
    num_integration_steps: int = 5
    """Number of leapfrog steps in an HMC step."""
    num_chains: int = 4
    """Number of chains in the third row."""
    threads: int = 2
    """Number of cores and of threads."""
    out: str = str(measure.RESULTS / "hmc_memory.json")
    """The JSON file to write."""


def rows(config: Config, name: str, chunk_size: int | None, num_chains: int) -> dict[str, measure.Row]:
    """The row of one HMC step, under its name."""
    model = models.MLP((*WIDTHS, NUM_CLASSES), activation=jnp.tanh)

    def log_likelihood(params: Any, rng_key: jax.Array, example: Any) -> jax.Array:
        image, label = example
        logits: Any = model.apply({"params": params}, image)
        return categorical_log_likelihood(logits, label)

    density = posteriors.log_posterior(
        log_likelihood, posteriors.gaussian(), config.num_data, chunk_size=chunk_size, as_terms=True
    )
    kernel = kernels.hmc(density, step_size=1e-3, num_integration_steps=config.num_integration_steps, full_batch=True)
    position = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, NUM_PIXELS)))["params"]
    if num_chains > 1:
        kernel, position = kernels.particles(kernel, num_chains), tree.stack([position] * num_chains)
    random = np.random.default_rng(0)
    images = jnp.asarray(random.random((config.num_data, NUM_PIXELS), np.float32))
    batch = images, jnp.asarray(random.integers(0, NUM_CLASSES, config.num_data))
    return {name: measure.kernel_steps(kernel, position, batch, 1)}


def main(config: Config) -> None:
    """Measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_data", "chunk_size", "num_integration_steps", "num_chains", needs=())
    chunks = f"chunks of {config.chunk_size}"
    sides = {
        name: functools.partial(rows, config, name, chunk_size, num_chains)
        for name, chunk_size, num_chains in (
            ("all at once", None, 1),
            (chunks, config.chunk_size, 1),
            (f"{chunks}, {config.num_chains} chains", config.chunk_size, config.num_chains),
        )
    }
    with measure.Sides(sides, threads=config.threads) as running:
        times = running.alternate(config.repeats)
    results = {
        **measure.made_by(),
        "threads": config.threads,
        "load_average_at_start": load_average,
        **measure.of_steps(
            running, times, {f"{chunks} / all at once": measure.ratio(times, chunks, "all at once", "-")}
        ),
        "remarks": [
            f"A step has {config.num_integration_steps} leapfrog steps over {config.num_data} images. The bar is "
            f"{BAR_MIB} MiB for each process, which includes the interpreter, JAX and "
            f"{config.num_data * NUM_PIXELS * 4 / 2**20:.0f} MiB of images. "
            f"{'All' if max(running.peak_mib.values()) <= BAR_MIB else 'Not all'} processes meet it."
        ],
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
