"""The cost of training a variational auto-encoder, compared with PyTorch, pythae and the matrix products alone.

The networks are 784-500-20-500-784 with tanh units, trained by Adam on batches of 128 with resampled binarisation. An
epoch of 60000 images is 468 steps, of which a measurement takes 50. The images are random, with MNIST's shape and its
approximate fraction of pixels that are not black (a fifth). The cost does not depend on their content.

    python -m benchmarks.vae                                 five minutes on two idle cores
    python -m benchmarks.vae --repeats 2 --num-steps 10      a short check

The bayesjax rows are the steps of `training.run`: kernel, minibatches, binarisation and info in one scan. The last row
is `training.run` itself for an epoch, with the fraction of its time outside compiled code. "Products" are only the
matrix products of a step, forward and backward, in a scan of JAX or a loop of PyTorch; they bound the time of a step
from below. The PyTorch port is ordinary eager code in several forms: batches by index or from a `DataLoader`, the
default or the fused Adam, and compiled by `torch.compile`. pythae trains the same networks in its own trainer's loop,
on grey images because it has no binarisation. Before the timing, loss and gradient of the port, and pythae's loss, are
compared with bayesjax's from equal weights, images and noise. Each library uses its default random numbers: bayesjax
draws pixels with 16 random bits each (`data.Binarised`), PyTorch with its own generator.

Bars: PyTorch eager takes at least 3 times as long as bayesjax; the products, by either library, are at least 70 % of
bayesjax's step. The exponents of time against batch and width are measured as well. Results:
benchmarks/results/vae.json.
"""

import functools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bayesjax import data, kernels, models, objectives, training
from bayesjax.objectives import elbo
from bayesjax.types import Kernel
from benchmarks import measure
from experiments.harness.report import markdown

NUM_IMAGES, NUM_PIXELS, LATENT_DIM, HIDDEN, BATCH_SIZE, LEARNING_RATE = 60000, 784, 20, 500, 128, 1e-3
STEPS_PER_EPOCH = NUM_IMAGES // BATCH_SIZE
BATCH_SIZES, WIDTHS = (32, 128, 512), (125, 500, 2000)
SQUARE = 1024  # side of the matrices whose product shows the machine's peak rate
TOLERANCE = 1e-4  # relative, between a port's loss or gradient and bayesjax's


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.vae."""

    repeats: int = 11
    """Number of times that every row is measured."""
    num_steps: int = 50
    """Number of training steps in a measurement."""
    threads: int = 2
    """Number of cores, and of threads, for each library."""
    out: str = str(measure.RESULTS / "vae.json")
    """The JSON file to write."""


def made_images(num: int = NUM_IMAGES) -> np.ndarray:
    """Random grey images `[num, 784]` in [0, 1]; a fifth of the pixels are not black."""
    random = np.random.default_rng(0)
    grey = random.random((num, NUM_PIXELS), np.float32)
    return np.where(random.random((num, NUM_PIXELS), np.float32) < 0.2, grey, 0)


# ---- bayesjax


def networks(width: int = HIDDEN) -> tuple[models.vae.VAE, Callable, Callable]:
    """The Flax module, and its two conditionals as functions of the parameters."""
    model = models.vae.VAE(LATENT_DIM, (NUM_PIXELS,), hidden=(width,))
    return model, *models.vae.conditionals(model)


def training_parts(width: int = HIDDEN) -> tuple[Callable, Kernel, Any]:
    """Returns the loss, the kernel and the initial parameters."""
    model, encode, decode = networks(width)
    loss = objectives.batch_mean(elbo.negative_elbo(encode, decode, model.prior()))
    kernel = kernels.optimize(loss, optax.adam(LEARNING_RATE))
    return loss, kernel, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, NUM_PIXELS)))["params"]


def batches(images: np.ndarray, batch_size: int) -> data.Binarised:
    """A function of the step whose value is that step's minibatch, binarised anew."""
    return data.Binarised(jax.random.key(2), data.Minibatches(jax.random.key(3), images, batch_size))


