"""GANs that learn from few labels: a discriminator of K classes and "fake" against a classifier with the same network.

Papers: Odena, "Semi-supervised learning with generative adversarial networks", ICML workshop 2016; Salimans et al.,
"Improved techniques for training GANs", NIPS 2016; with --kernel sghmc or sgld, Saatci & Wilson, "Bayesian GAN", NIPS
2017, of whose own players `bayesian_gan_semisupervised.py` has more.

    python -m experiments.semi_supervised_gan                       quick: digits, 100 labels (quick_sghmc)
    python -m experiments.semi_supervised_gan --preset labels       digits, 25 to 1000 labels, five label draws
    python -m experiments.semi_supervised_gan --preset mnist        MNIST, 100 labels, one draw (mnist_sghmc)

Methods, all with one discriminator's network and as many steps:
    supervised          it classifies the labelled images, and sees no others
    gan                 it has K + 1 classes, and the generator -log P(real) to minimise (Odena)
    feature_matching    likewise, and the generator matches the mean of its features at data (Salimans et al.)

Labels are class-balanced and truly withheld: the unlabelled images are the whole training set without its labels, and
the labelled ones are all that anybody knows a label of. The losses are those of `posteriors/bayesian_gan.py` without a
prior, per datum; labelled images count as --label-weight times as many as there are unlabelled ones. With a sampler,
minus such a loss of all data is a log likelihood, and predictions are averaged over all kept draws; the classifier is
then sampled as well. The label draws of digits are the first of the ten of the Bayesian table, which stands beside.

Settings are to be chosen on training images held out (--num-validation). On 240 digits, 100 labels, three draws, a
label weight of 5 was as good as 1. Published, MNIST with 100 labels: 10.5 % for a classifier, 7.2 % for Odena's GAN,
0.93 % for Salimans et al. after far longer training.

Expected (labels): 100 labels of digits leave 13 % of errors to the classifier, 11 % to the GAN, 15 % to the one that
matches features; ten minutes of a core. Of MNIST (mnist) 21, 5 and 17 %; half an hour.
"""

from dataclasses import dataclass, replace

from experiments import common, gan_flags

METHODS = ("supervised", "gan", "feature_matching")


@dataclass(frozen=True)
class Config(gan_flags.PlayerFlags):
    """Flags of experiments.semi_supervised_gan."""

    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets by name, or an .npz file with x_train, y_train, x_test, y_test."""
    methods: tuple[str, ...] = METHODS
    """supervised, gan, feature_matching."""
    num_labelled: tuple[int, ...] = (100,)
    """Labelled images: a row of the table each."""
    num_label_draws: int = 1
    """Independent draws of the labelled images, each with networks of its own, trained side by side."""
    num_validation: int = 0
    """Training images that stand in for the test set, to choose settings by."""
    labelled_batch_size: int = 32
    """Labelled images of a step, at most; all of them if there are fewer."""
    label_weight: float = 1.0
    """How much labelled images count; all real ones count 1, and so do all fakes."""
    latent_dim: int = 32
    """Of the noise, uniform on (-1, 1)."""
    generator_features: tuple[int, ...] = (32, 16)
    """Channels of the generator's layers, from the noise up; one halving of the image each."""
    discriminator_features: tuple[int, ...] = (16, 32)
    """Channels of the discriminator's layers, from the image down."""
    norm: str = "none"
    """group, batch (of the batch at hand) or none."""
    kernel_size: int = 3
    """Of the convolutions."""


QUICK = Config(batch_size=32, num_steps=400, average=0.99, generator_learning_rate=1e-3,
               discriminator_learning_rate=1e-3, decay_from=0.5)  # fmt: skip
LABELS = replace(QUICK, preset="labels", num_labelled=(25, 50, 100, 1000), num_label_draws=5, num_steps=1000)
MNIST = replace(QUICK, preset="mnist", dataset="mnist", batch_size=64, num_steps=3000, latent_dim=64, kernel_size=5,
                labelled_batch_size=50, generator_features=(64, 32), discriminator_features=(32, 64))  # fmt: skip
