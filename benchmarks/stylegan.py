"""The cost of a step of each player of StyleGAN2 at 32 pixels, compared with PyTorch.

The networks are those of `models/stylegan2.py` with 128-128-64-32 channels, styles of 64 numbers from a mapping network
of four layers, noise in every layer, and the residual discriminator with its minibatch statistic. Losses are
non-saturating, batches have 32 images, and the optimiser is Adam. Steps run in a `scan`, as in `training.run`.

The PyTorch port (`stylegan_torch.py`) is eager code whose gradients are compared with bayesjax's before anything is
timed. It has two forms of the modulated convolution: scaled inputs and outputs of one convolution, as in bayesjax, and
one group with its own kernel for each image, as in the authors' program and most ports. Each library has its own
process. Source: Karras et al., "Analyzing and improving the image quality of StyleGAN", 2020.

    python -m benchmarks.stylegan                  about ten minutes on two idle cores
    python -m benchmarks.stylegan --repeats 3      a short check

A second table times a convolution of stride 2 against the resampling and the convolution that it replaces, with both
gradients (`models/resampling.py`).

Bars: a step of either player takes at most 1.3 times PyTorch's; a compiled step has no grouped convolution. Results:
benchmarks/results/stylegan.json.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import kernels, models, training
from bayesjax.models import resampling, sngan, stylegan, stylegan2
from bayesjax.models.convolution import convolve
from bayesjax.objectives import adversarial
from bayesjax.types import Array, Given, Kernel, Params
from benchmarks import measure

BATCH_SIZE, LATENT_DIM, STYLE_DIM, DEPTH, IMAGE, FEATURES = 32, 64, 64, 4, (32, 32, 1), (128, 128, 64, 32)
LEARNING_RATE, BETAS = 1e-3, (0.0, 0.99)
TOLERANCE = 5e-3  # relative, between the port's gradients and bayesjax's; rounding moves units across a ReLU's kink
PLAYERS = ("discriminator", "generator")
SUFFIXES = {"": "scaled", ", grouped": "grouped"}  # suffix of a PyTorch row: form of its modulated convolution


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.stylegan."""

    repeats: int = 15
    """Number of times that every row is measured."""
    num_steps: int = 3
    """Number of training steps in a measurement."""
    threads: int = 2
    """Number of cores, and of threads, for each library."""
    out: str = str(measure.RESULTS / "stylegan.json")
    """The JSON file to write."""


# ---- the game


def networks() -> tuple[stylegan.Generator, stylegan2.Discriminator]:
    """The generator and the discriminator, as Flax modules."""
    synthesis = stylegan2.Synthesis(IMAGE, FEATURES)
    generator = stylegan.Generator(stylegan.Mapping(STYLE_DIM, DEPTH), synthesis)
    return generator, stylegan2.Discriminator(IMAGE, 1, FEATURES)


def losses(draws: Any = None) -> dict[str, Callable]:
    """The loss of each player given the other.

    `draws` are z and the noise of the layers. By default they are drawn in each step.
    """
    generator, discriminator = networks()

    def fakes(params: Params, rng_key: jax.Array, num: int) -> Any:
        z_key, noise_key = jax.random.split(rng_key)
        z, noise = draws or (
            models.latent_noise(z_key, num, LATENT_DIM, "normal"),
            stylegan.draw_noise(noise_key, num, generator.synthesis.noise_sizes),
        )
        return generator.apply({"params": params}, z, noise)

    def logits(params: Params, images: Any) -> Array:
        out: Any = discriminator.apply({"params": params}, images)
        return out[:, 0]

    def discriminator_loss(params: Params, rng_key: jax.Array, batch: Given) -> Array:
        fake = jax.lax.stop_gradient(fakes(batch.others["generator"], rng_key, len(batch.data)))
        return adversarial.discriminator_loss(logits(params, batch.data), logits(params, fake)).mean()

    def generator_loss(params: Params, rng_key: jax.Array, batch: Given) -> Array:
        fake = fakes(params, rng_key, len(batch.data))
        return adversarial.non_saturating_generator_loss(logits(batch.others["discriminator"], fake)).mean()

    return {"discriminator": discriminator_loss, "generator": generator_loss}


def initial_position() -> dict[str, Any]:
    """Initial parameters of each player, and noise strengths of 0.1, without which the noise has no effect."""
    generator, discriminator = networks()
    params = {
        "discriminator": discriminator.init(jax.random.key(1), jnp.zeros((1, *IMAGE)))["params"],
        "generator": generator.init(jax.random.key(0), jnp.zeros((1, LATENT_DIM)))["params"],
    }

    def filled(path: Any, leaf: Array) -> Array:
        return leaf + 0.1 if path[-1].key == "noise_strength" else leaf

    return jax.tree_util.tree_map_with_path(filled, params)


def real_images() -> np.ndarray:
    """A batch of random images `[32, 32, 32, 1]` in [-1, 1)."""
    return np.random.default_rng(0).uniform(-1, 1, (BATCH_SIZE, *IMAGE)).astype(np.float32)


