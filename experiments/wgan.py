"""Wasserstein GAN against the standard GAN with three generators, of which two lack what stabilises a DCGAN.

Paper: Arjovsky, Chintala & Bottou, "Wasserstein generative adversarial networks", ICML 2017, figures 5 to 7, in which
the standard GAN fails with the second and the third generator, and the Wasserstein GAN does not.

    python -m experiments.wgan                           quick: both losses with mlp, digits of 8 pixels, a minute
    python -m experiments.wgan --preset mnist            MNIST, sized for two cores; cifar10_small: CIFAR-10

Generators, which all face a DCGAN discriminator:
    dcgan      transposed convolutions with normalisation, whose width falls towards the image
    plain      the same layers without normalisation, all of the width of the last
    mlp        four hidden layers of --hidden ReLU units

Losses:
    non_saturating     the standard GAN, one step of the discriminator for each step of the generator
    wasserstein        a critic whose weights are clipped, --critic-steps steps for each step of the generator

Networks, batches and numbers of generator steps are equal for both losses, and every game has its own Adam. Images are
compared with test images in the features of a classifier (`shared/judge.py`).
"""

import functools
import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import jax
import numpy as np

from bayesjax import evaluation, kernels, models, plots
from bayesjax.models import dcgan
from bayesjax.objectives import adversarial
from bayesjax.types import Array, Density, Given, Params, PRNGKey
from experiments.harness import Column, Count, NonEmpty, Positive, Range, Run, Table, cli, row
from experiments.shared import games, images, populations

Generator = Literal["dcgan", "plain", "mlp"]
LossName = Literal["non_saturating", "wasserstein"]
NUM_COLUMNS = 12  # images of a game in the figure
NUM_HIDDEN = 4  # hidden layers of mlp


@dataclass(frozen=True)
class Config(games.PairConfig):
    """Flags of experiments.wgan."""

    dataset: str = "digits"
    """Labelled images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file."""
    judge: str = ""
    """Data set whose classifier evaluates generated images; empty means --dataset."""
    generators: tuple[Generator, ...] = get_args(Generator)
    """Generators to compare; the description above defines them."""
    losses: tuple[LossName, ...] = get_args(LossName)
    """Losses to compare."""
    latent_dim: Count = 64
    """Dimension of the generator's noise, which is standard normal."""
    generator_features: Annotated[tuple[Count, ...], NonEmpty] = (128, 64, 32)
    """Number of channels of each layer of dcgan, from the noise to the image."""
    discriminator_features: Annotated[tuple[Count, ...], NonEmpty] = (32, 64, 128)
    """Number of channels of each layer of the discriminator, from the image to the output."""
    hidden: Count = 512
    """Number of units in each hidden layer of mlp."""
    critic_steps: Count = 5
    """Number of steps of the Wasserstein critic for each step of the generator."""
    clip: Positive = 0.05
    """Bound to which the absolute weights of the Wasserstein critic are clipped."""
    num_judged: Annotated[int, Range(least=12)] = 10_000
    """Number of generated images that are evaluated."""


QUICK = Config(
    generators=("mlp",), latent_dim=16, generator_features=(32, 16), discriminator_features=(16, 32), hidden=64,
    critic_steps=2, batch_size=32, num_steps=300, num_warmup=200, num_evaluations=5, average=0.99,
    generator_learning_rate=5e-4, discriminator_learning_rate=5e-4, num_judged=1000,
)  # fmt: skip
MNIST = replace(
    QUICK, dataset="mnist", generators=get_args(Generator), latent_dim=64, generator_features=(64, 32),
    discriminator_features=(32, 64), hidden=512, critic_steps=5, num_steps=3000, num_warmup=2000, num_evaluations=20,
    average=0.998, num_judged=10_000,
)  # fmt: skip
CIFAR10_SMALL = replace(
    MNIST, dataset="cifar10", generator_features=(128, 64, 32), discriminator_features=(32, 64, 128), latent_dim=128
)
PRESETS = {"quick": QUICK, "mnist": MNIST, "cifar10_small": CIFAR10_SMALL}
PRESETS |= {f"{name}_sghmc": replace(config, kernel="sghmc") for name, config in PRESETS.items()}
GAMES = {"non_saturating": adversarial.NON_SATURATING.paired(), "wasserstein": adversarial.WASSERSTEIN.paired()}
TABLES = [
    Table(
        {"generator": "generator", "method": "loss", "kernel": "kernel"},
        [
            Column("FCD"), Column("KCD", digits=4), Column("precision", digits=3), Column("recall", digits=3),
            Column("coverage", digits=3), Column("ms per step", digits=0),
        ],
        note=lambda config: (
            f"{games.describe_steps(config)} of the generator with batches of {config['batch_size']}; the Wasserstein "
            f"critic takes {config['critic_steps']} steps for each. {config['num_judged']} images are evaluated."
        ),
    )
]  # fmt: skip
HEADLINE = "wgan-mnist-mnist", {"measure": "FCD", "generator": "mlp", "method": "wasserstein"}

