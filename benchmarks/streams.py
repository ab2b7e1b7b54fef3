"""The cost of batches that the host reads, compared with batches of arrays in memory.

A VAE with 784-500-20 units is trained with batches of 100 images. In the row "arrays" `data.Minibatches` computes the
batches in the compiled loop. In the row "stream" the rows of a file on the disk are read on the host by `data.stream`,
and in the row "callback" by `jax.pure_callback` from the compiled loop. A measurement is a call of `training.run`
without the time of compilation.

    python -m benchmarks.streams                  two minutes on two idle cores

Bar: a step with a stream takes at most 1.1 times as long as with arrays. Results: benchmarks/results/streams.json.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, training
from bayesjax.types import Array
from benchmarks import measure, vae

BATCH_SIZE, NUM_IMAGES = 100, 20_000
ARRAYS, STREAM, CALLBACK = "arrays", "stream", "callback"


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.streams."""

    repeats: int = 9
    """Number of times that every row is measured."""
    num_steps: int = 600
    """Number of training steps in a measurement."""
    threads: int = 2
    """Number of cores."""
    out: str = str(measure.RESULTS / "streams.json")
    """The JSON file to write."""


def sources(folder: Path) -> dict[str, Callable[[], Any]]:
    """Functions that make the batches of each row."""
    images = vae.made_images(NUM_IMAGES)
    np.save(folder / "images.npy", images)
    rows = np.load(folder / "images.npy", mmap_mode="r")

    def read(step: Any) -> np.ndarray:
        index = np.random.default_rng(int(step)).integers(0, NUM_IMAGES, BATCH_SIZE)
        return rows[np.sort(index)]

    def callback(step: Array) -> Array:
        return jax.pure_callback(read, jax.ShapeDtypeStruct((BATCH_SIZE, images.shape[1]), jnp.float32), step)

    return {
        ARRAYS: lambda: data.Minibatches(jax.random.key(2), images, BATCH_SIZE),
        STREAM: lambda: data.stream(read),
        CALLBACK: lambda: callback,
    }


def main(config: Config) -> None:
    """Measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_steps", needs=())
    _, kernel, params = vae.training_parts()
    start = jax.jit(kernel.init)(params, jax.random.key(1))
    times: dict[str, list[float]] = {}
    compile_seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        made = sources(Path(folder))
        for _ in range(config.repeats):
            for name, make in made.items():
                _, trace = training.run(
                    jax.random.key(3), kernel, start, make(), num_steps=config.num_steps, keep=lambda state: ()
                )
                times.setdefault(name, []).append(1000 * trace.chunk_seconds / trace.steps)
                compile_seconds.setdefault(name, trace.compile_seconds)
    results = {
        **measure.made_by(),
        "threads": config.threads,
        "load_average_at_start": load_average,
        "milliseconds_per_step": measure.summaries(times),
        "compile_seconds": compile_seconds,
        "ratios": {
            f"{STREAM} / {ARRAYS}": measure.ratio(times, STREAM, ARRAYS, "<= 1.1"),
            f"{CALLBACK} / {ARRAYS}": measure.ratio(times, CALLBACK, ARRAYS, "-"),
        },
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
