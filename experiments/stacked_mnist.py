"""Stacked MNIST: how many of 1000 modes do GANs cover, alone, as ten coupled generators, and as a Bayesian GAN?

Papers: Metz, Poole, Pfau & Sohl-Dickstein, "Unrolled generative adversarial networks", ICLR 2017 (the measure);
Mescheder et al., "Which training methods for GANs do actually converge?", ICML 2018 (r1); Huang et al., "The GAN is
dead; long live the GAN!", NeurIPS 2024 (r3gan); Saatci & Wilson, "Bayesian GAN", NIPS 2017 (coupled, bayes).

    python -m experiments.stacked_mnist                        quick: r3gan, stacks of digits of 8 pixels, a minute
    python -m experiments.stacked_mnist --preset mnist         stacks of MNIST, sized for two cores
    python -m experiments.stacked_mnist --preset mnist_long    grouped with one and a half times the steps

An image has three random digits as its channels, so the data have 1000 modes with nearly equal probabilities. The
judge (`shared/judge.py`), a classifier of single digits, reads each channel of generated images. The measures are the
number of modes with at least one generated image, and the divergence KL(generated || uniform) over modes. Both depend
on the number of images. The row "training images" has the values of equally many training images.

Methods, all with DCGAN networks, the same number of steps and the same numbers of real and generated images in a step:
    dcgan      one generator, the non-saturating loss
    r1         dcgan with a gradient penalty on real images
    r3gan      the relativistic loss of pairs of real and generated images, with gradient penalties on both
    coupled    --num-generators generators that face one discriminator, the loss of r3gan
    grouped    coupled, and the discriminator also sees how much the images of one generator differ
    bayes      grouped, then a sampler of all weights; images come from all draws of all generators

In coupled, the discriminator judges single images of a mixture, and each generator may specialise on a few digits. In
grouped, its input has further channels: the standard deviation at each pixel over the images of one generator in the
step, or over as many real images.
"""

import functools
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation, plots
from bayesjax.evaluation.judge import Judge
from bayesjax.models import dcgan
from bayesjax.objectives import adversarial
from bayesjax.types import Array, Density, Given, Params, PRNGKey
from experiments.harness import Column, Count, NonEmpty, NonNegative, Run, Table, cli, require, row
from experiments.shared import games, judge, populations
from experiments.shared.populations import Networks

Method = Literal["dcgan", "r1", "r3gan", "coupled", "grouped", "bayes"]
GROUPED = ("grouped", "bayes")  # methods whose discriminator sees deviations
NUM_CLASSES = 10  # digits of a channel
NUM_EVALUATED = 1000  # images in an evaluation during training
NUM_SHOWN = 12  # images of a method in the figure


@dataclass(frozen=True)
class Config(populations.PopulationConfig):
    """Flags of experiments.stacked_mnist."""

    dataset: str = "stacked/digits"
    """Stacks of grey images: `stacked/digits`, `stacked/mnist`, or `stacked/` and another set with labels."""
    methods: tuple[Method, ...] = get_args(Method)
    """Methods to compare; the description above defines them."""
    num_seeds: Count = 1
    """Number of runs of each method; their random seeds are --seed, --seed + 1, ..."""
    batch_size: Count = 80
    """Number of real images, and of images of all generators together, in a step."""
    generator_features: Annotated[tuple[Count, ...], NonEmpty] = (128, 64, 32)
    """Number of channels of each layer of a generator, from the noise to the image."""
    discriminator_features: Annotated[tuple[Count, ...], NonEmpty] = (32, 64, 128)
    """Number of channels of each layer of a discriminator, from the image to the output."""
    r1_penalty: NonNegative = 1.0
    """Weight gamma of the gradient penalties of all methods except dcgan."""
    num_judged: Count = 25_600
    """Number of generated images that are evaluated; 25 600 is the number of Metz et al."""

    def __post_init__(self) -> None:
        """Checks that every stage keeps a draw, and that the data are stacks."""
        super().__post_init__()
        shortest = min(self.num_warmup, self.num_steps - self.num_warmup)
        require(shortest >= self.thinning, f"a stage of {shortest} steps keeps no draw with --thinning {self.thinning}")
        require(self.dataset.startswith("stacked/"), f"--dataset must begin with stacked/; got {self.dataset}")
        num, size = self.num_networks[0], self.batch_size
        require(size % num == 0, f"--batch-size must be a multiple of the {num} generators of a population; got {size}")


QUICK = Config(
    methods=("r3gan",), generator_features=(32, 16), discriminator_features=(16, 32), latent_dim=32,
    num_generators=4, batch_size=32, num_steps=300, num_warmup=200, thinning=50, pool="mean", num_judged=4000,
    generator_learning_rate=1e-3, discriminator_learning_rate=1e-3, momentum=0.0, second_momentum=0.99, decay_from=0.5,
    friction=0.3, learning_rate=1e-3, prior_scale=10.0,
)  # fmt: skip
MNIST = replace(
    QUICK, dataset="stacked/mnist", methods=get_args(Method), generator_features=(64, 32, 16),
    discriminator_features=(16, 32, 64), latent_dim=64, num_generators=10, num_seeds=3, batch_size=80, num_steps=3000,
    num_warmup=2500, thinning=250, num_judged=25_600,
)  # fmt: skip
MNIST_LONG = replace(MNIST, methods=("grouped",), num_steps=4500, num_warmup=3750)
PRESETS = {"quick": QUICK, "mnist": MNIST, "mnist_long": MNIST_LONG}