# ---- networks and losses


def make_generator(config: Config, name: Generator, shape: tuple[int, ...]) -> Any:
    """The Flax module of a generator, from noise `[num, latent_dim]` to images `[num, *shape]` or flat images."""
    he_normal = models.initializers.fan_in_normal(math.sqrt(2))
    if name == "mlp":
        return models.MLP((config.hidden,) * NUM_HIDDEN + (math.prod(shape),), jax.nn.relu, he_normal)
    if name == "plain":
        features = config.generator_features[-1:] * len(config.generator_features)
        return dcgan.Generator(shape, features, "none", kernel_init=he_normal)
    return dcgan.Generator(shape, config.generator_features)


def losses(config: Config, name: LossName, generate: Any, discriminator: Any) -> dict[str, Density]:
    """Losses of the discriminator and of the generator, means over a batch."""
    game = GAMES[name]

    def output(params: Params, x: Array) -> Array:
        if name == "wasserstein":  # for samplers, since Adam clips
            params = jax.tree.map(lambda w: w.clip(-config.clip, config.clip), params)
        return discriminator.apply({"params": params}, x)[:, 0]

    def of_discriminator(params: Params, rng_key: PRNGKey, given: Given) -> Array:
        fake = generate(given.others["generator"], rng_key, config.batch_size)
        return game.discriminator_loss(output(params, given.data), output(params, fake)).mean()

    def of_generator(params: Params, rng_key: PRNGKey, given: Given) -> Array:
        fake, real = generate(params, rng_key, config.batch_size), given.data[-1]  # data of the last inner step
        outputs = (output(given.others["discriminator"], x) for x in (real, fake))
        return game.generator_loss(*outputs).mean()

    return {"discriminator": of_discriminator, "generator": of_generator}


# ---- the experiment


def play(run: Run, subject: images.Images, generator_name: Generator, name: LossName) -> dict[str, Any]:
    """Trains one game. Returns the judge's `report`, the first `images`, and "ms per step"."""
    is_critic, train = name == "wasserstein", subject.train.inputs
    config = replace(run.config, discriminator_steps=run.config.critic_steps if is_critic else 1)
    shape = train.shape[1:]
    generator = make_generator(config, generator_name, shape)
    discriminator = dcgan.Discriminator(shape, 1, config.discriminator_features)

    def generate(params: Params, rng_key: PRNGKey, num: int) -> Array:
        noise = models.latent_noise(rng_key, num, config.latent_dim, "normal")
        made = generator.apply({"params": params}, noise).reshape(num, *shape)
        return jax.numpy.tanh(made) if generator_name == "mlp" else made

    data_key, init_key, shown_key, run_key, sample_key = jax.random.split(jax.random.key(config.seed), 5)
    constraint = kernels.clip_weights(config.clip) if is_critic else None
    stages = games.pair_stages(
        config, losses(config, name, generate, discriminator), len(train), constraint=constraint
    )  # fmt: skip
    played = games.play_pair(
        run, f"{generator_name}-{name}", stages,
        jax.jit(games.initialise(generator, discriminator, config.latent_dim, shape))(init_key),
        games.minibatches(config, data_key, train), rng_key=run_key,
        evaluate=lambda params: generate(params, shown_key, NUM_COLUMNS),
    )  # fmt: skip
    samples = evaluation.sample_mixture(
        populations.in_chunks(generate), played.generators, sample_key, config.num_judged
    )
    return {"report": subject.report(samples)[1], "images": samples[:NUM_COLUMNS], "ms per step": played.milliseconds}


def main(config: Config) -> None:
    """Plays every game; writes the table, the figure and the results."""
    with Run("wgan", config, one_device=True) as run:
        subject, pictures = images.load(config), {}
        rows = [row(name, **values, generator="training images") for name, values in subject.training_report.items()]
        for generator in config.generators:
            for name in config.losses:
                keys: dict[str, Any] = {"generator": generator, "method": name, "kernel": config.kernel}
                result = run.part(f"{generator}-{name}", functools.partial(play, run, subject, generator, name))
                rows += [row(measure, **values, **keys) for measure, values in result["report"].items()]
                rows.append(row("ms per step", result["ms per step"], **keys))
                pictures[f"{generator}, {name}"] = (result["images"] + 1) / 2
        plots.image_grid(run.figure("samples.png"), np.stack(list(pictures.values())), row_names=list(pictures))
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
