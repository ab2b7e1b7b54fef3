"""The cost of convolutions: DCGAN steps compared with PyTorch, and single shapes compared with XLA's own convolution.

The game is the 28-pixel DCGAN of `models/dcgan.py` without normalisation: generator 100-128-64-32-1, discriminator
1-32-64-128, kernels 5 x 5, stride 2, batch 64, Adam. Steps run in a `scan`, as in `training.run`. The PyTorch port
(`convolutions_torch.py`) is eager code whose gradients are compared with bayesjax's before anything is timed. It runs
in both memory formats. Ten particles are ten independent games, which PyTorch trains in a loop. Each library has its
own process.

XLA runs a convolution on one core. In rows "on 2 devices" each core is a device of JAX, with half of the batch or half
of the particles. The bars are the same on one and on two devices.

    python -m benchmarks.convolutions                       half an hour on two idle cores
    python -m benchmarks.convolutions --shapes few --repeats 3      a short check

The table of shapes times a convolution and both its gradients; the gradient in the image is the transposed
convolution. bayesjax is compared with `lax.conv_general_dilated` and with a product over patches, each differentiated
by JAX. Every form is compiled alone, which favours XLA: inside a `scan` its gradients can be tens of times slower.
Batch sizes are chosen so that a shape takes some milliseconds. The few shapes whose single image takes a second are
excluded. A program may take twice as long in one process as in another, so shapes with a ratio above 1.1 are measured
in five processes. Their result is the median over processes.

Bars: a step of either player takes at most 1.3 times PyTorch's; ten particles cost at most 10 times one and less than
the PyTorch loop; no shape takes more than 1.2 times as long as the faster of the two other forms. Results:
benchmarks/results/convolutions.json.
"""

import functools
import itertools
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from bayesjax import axes, kernels, models, training, tree
from bayesjax.models import convolution_forms as forms
from bayesjax.models import dcgan
from bayesjax.models.convolution import convolve
from bayesjax.objectives import adversarial
from bayesjax.types import Given, Kernel
from benchmarks import measure