def training_row(images: np.ndarray, batch_size: int, width: int, num_steps: int, info: bool = True) -> measure.Row:
    """The row of training steps with their own batches; without `info` the compiler removes unused diagnostics."""
    _, kernel, params = training_parts(width)

    def step(rng_key: jax.Array, state: Any, source: Callable) -> tuple[Any, Any]:
        state, infos = kernel.step(rng_key, state, source(state.step))
        return state, infos if info else ()

    return measure.kernel_steps(kernel._replace(step=step), params, batches(images, batch_size), num_steps)


def products(x: Any, weights: list[Any], concatenate: Callable) -> list[Any]:
    """Computes only the matrix products of a step, on the arrays of either library.

    Args:
      x: images `[batch, 784]`.
      weights: the four kernels, `[in, out]`.
      concatenate: the library's function that concatenates arrays.

    Returns:
      The gradients of the four kernels of a network without activations.
    """
    first, second, third, fourth = weights
    hidden = x @ first
    moments = hidden @ second
    z = moments[:, :LATENT_DIM]
    decoder_hidden = z @ third
    logits = decoder_hidden @ fourth
    by_hidden = logits @ fourth.T
    by_moments = concatenate([by_hidden @ third.T] * 2, axis=1)
    by_first = by_moments @ second.T
    return [x.T @ by_first, hidden.T @ by_moments, z.T @ by_hidden, decoder_hidden.T @ logits]


def weight_matrices(params: Any) -> list[Any]:
    """The four kernels of the networks, from the first layer to the last."""
    return [params[net][f"layers_{i}"]["kernel"] for net in ("encoder", "decoder") for i in (0, 1)]


def products_row(num_steps: int) -> measure.Row:
    """A row of `products` in a scan over batches, with constant weights."""
    weights = weight_matrices(training_parts()[2])

    def steps(xs: jax.Array, weights: list[jax.Array]) -> list[jax.Array]:
        def one(_: Any, step: jax.Array) -> tuple[Any, None]:
            return products(xs[step % len(xs)], weights, jnp.concatenate), None

        return lax.scan(one, weights, jnp.arange(num_steps))[0]

    arguments = jnp.asarray(made_images(4 * BATCH_SIZE)).reshape(4, BATCH_SIZE, NUM_PIXELS), weights
    program, seconds = measure.compiled(steps, *arguments)
    jax.block_until_ready(program(*arguments))
    return measure.Row(lambda: jax.block_until_ready(program(*arguments)), num_steps, seconds)


def num_operations() -> float:
    """FLOPs of the matrix products of a step: three products for each kernel, but two for the first."""
    sizes = NUM_PIXELS * HIDDEN, HIDDEN * 2 * LATENT_DIM, LATENT_DIM * HIDDEN, HIDDEN * NUM_PIXELS
    return 2.0 * BATCH_SIZE * (3 * sum(sizes) - sizes[0])


def square_row() -> measure.Row:
    """A row of one large matrix product, as an estimate of the machine's peak rate."""
    matrix = jnp.ones((SQUARE, SQUARE))
    program, seconds = measure.compiled(lambda a: [a := a @ matrix for _ in range(8)][-1], matrix)
    return measure.Row(lambda: jax.block_until_ready(program(matrix)), 8, seconds)


