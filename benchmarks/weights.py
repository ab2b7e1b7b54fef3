"""The cost of noise in the weights: SGHMC against SGD with momentum, and Bayes by Backprop against plain SGD.

    python -m benchmarks.weights                   four minutes on two idle cores
    python -m benchmarks.weights --repeats 3       a short check

Samplers: the target is the log posterior of a 784-850-400-10 network (1.0 M weights, Gaussian prior) on a batch of 128.
SGD with momentum is SGHMC without noise and diagnostics. Weight posteriors: the network is the 784-1200-1200-10 network
of Blundell et al. ("Weight uncertainty in neural networks", 2015; 2.4 M weights, twice as many parameters), trained by
SGD as in the paper. There are three rows: sampled weights without a KL term, with the closed-form KL to a Gaussian, and
with a sampled KL to the scale mixture; bayesjax's noise is `noise.normal`. They are compared with bayesian-torch
(closed-form KL of its layers) and BLiTZ (sampled KL, its mixture) on the same network and batch in eager PyTorch.
Before the timing, both libraries' logits at small standard deviations, and bayesian-torch's divergence, are compared
with bayesjax's at equal parameters.

Bars: a step of SGHMC takes at most 1.25 times SGD with momentum on the same density; a step with sampled weights takes
at most 1.5 times the deterministic one. The last rows draw only standard normals. Results:
benchmarks/results/weights.json.
"""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import kernels, models, noise, objectives, posteriors
from bayesjax.types import Array, Params, PRNGKey
from benchmarks import measure

NUM_DATA, NUM_PIXELS, NUM_CLASSES, SCALE, LEARNING_RATE = 60_000, 784, 10, 0.05, 1e-3
SAMPLER_WIDTHS, POSTERIOR_WIDTHS = (850, 400), (1200, 1200)
NUM_NORMALS = 2_400_000
TOLERANCE = 1e-4  # relative, between a peer's logits and divergence and bayesjax's


@dataclass(frozen=True)
class Config:
    """Flags of benchmarks.weights."""

    repeats: int = 11
    """Number of times that every row is measured."""
    num_steps: int = 10
    """Number of steps in a measurement."""
    batch_size: int = 128
    """Number of examples in a batch."""
    threads: int = 2
    """Number of cores, and of threads, for each library."""
    out: str = str(measure.RESULTS / "weights.json")
    """The JSON file to write."""


def network(widths: tuple[int, ...]) -> models.MLP:
    """The classifier with the given widths of hidden layers."""
    return models.MLP((*widths, NUM_CLASSES))


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images `[size, 784]` and labels `[size]`."""
    random = np.random.default_rng(0)
    images = random.uniform(size=(size, NUM_PIXELS)).astype(np.float32)
    return images, random.integers(0, NUM_CLASSES, size)


def initial_weights(widths: tuple[int, ...]) -> Params:
    """Random initial weights of the classifier."""
    return network(widths).init(jax.random.key(0), jnp.zeros((1, NUM_PIXELS)))["params"]


def log_likelihood(widths: tuple[int, ...], params: Params, rng_key: PRNGKey, example: Any) -> Array:
    """The log likelihood of one image's label."""
    del rng_key
    image, label = example
    logits: Any = network(widths).apply({"params": params}, image)
    return -optax.softmax_cross_entropy_with_integer_labels(logits, label)


def bayesjax_rows(config: Config) -> dict[str, measure.Row]:
    """Rows of samplers, weight posteriors and noise in bayesjax."""
    row = functools.partial(measure.kernel_steps, batch=batch(config.batch_size), num_steps=config.num_steps)

    density = posteriors.log_posterior(
        functools.partial(log_likelihood, SAMPLER_WIDTHS), posteriors.gaussian(), num_data=NUM_DATA
    )

    def loss(params: Params, rng_key: PRNGKey, examples: Any) -> Array:
        return -density(params, rng_key, examples)[0] / NUM_DATA

    weights, step_size = initial_weights(SAMPLER_WIDTHS), LEARNING_RATE / NUM_DATA
    rows = {
        "bayesjax SGD with momentum": row(kernels.optimize(loss, optax.sgd(LEARNING_RATE, momentum=0.9)), weights),
        "bayesjax SGHMC": row(kernels.sghmc(density, step_size=step_size), weights),
        "bayesjax SGHMC, 16-bit law": row(kernels.sghmc(density, step_size=step_size, noise="sixteen_bit"), weights),
        "bayesjax SGHMC T=0": row(kernels.sghmc(density, step_size=step_size, temperature=0.0), weights),
    }

    likelihood, family = functools.partial(log_likelihood, POSTERIOR_WIDTHS), posteriors.mean_field(SCALE)
    weights, sgd = initial_weights(POSTERIOR_WIDTHS), optax.sgd(LEARNING_RATE)
    deterministic = objectives.batch_mean(lambda params, rng_key, example: -likelihood(params, rng_key, example))
    rows["bayesjax deterministic"] = row(kernels.optimize(deterministic, sgd), weights)
    for name, kl in (
        ("weights drawn", lambda variational, drawn: jnp.zeros(())),
        ("KL to a Gaussian", posteriors.kl_to_gaussian()),
        ("KL to a mixture", posteriors.kl_sampled(posteriors.scale_mixture())),
    ):
        bound = objectives.bayes_by_backprop(likelihood, family.sample, kl, num_data=NUM_DATA)
        rows[f"bayesjax {name}"] = row(kernels.optimize(bound, sgd), family.init(weights))

    for name, normals in (
        ("bayesjax.noise", lambda key: noise.normal(key, NUM_NORMALS)),
        ("bayesjax.noise, 16-bit law", lambda key: noise.sixteen_bit_normal(key, NUM_NORMALS)),
        ("jax.random", lambda key: jax.random.normal(key, (NUM_NORMALS,))),
    ):
        program, seconds = measure.compiled(normals, jax.random.key(0))
        run = lambda program=program: jax.block_until_ready(program(jax.random.key(0)))  # noqa: E731
        run()
        rows[f"{name}, {NUM_NORMALS / 1e6:g} M normals"] = measure.Row(run, 1, seconds)
    return rows