BATCH_SIZE, LATENT_DIM, LEARNING_RATE, IMAGE = 64, 100, 2e-4, (28, 28, 1)
TOLERANCE = 1e-4  # relative, between the port's gradients and bayesjax's
SIZES = (4, 8, 16, 32, 64)
CHANNELS = ((1, 16), (1, 64), (3, 64), (16, 1), (16, 16), (64, 3), (64, 64), (64, 256), (256, 64), (256, 256))
MAX_WORK = 3e8  # multiply-adds of a batch, which determine the batch size of a shape (1 to 32)
MORE_PROCESSES = 4  # number of processes in which a slow shape is measured again, because processes differ in speed
SHORTEST = 2e-3  # least seconds of a timing; faster shapes are computed several times
KEYS = ("size", "inputs", "outputs", "kernel", "stride", "batch")  # keys of a shape
PLAYERS = ("discriminator", "generator")


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.convolutions."""

    repeats: int = 15
    """Number of times that every row is measured."""
    num_steps: int = 5
    """Number of training steps in a measurement."""
    num_particles: int = 10
    """Number of independent games that train at once."""
    shapes: Literal["all", "few", "none"] = "all"
    """Convolution shapes to time: all 293, a few (every 37th), or none."""
    threads: int = 2
    """Number of cores, and of threads, for each library."""
    out: str = str(measure.RESULTS / "convolutions.json")
    """The JSON file to write."""


# ---- the game


def networks() -> tuple[dcgan.Generator, dcgan.Discriminator]:
    """The generator and the discriminator, as Flax modules."""
    return dcgan.Generator(IMAGE, norm="none"), dcgan.Discriminator(IMAGE, norm="none")


def losses(noise: np.ndarray | None = None) -> dict[str, Callable]:
    """The loss of each player given the other, a mean over the batch. Each step draws noise unless it is given."""
    generator, discriminator = networks()

    def fakes(params: Any, rng_key: jax.Array) -> Any:
        drawn = models.latent_noise(rng_key, axes.local_size(BATCH_SIZE, axes.DATA), LATENT_DIM)
        return generator.apply({"params": params}, drawn if noise is None else noise)

    def logits(params: Any, images: Any) -> jax.Array:
        out: Any = discriminator.apply({"params": params}, images)
        return out[:, 0]

    def discriminator_loss(params: Any, rng_key: jax.Array, batch: Given) -> jax.Array:
        fake = lax.stop_gradient(fakes(batch.others["generator"], rng_key))
        return adversarial.discriminator_loss(logits(params, batch.data), logits(params, fake)).mean()

    def generator_loss(params: Any, rng_key: jax.Array, batch: Given) -> jax.Array:
        fake_logits = logits(batch.others["discriminator"], fakes(params, rng_key))
        return adversarial.non_saturating_generator_loss(fake_logits).mean()

    return {"discriminator": discriminator_loss, "generator": generator_loss}


def initial_position() -> dict[str, Any]:
    """Initial parameters of each player."""
    generator, discriminator = networks()
    return {
        "discriminator": discriminator.init(jax.random.key(1), jnp.zeros((1, *IMAGE)))["params"],
        "generator": generator.init(jax.random.key(0), jnp.zeros((1, LATENT_DIM)))["params"],
    }


def players() -> dict[str, Kernel]:
    """The kernel of an Adam step of each player."""
    optimizer = optax.adam(LEARNING_RATE, b1=0.5)
    return {name: kernels.optimize(loss, optimizer) for name, loss in losses().items()}


def check_port(position: dict[str, Any], images: np.ndarray) -> float:
    """The largest relative difference (Euclidean, by tensor) between the port's gradients and bayesjax's.

    The weights are three times DCGAN's initial weights. At the initial weights themselves, a generator's gradient is a
    small difference of large terms.

    Raises:
      ArithmeticError: if the difference exceeds TOLERANCE.
    """
    from benchmarks import convolutions_torch as peer

    z = np.random.default_rng(1).uniform(-1, 1, (BATCH_SIZE, LATENT_DIM)).astype(np.float32)
    position = jax.tree.map(lambda leaf: 3 * leaf, position)
    port, worst = peer.TorchGAN(position, images, padding="same"), 0.0
    for (player, loss), other in zip(losses(z).items(), PLAYERS[::-1], strict=True):
        batch = Given(jnp.asarray(images), {other: position[other]})
        gradient = jax.jit(jax.grad(loss))(position[player], jax.random.key(0), batch)
        expected = peer.TorchGAN({player: gradient}, images).weights[player]
        pairs = zip(port.gradient(player, z), (tensor for layer in expected for tensor in layer), strict=True)
        for found, tensor in pairs:
            reference = tensor.detach().numpy()
            worst = max(worst, float(np.linalg.norm(found - reference) / np.linalg.norm(reference)))
    if not worst < TOLERANCE:
        raise ArithmeticError(f"the port's gradients differ from bayesjax's by {worst:.1e}; at most {TOLERANCE:g}")
    return worst


def real_images() -> np.ndarray:
    """A batch of random images `[64, 28, 28, 1]` in [-1, 1)."""
    return np.random.default_rng(0).uniform(-1, 1, (BATCH_SIZE, *IMAGE)).astype(np.float32)


def step_rows(config: Config, num_devices: int) -> dict[str, measure.Row]:
    """Rows of a step of each player and of the game, with the batch spread over devices if there are several."""
    images, position, where = jnp.asarray(real_images()), initial_position(), _where(num_devices)

    def row(kernel: Kernel, at: Any, batch: Any) -> measure.Row:
        return measure.kernel_steps(training.data_parallel(kernel, num_devices), at, batch, config.num_steps)

    rows = {"bayesjax game" + where: row(kernels.alternate(**players()), position, images)}
    for (name, kernel), other in zip(players().items(), PLAYERS[::-1], strict=True):
        rows[f"bayesjax {name}{where}"] = row(kernel, position[name], Given(images, {other: position[other]}))
    return rows


def particle_rows(config: Config, num_devices: int) -> dict[str, measure.Row]:
    """The row of many games as particles, which are spread over devices if there are several."""
    num, images = config.num_particles, jnp.asarray(real_images())
    games = training.particle_parallel(kernels.particles(kernels.alternate(**players()), num), num_devices)
    start = tree.stack([initial_position()] * num)
    return {f"bayesjax {num} games{_where(num_devices)}": measure.kernel_steps(games, start, images, 1)}


def _where(num_devices: int) -> str:
    return f" on {num_devices} devices" if num_devices > 1 else ""


def torch_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of PyTorch: a step of each player and a loop over the games, in both memory formats."""
    from benchmarks import convolutions_torch as peer

    images, position, rows = real_images(), initial_position(), {}
    for suffix, channels_last in (("", False), (", channels last", True)):
        port = peer.TorchGAN(position, images, channels_last=channels_last)
        for name in PLAYERS:
            rows[f"torch {name}{suffix}"] = measure.Row(port.steps(name, config.num_steps), config.num_steps)

        def loop(port: peer.TorchGAN = port) -> None:
            for _ in range(config.num_particles):
                for name in PLAYERS:
                    port.steps(name, 1)()

        rows[f"torch {config.num_particles} games in a loop{suffix}"] = measure.Row(loop, 1)
        loop()
    return rows