def check_port(position: dict[str, Any], images: np.ndarray) -> dict[str, float]:
    """Largest relative difference (Euclidean, by tensor) of the port's from bayesjax's gradients, by player and form.

    Raises:
      ArithmeticError: if a difference exceeds TOLERANCE.
    """
    from benchmarks import stylegan_torch as peer

    random = np.random.default_rng(1)
    z = random.normal(size=(BATCH_SIZE, LATENT_DIM)).astype(np.float32)
    sizes, differences = networks()[0].synthesis.noise_sizes, {}
    noise = [random.normal(size=(BATCH_SIZE, *size)).astype(np.float32) for size in sizes]
    for (player, loss), other in zip(losses((z, noise)).items(), PLAYERS[::-1], strict=True):
        batch = Given(jnp.asarray(images), {other: position[other]})
        gradient = peer.tensors(jax.jit(jax.grad(loss))(position[player], jax.random.key(0), batch))
        expected = {name: tensor.numpy() for name, tensor in gradient.items()}
        for form in SUFFIXES.values():
            found = peer.TorchGAN(position, images, form).gradient(player, z, noise)
            worst = max(
                float(np.linalg.norm(found[name] - value) / np.linalg.norm(value)) for name, value in expected.items()
            )
            if not worst < TOLERANCE:
                raise ArithmeticError(
                    f"the {player} gradient of the {form} port differs by {worst:.1e}; at most {TOLERANCE:g}"
                )
            differences[f"{player}, {form}"] = worst
    return differences


# ---- rows


def players() -> dict[str, Kernel]:
    """The kernel of an Adam step of each player."""
    optimizer = optax.adam(LEARNING_RATE, *BETAS)
    return {name: kernels.optimize(loss, optimizer) for name, loss in losses().items()}


def step_rows(config: Config, num_devices: int) -> dict[str, measure.Row]:
    """Rows of a step of each player, with the batch spread over devices if there are several."""
    images, position, rows = jnp.asarray(real_images()), initial_position(), {}
    for (name, kernel), other in zip(players().items(), PLAYERS[::-1], strict=True):
        spread = training.data_parallel(kernel, num_devices)
        batch = Given(images, {other: position[other]})
        rows[f"bayesjax {name}{_where(num_devices)}"] = measure.kernel_steps(
            spread, position[name], batch, config.num_steps
        )
    return rows


def torch_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of PyTorch: a step of each player, in both forms of the modulated convolution."""
    from benchmarks import stylegan_torch as peer

    rows = {}
    for suffix, form in SUFFIXES.items():
        port = peer.TorchGAN(initial_position(), real_images(), form)
        for name in PLAYERS:
            run = port.steps(name, config.num_steps)
            run()
            rows[f"torch {name}{suffix}"] = measure.Row(run, config.num_steps)
    return rows


def _where(num_devices: int) -> str:
    return f" on {num_devices} devices" if num_devices > 1 else ""


TWO_STEPS = {
    "convolve_upsampled": lambda x, kernel: convolve(sngan.upsample(x), kernel),
    "convolve_pooled": lambda x, kernel: sngan.mean_pool(convolve(x, kernel)),
    "convolve_smooth_upsampled": lambda x, kernel: convolve(resampling.smooth_upsample(x), kernel),
    "convolve_smooth_pooled": lambda x, kernel: resampling.smooth_pool(convolve(x, kernel)),
}


def resampling_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of the value and both gradients of each function of `resampling.py`, and of its two separate steps."""
    random, rows = np.random.default_rng(0), {}
    for name, two_steps in TWO_STEPS.items():
        size, inputs, outputs = (16, 64, 32) if "up" in name else (32, 32, 64)
        x = jnp.asarray(random.normal(size=(BATCH_SIZE, size, size, inputs)), jnp.float32)
        kernel = jnp.asarray(random.normal(size=(3, 3, inputs, outputs)), jnp.float32)
        for suffix, function in (("", getattr(resampling, name)), (" in two steps", two_steps)):

            def all_three(x: Array, kernel: Array, function: Callable = function) -> Any:
                out, pull = jax.vjp(function, x, kernel)
                return out, *pull(out)

            program, seconds = measure.compiled(all_three, x, kernel)
            run = functools.partial(_repeated, program, x, kernel, config.num_steps)
            run()
            rows[f"{name}{suffix}"] = measure.Row(run, config.num_steps, seconds)
    return rows


def _repeated(program: Callable, x: Array, kernel: Array, num: int) -> None:
    for _ in range(num):
        jax.block_until_ready(program(x, kernel))


def num_grouped() -> int:
    """Number of convolutions with several groups in the compiled steps of both players."""
    position, images, total = initial_position(), jnp.asarray(real_images()), 0
    for (name, kernel), other in zip(players().items(), PLAYERS[::-1], strict=True):
        batch = Given(images, {other: position[other]})
        arguments = jax.random.key(0), kernel.init(position[name], jax.random.key(0)), batch
        text = jax.jit(kernel.step).lower(*arguments).compile().as_text() or ""
        total += len(re.findall(r"_group_count=(?!1\b)\d", text))
    return total


def main(config: Config) -> None:
    """Checks the port, measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_steps")
    differences, grouped = check_port(initial_position(), real_images()), num_grouped()
    spread = "bayesjax, batch in parts"
    sides = {
        "bayesjax": functools.partial(step_rows, config, 1),
        "torch": functools.partial(torch_rows, config),
        "bayesjax, resampling": functools.partial(resampling_rows, config),
    }
    if config.threads > 1:
        sides[spread] = functools.partial(step_rows, config, config.threads)
    with measure.Sides(sides, threads=config.threads, devices={spread: config.threads}) as running:
        times = running.alternate(config.repeats)
    ratio, ratios = functools.partial(measure.ratio, times), {}
    for where in ("", _where(config.threads))[: 1 + (config.threads > 1)]:
        for suffix in SUFFIXES:
            for name in PLAYERS:
                pair = f"bayesjax {name}{where}", f"torch {name}{suffix}"
                ratios[" / ".join(pair)] = ratio(*pair, "<= 1.3")
    for name in TWO_STEPS:
        ratios[f"{name} / in two steps"] = ratio(name, f"{name} in two steps", "< 1")
    results = {
        **measure.made_beside_torch(config, load_average),
        **measure.of_steps(running, times, ratios),
        "differences": differences,
        "grouped_convolutions": grouped,
        "remarks": [f"Grouped convolutions in the compiled steps of both players: {grouped}."],
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
