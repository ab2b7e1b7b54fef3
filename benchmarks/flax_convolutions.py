"""The cost of a user's convolutional network: Flax's layers as they are, through `models.fast`, and `models.Conv`.

The network has two 3 x 3 convolutions of stride 2 with 16 and 32 channels and a dense layer, for images of 28 x 28
pixels in batches of 64. Four networks are trained at once by `kernels.particles`, with Adam. Steps run in a `scan`, as
in `training.run`, except in the row "one step at a time", where the same step is a compiled program of its own.

XLA computes a convolution at the speed of its matrix products only if it may choose the layout of the arrays. It does
so at the top level of a program, but not inside the loop of a `scan`, where a convolution and its gradients become
plain loops. `models.fast` uses the forms of `models/convolution_forms.py`, which are written in that layout.

    python -m benchmarks.flax_convolutions                  a minute on two idle cores

Bar: a step through `models.fast` takes at most 1.2 times as long as with `models.Conv`. Results:
benchmarks/results/flax_convolutions.json.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import kernels, models, tree
from bayesjax.types import Array, Kernel, Params
from benchmarks import measure

NUM_NETWORKS, BATCH_SIZE, NUM_CLASSES = 4, 64, 10
FLAX, FAST, OWN = "flax.linen.Conv", "models.fast", "models.Conv"
ONE_STEP = "flax.linen.Conv, one step at a time"


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.flax_convolutions."""

    repeats: int = 15
    """Number of times that every row is measured."""
    num_steps: int = 10
    """Number of training steps in a measurement."""
    threads: int = 2
    """Number of cores."""
    out: str = str(measure.RESULTS / "flax_convolutions.json")
    """The JSON file to write."""


class Network(nn.Module):
    """Two convolutions and a dense layer; `convolution` is the class of the convolutions."""

    convolution: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Logits `[batch, NUM_CLASSES]` of the images `x`."""
        for features in (16, 32):
            x = nn.relu(self.convolution(features, (3, 3), strides=2)(x))
        return nn.Dense(NUM_CLASSES)(x.reshape(len(x), -1))


def batch() -> dict[str, jax.Array]:
    """Random images and labels."""
    random = np.random.default_rng(0)
    images = random.random((BATCH_SIZE, 28, 28, 1), np.float32)
    return {"x": jnp.asarray(images), "y": jnp.asarray(random.integers(0, NUM_CLASSES, BATCH_SIZE))}


def training_kernel(apply: Callable[..., Any]) -> Kernel:
    """Adam on the cross entropy of four networks."""

    def loss(params: Params, rng_key: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
        del rng_key
        logits = apply({"params": params}, batch["x"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, batch["y"]).mean()

    return kernels.particles(kernels.optimize(loss, optax.adam(1e-3)), NUM_NETWORKS)


def rows(config: Config) -> dict[str, measure.Row]:
    """The rows of all networks, which start from the same parameters."""
    flax, own = Network(nn.Conv), Network(models.Conv)
    params = jax.jit(flax.init)(jax.random.key(0), batch()["x"])["params"]
    own_params = jax.tree.unflatten(
        jax.tree.structure(jax.eval_shape(own.init, jax.random.key(0), batch()["x"])["params"]), jax.tree.leaves(params)
    )
    made, position = {}, tree.stack([params] * NUM_NETWORKS)
    for name, apply, start in (
        (FLAX, flax.apply, position),
        (FAST, models.fast(flax).apply, position),
        (OWN, own.apply, tree.stack([own_params] * NUM_NETWORKS)),
    ):
        made[name] = measure.kernel_steps(training_kernel(apply), start, batch(), config.num_steps)
    made[ONE_STEP] = single_steps(training_kernel(flax.apply), position, config.num_steps)
    return made


def single_steps(kernel: Kernel, position: Any, num_steps: int) -> measure.Row:
    """A row of steps that are called one by one from Python."""
    state = jax.jit(kernel.init)(position, jax.random.key(1))
    step, seconds = measure.compiled(kernel.step, jax.random.key(2), state, batch())
    data = batch()

    def run() -> None:
        current = state
        for _ in range(num_steps):
            current, _ = step(jax.random.key(2), current, data)
        measure.check_finite(current.position)

    run()
    return measure.Row(run, num_steps, seconds)


def main(config: Config) -> None:
    """Measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_steps", needs=())
    with measure.Sides({"bayesjax": functools.partial(rows, config)}, threads=config.threads) as running:
        times = running.alternate(config.repeats)
    ratios = {
        f"{FAST} / {OWN}": measure.ratio(times, FAST, OWN, "<= 1.2"),
        f"{FLAX} / {OWN}": measure.ratio(times, FLAX, OWN, "-"),
        f"{FLAX} / {ONE_STEP}": measure.ratio(times, FLAX, ONE_STEP, "-"),
    }
    results = {
        **measure.made_by(),
        "threads": config.threads,
        "load_average_at_start": load_average,
        **measure.of_steps(running, times, ratios),
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