# ---- the table of shapes


def shape_cases(which: str) -> list[dict[str, int]]:
    """Size, channels, kernel, stride and batch of every shape of the table."""
    cases = []
    for size, (inputs, outputs), kernel, stride in itertools.product(SIZES, CHANNELS, (3, 4, 5), (1, 2)):
        work = (size // stride) ** 2 * kernel**2 * inputs * outputs
        if work <= 4 * MAX_WORK:
            batch = int(min(32, max(1, MAX_WORK // work)))
            cases.append(dict(zip(KEYS, (size, inputs, outputs, kernel, stride, batch), strict=True)))
    return {"all": cases, "few": cases[::37], "none": []}[which]


def by_patches(x: jax.Array, kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """A "SAME" convolution as one matrix product over patches, as a user would write it."""
    pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, "SAME")
    x = jnp.pad(x, [(0, 0), *pads, (0, 0)])
    out = [(x.shape[a + 1] - kernel.shape[a]) // strides[a] + 1 for a in (0, 1)]
    slices = [
        x[:, i : i + (out[0] - 1) * strides[0] + 1 : strides[0], j : j + (out[1] - 1) * strides[1] + 1 : strides[1]]
        for i, j in itertools.product(*map(range, kernel.shape[:2]))
    ]
    return jnp.concatenate(slices, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def by_xla(x: jax.Array, kernel: jax.Array, strides: tuple[int, int]) -> jax.Array:
    """A "SAME" convolution by XLA's own operation."""
    return lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=forms.LAYOUT)


def time_shape(case: dict[str, int], repeats: int) -> dict[str, Any]:
    """Times a convolution and both its gradients in the three forms, in alternating order.

    Returns:
      The shape, the median "milliseconds" of each form, and the "ratio" of bayesjax's time to that of the faster of the
      two other forms.

    Raises:
      ArithmeticError: if the results of two forms differ.
    """
    random, stride = np.random.default_rng(0), (case["stride"],) * 2
    x = jnp.asarray(random.normal(size=(case["batch"], case["size"], case["size"], case["inputs"])), jnp.float32)
    shape = (case["kernel"], case["kernel"], case["inputs"], case["outputs"])
    kernel = jnp.asarray(random.normal(size=shape) / math.sqrt(math.prod(shape[:3])), jnp.float32)
    programs, outs = {}, {}
    for name, function in (("bayesjax", convolve), ("xla", by_xla), ("patches", by_patches)):

        def all_three(x: jax.Array, kernel: jax.Array, function: Callable = function) -> Any:
            out, pull = jax.vjp(lambda x, kernel: function(x, kernel, stride), x, kernel)
            return out, *pull(out)

        programs[name] = jax.jit(all_three).lower(x, kernel).compile()
        outs[name] = jax.block_until_ready(programs[name](x, kernel))
        for found, expected in zip(outs[name], outs["bayesjax"], strict=True):
            if not jnp.abs(found - expected).max() <= 1e-4 * jnp.abs(expected).max():
                raise ArithmeticError(f"{name} differs from bayesjax on {case}")
    started = time.perf_counter()
    jax.block_until_ready(programs["xla"](x, kernel))
    calls = math.ceil(max(1, SHORTEST / (time.perf_counter() - started)))

    def several(program: Callable) -> None:
        for _ in range(calls):
            jax.block_until_ready(program(x, kernel))

    times = measure.alternate(
        {name: functools.partial(several, program) for name, program in programs.items()}, repeats
    )
    milliseconds = {name: measure.summary(values)["median"] / calls for name, values in times.items()}
    best = min(milliseconds["xla"], milliseconds["patches"])
    return {**case, "milliseconds": milliseconds, "ratio": milliseconds["bayesjax"] / best}


def time_shapes(cases: list[dict[str, int]], repeats: int, label: str) -> list[dict[str, Any]]:
    """Times each shape and prints a line of progress."""
    results = []
    for number, case in enumerate(cases):
        results.append(time_shape(case, repeats))
        print(f"\r{label}: shape {number + 1} of {len(cases)}: {results[-1]['ratio']:.2f}  ", end="", flush=True)
    print()
    return results


def shape_table(which: str, repeats: int) -> list[dict[str, Any]]:
    """Times the shapes of the table. Those with a ratio above 1.1 are timed again in further processes.

    The result of a shape that is timed again has the medians over processes, and the "ratios" of all processes.
    """
    results = time_shapes(shape_cases(which), repeats, "all")
    again = [i for i, result in enumerate(results) if result["ratio"] > 1.1]
    cases = [{name: results[i][name] for name in KEYS} for i in again]
    found = [[results[i]] for i in again]
    for number in range(MORE_PROCESSES if again else 0):
        with futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as other:
            label = f"those above 1.1, process {number + 2}"
            for of_shape, result in zip(found, other.submit(time_shapes, cases, repeats, label).result(), strict=True):
                of_shape.append(result)
    for i, of_shape in zip(again, found, strict=True):
        ratios = [result["ratio"] for result in of_shape]
        names = results[i]["milliseconds"]
        medians = {name: statistics.median(result["milliseconds"][name] for result in of_shape) for name in names}
        results[i] = {**results[i], "milliseconds": medians, "ratio": statistics.median(ratios), "ratios": ratios}
    return results


def main(config: Config) -> None:
    """Checks the port, measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_steps", "num_particles")
    difference = check_port(initial_position(), real_images())
    threads, spread_steps, spread_particles = config.threads, "bayesjax, batch in parts", "bayesjax, particles in parts"
    sides = {
        "bayesjax": functools.partial(step_rows, config, 1),
        "bayesjax, particles": functools.partial(particle_rows, config, 1),
        spread_steps: functools.partial(step_rows, config, threads),
        spread_particles: functools.partial(particle_rows, config, threads),
        "torch": functools.partial(torch_rows, config),
    }
    devices = {spread_steps: threads, spread_particles: threads}
    with measure.Sides(sides, threads=threads, devices=devices) as running:
        times = running.alternate(config.repeats)
    ratio = functools.partial(measure.ratio, times)
    many = f"{config.num_particles} games"
    ratios = {}
    for where in ("", f" on {config.threads} devices"):
        for suffix in ("", ", channels last"):
            for name in PLAYERS:
                pair = f"bayesjax {name}{where}", f"torch {name}{suffix}"
                ratios[" / ".join(pair)] = ratio(*pair, "<= 1.3")
            pair = f"bayesjax {many}{where}", f"torch {many} in a loop{suffix}"
            ratios[" / ".join(pair)] = ratio(*pair, "< 1")
        pair = f"bayesjax {many}{where}", f"bayesjax game{where}"
        ratios[" / ".join(pair)] = ratio(*pair, "<= 10")
    results = {
        **measure.made_beside_torch(config, load_average),
        **measure.of_steps(running, times, ratios),
        "shapes": shape_table(config.shapes, config.repeats),
        "difference": difference,
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
