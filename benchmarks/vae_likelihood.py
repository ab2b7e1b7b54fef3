"""The cost of log p(x) by importance sampling, compared with pythae and the decoder's matrix products alone.

The model is that of `vae.py` (784-500-20-500-784, tanh, Bernoulli), with 5000 draws of z for each image. pythae
(`VAE.get_nll`, by default 100 draws at once) encodes an image again for every draw, and loops over images and draws in
Python. bayesjax encodes each image once and has one compiled loop. Both have the same weights and images, and their
estimates are compared before the timing. The row "products" computes only the decoder's matrix products for as many
draws, a lower bound on the time.

    python -m benchmarks.vae_likelihood                       twenty minutes on two idle cores
    python -m benchmarks.vae_likelihood --num-whole 100       a short check

The last measurement is one call for all images in its own process, whose memory is reported.

Bars: pythae takes at least 10 times as long; the process with all images takes at most 1 GiB. Results:
benchmarks/results/vae_likelihood.json.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bayesjax import training
from bayesjax.evaluation import likelihood
from benchmarks import measure, vae

NUM_SAMPLES, BATCH_SIZE, CHUNK_SIZE = 5000, 64, 50
TRAINING_STEPS = 200  # with untrained weights, p(x | z) would not depend on z
MAX_MIB = 1024
WHOLE = "bayesjax, all images"


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.vae_likelihood."""

    repeats: int = 7
    """Number of times that every row is measured."""
    num_images: int = 64
    """Number of images in a measurement of bayesjax; a measurement of pythae has an eighth of them."""
    num_whole: int = 10_000
    """Number of images in the call whose memory is measured."""
    threads: int = 2
    """Number of cores, and of threads, for each library."""
    out: str = str(measure.RESULTS / "vae_likelihood.json")
    """The JSON file to write."""


@functools.cache
def trained() -> Any:
    """Returns the parameters after a short training."""
    _, kernel, params = vae.training_parts()
    state, source = kernel.init(params, jax.random.key(1)), vae.batches(vae.made_images(8192), vae.BATCH_SIZE)
    state, _ = training.run(jax.random.key(4), kernel, state, source, num_steps=TRAINING_STEPS, thinning=TRAINING_STEPS)
    return state.position


def binary_images(num: int) -> np.ndarray:
    """Images `[num, 784]` of zeros and ones."""
    return (vae.made_images(num) > np.random.default_rng(1).random((num, vae.NUM_PIXELS), np.float32)).astype("f4")


def estimate(params: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
    """Estimates log p(x) in nats of each image by importance sampling, `[num]`."""
    model, encode, decode = vae.networks()
    return likelihood.importance_sampling(
        encode, decode, model.prior(), params, rng_key, x,
        num_samples=NUM_SAMPLES, chunk_size=BATCH_SIZE, sample_chunk_size=CHUNK_SIZE,
    )  # fmt: skip


def bayesjax_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of the estimate, and of the decoder's products for as many draws."""
    x, params = jnp.asarray(binary_images(config.num_images)), trained()
    arguments = params, jax.random.key(0), x
    program, seconds = measure.compiled(estimate, *arguments)
    _, _, third, fourth = vae.weight_matrices(params)
    num_rows = BATCH_SIZE * CHUNK_SIZE

    def of_products(z: jax.Array, third: jax.Array, fourth: jax.Array) -> jax.Array:
        def one(z: jax.Array, _: Any) -> tuple[jax.Array, None]:
            logits = (z @ third) @ fourth
            return logits[:, : vae.LATENT_DIM], None

        return lax.scan(one, z, None, length=config.num_images * NUM_SAMPLES // num_rows)[0]

    operands = jnp.zeros((num_rows, vae.LATENT_DIM)), third, fourth
    products, products_seconds = measure.compiled(of_products, *operands)
    return {
        "bayesjax": measure.Row(lambda: jax.block_until_ready(program(*arguments)), config.num_images, seconds),
        "bayesjax products": measure.Row(
            lambda: jax.block_until_ready(products(*operands)), config.num_images, products_seconds
        ),
    }


def pythae_rows(config: Config) -> dict[str, measure.Row]:
    """The row of pythae's estimate."""
    from benchmarks import vae_torch as peer

    num = max(1, config.num_images // 8)
    run = peer.pythae_nll(trained(), binary_images(num), NUM_SAMPLES, vae.LATENT_DIM)
    return {"pythae": measure.Row(run, num)}


def check_peer(num: int = 8) -> dict[str, float]:
    """Returns the mean NLL of `num` images, in nats, as each library estimates it.

    Raises:
      ArithmeticError: if the estimates are more than half a nat apart. Estimates with 5000 draws vary by less.
    """
    from benchmarks import vae_torch as peer

    x, params = binary_images(num), trained()
    means = {
        "bayesjax": -float(jax.jit(estimate)(params, jax.random.key(0), jnp.asarray(x)).mean()),
        "pythae": float(peer.pythae_nll(params, x, NUM_SAMPLES, vae.LATENT_DIM)()),
    }
    if not abs(means["bayesjax"] - means["pythae"]) < 0.5:
        raise ArithmeticError(f"the estimates differ: {means}")
    return means


def whole_rows(config: Config) -> dict[str, measure.Row]:
    """A row that estimates the likelihoods of all images in one call."""
    arguments = trained(), jax.random.key(0), jnp.asarray(binary_images(config.num_whole))
    program, seconds = measure.compiled(estimate, *arguments)
    return {WHOLE: measure.Row(lambda: jax.block_until_ready(program(*arguments)), config.num_whole, seconds)}


def main(config: Config) -> None:
    """Compares the estimates, measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_images", "num_whole", needs=("torch", "pythae"))
    means = check_peer()
    sides = {
        "bayesjax": functools.partial(bayesjax_rows, config),
        "pythae": functools.partial(pythae_rows, config),
        WHOLE: functools.partial(whole_rows, config),
    }
    with measure.Sides(sides, threads=config.threads) as running:
        times = running.alternate(config.repeats, ["bayesjax", "bayesjax products", "pythae"])
        times |= running.alternate(1, [WHOLE])
    peak = running.peak_mib[WHOLE]
    if not peak <= MAX_MIB:
        raise MemoryError(f"the process with all images took {peak:.0f} MiB; at most {MAX_MIB}")
    ratios = {
        "pythae / bayesjax": measure.ratio(times, "pythae", "bayesjax", ">= 10"),
        "bayesjax products / bayesjax": measure.ratio(times, "bayesjax products", "bayesjax", "-"),
        "pythae / bayesjax products": measure.ratio(
            times, "pythae", "bayesjax products", "- (if below 10, the bar is unreachable)"
        ),
    }
    results = {
        **measure.made_beside_torch(config, load_average, "pythae"),
        **measure.of_steps(running, times, ratios),
        "nll": means,
        "remarks": [
            f"A step is the estimate for one image with {NUM_SAMPLES} draws. One call for {config.num_whole} images "
            f"takes {times[WHOLE][0] * config.num_whole / 1000:.0f} s. Its process uses {peak:.0f} MiB, with the "
            f"libraries and the images; the bar is {MAX_MIB} MiB."
        ],
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