def note(config: dict) -> str:
    """The note below the table on the training and the evaluation."""
    runs = (
        f"{config['num_seeds']} runs of each method have" if config["num_seeds"] > 1 else "Each method has one run of"
    )
    return (
        f"{runs} {config['num_steps']} steps with {config['batch_size']} real and as many generated images, and "
        f"{config['num_judged']} images are evaluated. A population has {config['num_generators']} generators, which "
        "share the generated images."
    )


TABLES = [
    Table(
        {"method": "method"},
        [Column("modes", digits=1), Column("KL (nats)", digits=3), Column("ms per step", digits=0)],
        note=note,
    )
]

HEADLINE = "stacked_mnist-mnist-stacked_mnist", {"measure": "modes", "method": "bayes"}, 1

# ---- networks, losses and stages


def networks(config: Config, method: Method, shape: tuple[int, ...]) -> Networks:
    """Returns DCGAN networks for images `[n, *shape]` in (-1, 1)."""
    seen = (*shape[:2], 2 * shape[2]) if method in GROUPED else shape
    generator = dcgan.Generator(shape, config.generator_features)
    discriminator = dcgan.Discriminator(seen, 1, config.discriminator_features)
    return populations.networks(generator, discriminator, config.latent_dim, seen)


def numbers(config: Config, method: Method) -> tuple[int, int]:
    """Numbers of generators and of discriminators of a method."""
    return config.num_networks if method in ("coupled", *GROUPED) else (1, 1)


def with_deviations(x: Array, size: int) -> Array:
    """Images `[n, h, w, c]` with c further channels, the standard deviation at each pixel over groups of `size`."""
    groups = x.reshape(-1, size, *x.shape[1:])
    deviation = jnp.sqrt(groups.var(axis=1, keepdims=True) + 1e-6)
    return jnp.concatenate([groups, jnp.broadcast_to(deviation, groups.shape)], axis=-1).reshape(*x.shape[:-1], -1)


def losses(config: Config, net: Networks, method: Method) -> dict[str, Density]:
    """Losses of one discriminator and one generator, given all networks of the other player; means over a batch."""
    game = adversarial.NON_SATURATING.paired() if method in ("dcgan", "r1") else adversarial.RELATIVISTIC
    num_penalised = {"dcgan": 0, "r1": 1}.get(method, 2)  # none, real images, or real and generated images
    num_generators, num_discriminators = numbers(config, method)
    share = config.batch_size // num_generators  # images of a generator

    def pooled(value: Array, num_opponents: int) -> Array:
        return value * (num_opponents if config.pool == "sum" else 1)

    def output(params: Params, x: Array) -> Array:
        return net.logits(params, x)[:, 0]

    def see(x: Array) -> Array:
        return with_deviations(x, share) if method in GROUPED else x

    def discriminator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        fakes = populations.generate_each(net, given.others["generator"], rng_key, share)
        real, fakes = see(given.data.real), see(fakes.reshape(given.data.real.shape))
        real_outputs, fake_outputs = output(params, real), output(params, fakes)
        value = game.discriminator_loss(real_outputs, fake_outputs).mean()
        penalty = functools.partial(adversarial.r1_penalty, lambda x: output(params, x[None])[0])
        for x in (real, fakes)[:num_penalised]:
            value += config.r1_penalty * jax.vmap(penalty)(x).mean()
        return pooled(value, num_generators), {"real": real_outputs.mean(), "fake": fake_outputs.mean()}

    def generator(params: Params, rng_key: PRNGKey, given: Given) -> Array:
        real, fake = see(given.data.real[:share]), see(net.generate(params, rng_key, share))

        def loss(opponent: Params) -> Array:
            return game.generator_loss(output(opponent, real), output(opponent, fake)).mean()

        return pooled(jax.vmap(loss)(given.others["discriminator"]).mean(), num_discriminators)

    return {"discriminator": discriminator, "generator": generator}


def method_stages(config: Config, net: Networks, num_data: int, method: Method) -> list[games.Stage]:
    """The training stages of a method: Adam on the losses, and for bayes then a sampler of prior times exp(-N loss)."""
    num = numbers(config, method)

    def adam(objectives: dict[str, Density], num_steps: int) -> games.Stage:
        moves = [games.adam(config, player, loss, num_steps) for player, loss in objectives.items()]
        return games.Stage("adam", populations.sweep(moves, *num), num_steps, config.thinning)

    objectives = losses(config, net, method)
    if method != "bayes":
        return [adam(objectives, config.num_steps)]
    negative, samplers = games.posterior_moves(config, objectives, num_data)
    num_sampled = config.num_steps - config.num_warmup
    return [
        adam(negative, config.num_warmup),
        games.Stage(
            config.kernel, populations.sweep(samplers.values(), *num), num_sampled, config.thinning, is_sampler=True
        ),
    ]  # fmt: skip