PRESETS = {
    preset.preset: preset
    for plain in (QUICK, LABELS, MNIST)
    for preset in (plain, replace(plain, preset=f"{plain.preset}_sghmc", kernel="sghmc"))
}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import json
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation, models, plots, posteriors
from bayesjax.models import dcgan
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Density, Given, Params, PRNGKey
from experiments import bayesian_gan_game as game
from experiments import gan_players, parts, tables

AT_A_TIME = 1000  # images in a pass through the discriminators
NUM_SHOWN = 12
PUBLISHED = {  # errors on MNIST in %, by number of labels
    "supervised": ("Odena 2016", {1000: 3.5, 100: 10.5, 50: 14.1, 25: 25.0}),
    "gan": ("Odena 2016", {1000: 3.6, 100: 7.2, 50: 11.7, 25: 19.8}),
    "feature_matching": ("Salimans et al. 2016", {20: 16.77, 50: 2.21, 100: 0.93, 200: 0.90}),
}
BAYESIAN_TABLE = common.RESULTS / "bayesian_gan_semisupervised-paper-digits.json"


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    gan_flags.check(config)
    common.require_names(config, "methods", METHODS)
    common.require_choice(config, "norm", dcgan.NORMS)
    common.require_at_least(config, 1, "num_label_draws", "labelled_batch_size", "latent_dim", "kernel_size")
    common.require_at_least(config, 0, "num_validation")
    common.require_positive(config, "label_weight")
    common.require_all_positive(config, "num_labelled", "generator_features", "discriminator_features")


