"""GANs that learn from few labels: a discriminator of K classes and "fake" against a classifier with the same network.

Papers: Odena, "Semi-supervised learning with generative adversarial networks", ICML workshop 2016; Salimans et al.,
"Improved techniques for training GANs", NIPS 2016. With --kernel sghmc or sgld this is a Bayesian GAN (Saatci & Wilson,
NIPS 2017) with one generator and one discriminator; `bayesian_gan_semisupervised.py` has several of each.

    python -m experiments.semi_supervised_gan                       quick: digits, 100 labels (quick_sghmc)
    python -m experiments.semi_supervised_gan --preset labels       digits, 25 to 1000 labels, five label draws
    python -m experiments.semi_supervised_gan --preset mnist        MNIST, 100 labels, one draw (mnist_sghmc)

Methods, all with the same discriminator network and the same number of steps:
    supervised          the discriminator is trained to classify the labelled images alone
    gan                 it has K + 1 classes, and the generator minimises -log P(real) (Odena)
    feature_matching    as gan, but generated images match the discriminator's mean features of real images (Salimans)

The labelled images are chosen at random, equally many of each class; one such choice is a label draw. The unlabelled
images are the whole training set, whose labels are withheld. The losses are the negative log conditionals of
`bayesjax/posteriors/bayesian_gan.py` without a prior, divided by the number of unlabelled images. The labelled images
together have --label-weight times the weight of the unlabelled ones. With a sampler, a log likelihood is minus the loss
times the number of unlabelled images. Predictions are then averaged over all kept draws, and the classifier is sampled
as well.

Settings are to be chosen on held-out training images (--num-validation). On 240 held-out digits, with 100 labels and
three label draws, a label weight of 5 was as good as 1. Published errors on MNIST with 100 labels are 10.5 % for a
classifier, 7.2 % for Odena's GAN, and 0.93 % for Salimans et al. after far longer training.

Expected (labels, ten minutes of one core): with 100 labels of digits, errors of 13 % for the classifier, 11 % for the
GAN and 15 % with feature matching. On MNIST (mnist, an hour) they are 21, 5 and 17 %.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, plots, posteriors
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Density, Given, Params, PRNGKey
from experiments import bayesian_gan
from experiments.harness import Column, Count, Positive, Run, Table, cli, row
from experiments.harness.provenance import RESULTS
from experiments.shared import few_labels, games, populations

Method = Literal["supervised", "gan", "feature_matching"]
NUM_SHOWN = 12
PUBLISHED = {  # errors on MNIST in %, by number of labels
    "supervised": ("Odena 2016", {1000: 3.5, 100: 10.5, 50: 14.1, 25: 25.0}),
    "gan": ("Odena 2016", {1000: 3.6, 100: 7.2, 50: 11.7, 25: 19.8}),
    "feature_matching": ("Salimans et al. 2016", {20: 16.77, 50: 2.21, 100: 0.93, 200: 0.90}),
}


@dataclass(frozen=True)
class Config(few_labels.FewLabelsConfig, games.PairConfig):
    """Flags of experiments.semi_supervised_gan."""

    methods: tuple[Method, ...] = get_args(Method)
    """Methods to compare; the description above defines them."""
    latent_dim: Count = 32
    """Dimension of the generator's noise."""
    label_weight: Positive = 1.0
    """Weight of all labelled images together, above 0; the unlabelled and the generated images have a weight of 1
    each."""


QUICK = Config(
    batch_size=32, num_steps=400, num_warmup=200, average=0.99, decay_from=0.5,
    generator_learning_rate=1e-3, discriminator_learning_rate=1e-3,
)  # fmt: skip
LABELS = replace(QUICK, num_labelled=(25, 50, 100, 1000), num_label_draws=5, num_steps=1000, num_warmup=500)
MNIST = replace(
    QUICK, dataset="mnist", batch_size=64, num_steps=3000, num_warmup=1500, latent_dim=64, kernel_size=5,
    labelled_batch_size=50, generator_features=(64, 32), discriminator_features=(32, 64),
)  # fmt: skip
PRESETS = {
    f"{name}{suffix}": replace(preset, kernel=kernel)
    for name, preset in (("quick", QUICK), ("labels", LABELS), ("mnist", MNIST))
    for suffix, kernel in (("", "adam"), ("_sghmc", "sghmc"))
}


