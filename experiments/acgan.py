"""ACGAN: the generator is given the class of its image, and the discriminator also classifies.

Paper: Odena, Olah & Shlens, "Conditional image synthesis with auxiliary classifier GANs", ICML 2017. Bayesian: Saatci
& Wilson, "Bayesian GAN", NIPS 2017.

    python -m experiments.acgan                            quick: digits, under a minute
    python -m experiments.acgan --preset mnist             MNIST, sized for one core (mnist_sghmc)
    python -m experiments.acgan --dataset fashion_mnist --num-steps 5000

The class accuracy is the fraction of generated images that the judge (`shared/judge.py`), a classifier trained on data
alone, assigns to the class that the generator was given. The second head of the discriminator also classifies images.
It is trained together with the generator, so its accuracy on generated images is no independent evaluation. The table
has this accuracy, and the head's error on test images, for comparison. FCD and IS are the Fréchet classifier distance
and the inception score by the judge; the table also has those of training images. With --kernel sghmc or sgld,
generated images come from all posterior draws of the generator's weights.

Expected: a class accuracy of 99 % on MNIST, after a quarter of an hour of one core.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, models, plots
from bayesjax.models import dcgan
from bayesjax.objectives import auxiliary_classifier
from bayesjax.types import Array, Density, Given, Params, PRNGKey
from experiments.harness import Column, NonNegative, Run, Table, cli, row
from experiments.shared import conditional, games, images

NUM_COLUMNS = 12  # images in a row of a figure


@dataclass(frozen=True)
class Config(conditional.ConditionalConfig):
    """Flags of experiments.acgan."""

    class_weight: NonNegative = 1.0
    """Weight of the class log likelihood of the second head in the losses of generator and discriminator."""


QUICK = Config(
    latent_dim=16, batch_size=64, num_steps=1000, num_warmup=500, discriminator_learning_rate=5e-4,
    generator_learning_rate=1e-3, average=0.99, num_judged=1000,
)  # fmt: skip
MNIST = replace(
    QUICK, dataset="mnist", latent_dim=62, num_steps=4000, num_warmup=2000, average=0.999, num_judged=10_000
)
PRESETS = {"quick": QUICK, "mnist": MNIST}
PRESETS |= {f"{name}_sghmc": replace(config, kernel="sghmc") for name, config in PRESETS.items()}


def note(config: dict) -> str:
    """The note below the table: training steps, batch size and number of generated images."""
    return (
        f"The networks were trained for {games.describe_steps(config)} with batches of {config['batch_size']}, and "
        f"evaluated with {config['num_judged']} samples."
    )


TABLES = [
    Table(
        {"method": "images"},
        [
            *map(Column, ("class accuracy %", "accuracy of the second head %", "test error of the second head %")),
            *conditional.JUDGE_COLUMNS,
        ],
        note=note,
    )
]
HEADLINE = "acgan-mnist-mnist", {"measure": "class accuracy %"}


class Networks(NamedTuple):
    """The generator and the discriminator as pure functions of their weights."""

    init: Callable[[PRNGKey], dict[str, Params]]  # {player: params}
    generate: Callable[[Params, Array, Array], Array]  # params, noise [n, latent_dim], classes [n] -> images [n, ...]
    discriminate: Callable[[Params, Array], tuple[Array, Array]]  # params, images [n, ...] -> logits [n], [n, classes]


def networks(config: Config, shape: tuple[int, ...], num_classes: int) -> Networks:
    """Returns the generator and the discriminator with two heads, for images `[n, *shape]` in (-1, 1)."""
    generator: Any = dcgan.Generator(
        shape, config.generator_features, config.norm, config.kernel_size, hidden=config.generator_hidden
    )
    trunk = dcgan.Discriminator(
        shape, 1, config.discriminator_features, config.discriminator_norm, config.kernel_size,
        hidden=config.discriminator_hidden,
    )  # fmt: skip
    discriminator: Any = models.infogan.TwoHeadDiscriminator(trunk, num_classes)

    def generate(params: Params, noise: Array, classes: Array) -> Array:
        one_hot = jax.nn.one_hot(classes, num_classes)
        return generator.apply({"params": params}, jnp.concatenate([noise, one_hot], axis=-1))

    def discriminate(params: Params, x: Array) -> tuple[Array, Array]:
        return discriminator.apply({"params": params}, x)

    init = games.initialise(generator, discriminator, config.latent_dim + num_classes, shape)
    return Networks(init, generate, discriminate)


def losses(config: Config, net: Networks, num_classes: int) -> dict[str, Density]:
    """Losses of the discriminator and of the generator, means over a batch; aux is the second head's accuracy."""

    def draw(rng_key: PRNGKey, num: int) -> tuple[Array, Array]:
        noise_key, class_key = jax.random.split(rng_key)
        noise = models.latent_noise(noise_key, num, config.latent_dim, "uniform")
        return noise, jax.random.randint(class_key, (num,), 0, num_classes)

    def accuracy(outputs: tuple[Array, Array], classes: Array) -> Array:
        return jnp.mean(outputs[1].argmax(axis=-1) == classes)

    def discriminator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        images, labels = given.data["x"], given.data["y"]
        noise, classes = draw(rng_key, len(images))
        real = net.discriminate(params, images)
        fake = net.discriminate(params, net.generate(given.others["generator"], noise, classes))
        loss = functools.partial(auxiliary_classifier.discriminator_loss, weight=config.class_weight)
        value = jax.vmap(loss)(real, labels, fake, classes).mean()
        return value, {"real images": accuracy(real, labels), "samples": accuracy(fake, classes)}

    def generator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        noise, classes = draw(rng_key, config.batch_size)
        fake = net.discriminate(given.others["discriminator"], net.generate(params, noise, classes))
        loss = functools.partial(auxiliary_classifier.generator_loss, weight=config.class_weight)
        return jax.vmap(loss)(fake, classes).mean(), {"samples": accuracy(fake, classes)}

    return {"discriminator": discriminator, "generator": generator}


