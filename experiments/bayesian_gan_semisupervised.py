"""Semi-supervised learning with few labels: the Bayesian GAN against its point-estimate relatives.

Paper: Saatci & Wilson, "Bayesian GAN", NIPS 2017, section 4.2 and table 1. A discriminator that distinguishes K classes
and "fake" is trained on N_s labelled images and on all N training images without labels. The measure is the test error
as a function of N_s.

    python -m experiments.bayesian_gan_semisupervised                    quick: digits, 100 labels, under a minute
    python -m experiments.bayesian_gan_semisupervised --preset paper     digits, 20 to 200 labels, ten label draws each
    python -m experiments.bayesian_gan_semisupervised --preset mnist     MNIST, dense networks with noise
    python -m experiments.bayesian_gan_semisupervised --preset mnist_long     one GAN with 100 labels, 150 000 steps
    python -m experiments.bayesian_gan_semisupervised --dataset fashion_mnist     any image set by name, or .npz file

Methods, all with the same networks and the same number of steps; quick runs two, paper all except authors_code:
    supervised     the discriminator's network on the labelled images alone
    dcgan          one generator, one discriminator, Adam
    w_dcgan        dcgan with a weight-clipped Wasserstein critic in place of the probability that an image is real
    dcgan_10       ten independent dcgans, whose predictions are averaged
    ml_coupled     J_g generators that face J_d discriminators, Adam
    bayes          networks as in ml_coupled: Adam, then the sampler; predictions are averaged over all kept draws
    bayes_10       ten independent games with the networks of dcgan, each sampled as in bayes
    authors_code   networks as in ml_coupled, losses of the released program (`shared/released_bayesian_gan.py`)

A label draw is a random, class-balanced choice of the labelled images. All label draws of a row of the table are
trained at once, as one vmapped pytree. The unlabelled images are the whole training set, whose labels are withheld. The
Bayesian GAN's settings were chosen by hand on 240 held-out training images (--num-validation 240), at 50 and 200
labels. The baselines have the same networks and batches with Adam's usual settings, and have not been tuned.

The presets depart from the paper in four respects. First, J_g = 2 and J_d = 5, where the paper has 10 and 1. On images
of 8 x 8, more generators made the discriminator worse, and more discriminators made the average better. Second, the
likelihood is a mean over the opposing networks. Third, the prior's standard deviation is 10 / sqrt(fan-in). Fourth, the
labelled images count as N data in the likelihood.

Expected (paper preset, 20 minutes): the error of bayes is below that of supervised at every number of labels, and
below that of dcgan from 50 labels on. It is above that of dcgan_10, which is ten independent runs, up to 50 labels.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, plots, posteriors, training
from bayesjax.types import Array, Density, Given, Kernel, Params, PRNGKey
from experiments import bayesian_gan
from experiments.harness import Column, Natural, Positive, Run, Table, cli, require, row
from experiments.shared import few_labels, games, populations, released_bayesian_gan
from experiments.shared.populations import Networks

Method = Literal["supervised", "dcgan", "w_dcgan", "dcgan_10", "ml_coupled", "bayes", "bayes_10", "authors_code"]


@dataclass(frozen=True)
class Config(few_labels.FewLabelsConfig, populations.PopulationConfig):
    """Flags of experiments.bayesian_gan_semisupervised."""

    methods: tuple[Method, ...] = ("supervised", "bayes")
    """Methods to compare; the description above defines them."""
    labels_count_as: Literal["labelled", "unlabelled"] = "unlabelled"
    """Number of data for which the labelled images count in the likelihood; labelled is N_s, and unlabelled is N, as in
    the released code. If N_s << N, the terms of real and fake images outweigh the labels under labelled."""
    generator_loss: populations.GeneratorLoss = "likelihood"
    """Loss of the generators, except that of w_dcgan and of authors_code. feature_matching is the squared distance
    between the mean features of real and generated images; times N, it takes the place of a negative log likelihood."""
    num_burnin: Natural = 50
    """Number of burn-in steps of the sampler, from which no draw is kept."""
    num_cycles: Natural = 0
    """Number of cycles of the sampler's step size, each a cosine that starts at --learning-rate and ends at 0. In the
    first four fifths of a cycle the temperature is 0, and no draw is kept. 0 keeps the step size constant. The burn-in
    has no effect on cycles."""
    clip: Positive = 0.1
    """Bound to which the absolute weights of the Wasserstein critic (w_dcgan) are clipped."""

    def __post_init__(self) -> None:
        """Checks that the sampler keeps a draw, and that no batch is divided over devices under batch normalisation."""
        super().__post_init__()
        left = self.num_steps - self.num_warmup - self.num_burnin
        require(
            left >= self.thinning,
            f"no draw is kept: {left} steps remain after warm-up and burn-in, and --thinning is {self.thinning}",
        )
        if self.num_cycles:
            require(
                self.kernel == "sghmc" and self.temperature > 0, "--num-cycles needs SGHMC and a temperature above 0"
            )
            kept = cycle(self, 1).sampling_draws(self.num_steps - self.num_warmup, thinning=self.thinning)
            require(bool(kept.any()), f"no draw is kept in {self.num_cycles} cycles with --thinning {self.thinning}")
        is_batch_free = self.norm != "batch" and self.architecture == "dcgan" and self.generator_loss == "likelihood"
        require(
            is_batch_free or self.devices == self.processes == 1 or self.data_devices == 1,
            "--norm batch, --architecture mlp_noise and --generator-loss feature_matching need whole batches; on "
            "several devices, add --data-devices 1",
        )
        require(
            self.architecture == "dcgan" or "authors_code" not in self.methods,
            "the method authors_code has no noise in its networks; it needs --architecture dcgan",
        )


QUICK = Config(
    num_generators=2, num_discriminators=5, pool="mean",
    batch_size=16, num_warmup=250, num_steps=500, thinning=5, friction=0.3, learning_rate=3e-2, prior_scale=10.0,
    generator_learning_rate=1e-3, discriminator_learning_rate=1e-3,
)  # fmt: skip
PAPER = replace(
    QUICK, methods=get_args(Method)[:-1], num_labelled=(20, 50, 100, 200), num_label_draws=10,
    num_warmup=400, num_steps=1000, num_burnin=100, thinning=10,
)  # fmt: skip
MNIST = replace(
    PAPER, dataset="mnist", architecture="mlp_noise", generator_loss="feature_matching", latent_dim=100,
    generator_features=(250, 250), discriminator_features=(500, 250, 250), batch_size=50, labelled_batch_size=50,
    generator_learning_rate=3e-3, discriminator_learning_rate=3e-3, learning_rate=0.1, num_warmup=2000, num_steps=3000,
    num_burnin=200, thinning=20,
)  # fmt: skip
MNIST_LONG = replace(
    MNIST, methods=("dcgan",), num_labelled=(100,), batch_size=100, labelled_batch_size=100,
    num_steps=150_000, decay_from=0.5,
)  # fmt: skip
PRESETS = {"quick": QUICK, "paper": PAPER, "mnist": MNIST, "mnist_long": MNIST_LONG}
NUM_GAMES = 10  # number of games of dcgan_10 and bayes_10
DIFFERENCES = {"error %": 2, "negative log-likelihood": 3, "ECE %": 2}  # measures and digits
REFERENCES = {"bayes": ("error %",), "dcgan_10": tuple(DIFFERENCES)}  # from which others' differences are reported
TABLES = [
    Table(
        {"labels": "labels", "method": "method"},
        [
            Column("error %", digits=1), Column("error %", "sd over label draws", 1, field="sd"),
            Column("error % minus that of bayes", "paired difference from bayes", 1),
            Column("negative log-likelihood", digits=3), Column("ECE %", digits=1),
            Column("network steps", digits=0), Column("ms per step", digits=1),
        ],
    ),
    Table(
        {"labels": "labels", "method": "method"},
        [Column(f"{measure} minus that of dcgan_10", measure, digits) for measure, digits in DIFFERENCES.items()],
        note="Values of each method minus those of dcgan_10, paired over the label draws.",
    ),
]  # fmt: skip
HEADLINE = "bayesian_gan_semisupervised-paper-digits", {"measure": "error %", "method": "bayes", "labels": 50}

# ---- losses of the baselines; the densities of the Bayesian GAN are in `bayesian_gan.py`


def supervised_loss(net: Networks, params: Params, rng_key: PRNGKey, batch: Given) -> Array:
    """The mean cross-entropy of the labelled images of a batch."""
    return -populations.log_prob_label(net)(params, batch.data.labelled, batch.data.labels).mean()


def wasserstein_losses(config: Config, net: Networks) -> dict[str, Density]:
    """Wasserstein losses with the critic log sum_k exp m_k of the logits m_k, which is unbounded."""

    def rate(params: Params, x: Array) -> Array:
        return jax.nn.logsumexp(net.logits(params, x), axis=-1).mean()

    def critic(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        fakes = populations.generate_each(net, batch.others["generator"], rng_key, config.batch_size)[0]
        difference = rate(params, fakes) - rate(params, batch.data.real)
        return difference + supervised_loss(net, params, rng_key, batch)

    def generator(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        only = jax.tree.map(lambda leaf: leaf[0], batch.others["discriminator"])
        return -rate(only, net.generate(params, rng_key, config.batch_size))

    return {"discriminator": critic, "generator": generator}


# ---- the kernels of each method


def is_repeated(method: Method) -> bool:
    """Whether a method plays NUM_GAMES independent games, whose predictions are averaged."""
    return method in ("dcgan_10", "bayes_10")


def num_networks(config: Config, method: Method) -> tuple[int, int]:
    """Number of generators and of discriminators in one game."""
    return config.num_networks if method in ("ml_coupled", "bayes", "authors_code") else (1, 1)


def cycle(config: Config, num_data: int) -> kernels.Cyclical:
    """The cycles of the step size and of the temperature of bayes and bayes_10."""
    return kernels.cyclical(
        config.learning_rate / num_data, num_steps=config.num_steps - config.num_warmup, num_cycles=config.num_cycles,
        temperature=config.temperature,
    )  # fmt: skip


def method_stages(config: Config, net: Networks, num_data: int, num_labelled: int, method: Method) -> list[games.Stage]:
    """The training stages of a method on one labelled set: one stage of Adam, or a warm-up and a second stage."""
    num, num_steps, num_warmup = num_networks(config, method), config.num_steps, config.num_warmup
    options: dict[str, Any] = {
        "num_labelled": num_data if config.labels_count_as == "unlabelled" else num_labelled,
        "generator_loss": config.generator_loss,
    }

    def game(moves: Sequence[Kernel]) -> Kernel:
        players = populations.sweep(moves, *num)
        return kernels.particles(players, NUM_GAMES) if is_repeated(method) else players

    def released(optimizer: optax.GradientTransformation) -> Kernel:
        moves = released_bayesian_gan.players(
            net, optimizer, batch_size=config.batch_size, num_data=num_data, prior_scale=1.0, friction=0.01,
            learning_rate=2e-4,
        )  # fmt: skip
        return game(moves)

    match method:
        case "supervised":
            loss = populations.with_noise(net, lambda net: functools.partial(supervised_loss, net))
            learner = games.adam(config, "discriminator", loss, num_steps)
            return [games.Stage(method, kernels.alternate(discriminator=kernels.particles(learner, num[1])), num_steps)]
        case "w_dcgan":
            clip = kernels.clip_weights(config.clip)
            losses = {
                player: populations.with_noise(net, lambda net, player=player: wasserstein_losses(config, net)[player])
                for player in ("discriminator", "generator")
            }
            critic = games.adam(config, "discriminator", losses["discriminator"], num_steps, clip)
            generator = games.adam(config, "generator", losses["generator"], num_steps)
            return [games.Stage(method, game((critic, generator)), num_steps)]
        case "dcgan" | "ml_coupled" | "dcgan_10":
            moves = bayesian_gan.optimised(config, net, populations.flat_prior, num_data, num_steps, **options)
            return [games.Stage(method, game(moves), num_steps)]
        case "authors_code":
            warmup = released(optax.adam(released_bayesian_gan.schedule(5e-3, num_data, config.batch_size), b1=0.5))
            then = released(optax.sgd(5e-3 * released_bayesian_gan.DECAY, momentum=0.5))
            last = games.Stage(method, then, num_steps - num_warmup)
        case "bayes" | "bayes_10":
            warmup = game(bayesian_gan.optimised(config, net, games.prior(config), num_data, num_warmup, **options))
            if config.num_cycles:
                options["cycle"] = cycle(config, num_data)
            then = game(bayesian_gan.sampled(config, net, num_data, config.temperature, **options))
            num_burnin = 0 if config.num_cycles else config.num_burnin
            last = games.Stage(method, then, num_steps - num_warmup, config.thinning, num_burnin, is_sampler=True)
    return [games.Stage(f"{method}-warmup", warmup, num_warmup), last]


# ---- the experiment


def minibatches(
    config: Config, rng_keys: tuple[PRNGKey, PRNGKey], train: data.Split, labelled: dict[str, np.ndarray]
) -> Any:
    """The function `step -> GANBatch`, whose arrays have a leading axis of label draws.

    Every label draw has its own labelled images, and its own minibatches of unlabelled images.
    """
    real_key, label_key = rng_keys
    draws, num_labelled = labelled["y"].shape
    by_image = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), labelled)

    def batch(unlabelled: Any, few: Any, step: Array) -> posteriors.GANBatch:
        real = jax.vmap(unlabelled)(step * draws + jnp.arange(draws))
        chosen = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), few(step))
        return posteriors.GANBatch(real, chosen["x"], chosen["y"])

    return jax.tree_util.Partial(
        batch,
        data.Minibatches(real_key, 2 * train.inputs - 1, config.batch_size),
        data.Minibatches(label_key, by_image, min(config.labelled_batch_size, num_labelled)),
    )


class Trained(NamedTuple):
    """The outcome of training with one method and one number of labels.

    Attributes:
      probabilities: class probabilities of the test images, averaged over networks, by kept draw of the sampler,
        `[num_draws, num_label_draws, n, K]`; an optimised method has one draw.
      position: final weights of all networks, leaves `[num_label_draws, (games,) networks, ...]`.
      traces: the traces of the stages.
      num_updates: number of updates of a network for one label draw.
    """

    probabilities: np.ndarray
    position: dict[str, Params]
    traces: list[training.Trace]
    num_updates: int


def train(
    run: Run, config: Config, net: Networks, splits: few_labels.Splits, method: Method, num_labelled: int, name: str
) -> Trained:
    """Trains the networks of a method for all label draws; `name` is that of its progress bars and checkpoints."""
    draws, num = config.num_label_draws, num_networks(config, method)
    root = jax.random.fold_in(jax.random.key(config.seed), num_labelled)
    real_key, label_key, init_key, run_key = jax.random.split(root, 4)
    labelled = few_labels.draw_labelled(config, splits, num_labelled)

    def init(rng_key: PRNGKey) -> dict[str, Params]:
        if is_repeated(method):
            return jax.vmap(lambda key: net.init(key, *num))(jax.random.split(rng_key, NUM_GAMES))
        return net.init(rng_key, *num)

    position = jax.jit(jax.vmap(init))(jax.random.split(init_key, draws))
    one = jax.eval_shape(lambda: net.init(init_key, 1, 1))["discriminator"]
    if method == "supervised":
        position = {"discriminator": position["discriminator"]}
    stages = method_stages(config, net, len(splits.train), num_labelled, method)
    test_images = jnp.asarray(splits.test.inputs)

    def predict(discriminators: Params) -> Array:
        """The mean prediction of all discriminators of a label draw."""
        stacked = jax.tree.map(lambda leaf, like: leaf.reshape(draws, -1, *like.shape[1:]), discriminators, one)
        return few_labels.predict(net, stacked, test_images)

    results = games.run_stages(
        run, name, stages, position, minibatches(config, (real_key, label_key), splits.train, labelled),
        rng_keys=[jax.random.fold_in(run_key, index) for index in range(len(stages))], num_games=draws,
        keep=lambda stage, state: predict(state.position["discriminator"]) if stage.is_sampler else (),
    )  # fmt: skip
    position, traces = training.fetch(results[-1][0].position), [trace for _, trace in results]
    if not stages[-1].is_sampler:
        probabilities = np.asarray(jax.jit(predict)(position["discriminator"]))[None]
    else:
        probabilities, length = traces[-1].draws, config.num_steps - config.num_warmup
        if config.num_cycles:
            probabilities = probabilities[cycle(config, 1).sampling_draws(length, thinning=config.thinning)]
    per_step = sum(num) * (NUM_GAMES if is_repeated(method) else 1) if "generator" in position else num[1]
    return Trained(probabilities, position, traces, config.num_steps * per_step)


def play(run: Run, splits: few_labels.Splits, method: Method, num_labelled: int) -> dict[str, Any]:
    """Trains a method. Returns its scores, `images` of the first label draw, and times for `few_labels.score_rows`."""
    config = run.config
    net = few_labels.networks(config, splits, config.latent_dim)
    trained = train(run, config, net, splits, method, num_labelled, f"{num_labelled}-labels")
    result: dict[str, Any] = few_labels.score(trained.probabilities.mean(axis=0), splits.test.labels) | {
        "images": None, "ms per step": games.timings(trained.traces)["ms per step"],
        "network steps": trained.num_updates,
    }  # fmt: skip
    if "generator" in trained.position:
        like = jax.eval_shape(lambda: net.init(jax.random.key(0), 1, 1))["generator"]
        generators = jax.tree.map(
            lambda leaf, like: leaf[0].reshape(-1, *like.shape[1:]), trained.position["generator"], like
        )
        image_key = jax.random.fold_in(jax.random.key(config.seed), num_labelled)
        images = jax.jit(functools.partial(populations.generate_each, net, num=12))(generators, image_key)
        result["images"] = (images + 1) / 2
    return result


def differences(results: Mapping[tuple[str, int], Mapping[str, Any]]) -> list[dict]:
    """Result rows with the scores of each method minus those of REFERENCES, paired over label draws."""
    rows, names = [], dict(zip(DIFFERENCES, ("errors", "nll", "ece"), strict=True))
    for (method, num), result in results.items():
        for reference, measures in REFERENCES.items():
            base = results.get((reference, num))
            if method == reference or base is None or len(result["errors"]) < 2:
                continue
            for measure in measures:
                estimate = evaluation.mean_estimate(result[names[measure]] - base[names[measure]])
                rows.append(row(f"{measure} minus that of {reference}", estimate, method=method, labels=num))
    return rows


def main(config: Config) -> None:
    """Runs every method at every number of labels, then writes the table, the figures and the results."""
    with Run("bayesian_gan_semisupervised", config) as run:
        splits = few_labels.load(config)
        results = {
            (method, num): run.part(f"{method}-{num}", functools.partial(play, run, splits, method, num))
            for num in config.num_labelled
            for method in config.methods
        }
        last = config.num_labelled[-1]
        for method in config.methods:
            if (images := results[method, last]["images"]) is not None:
                title = f"{method}, {config.dataset}, {last} labels: a row for each generator"
                plots.image_grid(run.figure(f"samples-{method}.png"), images, title=title)
        few_labels.plot_errors(run.figure("errors.png"), results, config.dataset)
        rows = [
            each for (method, num), result in results.items() for each in few_labels.score_rows(method, num, result)
        ]
        run.finish(rows + differences(results), TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