def describe_run(config: dict) -> str:
    """The note of a table, on the test images, the label draws and the training."""
    images = f"{config['num_validation']} held-out training images" if config["num_validation"] else "the test set"
    num = config["num_label_draws"]
    return (
        f"Errors are on {images}, for {num} label draw{'s' * (num > 1)}. Each network was trained for "
        f"{games.describe_steps(config)} with batches of {config['batch_size']}."
    )


TABLES = [
    Table(
        {"labels": "labels", "method": "method", "kernel": "kernel"},
        [
            Column("error %"), Column("error %", "sd over label draws", field="sd"),
            Column("negative log-likelihood", digits=3), Column("ECE %"), Column("ms per step", digits=1),
            Column("error %", "published error %", field="paper"), Column("error %", "source", field="source"),
        ],
        where={"experiment": None},
        note=describe_run,
    ),
    Table(
        {"labels": "labels", "method": "method", "kernel": "kernel"},
        [Column("error %"), Column("error %", "sd over label draws", field="sd")],
        where={"experiment": "bayesian_gan_semisupervised"},
        note="For comparison, this table has results of experiments.bayesian_gan_semisupervised, with other networks "
        "and ten label draws. The first of them are the label draws above.",
    ),
]  # fmt: skip
HEADLINE = "semi_supervised_gan-mnist-mnist", {"measure": "error %", "method": "gan", "labels": 100}

# ---- losses


def losses(config: Config, net: populations.Networks, method: Method, num_data: int) -> dict[str, Density]:
    """The losses of generator and discriminator, means per unlabelled image."""
    conditionals = bayesian_gan.conditionals(
        net, populations.flat_prior, num_data, batch_size=config.batch_size, num_labelled=config.label_weight * num_data
    )

    def loss(player: str) -> Density:
        """The loss of a conditional density, which expects stacked networks of the other player."""

        def density(params: Params, rng_key: PRNGKey, given: Given) -> Any:
            others = jax.tree.map(lambda leaf: leaf[None], given.others)
            return conditionals[player](params, rng_key, given._replace(others=others))

        return posteriors.as_loss(density, num_data)

    def classification(net: populations.Networks) -> Density:
        log_prob_label = populations.log_prob_label(net)
        return lambda params, rng_key, given: -log_prob_label(params, given.data.labelled, given.data.labels).mean()

    def feature_matching(net: populations.Networks) -> Density:
        def loss(params: Params, rng_key: PRNGKey, given: Given) -> Array:
            discriminator, fakes = given.others["discriminator"], net.generate(params, rng_key, config.batch_size)
            real = given.data.real[-1]  # the real images of the discriminator's last step
            return semi_supervised.feature_matching(
                net.features(discriminator, real), net.features(discriminator, fakes)
            )

        return loss

    if method == "supervised":  # the generator is not trained
        classifier = populations.with_noise(net, classification)
        return {"discriminator": classifier, "generator": lambda params, rng_key, given: jnp.zeros(())}
    is_matched = method == "feature_matching"
    generator = populations.with_noise(net, feature_matching) if is_matched else loss("generator")
    return {"discriminator": loss("discriminator"), "generator": generator}


# ---- the experiment


def minibatches(
    config: Config, rng_key: PRNGKey, train: data.Split, labelled: dict[str, np.ndarray]
) -> Callable[[Array], posteriors.GANBatch]:
    """Minibatches by step, `[discriminator_steps, batch_size, ...]`, with a leading axis for more than one label draw.

    Args:
      config: the batch sizes.
      rng_key: random key of the order of the data.
      train: all training images, whose labels are not used.
      labelled: the result of `few_labels.draw_labelled`.
    """
    real_key, label_key = jax.random.split(rng_key)
    draws, num = labelled["y"].shape
    size = config.discriminator_steps * min(config.labelled_batch_size, num)
    if draws > 1:
        real = games.minibatches(config, real_key, 2 * train.inputs - 1, draws)
        few = data.stacked_minibatches(jax.random.split(label_key, draws), labelled, size)
    else:
        real = games.minibatches(config, real_key, 2 * train.inputs - 1)
        few = data.Minibatches(label_key, jax.tree.map(lambda leaf: leaf[0], labelled), size)
    axis = 1 if draws > 1 else 0

    def batch(real: Callable, few: Callable, step: Array) -> posteriors.GANBatch:
        def split_steps(leaf: Array) -> Array:
            return leaf.reshape(*leaf.shape[:axis], config.discriminator_steps, -1, *leaf.shape[axis + 1 :])

        chosen = jax.tree.map(split_steps, few(step))
        return posteriors.GANBatch(real(step), chosen["x"], chosen["y"])

    return jax.tree_util.Partial(batch, real, few)