def splits(config: Config) -> tuple[data.Split, data.Split, int]:
    """Training images, those to judge by, and the number of classes."""
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    common.require(
        len(dataset.input_shape) == 3 and dataset.num_classes > 1,
        f"--dataset {config.dataset} must hold images with labels of two classes or more",
    )
    held, train, judged = config.num_validation, dataset.train, dataset.test
    common.require(held <= len(train) // 2, f"--num-validation must be at most {len(train) // 2}; got {held}")
    if held:
        judged = data.Split(train.inputs[-held:], train.labels[-held:])
        train = data.Split(train.inputs[:-held], train.labels[:-held])
    for features in (config.generator_features, config.discriminator_features):
        dcgan.layer_sizes(dataset.input_shape, len(features))
    for num in config.num_labelled:
        common.require(
            dataset.num_classes <= num <= len(train),
            f"--num-labelled must lie in {dataset.num_classes} .. {len(train)}, from one of each class to all training "
            f"images; got {num}",
        )
    return train, judged, dataset.num_classes


def networks(config: Config, image_shape: tuple[int, ...], num_classes: int) -> game.Networks:
    """A DCGAN sized by the image, as in `bayesian_gan_semisupervised.py`."""
    kernel_init = models.initializers.fan_in_normal(math.sqrt(2)) if config.norm == "none" else dcgan.DCGAN_INIT
    generator = dcgan.Generator(image_shape, config.generator_features, config.norm, config.kernel_size, kernel_init)
    discriminator = dcgan.Discriminator(
        image_shape, num_classes, config.discriminator_features, config.norm, config.kernel_size, kernel_init
    )
    return game.networks(generator, discriminator, config.latent_dim, image_shape)


def losses(config: Config, net: game.Networks, method: str, num_data: int) -> dict[str, Density]:
    """Of both players, means per unlabelled image."""
    log_prob_real = lambda params, x: semi_supervised.log_prob_real(net.logits(params, x))  # noqa: E731
    log_prob_fake = lambda params, x: semi_supervised.log_prob_fake(net.logits(params, x))  # noqa: E731
    conditionals = {
        "discriminator": posteriors.discriminator_conditional(
            net.generate, log_prob_real, log_prob_fake, game.flat, num_data=num_data, batch_size=config.batch_size,
            log_prob_label=game.log_prob_label(net), num_labelled=config.label_weight * num_data,
        ),
        "generator": posteriors.generator_conditional(
            net.generate, log_prob_real, game.flat, num_generated=num_data, batch_size=config.batch_size
        ),
    }  # fmt: skip

    def of_density(density: Density) -> Density:
        def of_one_each(params: Params, rng_key: PRNGKey, given: Given) -> Any:
            others = jax.tree.map(lambda leaf: leaf[None], given.others)
            return density(params, rng_key, Given(given.data, others))

        return posteriors.as_loss(of_one_each, num_data)

    def of_labels(params: Params, rng_key: PRNGKey, given: Given) -> Array:
        return -game.log_prob_label(net)(params, given.data.labelled, given.data.labels).mean()

    def matching(params: Params, rng_key: PRNGKey, given: Given) -> Array:
        judge, fakes = given.others["discriminator"], net.generate(params, rng_key, config.batch_size)
        real = given.data.real[-1]  # of the discriminator's last step
        return semi_supervised.feature_matching(net.features(judge, real), net.features(judge, fakes))

    if method == "supervised":  # the generator stands still
        return {"discriminator": of_labels, "generator": lambda params, rng_key, given: jnp.zeros(())}
    generator = matching if method == "feature_matching" else of_density(conditionals["generator"])
    return {"discriminator": of_density(conditionals["discriminator"]), "generator": generator}


def batches(config: Config, rng_key: PRNGKey, train: data.Split, labelled: dict[str, np.ndarray]) -> Callable:
    """Data by step, `step -> GANBatch`.

    Args:
      config: the batch sizes.
      rng_key: consumed.
      train: all training images, whose labels are not looked at.
      labelled: "x" and "y" of each label draw, `[draws, num, ...]`.
    """
    real_key, label_key = jax.random.split(rng_key)
    draws, num = labelled["y"].shape
    several = draws if draws > 1 else None
    size = config.discriminator_steps * min(config.labelled_batch_size, num)
    real = gan_players.batches(config, real_key, 2 * train.inputs - 1, several)
    if several:
        few = data.stacked_minibatches(jax.random.split(label_key, draws), labelled, size)
    else:
        few = data.Minibatches(label_key, jax.tree.map(lambda leaf: leaf[0], labelled), size)
    axis = 1 if several else 0
    return jax.tree_util.Partial(functools.partial(_batch, axis, config.discriminator_steps), real, few)


def _batch(axis: int, num_steps: int, real: Callable, few: Callable, step: Array) -> posteriors.GANBatch:
    def parted(leaf: Array) -> Array:
        return leaf.reshape(*leaf.shape[:axis], num_steps, -1, *leaf.shape[axis + 1 :])

    labelled = jax.tree.map(parted, few(step))
    return posteriors.GANBatch(real(step), labelled["x"], labelled["y"])


def play(
    run: common.Experiment, train: data.Split, judged: data.Split, num_classes: int, method: str, num_labelled: int
) -> dict[str, Any]:
    """One method at one number of labels, all label draws side by side: errors, and samples."""
    config, num_draws = run.config, run.config.num_label_draws
    net = networks(config, train.inputs.shape[1:], num_classes)
    root = jax.random.fold_in(jax.random.key(config.seed), num_labelled)
    data_key, init_key, look_key, run_key = jax.random.split(root, 4)
    subsets = [
        data.labelled_subset(train, num_labelled, num_classes, seed=1000 * config.seed + draw)
        for draw in range(num_draws)
    ]
    labelled = {
        "x": np.stack([2 * subset.inputs - 1 for subset in subsets]),
        "y": np.stack([subset.labels for subset in subsets]),
    }

    def init(rng_key: PRNGKey) -> dict[str, Params]:
        return jax.tree.map(lambda leaf: leaf[0], net.init(rng_key, 1, 1))

    several = num_draws if num_draws > 1 else None
    keys = jax.random.split(init_key, num_draws) if several else init_key
    position = jax.jit(jax.vmap(init) if several else init)(keys)
    played = gan_players.play(
        run, f"{method}-{num_labelled}",
        gan_players.stages(config, losses(config, net, method, len(train)), len(train)),
        position, batches(config, data_key, train, labelled), rng_key=run_key,
        observe=lambda params: net.generate(params, look_key, NUM_SHOWN), num_games=several, keep_discriminators=True,
    )  # fmt: skip
    images, draws = played.checks[-1], played.discriminators
    if several is None:
        images, draws = images[None], jax.tree.map(lambda leaf: leaf[:, None], draws)
    if method != "supervised":
        parts.save_arrays(run, f"images-{method}-{num_labelled}", images=(images[0] + 1) / 2)
    result: dict[str, Any] = {"errors": [], "nll": [], "ms per step": played.milliseconds}
    for draw in range(num_draws):
        discriminators = jax.tree.map(lambda leaf, draw=draw: leaf[:, draw], draws)
        predictive = predicted(net, discriminators, 2 * judged.inputs - 1)
        result["errors"].append(100 * float(evaluation.error_rate(predictive, judged.labels).value))
        result["nll"].append(float(evaluation.negative_log_likelihood(predictive, judged.labels).value))
    return result


def predicted(net: game.Networks, discriminators: Params, x: np.ndarray) -> np.ndarray:
    """P(class | image, real), the mean over draws, `[num, K]`."""
    classify = lambda params, x: semi_supervised.class_probabilities(net.logits(params, x))  # noqa: E731
    return np.asarray(evaluation.predict_mean(classify, discriminators, x, chunk_size=AT_A_TIME))


def main(config: Config) -> None:
    """Runs every method at every number of labels; writes the table, the figures and the results."""
    with common.Experiment("semi_supervised_gan", config) as run:
        check(config)
        train, judged, num_classes = splits(config)
        metrics, errors = {}, {method: [] for method in config.methods}
        for num in config.num_labelled:
            for method in config.methods:
                compute = functools.partial(play, run, train, judged, num_classes, method, num)
                found = run.cached(f"{method}-{num}", compute)
                metrics |= entries(config, method, num, found)
                errors[method].append(found["errors"])
        metrics |= bayesian_table(config)
        folder = run.out / "figures"
        rows = {
            f"{method}, {num} labels": parts.load_arrays(run, f"images-{method}-{num}")["images"]
            for num in config.num_labelled for method in config.methods if method != "supervised"
        }  # fmt: skip
        if rows:
            plots.image_grid(folder / "samples.png", np.stack(list(rows.values())), row_names=list(rows))
        if len(config.num_labelled) > 1:
            curves = {method: (config.num_labelled, np.array(each).T) for method, each in errors.items()}
            plots.curves(
                folder / "errors.png", curves, xlabel="labelled images", ylabel="error (%)",
                title=f"{config.dataset}, {config.kernel}", log_x=True, log_y=True,
            )  # fmt: skip
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {folder}")


def entries(config: Config, method: str, num: int, found: dict[str, Any]) -> dict[str, dict]:
    """Of a method at a number of labels, what stands in the results file."""
    name, errors = f"{method} N_s={num}", found["errors"]
    sd = float(np.std(errors, ddof=1)) if len(errors) > 1 else math.nan
    error = {"value": float(np.mean(errors)), "sd": sd, "stderr": sd / math.sqrt(len(errors)), "errors": errors}
    source, numbers = PUBLISHED[method]
    if config.dataset == "mnist" and num in numbers:
        error |= {"paper": numbers[num], "source": source}
    return {
        f"{name} error %": error,
        f"{name} nll": {"value": float(np.mean(found["nll"]))},
        f"{name} ms per step": {"value": found["ms per step"]},
    }


def bayesian_table(config: Config) -> dict[str, dict]:
    """The errors of point estimates and posterior in the committed table of the same data, at the same labels."""
    if config.dataset != "digits" or config.num_validation or not BAYESIAN_TABLE.exists():
        return {}
    known = json.loads(BAYESIAN_TABLE.read_text())["metrics"]
    names = [f"{method} N_s={num} error %" for num in config.num_labelled for method in ("dcgan", "bayes")]
    return {
        f"Bayesian table {name}": {
            "value": known[name]["value"],
            "sd": known[name]["sd"],
            "source": BAYESIAN_TABLE.name,
        }
        for name in names
        if name in known
    }


if __name__ == "__main__":
    main(CONFIG)
