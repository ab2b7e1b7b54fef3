"""The Bayesian GAN on images: one DCGAN, independent and coupled generators, and sampled generators, side by side.

Paper: Saatci & Wilson, "Bayesian GAN", NIPS 2017, sections 4.2 to 4.4, whose figures show images of each generator.

    python -m experiments.bayesian_dcgan                           quick: digits of 8 pixels, a minute
    python -m experiments.bayesian_dcgan --preset mnist            MNIST, sized for two cores
    python -m experiments.bayesian_dcgan --preset cifar10_small    CIFAR-10, sized for two cores; cifar10: for a GPU

Methods, all without labels and with the same networks and number of steps:
    dcgan          one generator and one discriminator, Adam
    independent    --num-generators separate games of dcgan, which see the same minibatches
    coupled        as many generators that face one discriminator, Adam
    bayes          coupled on the negative log posterior, then the sampler of all weights

A generated image comes from a random generator and, for bayes, from a random draw. Images are compared with test images
in the features of a classifier (`shared/judge.py`). The columns "of one generator" are means over the generators: how
far the images of a single generator are from the data, and what fraction of the data they cover, with as many images as
it has in the mixture. The figure has a row for each generator, and for bayes a column for each draw.
"""

import functools
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import jax
import numpy as np

from bayesjax import evaluation, kernels, plots, training
from bayesjax.models import dcgan
from bayesjax.types import Params, PRNGKey
from experiments import bayesian_gan
from experiments.harness import Column, Count, NonEmpty, Run, Table, cli, require, row
from experiments.shared import games, images, populations

Method = Literal["dcgan", "independent", "coupled", "bayes"]
NUM_COLUMNS = 12  # images of a generator in the figure
OF_ONE = ("FCD", "recall", "coverage")  # measures of single generators


@dataclass(frozen=True)
class Config(populations.PopulationConfig):
    """Flags of experiments.bayesian_dcgan."""

    dataset: str = "digits"
    """Labelled images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file. The labels
    are used by the judge alone."""
    judge: str = ""
    """Data set whose classifier evaluates generated images; empty means --dataset."""
    methods: tuple[Method, ...] = get_args(Method)
    """Methods to compare; the description above defines them."""
    num_burnin: Count = 100
    """Number of steps of the sampler before the first kept draw."""
    generator_features: Annotated[tuple[Count, ...], NonEmpty] = (64, 32)
    """Number of channels of each layer of a generator, from the noise to the image."""
    discriminator_features: Annotated[tuple[Count, ...], NonEmpty] = (32, 64)
    """Number of channels of each layer of a discriminator, from the image to the output."""
    kernel_size: Count = 5
    """Height and width of the convolution kernels, in pixels."""
    num_judged: Count = 10_000
    """Number of generated images that are evaluated, by all generators together; at least 12 of each."""

    def __post_init__(self) -> None:
        """Checks that there are images of each generator, and that a draw is kept."""
        super().__post_init__()
        num = 12 * self.num_networks[0]
        require(
            self.num_judged >= num, f"--num-judged must be at least {num}, 12 for a generator; got {self.num_judged}"
        )
        left = self.num_steps - self.num_warmup - self.num_burnin
        require(left >= self.thinning, f"no draw is kept in {left} steps with --thinning {self.thinning}")


QUICK = Config(
    methods=("bayes",), generator_features=(32, 16), discriminator_features=(16, 32), kernel_size=3, latent_dim=16,
    num_generators=4, pool="mean", batch_size=32, num_steps=300, num_warmup=200, num_burnin=20, thinning=20,
    generator_learning_rate=1e-3, discriminator_learning_rate=1e-3, friction=0.3, learning_rate=3e-3, prior_scale=10.0,
    num_judged=1000,
)  # fmt: skip
MNIST = replace(
    QUICK, dataset="mnist", methods=get_args(Method), generator_features=(64, 32), discriminator_features=(32, 64),
    kernel_size=5, latent_dim=64, num_generators=6, num_steps=3000, num_warmup=2000, num_burnin=200, thinning=50,
    num_judged=10_000,
)  # fmt: skip
CIFAR10_SMALL = replace(
    MNIST, dataset="cifar10", generator_features=(128, 64, 32), discriminator_features=(32, 64, 128), latent_dim=128,
    num_steps=4000, num_warmup=3000,
)  # fmt: skip
CIFAR10 = replace(CIFAR10_SMALL, generator_features=(512, 256, 128), discriminator_features=(128, 256, 512),
    num_generators=10, batch_size=64, num_steps=40_000, num_warmup=30_000, num_burnin=2000, thinning=200,
)  # fmt: skip
PRESETS = {"quick": QUICK, "mnist": MNIST, "cifar10_small": CIFAR10_SMALL, "cifar10": CIFAR10}
TABLES = [
    Table(
        {"method": "method"},
        [
            Column("FCD"), Column("KCD", digits=4), Column("precision", digits=3), Column("recall", digits=3),
            Column("coverage", digits=3), *[Column(f"{name} of one generator", digits=3) for name in OF_ONE],
            Column("kinetic temperature"), Column("ms per step", digits=0),
        ],
        note=lambda config: (
            f"{config['num_steps']} steps with {config['batch_size']} real images, and as many of each of "
            f"{config['num_generators']} generators; {config['num_judged']} images are evaluated."
        ),
    )
]  # fmt: skip
HEADLINE = "bayesian_dcgan-mnist-mnist", {"measure": "FCD", "method": "bayes"}