def torch_rows(config: Config, library: str) -> dict[str, measure.Row]:
    """Rows of the steps of a PyTorch library."""
    from benchmarks import weights_torch as peer

    examples, rows = batch(config.batch_size), {}
    for name, step in peer.steps(library, examples, NUM_NORMALS).items():

        def run(step: Any = step) -> None:
            for _ in range(config.num_steps):
                step()

        run()
        rows[name] = measure.Row(run, config.num_steps)
    return rows


def check_peers() -> dict[str, float]:
    """Relative differences from bayesjax: each library's logits at small standard deviations, and one KL divergence.

    Raises:
      ArithmeticError: if a difference exceeds TOLERANCE.
    """
    from benchmarks import weights_torch as peer

    images, weights = batch(16)[0], initial_weights(POSTERIOR_WIDTHS)
    expected = np.asarray(network(POSTERIOR_WIDTHS).apply({"params": weights}, images))
    variational = posteriors.mean_field(SCALE).init(weights)
    kl = float(posteriors.kl_to_gaussian()(variational, weights))
    layers = [weights[f"layers_{i}"] for i in range(len(weights))]
    differences = {"bayesian-torch divergence": abs(peer.divergence(layers, SCALE) / kl - 1)}
    for library in ("bayesian-torch", "BLiTZ"):
        found = peer.logits(library, layers, images)
        differences[f"{library} logits"] = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    for name, value in differences.items():
        if not value < TOLERANCE:
            raise ArithmeticError(f"{name}: relative difference {value:.1e} from bayesjax; at most {TOLERANCE:g}")
    return differences


def main(config: Config) -> None:
    """Checks the peers, measures, prints the tables and writes the file."""
    load_average = measure.prepare(config, "num_steps", "batch_size", needs=("torch", "bayesian_torch", "blitz"))
    differences = check_peers()
    sides = {"bayesjax": functools.partial(bayesjax_rows, config)} | {
        library: functools.partial(torch_rows, config, library) for library in ("torch", "bayesian-torch", "BLiTZ")
    }
    with measure.Sides(sides, threads=config.threads) as running:
        times = running.alternate(config.repeats)
    pairs = {
        ("bayesjax SGHMC", "bayesjax SGD with momentum"): "<= 1.25",
        ("bayesjax SGHMC T=0", "bayesjax SGD with momentum"): "- (diagnostics)",
        ("bayesjax weights drawn", "bayesjax deterministic"): "<= 1.5",
        ("bayesjax KL to a Gaussian", "bayesjax deterministic"): "<= 1.5",
        ("bayesjax KL to a mixture", "bayesjax deterministic"): "-",
        ("torch SGD with momentum", "bayesjax SGD with momentum"): "-",
        ("torch deterministic", "bayesjax deterministic"): "-",
        ("bayesian-torch KL to a Gaussian", "bayesjax KL to a Gaussian"): "> 1",
        ("BLiTZ KL to a mixture", "bayesjax KL to a mixture"): "> 1",
    }
    ratios = {" / ".join(pair): measure.ratio(times, *pair, bar) for pair, bar in pairs.items()}
    results = {
        **measure.made_beside_torch(config, load_average, "bayesian-torch", "blitz-bayesian-pytorch"),
        **measure.of_steps(running, times, ratios),
        "differences": differences,
    }
    measure.write(config.out, results)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Config, description=__doc__))