def bayesjax_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of training steps, of their matrix products and of a large product."""
    images, num_steps = made_images(), config.num_steps
    return {
        "bayesjax": training_row(images, BATCH_SIZE, HIDDEN, num_steps),
        "bayesjax without diagnostics": training_row(images, BATCH_SIZE, HIDDEN, num_steps, info=False),
        "bayesjax products": products_row(num_steps),
        f"bayesjax product of {SQUARE} x {SQUARE}": square_row(),
    }


def sizes() -> list[tuple[str, int, int, int]]:
    """Varied quantity, its value, batch size and width of the rows that show how time grows."""
    return [("batch", n, n, HIDDEN) for n in BATCH_SIZES] + [("width", n, BATCH_SIZE, n) for n in WIDTHS]


def bayesjax_sizes(config: Config) -> dict[str, measure.Row]:
    """Rows of training steps for each batch size and width."""
    images = made_images()
    return {
        f"bayesjax {name} {value}": training_row(images, batch_size, width, config.num_steps)
        for name, value, batch_size, width in sizes()
    }


# ---- the peers


def torch_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of the forms of the port; `torch.compile` is included only if a C++ compiler is available."""
    from benchmarks import vae_torch as peer

    images, params, num_steps = made_images(), training_parts()[2], config.num_steps
    make = functools.partial(peer.training_steps, params, images, BATCH_SIZE, num_steps)
    rows = {
        "torch eager": measure.Row(make(), num_steps),
        "torch eager, DataLoader": measure.Row(make(peer.loaded), num_steps),
        "torch eager, fused Adam": measure.Row(make(fused=True), num_steps),
        "torch products": measure.Row(
            peer.repeated(products, images[:BATCH_SIZE], weight_matrices(params), num_steps), num_steps
        ),
    }
    started = time.perf_counter()
    try:
        run = make(compile=True, fused=True)
    except RuntimeError as error:  # the type of all errors of PyTorch's compiler, such as a missing C++ compiler
        print(f"torch.compile does not work here: {str(error).splitlines()[0]}")
    else:
        rows["torch compiled, fused Adam"] = measure.Row(run, num_steps, time.perf_counter() - started)
    return rows


def pythae_rows(config: Config) -> dict[str, measure.Row]:
    """The row of pythae's training steps."""
    os.environ["TQDM_DISABLE"] = "1"  # its progress bars
    from benchmarks import vae_torch as peer

    params, num_steps = training_parts()[2], config.num_steps
    run = peer.pythae_steps(params, made_images(), BATCH_SIZE, num_steps, LATENT_DIM)
    return {"pythae": measure.Row(run, num_steps)}


def check_ports() -> dict[str, float]:
    """Largest relative differences from bayesjax: both ports' losses, and the PyTorch port's gradient (over tensors).

    Raises:
      ArithmeticError: if a difference exceeds TOLERANCE.
    """
    from benchmarks import vae_torch as peer

    (loss, _, params), rng_key = training_parts(), jax.random.key(5)
    x = np.asarray(jax.jit(batches(made_images(BATCH_SIZE), BATCH_SIZE))(0))
    prior = networks()[0].prior()
    keys = jax.random.split(rng_key, BATCH_SIZE)  # the same keys as in `objectives.batch_mean`
    noise = np.asarray(jax.vmap(lambda key: prior.sample(seed=key, sample_shape=(1,))[0])(keys))
    (value, _), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params, rng_key, x)
    found, found_gradient = peer.TorchVAE(params).gradient(x, noise)
    pairs = zip(jax.tree.leaves(found_gradient), jax.tree.leaves(jax.device_get(gradient)), strict=True)
    differences = {
        "torch loss": abs(found / float(value) - 1),
        "torch gradient": max(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs),
        "pythae loss": abs(peer.pythae_loss(params, x, noise) / float(value) - 1),
    }
    for name, difference in differences.items():
        if not difference < TOLERANCE:
            raise ArithmeticError(f"the {name} differs from bayesjax's by {difference:.1e}; at most {TOLERANCE:g}")
    return differences


# ---- measurement


def epoch_of_training_run() -> dict[str, float]:
    """Times `training.run` for one epoch.

    Returns:
      The seconds without compilation, those of compilation, the fraction of the former outside the compiled chunks of
      steps, and the losses of the first and of the last step.
    """
    _, kernel, params = training_parts()
    state, source = kernel.init(params, jax.random.key(1)), batches(made_images(), BATCH_SIZE)
    _, trace = training.run(jax.random.key(4), kernel, state, source, num_steps=STEPS_PER_EPOCH, keep=lambda state: ())
    seconds = trace.seconds - trace.compile_seconds
    return {
        "seconds": seconds,
        "compile_seconds": trace.compile_seconds,
        "fraction_outside_chunks": 1 - trace.chunk_seconds / seconds,
        "loss_of_first_step": float(trace.info.loss[0]),
        "loss_of_last_step": float(trace.info.loss[-1]),
    }