# ---- one method


def play(run: Run, subject: images.Images, method: Method) -> dict[str, Any]:
    """Trains with one method.

    Returns:
      The judge's `report` of the mixture of all generators, the mean reports `of one` generator, `images` of each
      generator `[num_generators, NUM_COLUMNS, ...]`, the sampler's "kinetic temperature" and "ms per step".
    """
    config, train = run.config, subject.train.inputs
    shape, num_data = train.shape[1:], len(train)
    generator = dcgan.Generator(shape, config.generator_features, kernel_size=config.kernel_size)
    discriminator = dcgan.Discriminator(shape, 1, config.discriminator_features, kernel_size=config.kernel_size)
    net = populations.networks(generator, discriminator, config.latent_dim, shape)
    data_key, init_key, sample_key, *run_keys = jax.random.split(jax.random.key(config.seed), 5)
    num = config.num_networks if method in ("coupled", "bayes") else (1, 1)
    num_games = config.num_networks[0] if method == "independent" else 1

    def stage(name: str, moves: Any, num_steps: int, num_burnin: int = 0) -> games.Stage:
        game = populations.sweep(moves, *num)
        game = kernels.particles(game, num_games) if method == "independent" else game
        return games.Stage(name, game, num_steps, config.thinning, num_burnin, is_sampler=name == "bayes")

    if method == "bayes":
        prior, temperature = games.prior(config), config.temperature
        warmup = bayesian_gan.optimised(config, net, prior, num_data, config.num_warmup)
        moves = bayesian_gan.sampled(config, net, num_data, temperature)
        stages = [
            stage("warmup", warmup, config.num_warmup),
            stage("bayes", moves, config.num_steps - config.num_warmup, config.num_burnin),
        ]
    else:
        moves = bayesian_gan.optimised(config, net, populations.flat_prior, num_data, config.num_steps)
        stages = [stage("adam", moves, config.num_steps)]

    def init(rng_key: PRNGKey) -> dict[str, Params]:
        if method == "independent":
            return jax.vmap(lambda key: net.init(key, *num))(jax.random.split(rng_key, num_games))
        return net.init(rng_key, *num)

    results = games.run_stages(
        run, method, stages, jax.jit(init)(init_key),
        populations.unlabelled_batches(data_key, train, config.batch_size), rng_keys=run_keys[: len(stages)],
        keep=lambda stage, state: state.position["generator"] if stage.is_sampler else (),
    )  # fmt: skip
    state, trace = results[-1]
    position = training.fetch(state.position)["generator"]
    draws = trace.draws if method == "bayes" else jax.tree.map(lambda leaf: leaf[None], position)
    one = jax.eval_shape(lambda: net.init(init_key, 1, 1))["generator"]
    # Leaves [generators, draws, ...].
    draws = jax.tree.map(lambda leaf, like: leaf.reshape(len(leaf), -1, *like.shape[1:]).swapaxes(0, 1), draws, one)
    each, share = len(jax.tree.leaves(draws)[0]), -(-config.num_judged // max(num[0], num_games))

    generate = populations.in_chunks(net.generate)
    made = [
        evaluation.sample_mixture(generate, jax.tree.map(lambda leaf, i=i: leaf[i], draws), key, share)
        for i, key in enumerate(jax.random.split(sample_key, each))
    ]
    reports = [subject.report(some)[1] for some in made]
    return {
        "report": subject.report(np.concatenate(made))[1],
        "of one": {name: [float(report[name]["value"]) for report in reports] for name in OF_ONE},
        "images": np.stack([some[:NUM_COLUMNS] for some in made]),
        "ms per step": games.timings([trace for _, trace in results])["ms per step"],
        "kinetic temperature": float(np.mean([
            info.kinetic_temperature.mean() for info in trace.info.players.values()
        ])) if method == "bayes" else None,
    }  # fmt: skip


# ---- the experiment


def main(config: Config) -> None:
    """Runs every method; writes the table, the figures and the results."""
    with Run("bayesian_dcgan", config, one_device=True) as run:
        subject = images.load(config)
        rows = [row(name, **values, method="training images") for name, values in subject.training_report.items()]
        for method in config.methods:
            result = run.part(method, functools.partial(play, run, subject, method))
            rows += [row(name, **values, method=method) for name, values in result["report"].items()]
            for name, values in result["of one"].items():
                rows.append(row(f"{name} of one generator", float(np.mean(values)), method=method, values=values))
            rows.append(row("ms per step", result["ms per step"], method=method))
            if result["kinetic temperature"] is not None:
                rows.append(row("kinetic temperature", result["kinetic temperature"], method=method))
            names = [f"generator {i + 1}" for i in range(len(result["images"]))]
            grid = (result["images"] + 1) / 2
            plots.image_grid(run.figure(f"samples-{method}.png"), grid, row_names=names, title=method)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