# ---- the experiment


def classify(classifier: Judge, images: Any) -> np.ndarray:
    """The judge's classes of the channels of stacks in (-1, 1), `[num, 3]`."""
    return np.stack([classifier.classes((images[..., [i]] + 1) / 2) for i in range(images.shape[-1])], axis=1)


def coverage(classes: np.ndarray) -> dict[str, float]:
    """The number of modes and their divergence from the uniform distribution, of classes `[num, 3]`."""
    covered = evaluation.label_coverage(classes, NUM_CLASSES)
    return {"modes": float(covered.num_covered), "KL (nats)": covered.divergence}


def play(run: Run, train: np.ndarray, classifier: Judge, method: Method, seed: int) -> dict[str, Any]:
    """Runs one method with one seed.

    Returns:
      Final `measures`, `modes` by `steps` of the training, `samples`, and weights of the `generators`, `[num, ...]`.
    """
    config, shape = run.config, train.shape[1:]
    net = networks(config, method, shape)
    data_key, init_key, evaluation_key, run_key, sample_key = jax.random.split(jax.random.key(seed), 5)
    num = numbers(config, method)
    stages = method_stages(config, net, len(train), method)

    def keep(stage: games.Stage, state: Any) -> dict[str, Any]:
        """Images of all generators, as bytes, and in the stage of a sampler also the generators."""
        generators = state.position["generator"]
        images = populations.generate_each(net, generators, evaluation_key, -(-NUM_EVALUATED // num[0]))
        levels = jnp.round(127.5 * (images.reshape(-1, *shape) + 1)).astype(jnp.uint8)
        return {"images": levels} | ({"generators": generators} if stage.is_sampler else {})

    results = games.run_stages(
        run, f"{method}-seed{seed}", stages, jax.jit(lambda key: net.init(key, *num))(init_key),
        populations.unlabelled_batches(data_key, train, config.batch_size),
        rng_keys=list(jax.random.split(run_key, len(stages))), keep=keep,
    )  # fmt: skip
    state, trace = results[-1]
    generators = state.position["generator"]
    if method == "bayes":  # the networks of all draws
        generators = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), trace.draws["generators"])
    samples = evaluation.sample_mixture(populations.in_chunks(net.generate), generators, sample_key, config.num_judged)
    along = np.concatenate([trace.draws["images"] for _, trace in results]) / 127.5 - 1
    return {
        "measures": coverage(classify(classifier, samples)) | {
            "ms per step": games.timings([trace for _, trace in results])["ms per step"]
        },
        "steps": config.thinning * np.arange(1, len(along) + 1),
        "modes": np.array([coverage(classify(classifier, each))["modes"] for each in along]),
        "samples": samples[:NUM_SHOWN],
        "generators": generators,
    }  # fmt: skip


def sample_run(config: Config, parts: dict[str, dict], rng_key: PRNGKey, num: int) -> dict[str, np.ndarray]:
    """Samples of each method and seed of a finished run, for `experiments.sample`."""
    made = {}
    for method in config.methods:
        for name in (f"{method}-seed{seed}" for seed in range(config.seed, config.seed + config.num_seeds)):
            net = networks(config, method, parts[name]["samples"].shape[1:])
            made[name] = (evaluation.sample_mixture(net.generate, parts[name]["generators"], rng_key, num) + 1) / 2
    return made


def main(config: Config) -> None:
    """Runs every method with every seed, then writes the table, the figures and the results."""
    with Run("stacked_mnist", config, one_device=True) as run:
        train = 2 * data.load(config.dataset, data_dir=config.data_dir or None).train.inputs - 1
        classifier = judge.load(config.dataset.removeprefix("stacked/"), data_dir=config.data_dir or None)
        of_data = coverage(classify(classifier, train[: config.num_judged]))
        rows = [row(measure, value, method="training images") for measure, value in of_data.items()]
        curves, pictures = {}, {}
        for method in config.methods:
            outcomes = [
                run.part(f"{method}-seed{seed}", functools.partial(play, run, train, classifier, method, seed))
                for seed in range(config.seed, config.seed + config.num_seeds)
            ]
            for measure in outcomes[0]["measures"]:
                values = [outcome["measures"][measure] for outcome in outcomes]
                if None not in values:
                    rows.append(row(measure, evaluation.mean_estimate(values), method=method, values=values))
            curves[method] = outcomes[0]["steps"], np.stack([outcome["modes"] for outcome in outcomes])
            pictures[method] = outcomes[0]["samples"]
        title = f"modes among {NUM_EVALUATED} images"
        plots.curves(run.figure("modes.png"), curves, xlabel="steps", ylabel=title)
        grid = (np.stack(list(pictures.values())) + 1) / 2
        plots.image_grid(run.figure("samples.png"), grid, row_names=list(pictures))
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
