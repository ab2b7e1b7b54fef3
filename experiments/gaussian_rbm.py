"""Restricted Boltzmann machine with Gaussian visible units, for grey images.

Papers: Cho, Ilin & Raiko, "Improved learning of Gaussian-Bernoulli restricted Boltzmann machines", ICANN 2011;
Melchior, Wang & Wiskott, "Gaussian-binary restricted Boltzmann machines for modeling natural image statistics", PLoS
ONE 2017.

    python -m experiments.gaussian_rbm                                        quick: digits: under a minute
    python -m experiments.gaussian_rbm --preset faces --dataset frey_faces.npy     14 x 10 pixels, 100 hidden units

Pixels are standardised, so that a machine without connections is N(0, 1) for every pixel. Grey values are discrete, so
the likelihood of a continuous density would be unbounded. Uniform noise with the width of one of --num-levels grey
levels is therefore added, anew at every step of training and once to the test images. The variance of every pixel is
learnt. The log density of the standardised pixels is estimated by annealed importance sampling, forward from N(0, I)
and in reverse from the chains.

Persistent Gibbs chains do not leave the neighbourhood of the data once the variances are small. The machine then has
modes far from the data that the training does not see: on the faces the forward estimate of log Z exceeds the reverse
one by tens of nats. With --num-replicas the chains are those of parallel tempering, which find such modes (Cho et al.).

Expected: no published number is known for these images. On patches of natural images PyDeep's forward and reverse
annealing agree to 0.01 nats.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, plots
from bayesjax.evaluation import partition_function
from bayesjax.models import boltzmann
from experiments.harness import Column, Count, Positive, Range, Run, Table, cli, require, row
from experiments.shared import boltzmann as shared
from experiments.shared.boltzmann import FORWARD, REVERSE


@dataclass(frozen=True)
class Config(shared.MachineConfig):
    """Flags of experiments.gaussian_rbm."""

    num_hidden: Count = 64
    """Number of hidden units."""
    shrink: Count = 1
    """Factor by which height and width of the images are reduced; each new pixel is the mean of a square of pixels."""
    num_levels: Annotated[int, Range(least=2)] = 17
    """Number of grey levels of the pixels, which determines the width of the uniform noise."""
    num_replicas: Count = 1
    """Number of replicas of each persistent chain, from independent pixels to the machine (parallel tempering); 1 is
    Gibbs sampling."""
    num_epochs: Count = 100
    """Number of epochs of training."""
    num_evaluations: Count = 4
    """Number of evenly spaced checkpoints whose likelihood is estimated; remaining steps are dropped."""
    learning_rate: Positive = 0.02
    """Learning rate of stochastic gradient descent."""
    variance_rate: Positive = 0.01
    """Learning rate of the log variances of the pixels."""


QUICK = Config(num_temperatures=500)
PRESETS = {
    "quick": QUICK,
    "faces": replace(
        QUICK, dataset="frey_faces.npy", shrink=2, num_hidden=100, num_levels=256, num_replicas=20, num_epochs=300,
        num_evaluations=10, num_temperatures=50_000,
    ),
}  # fmt: skip
INDEPENDENT = "log p(x), N(0, 1) pixels (nats)"
TABLES = [
    Table(
        {"method": "parameterisation"},
        [
            Column(FORWARD, "forward AIS"), Column(REVERSE, "reverse AIS"), Column("AIS gap (nats)", "gap"),
            Column(INDEPENDENT, "independent pixels"), Column("mean standard deviation of a pixel given h"),
            Column("effective chains, forward AIS", "effective chains", 0), Column("seconds per epoch", "s per epoch"),
        ],
        where={"epoch": None},
        note="Log densities are those of the standardised pixels of a test image, in nats.",
    ),
    Table(
        {"epoch": "epoch"},
        [Column(FORWARD, "forward AIS"), Column(REVERSE, "reverse AIS")],
        note="The table has log densities during training, by annealing from each checkpoint to the next.",
    ),
]  # fmt: skip
HEADLINE = "gaussian_rbm-faces-frey_faces", {"measure": FORWARD, "epoch": None}


def shrink(images: shared.Images, factor: int) -> shared.Images:
    """Averages the pixels of squares of `factor` x `factor`.

    Raises:
      ValueError: if the factor does not divide height and width.
    """
    height, width, _ = images.shape
    require(
        height % factor == width % factor == 0,
        f"--shrink must divide height and width of the images, {height} and {width}; got {factor}",
    )
    shape = height // factor, width // factor, 1
    train, test = (
        x.reshape(len(x), shape[0], factor, shape[1], factor).mean((2, 4)).reshape(len(x), -1)
        for x in (images.train, images.test)
    )
    return images._replace(train=train, test=test, shape=shape)


def main(config: Config) -> None:
    """Trains a machine, estimates its log density on test images, and draws filters and samples."""
    with Run("gaussian_rbm", config, one_device=True) as run:
        images = shrink(shared.load(config), config.shrink)
        mean, scale = images.train.mean(axis=0), images.train.std(axis=0) + 1 / config.num_levels
        width = 1 / (config.num_levels - 1)

        def standardise(pixels: jax.Array, rng_key: jax.Array) -> jax.Array:
            dither = width * (jax.random.uniform(rng_key, pixels.shape) - 0.5)
            return (pixels + dither - mean) / scale

        order_key, noise_key, start_key, chain_key = jax.random.split(jax.random.key(config.seed), 4)
        source = data.Minibatches(order_key, images.train, config.batch_size)

        def batches(step: jax.Array) -> jax.Array:
            return standardise(source(step), jax.random.fold_in(noise_key, step))

        test = np.asarray(standardise(jnp.asarray(images.test), jax.random.key(config.seed + 1)))
        zero = np.zeros(len(mean), np.float32)
        model = boltzmann.RBM(len(mean), config.num_hidden, visible_units="gaussian", is_centred=True)
        machine, params = boltzmann.machine(model), shared.start(model, start_key, zero)
        first = partition_function.base_draws(machine, shared.base_machine(params, zero), chain_key, config.num_chains)
        chains = None
        if config.num_replicas > 1:
            chains = shared.tempered_chains(machine, config.num_chains, config.num_replicas, zero)
            first = jnp.repeat(first[:, None], config.num_replicas, axis=1)
        trained = shared.train(
            run, "centred", machine, params, batches, first, num_epochs=config.num_epochs,
            steps_per_epoch=max(1, len(images.train) // config.batch_size), num_evaluations=config.num_evaluations,
            variance_rate=config.variance_rate, chains=chains,
        )  # fmt: skip
        params = trained.params
        samples, _ = shared.equilibrate(run, "centred", machine, params, trained.chains, chains=chains)
        sides = shared.log_partition_functions(run, "centred", machine, params, samples, zero)
        free_energies = jax.jit(jax.vmap(functools.partial(machine.free_energy, params)))
        rows = shared.likelihood_rows(-free_energies(test), sides, method="centred")
        independent = -0.5 * (test**2 + np.log(2 * np.pi)).sum(axis=1)
        rows += [
            row(INDEPENDENT, float(independent.mean()), method="centred"),
            row(
                "mean standard deviation of a pixel given h", float(np.exp(0.5 * params["log_variance"]).mean()),
                method="centred",
            ),
            row("seconds per epoch", trained.seconds_per_epoch, method="centred"),
        ]  # fmt: skip
        if len(trained.epochs) > 1:
            rows += shared.curve_rows(run, "centred", machine, trained, samples, zero, test, method="centred")
        draw(run, machine, params, samples, test, lambda v: (v * scale + mean).reshape(-1, *images.shape))
        run.finish(rows, TABLES)


def draw(
    run: Run, machine: boltzmann.Machine, params: dict, samples: np.ndarray, test: np.ndarray, as_images: Callable
) -> None:
    """Draws filters, samples of the chains beside test images, and reconstructions."""
    shared.draw_filters(run, "centred", params["kernel"], as_images(test[:1]).shape[1:])

    def mean_image(v: jax.Array) -> jax.Array:
        return machine.visible(params, machine.hidden(params, v).sample(seed=jax.random.key(0))).mean()

    v = as_images(np.asarray(jax.jit(jax.vmap(mean_image))(samples[:60])))
    shared.draw_samples(run, np.clip(as_images(test), 0, 1), np.clip(v, 0, 1))
    means = jax.jit(jax.vmap(lambda v: machine.visible(params, machine.hidden(params, v).mean()).mean()))
    pairs = np.stack([as_images(test[:12]), as_images(np.asarray(means(test[:12])))])
    plots.image_grid(run.figure("reconstructions.png"), np.clip(pairs, 0, 1), row_names=["test", "mean"])


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