def exponents(milliseconds: dict[str, float]) -> dict[str, dict[str, Any]]:
    """The exponents of time as a function of the batch size and of the width."""
    slopes = {}
    for kind in ("batch", "width"):
        values = [value for name, value, *_ in sizes() if name == kind]
        slopes[kind] = measure.slope(values, [milliseconds[f"bayesjax {kind} {value}"] for value in values])
    return slopes


def remarks(epoch: dict[str, float], rates: dict[str, float], slopes: dict[str, dict]) -> str:
    """The table of an epoch by `training.run`, of the rates of arithmetic, and of the growth of the time with sizes.

    Args:
      epoch: the result of `epoch_of_training_run`.
      rates: GFLOP/s of a step ("bayesjax"), of its matrix products alone ("products") and of one product ("peak").
      slopes: the result of `exponents`.
    """
    lines = [
        [f"`training.run`: seconds of an epoch ({STEPS_PER_EPOCH} steps)", f"{epoch['seconds']:.1f}"],
        ["`training.run`: seconds of compilation", f"{epoch['compile_seconds']:.1f}"],
        ["`training.run`: time outside compiled code", f"{100 * epoch['fraction_outside_chunks']:.1f} %"],
        ["GFLOP/s of a step", f"{rates['bayesjax']:.0f}"],
        ["GFLOP/s of the matrix products of a step", f"{rates['products']:.0f}"],
        [f"GFLOP/s of a matrix product of {SQUARE} x {SQUARE}", f"{rates['peak']:.0f}"],
    ]
    for name, slope in slopes.items():
        growth = f"exponent of the time in the {name}, {slope['from']} to {slope['to']}"
        lines.append([growth, f"{slope['value']:.2f} ± {slope['stderr']:.2f}"])
    return markdown(["bayesjax", "value"], lines)


def main(config: Config) -> None:
    """Checks the ports, measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_steps", needs=("torch", "pythae"))
    differences = check_ports()
    makers = {"bayesjax": bayesjax_rows, "torch": torch_rows, "pythae": pythae_rows, "bayesjax, sizes": bayesjax_sizes}
    sides = {name: functools.partial(make_rows, config) for name, make_rows in makers.items()}
    with measure.Sides(sides, threads=config.threads) as running:
        times = running.alternate(config.repeats)
    ratios = {
        f"{row} / bayesjax": measure.ratio(times, row, "bayesjax", ">= 3" if row.startswith("torch eager") else "-")
        for row in times
        if row.startswith(("torch", "pythae")) and row != "torch products"
    }
    for over, row, bar in (
        ("bayesjax products", "bayesjax", ">= 0.7"),
        ("bayesjax products", "bayesjax without diagnostics", "-"),
        ("torch products", "bayesjax", ">= 0.7"),
        ("torch eager", "torch products", "- (if below 3, the bar is unreachable)"),
        ("torch eager", "bayesjax products", "- (if below 3, the bar is unreachable)"),
    ):
        ratios[f"{over} / {row}"] = measure.ratio(times, over, row, bar)
    milliseconds = {name: measure.summary(values)["median"] for name, values in times.items()}
    rates = {
        "products": num_operations() / milliseconds["bayesjax products"] / 1e6,
        "bayesjax": num_operations() / milliseconds["bayesjax"] / 1e6,
        "peak": 2 * SQUARE**3 / milliseconds[f"bayesjax product of {SQUARE} x {SQUARE}"] / 1e6,
    }
    epoch, slopes = epoch_of_training_run(), exponents(milliseconds)
    results = {
        **measure.made_beside_torch(config, load_average, "pythae"),
        **measure.of_steps(running, times, ratios),
        "gigaflops": rates,
        "training_run": epoch,
        "exponents": slopes,
        "differences": differences,
        "remarks": [remarks(epoch, rates, slopes)],
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
