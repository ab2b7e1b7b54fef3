"""The vae suite: examples per second of training a VAE, and the seconds until its test ELBO reaches a published bound.

The networks, the loss and the binarisation are those of the paper preset of `experiments/vae.py`: 784-500-20-500-784
with ReLU units, Adam with a learning rate of 1e-3, pixels binarised anew at every step. For every batch size of
--batch-sizes, on one device and on --devices, whole epochs are timed in alternating order, after compilation. With
several devices, the batch is divided over them (`training.data_parallel`).

    examples per second      images of the steps of whole epochs, their minibatches and binarisation included
    seconds to the bound     seconds of training, in batches of 128 images, after which the negative ELBO of the test
                             images stays at most the bound; it is evaluated after each epoch, outside the clock

The bounds of MNIST are those of Flax's VAE example after 5 and 20 epochs (docs/results/vae.md). If MNIST is not
prepared on the machine, the images are scikit-learn's digits, enlarged from 8 x 8 to 28 x 28 pixels. No bound of them
is published, and theirs is a number that one run of this suite reached after about 60 epochs. Read `targets.py` next.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, kernels, training
from bayesjax.types import Kernel
from benchmarks import machine, measure
from benchmarks.suites import rows, targets
from experiments import vae
from experiments.shared.binarisation import binarise

LATENT_DIM = 20
FLAX = "Flax's VAE example after {} epochs"
BOUNDS = {
    "mnist": {vae.FLAX_EXAMPLE[epoch]: FLAX.format(epoch) for epoch in (5, 20)},
    "digits": {165.0: "this suite after about 60 epochs"},
}
"""Negative ELBOs of the test images in nats, by data set, with their sources."""


class Images(NamedTuple):
    """Training and test images `[num, 28, 28, 1]`; the test images are binary.

    Attributes:
      name: "mnist" or "digits".
    """

    name: str
    train: np.ndarray
    test: np.ndarray


def load(name: str) -> Images:
    """Loads the images of --images; auto means MNIST if it is prepared on this machine, and otherwise digits."""
    if name != "digits":
        try:
            dataset = data.load("mnist")
            return Images("mnist", dataset.train.inputs, binarise(dataset.test.inputs, seed=2))
        except data.DataUnavailable as error:
            if name == "mnist":
                measure.fail(f"--images mnist: {error}")
    dataset = data.load("digits")
    return Images("digits", enlarge(dataset.train.inputs), binarise(enlarge(dataset.test.inputs), seed=2))


def enlarge(images: np.ndarray) -> np.ndarray:
    """Images `[num, 28, 28, 1]` from images `[num, 8, 8, 1]`: every pixel becomes 3 x 3 pixels, with a border of 2."""
    large = np.repeat(np.repeat(images, 3, axis=1), 3, axis=2)
    return np.pad(large, ((0, 0), (2, 2), (2, 2), (0, 0)))


def check(config: Any) -> None:
    """Ends the program with one line if a flag is invalid."""
    if not config.batch_sizes or min(config.batch_sizes) < 1:
        measure.fail(f"--batch-sizes must be at least 1; got {config.batch_sizes}")
    for size in (*config.batch_sizes, vae.PAPER.batch_size):
        if size % config.devices:
            measure.fail(f"--devices must divide the batch size {size}; got {config.devices}")


def training_parts(images: Images, batch_size: int, devices: int) -> tuple[Kernel, Any, Callable]:
    """The kernel on its devices, its initial state, and the minibatches as a function of the step."""
    config, shape = replace(vae.PAPER, batch_size=batch_size), images.train.shape[1:]
    loss = vae.batch_loss(config, shape, LATENT_DIM, "elbo")
    kernel = training.data_parallel(kernels.optimize(loss, optax.adam(config.learning_rate)), devices)
    model, _, _ = vae.networks(config, shape, LATENT_DIM)
    params = jax.jit(model.init)(jax.random.key(0), images.train[:1])["params"]
    state = jax.jit(kernel.init)(params, jax.random.key(1))
    return kernel, state, vae.minibatches(config, jax.random.key(3), images.train)


def check_work(images: Images, devices: int) -> None:
    """Checks the gradient against the highest precision, and a step on several devices against one device."""
    batch = jnp.asarray(images.test[: vae.PAPER.batch_size])
    loss = vae.batch_loss(vae.PAPER, batch.shape[1:], LATENT_DIM, "elbo")
    gradient = jax.grad(lambda params, batch: loss(params, jax.random.key(5), batch)[0])
    params = training_parts(images, len(batch), 1)[1].position
    difference = rows.check_precision(gradient, params, batch)
    print(f"gradient differs from that of the highest precision by {difference:.1e}", flush=True)
    moved = []
    for count in {1, devices}:
        kernel, state, batches = training_parts(images, len(batch), count)
        _, info = jax.jit(kernel.step)(jax.random.key(6), state, batches(0))
        moved.append({"loss": info.loss, "gradient norm": info.gradient_norm})
    rows.check_close(moved[-1], moved[0], "a step on several devices", "one device")


def num_epochs(num_steps: int, batch_size: int, rates: machine.Rates, seconds: float) -> int:
    """Number of epochs that take about `seconds` at the rate of a large product; at least 1."""
    products = 6 * batch_size * 2 * vae.PAPER.hidden[0] * (784 + 1.5 * LATENT_DIM)
    return max(1, math.ceil(seconds / (num_steps * products / rates.peak)))


def measure_rates(config: Any, images: Images, rates: machine.Rates) -> list[dict[str, Any]]:
    """The rows of whole epochs, for every batch size, on one device and on all devices."""
    made: dict[str, rows.Program] = {}
    keys: dict[str, dict[str, Any]] = {}
    for batch_size in config.batch_sizes:
        steps = max(1, len(images.train) // batch_size)
        steps *= num_epochs(steps, batch_size, rates, config.seconds)
        for devices in dict.fromkeys((1, config.devices)):
            name = f"{batch_size} on {devices}"
            keys[name] = {"data": images.name, "batch_size": batch_size, "devices": devices}
            made[name] = rows.program(*training_parts(images, batch_size, devices), steps, rates, devices)
    timed = {name: functools.partial(measure.timed, each.row) for name, each in made.items()}
    times = measure.alternate_timed(timed, config.repeats)
    found: list[dict[str, Any]] = []
    for name, each in made.items():
        examples = keys[name]["batch_size"]
        found += rows.of_program(keys[name], "examples per second", examples, each, times[name], rates)
    return found


def measure_quality(config: Any, images: Images) -> list[dict[str, Any]]:
    """The rows of the seconds of training until the test ELBO reaches each bound."""
    batch_size, bounds = vae.PAPER.batch_size, BOUNDS[images.name]
    kernel, state, batches = training_parts(images, batch_size, config.devices)
    steps = max(1, len(images.train) // batch_size)
    run, key = rows.steps(kernel, steps), jax.random.key(7)
    compiled, _ = measure.compiled(run, key, state, batches, jnp.int32(0))
    jax.block_until_ready(compiled(key, state, batches, jnp.int32(0)))  # warm; its result is not used
    loss = vae.batch_loss(vae.PAPER, images.test.shape[1:], LATENT_DIM, "elbo")
    test, test_key = jnp.asarray(images.test), jax.random.key(8)
    evaluate = jax.jit(lambda params: loss(params, test_key, test)[0])

    def chunk(state: Any, index: int) -> tuple[Any, Any]:
        return compiled(key, state, batches, jnp.int32(index * steps))

    def quality(state: Any, infos: Any) -> float:
        return float(evaluate(training.fetch(state.position)))

    course = targets.run(chunk, quality, state, least=min(bounds), most_seconds=config.target_seconds)
    keys = {"data": images.name, "batch_size": batch_size, "devices": config.devices}
    found = []
    for bound, source in bounds.items():
        seconds = targets.time_to(course.values, course.seconds, bound)
        epochs = None if seconds is None else int(np.searchsorted(course.seconds, seconds)) + 1
        values = {
            "seconds to the bound": seconds,
            "epochs to the bound": epochs,
            "-ELBO at the end": float(course.values[-1]),
            "seconds of training": float(course.seconds[-1]),
        }
        found += rows.plain({**keys, "bound": bound, "source": source}, values)
    return found


def run(config: Any, rates: machine.Rates) -> list[dict[str, Any]]:
    """All rows of the suite."""
    images = load(config.images)
    check_work(images, config.devices)
    found = measure_rates(config, images, rates)
    print(f"{images.name}: {len(found)} rows of rates", flush=True)
    jax.clear_caches()
    if config.target_seconds > 0:
        found += measure_quality(config, images)
    return found