def generate_classes(config: Config, net: Networks, params: Params, rng_key: PRNGKey, classes: Array) -> Array:
    """Images of the given classes `[num]`, from fresh noise."""
    return net.generate(params, models.latent_noise(rng_key, len(classes), config.latent_dim, "uniform"), classes)


def play(run: Run, subject: images.Images) -> dict[str, Any]:
    """Trains both networks.

    Returns:
      `measures`, `{measure: entries of a row}`; the second head's `accuracies` and images (`training`) at `steps`; and
      images of the `classes` and of an `interpolation`, `[num_classes, NUM_COLUMNS, ...]`, and the weights of the
      `generators`, `[num_draws, ...]`.
    """
    config, shape, num_classes = run.config, subject.train.inputs.shape[1:], subject.num_classes
    net = networks(config, shape, num_classes)
    data_key, init_key, evaluation_key, run_key, sample_key = jax.random.split(jax.random.key(config.seed), 5)
    few = models.latent_noise(evaluation_key, NUM_COLUMNS, config.latent_dim, "uniform")

    def one_of_each_class(params: Params) -> Array:
        noise = jnp.broadcast_to(few[0], (num_classes, config.latent_dim))
        return net.generate(params, noise, jnp.arange(num_classes))

    played = games.play_pair(
        run, "acgan", games.pair_stages(config, losses(config, net, num_classes), len(subject.train)),
        jax.jit(net.init)(init_key),
        games.minibatches(config, data_key, {"x": subject.train.inputs, "y": subject.train.labels}),
        rng_key=run_key, evaluate=one_of_each_class,
    )  # fmt: skip
    classify = conditional.classifier(lambda params, x: net.discriminate(params, x)[1], played.discriminators)
    generate = functools.partial(generate_classes, config, net)
    samples, classes = conditional.generate_balanced(
        generate, played.generators, sample_key, config.num_judged, num_classes
    )
    measures: dict[str, dict] = {}
    if subject.classifier is not None:
        reading, report = subject.report(samples)
        measures = {"class accuracy %": percent(reading.probabilities.argmax(axis=-1) == classes), **report}
    measures |= {
        "accuracy of the second head %": percent(classify(samples) == classes),
        "test error of the second head %": percent(classify(subject.test.inputs) != subject.test.labels),
        "ms per step": {"value": played.milliseconds},
    }
    last = jax.tree.map(lambda leaf: leaf[-1], played.generators)
    way, every = jnp.linspace(0, 1, NUM_COLUMNS)[:, None], np.repeat(np.arange(num_classes), NUM_COLUMNS)
    rows = {"classes": few, "interpolation": (1 - way) * few[0] + way * few[1]}
    shown = {
        name: jax.jit(net.generate)(last, jnp.tile(noise, (num_classes, 1)), every) for name, noise in rows.items()
    }
    return {
        "measures": measures,
        "steps": played.steps,
        "generators": played.generators,
        "accuracies": {f"{player}: {name}": x for player, aux in played.aux.items() for name, x in aux.items()},
        "training": played.evaluations,
        **{name: x.reshape(num_classes, NUM_COLUMNS, *shape) for name, x in shown.items()},
    }


def sample_run(config: Config, parts: dict[str, dict], rng_key: PRNGKey, num: int) -> dict[str, np.ndarray]:
    """Samples of all classes in turn from a finished run, for `experiments.sample`."""
    result = parts["acgan"]
    num_classes, _, *shape = result["classes"].shape
    generate = functools.partial(generate_classes, config, networks(config, tuple(shape), num_classes))
    images, _ = conditional.generate_balanced(generate, result["generators"], rng_key, num, num_classes)
    return {"acgan": (images + 1) / 2}


def percent(values: np.ndarray) -> dict[str, float]:
    """The mean of an array of zeros and ones and its standard error, both in per cent."""
    return {name: 100 * value for name, value in evaluation.mean_estimate(values.astype(float))._asdict().items()}


def draw_figures(run: Run, result: dict[str, Any]) -> None:
    """Plots generated images and interpolations of each class, and images and second-head accuracy during training."""
    names = [f"class {label}" for label in range(len(result["classes"]))]
    steps = [f"step {step}" for step in result["steps"]]
    for name, row_names, title in (
        ("classes", names, "the same noise in each column"),
        ("interpolation", names, "from one noise to another"),
        ("training", steps, "an image of each class"),
    ):
        plots.image_grid(run.figure(f"{name}.png"), (result[name] + 1) / 2, row_names=row_names, title=title)
    curves = {name: (result["steps"], values) for name, values in result["accuracies"].items()}
    plots.curves(run.figure("accuracy.png"), curves, xlabel="steps", ylabel="accuracy of the second head")


def main(config: Config) -> None:
    """Trains and evaluates an ACGAN; writes the table, the figures and the results."""
    with Run("acgan", config, one_device=True) as run:
        subject = images.load(config)
        result = run.part("acgan", functools.partial(play, run, subject))
        draw_figures(run, result)
        rows = [row(name, **entry, method="training images") for name, entry in subject.training_report.items()]
        rows += [row(name, **entry, method=config.kernel) for name, entry in result["measures"].items()]
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