def play(run: Run, splits: few_labels.Splits, method: Method, num_labelled: int) -> dict[str, Any]:
    """Trains a method. Returns `errors` (%) and `nll` by label draw, `images` of the first draw, and `ms per step`."""
    config, draws = run.config, run.config.num_label_draws
    net = few_labels.networks(config, splits, config.latent_dim)
    root = jax.random.fold_in(jax.random.key(config.seed), num_labelled)
    data_key, init_key, image_key, run_key = jax.random.split(root, 4)

    def init(rng_key: PRNGKey) -> dict[str, Params]:
        return jax.tree.map(lambda leaf: leaf[0], net.init(rng_key, 1, 1))

    keys = jax.random.split(init_key, draws) if draws > 1 else init_key
    stages = games.pair_stages(config, losses(config, net, method, len(splits.train)), len(splits.train))
    labelled = few_labels.draw_labelled(config, splits, num_labelled)
    played = games.play_pair(
        run, f"{method}-{num_labelled}", stages, jax.jit(jax.vmap(init) if draws > 1 else init)(keys),
        minibatches(config, data_key, splits.train, labelled), rng_key=run_key,
        evaluate=lambda params: net.generate(params, image_key, NUM_SHOWN), num_games=draws if draws > 1 else None,
    )  # fmt: skip
    images, discriminators = played.evaluations[-1], played.discriminators
    if draws == 1:
        images, discriminators = images[None], jax.tree.map(lambda leaf: leaf[:, None], discriminators)
    discriminators = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), discriminators)
    predict = jax.jit(functools.partial(few_labels.predict, net))
    scores = few_labels.score(predict(discriminators, splits.test.inputs), splits.test.labels)
    return scores | {"images": (images[0] + 1) / 2, "ms per step": played.milliseconds}


def bayesian_rows(config: Config) -> list[dict]:
    """Rows with the errors of `bayesian_gan_semisupervised` on the same label draws, from its results if present."""
    path, kernels = RESULTS / "bayesian_gan_semisupervised-paper-digits.json", {"dcgan": "adam", "bayes": "sghmc"}
    if config.dataset != "digits" or config.num_validation or not path.exists():
        return []
    return [
        row(
            "error %", each["value"], method=each["method"], labels=each["labels"], kernel=kernels[each["method"]],
            experiment="bayesian_gan_semisupervised", source=path.name, sd=each["sd"],
        )
        for each in json.loads(path.read_text())["rows"]
        if each["measure"] == "error %" and each["labels"] in config.num_labelled and each["method"] in kernels
    ]  # fmt: skip


def main(config: Config) -> None:
    """Runs every method at every number of labels; writes the table, the figures and the results."""
    with Run("semi_supervised_gan", config, one_device=True) as run:
        splits = few_labels.load(config)
        results = {
            (method, num): run.part(f"{method}-{num}", functools.partial(play, run, splits, method, num))
            for num in config.num_labelled
            for method in config.methods
        }
        rows, images = [], {}
        for (method, num), result in results.items():
            source, published = PUBLISHED[method]
            has_paper = config.dataset == "mnist" and num in published
            rows += few_labels.score_rows(
                method, num, result, **({"paper": published[num], "source": source} if has_paper else {})
            )
            if method != "supervised":
                images[f"{method}, {num} labels"] = result["images"]
        if images:
            plots.image_grid(run.figure("samples.png"), np.stack(list(images.values())), row_names=list(images))
        few_labels.plot_errors(run.figure("errors.png"), results, f"{config.dataset}, {config.kernel}")
        run.finish(rows + bayesian_rows(config), TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
