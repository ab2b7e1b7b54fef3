"""ACGAN: a generator that is told the class of what it makes, and a discriminator that says the class besides.

Paper: Odena, Olah & Shlens, "Conditional image synthesis with auxiliary classifier GANs", ICML 2017. Bayesian: Saatci
& Wilson, "Bayesian GAN", NIPS 2017.

    python -m experiments.acgan                            quick: digits, under a minute
    python -m experiments.acgan --preset mnist             MNIST, a budget for one core (mnist_sghmc)
    python -m experiments.acgan --dataset fashion_mnist --num-steps 5000

Whether an image is of the class it was made for is said by the judge (`judge.py`), a classifier that knows data alone:
the share of samples is the class accuracy. The discriminator's own head has seen the generator and is no judge; what it
says of the same samples, and its error on test images, stand beside. FCD and the score IS are compared with the row of
training images. With --kernel sghmc or sgld the samples are of all kept generators.

Expected: a class accuracy of 99 % on MNIST, in a quarter of an hour of one core.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common, conditional_flags


@dataclass(frozen=True)
class Config(conditional_flags.ConditionalFlags):
    """Flags of experiments.acgan."""

    class_weight: float = 1.0
    """Of the second head's log-likelihood, in both players' losses."""


QUICK = Config(
    latent_dim=16, batch_size=64, num_steps=1000, discriminator_learning_rate=5e-4, generator_learning_rate=1e-3,
    average=0.99, num_judged=1000,
)  # fmt: skip
MNIST = dataclasses.replace(
    QUICK, preset="mnist", dataset="mnist", latent_dim=62, num_steps=4000, average=0.999,
    num_judged=10_000,
)  # fmt: skip
PRESETS = {
    preset.preset: preset
    for plain in (QUICK, MNIST)
    for preset in (plain, dataclasses.replace(plain, preset=f"{plain.preset}_sghmc", kernel="sghmc"))
}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation, models, plots
from bayesjax.models import dcgan
from bayesjax.objectives import auxiliary_classifier
from bayesjax.types import Array, Density, Given, Params, PRNGKey
from experiments import gan_players, labelled_images, parts, tables

NUM_COLUMNS = 12  # of the figures


class Networks(NamedTuple):
    """Both players as pure functions of their weights.

    Attributes:
      init: `rng_key -> {player: params}`.
      make: `(generator's params, noise [n, latent_dim], classes [n]) -> images [n, ...]`.
      say: `(discriminator's params, images [n, ...]) -> (logits [n], logits of the classes [n, num_classes])`.
    """

    init: Callable[[PRNGKey], dict[str, Params]]
    make: Callable[[Params, Array, Array], Array]
    say: Callable[[Params, Array], tuple[Array, Array]]


def networks(config: Config, shape: tuple[int, ...], num_classes: int) -> Networks:
    """The networks of a configuration, for images of a shape, in (-1, 1)."""
    generator: Any = dcgan.Generator(
        shape, config.generator_features, config.norm, config.kernel_size, hidden=config.generator_hidden
    )
    trunk = dcgan.Discriminator(
        shape, 1, config.discriminator_features, config.discriminator_norm, config.kernel_size,
        hidden=config.discriminator_hidden,
    )  # fmt: skip
    discriminator: Any = models.infogan.TwoHeadDiscriminator(trunk, num_classes)

    init = gan_players.initial(generator, discriminator, config.latent_dim + num_classes, shape)

    def make(params: Params, noise: Array, classes: Array) -> Array:
        one_hot = jax.nn.one_hot(classes, num_classes)
        return generator.apply({"params": params}, jnp.concatenate([noise, one_hot], axis=-1))

    return Networks(init, make, lambda params, x: discriminator.apply({"params": params}, x))


def losses(config: Config, net: Networks, num_classes: int) -> dict[str, Density]:
    """Of both players, means per example; beside them how often the second head is right."""

    def draw(rng_key: PRNGKey, num: int) -> tuple[Array, Array]:
        noise_key, class_key = jax.random.split(rng_key)
        noise = models.latent_noise(noise_key, num, config.latent_dim, "uniform")
        return noise, jax.random.randint(class_key, (num,), 0, num_classes)

    def right(said: tuple[Array, Array], classes: Array) -> Array:
        return jnp.mean(said[1].argmax(axis=-1) == classes)

    def discriminator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        real, labels = given.data["x"], given.data["y"]
        noise, classes = draw(rng_key, len(real))
        of_real = net.say(params, real)
        of_fake = net.say(params, net.make(given.others["generator"], noise, classes))
        loss = functools.partial(auxiliary_classifier.discriminator_loss, weight=config.class_weight)
        value = jax.vmap(loss)(of_real, labels, of_fake, classes).mean()
        return value, {"right of real": right(of_real, labels), "right of fake": right(of_fake, classes)}

    def generator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        noise, classes = draw(rng_key, config.batch_size)
        of_fake = net.say(given.others["discriminator"], net.make(params, noise, classes))
        loss = functools.partial(auxiliary_classifier.generator_loss, weight=config.class_weight)
        return jax.vmap(loss)(of_fake, classes).mean(), {"right of fake": right(of_fake, classes)}

    return {"discriminator": discriminator, "generator": generator}


def play(run: common.Experiment, about: labelled_images.Subject) -> dict[str, Any]:
    """The game: what judge and second head say of the classes; leaves images in `parts/`."""
    config, shape, num_classes = run.config, about.train.inputs.shape[1:], about.num_classes
    net = networks(config, shape, num_classes)
    data_key, init_key, look_key, run_key, make_key = jax.random.split(jax.random.key(config.seed), 5)
    few = models.latent_noise(look_key, NUM_COLUMNS, config.latent_dim, "uniform")

    def look(params: Params) -> Array:
        """An image of each class, all of one noise."""
        return net.make(params, jnp.broadcast_to(few[0], (num_classes, config.latent_dim)), jnp.arange(num_classes))

    def make(params: Params, key: PRNGKey, classes: Array) -> Array:
        return net.make(params, models.latent_noise(key, len(classes), config.latent_dim, "uniform"), classes)

    played = gan_players.play(
        run, "acgan", gan_players.stages(config, losses(config, net, num_classes), len(about.train)),
        jax.jit(net.init)(init_key),
        gan_players.batches(config, data_key, {"x": about.train.inputs, "y": about.train.labels}),
        rng_key=run_key, observe=look, keep_discriminators=True,
    )  # fmt: skip
    said = labelled_images.most_probable(lambda params, x: net.say(params, x)[1], played.discriminators)
    images, classes = labelled_images.make_of_each(
        make, played.generators, make_key, config.num_judged, num_classes
    )  # fmt: skip
    result: dict[str, Any] = {
        "own accuracy %": _percent(said(images) == classes),
        "own test error %": _percent(said(about.test.inputs) != about.test.labels),
        "steps": played.steps.tolist(),
        "ms per step": played.milliseconds,
        "right": {
            f"{player}: {name}": np.asarray(values, float).tolist()
            for player, aux in played.aux.items()
            for name, values in aux.items()
        },
    }
    if about.jury is not None:
        reading = about.jury.read(images)
        accuracy = _percent(reading.probabilities.argmax(axis=-1) == classes)
        result["judged"] = {"class accuracy %": accuracy, **about.jury.judged(reading)}
    last = jax.tree.map(lambda leaf: leaf[-1], played.generators)
    way = jnp.linspace(0, 1, NUM_COLUMNS)[:, None]
    rows = {"classes": few, "interpolation": (1 - way) * few[0] + way * few[1]}
    every = np.repeat(np.arange(num_classes), NUM_COLUMNS)
    shown = {name: jax.jit(net.make)(last, jnp.tile(noise, (num_classes, 1)), every) for name, noise in rows.items()}
    arrays: Any = {name: np.asarray(x).reshape(num_classes, NUM_COLUMNS, *shape) for name, x in shown.items()}
    parts.save_arrays(run, "pictures", training=played.checks, **arrays)
    return result


def _percent(values: np.ndarray) -> dict[str, float]:
    estimate = evaluation.mean_estimate(np.asarray(values, float))
    return {name: 100 * value for name, value in estimate._asdict().items()}


def draw(run: common.Experiment, result: dict) -> None:
    """Samples, a row for each class; between two noises; an image of each class along the run."""
    figures = run.out / "figures"
    rows = {name: (pictures + 1) / 2 for name, pictures in parts.load_arrays(run, "pictures").items()}
    names = [f"class {label}" for label in range(len(rows["classes"]))]
    plots.image_grid(figures / "classes.png", rows["classes"], row_names=names, title="a noise for each column")
    title = "from one noise to another"
    plots.image_grid(figures / "interpolation.png", rows["interpolation"], row_names=names, title=title)
    steps = [f"step {step}" for step in result["steps"]]
    plots.image_grid(figures / "training.png", rows["training"], row_names=steps, title="an image of each class")
    curves = {name: (result["steps"], np.array(values)) for name, values in result["right"].items()}
    plots.curves(figures / "right.png", curves, xlabel="steps", ylabel="classes right by the second head")


def main(config: Config) -> None:
    """Plays the game; writes the table, the figures and the results."""
    with common.Experiment("acgan", config) as run:
        conditional_flags.check(config)
        common.require_at_least(config, 0, "class_weight")
        about = labelled_images.load(config)
        result = run.cached("acgan", functools.partial(play, run, about))
        draw(run, result)
        metrics = {f"real {name}": entry for name, entry in (about.jury.real if about.jury else {}).items()}
        metrics |= {
            **result.get("judged", {}),
            **{name: result[name] for name in ("own accuracy %", "own test error %")},
            "ms per step": {"value": result["ms per step"]},
        }
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
