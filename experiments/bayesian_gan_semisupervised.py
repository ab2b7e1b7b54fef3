"""Semi-supervised learning with few labels: the Bayesian GAN against its point-estimate relatives.

Paper: Saatci & Wilson, "Bayesian GAN", NIPS 2017, section 4.2 and table 1: a discriminator of K classes and "fake" sees
N_s labelled images and all others without their labels; test error against N_s.

    python -m experiments.bayesian_gan_semisupervised                    quick: digits, 100 labels, under a minute
    python -m experiments.bayesian_gan_semisupervised --preset paper     digits, 20 to 200 labels, ten label draws each
    python -m experiments.bayesian_gan_semisupervised --dataset mnist    any image set by name, or an .npz file

Methods, all with the same networks and the same number of steps; quick runs two, paper all but the last:
    supervised     the discriminator's network on the labelled images alone
    dcgan          one generator, one discriminator, Adam
    w_dcgan        the same with a clipped Wasserstein critic in place of real-or-fake
    dcgan_10       ten independent dcgans, their predictions averaged
    ml_coupled     J_g generators facing J_d discriminators, Adam
    bayes          the same players, Adam to warm up and then SGHMC; predictions averaged over all kept draws
    authors_code   the same players as the released program moves them (`shared/released_bayesian_gan.py`)

All label draws of a row are trained at once, as one vmapped pytree. Labels are class-balanced and truly withheld:
the unlabelled images are the whole training set without labels. The Bayesian GAN's settings were chosen by hand on a
validation split (--evaluate-on validation: 240 training images set aside), at 50 and 200 labels; the baselines share
its networks, its batches and Adam's usual settings, and have not been tuned.

Where the presets depart from the paper: J_g = 2 and J_d = 5 (paper 10 and 1: on images of 8 x 8 more generators made
the discriminator worse and more discriminators made the average better), the mean over the other player's networks, a
prior whose sd is 10 / sqrt(fan-in), and labels that count as N. Expected (paper preset, about an hour): bayes below
supervised everywhere and below dcgan, and above dcgan_10, which is ten independent runs.
"""

from dataclasses import dataclass, replace

from experiments import bayesian_gan_flags, common

METHODS = ("supervised", "dcgan", "w_dcgan", "dcgan_10", "ml_coupled", "bayes", "authors_code")


@dataclass(frozen=True)
class Config(bayesian_gan_flags.GameFlags):
    """Flags of experiments.bayesian_gan_semisupervised."""

    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets by name, or an .npz file with x_train, y_train, x_test, y_test."""
    methods: tuple[str, ...] = METHODS
    """Which methods to run."""
    num_labelled: tuple[int, ...] = (100,)
    """N_s: one row of the table each."""
    num_label_draws: int = 1
    """Independent draws of the labelled set, each with networks of its own."""
    evaluate_on: str = "test"
    """test, or validation: training images set aside, to choose settings on."""
    prior: str = "fan_in"
    """gaussian: prior_scale on every weight; fan_in: prior_scale / sqrt(fan-in) on the weights of a layer."""
    labels_count_as: str = "unlabelled"
    """How many data the labelled images count as in the likelihood: their number (labelled), or N (unlabelled), as the
    released code has it. With N_s << N the first lets the real-or-fake terms drown the labels."""
    generator_features: tuple[int, ...] = (32, 16)
    """Channels of the generator's layers, from the noise up; one halving of the image each."""
    discriminator_features: tuple[int, ...] = (16, 32)
    """Channels of the discriminator's layers, from the image down."""
    norm: str = "none"
    """group, batch or none. Batch norm makes an image's logits depend on its batch."""
    kernel_size: int = 3
    """Of the convolutions."""
    labelled_batch_size: int = 32
    """Labelled images in a step, at most; all of them if there are fewer."""
    num_burnin: int = 50
    """SGHMC steps before the first kept draw."""
    clip: float = 0.1
    """Bound on the weights of the Wasserstein critic."""


QUICK = Config(
    methods=("supervised", "bayes"), num_generators=2, num_discriminators=5, pool="mean", prior_scale=10.0,
    latent_dim=32, batch_size=16, friction=0.3, learning_rate=3e-2,
    warmup=250, num_steps=500, num_burnin=50, thinning=5,
)  # fmt: skip
PAPER = replace(
    QUICK, preset="paper", methods=METHODS[:-1], num_labelled=(20, 50, 100, 200), num_label_draws=10,
    warmup=400, num_steps=1000, num_burnin=100, thinning=10,
)  # fmt: skip
PRESETS = {"quick": QUICK, "paper": PAPER}


if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, plots, posteriors, training
from bayesjax.models import dcgan
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Given, Kernel, Params, PRNGKey
from experiments import bayesian_gan_game as game
from experiments import parts, tables
from experiments.shared import released_bayesian_gan


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    bayesian_gan_flags.check(config, METHODS)
    common.require_positive(config, "clip")
    common.require_at_least(config, 1, "num_label_draws", "labelled_batch_size", "kernel_size")
    common.require_all_positive(config, "generator_features", "discriminator_features", "num_labelled")
    common.require_choice(config, "evaluate_on", ("test", "validation"))
    common.require_choice(config, "labels_count_as", ("labelled", "unlabelled"))
    common.require_choice(config, "prior", ("gaussian", "fan_in"))
    common.require_choice(config, "norm", dcgan.NORMS)
    one_device = config.devices == 1 and config.processes == 1
    common.require(
        config.norm != "batch" or one_device or config.data_devices == 1,
        "--norm batch needs every batch whole: on several devices, --data-devices 1",
    )
    left = config.num_steps - config.warmup - config.num_burnin
    common.require(
        left >= config.thinning,
        f"no draw is kept: {left} steps after warm-up and burn-in, --thinning {config.thinning}",
    )


def networks(config: Config, image_shape: tuple[int, ...], num_classes: int) -> game.Networks:
    """A DCGAN sized by the image."""
    kernel_init = models.initializers.fan_in_normal(math.sqrt(2)) if config.norm == "none" else dcgan.DCGAN_INIT
    generator = dcgan.Generator(image_shape, config.generator_features, config.norm, config.kernel_size, kernel_init)
    discriminator = dcgan.Discriminator(
        image_shape, num_classes, config.discriminator_features, config.norm, config.kernel_size, kernel_init
    )
    return game.networks(generator, discriminator, config.latent_dim, image_shape)


def wasserstein(config: Config, net: game.Networks, supervised_loss: Callable) -> Kernel:
    """A clipped critic in place of real-or-fake; it rates an image by log sum_k exp m_k, unbounded."""

    def critic(params: Params, x: Array) -> Array:
        return jax.nn.logsumexp(net.logits(params, x), axis=-1)

    def critic_loss(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        fakes = game.generate_each(net, batch.others["generator"], rng_key, config.batch_size)[0]
        difference = critic(params, fakes).mean() - critic(params, batch.data.real).mean()
        return difference + supervised_loss(params, rng_key, batch)

    def generator_loss(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        judge = jax.tree.map(lambda leaf: leaf[0], batch.others["discriminator"])
        return -critic(judge, net.generate(params, rng_key, config.batch_size)).mean()

    adam = optax.adam(config.adam_learning_rate, b1=0.5)
    clipped = kernels.optimize(critic_loss, optax.chain(adam, kernels.clip_weights(config.clip)))
    return game.play((clipped, kernels.optimize(generator_loss, adam)), (1, 1))


def stages(config: Config, net: game.Networks, num_data: int, num_labelled: int, method: str) -> list[game.Stage]:
    """What a method does to one labelled set: one stage of optimisation, or a warm-up and a sampler."""
    adam = optax.adam(config.adam_learning_rate, b1=0.5)
    label_count = num_data if config.labels_count_as == "unlabelled" else num_labelled
    densities = functools.partial(game.conditionals, net, config, num_data=num_data, num_labelled=label_count)
    num, num_steps, warmup = num_networks(config, method), config.num_steps, config.warmup
    after_warmup = num_steps - warmup

    def supervised_loss(params: Params, rng_key: PRNGKey, batch: Given) -> Array:
        return -game.log_prob_label(net)(params, batch.data.labelled, batch.data.labels).mean()

    if method == "supervised":
        learner = kernels.particles(kernels.optimize(supervised_loss, adam), num[1])
        return [game.Stage(method, kernels.alternate(discriminator=learner), num_steps)]
    if method == "w_dcgan":
        return [game.Stage(method, wasserstein(config, net, supervised_loss), num_steps)]
    if method in ("dcgan", "dcgan_10", "ml_coupled"):
        players = game.play(map(game.optimise(config, num_data), densities(game.flat)), num)
        return [game.Stage(method, kernels.particles(players, 10) if method == "dcgan_10" else players, num_steps)]
    if method == "authors_code":
        prior_and_noise = functools.partial(
            released_bayesian_gan.prior_and_noise,
            num_data=num_data, prior_scale=1.0, friction=0.01, learning_rate=2e-4,
        )  # fmt: skip
        losses = game.released_losses(net, config.batch_size, prior_and_noise)
        decayed = game.released_schedule(5e-3, num_data, config.batch_size)
        warm, then = (
            game.play((kernels.optimize(loss, optimizer) for loss in losses), num)
            for optimizer in (optax.adam(decayed, b1=0.5), optax.sgd(5e-3 * game.RELEASED_DECAY, momentum=0.5))
        )
        return [game.Stage("authors_code-warmup", warm, warmup), game.Stage("authors_code", then, after_warmup)]
    prior = (posteriors.gaussian if config.prior == "gaussian" else posteriors.fan_in_gaussian)(config.prior_scale)
    warm, then = (
        game.play(map(move, densities(prior)), num)
        for move in (game.optimise(config, num_data), game.sample(config, num_data, config.temperature))
    )
    return [game.Stage("bayes-warmup", warm, warmup), game.Stage("bayes", then, after_warmup)]


def num_networks(config: Config, method: str) -> tuple[int, int]:
    """Generators and discriminators of one game."""
    if method in ("ml_coupled", "bayes", "authors_code"):
        return config.num_networks
    return 1, 1


def run_method(
    run: common.Experiment, dataset: data.Dataset, judged: data.Split, method: str, num_labelled: int
) -> dict:
    """One method at one number of labels, all label draws at once: the test error of each draw, and samples."""
    config, draws = run.config, run.config.num_label_draws
    num_data = len(dataset.train)
    net = networks(config, dataset.input_shape, dataset.num_classes)
    root = jax.random.fold_in(jax.random.key(config.seed), num_labelled)
    real_key, label_key, init_key, run_key = jax.random.split(root, 4)
    subsets = [
        data.labelled_subset(dataset.train, num_labelled, dataset.num_classes, seed=1000 * config.seed + draw)
        for draw in range(draws)
    ]
    labelled = {
        "x": np.stack([2 * subset.inputs - 1 for subset in subsets], axis=1),
        "y": np.stack([subset.labels for subset in subsets], axis=1),
    }

    def batch(unlabelled, labelled, step):
        """Every label draw has a stretch of its own of the unlabelled stream, and its own labelled images."""
        real = jax.vmap(unlabelled)(step * draws + jnp.arange(draws))
        few = jax.tree.map(lambda leaf: leaf.swapaxes(0, 1), labelled(step))
        return posteriors.GANBatch(real, few["x"], few["y"])

    batches = jax.tree_util.Partial(
        batch,
        data.Minibatches(real_key, 2 * dataset.train.inputs - 1, config.batch_size),
        data.Minibatches(label_key, labelled, min(config.labelled_batch_size, num_labelled)),
    )
    num = num_networks(config, method)
    init = net.init
    if method == "dcgan_10":
        init = lambda key, *num: jax.vmap(lambda k: net.init(k, *num))(jax.random.split(key, 10))  # noqa: E731
    position = jax.jit(jax.vmap(lambda key: init(key, *num)))(jax.random.split(init_key, draws))
    if method == "supervised":
        position = {"discriminator": position["discriminator"]}

    for index, stage in enumerate(stages(config, net, num_data, num_labelled, method)):
        kernel = run.spread(kernels.particles(stage.kernel, draws, batch_axis=0))
        stage_key = jax.random.fold_in(run_key, index)
        sampling = stage.name == "bayes"
        state, trace = training.run(
            stage_key, kernel, jax.jit(kernel.init)(position, jax.random.fold_in(stage_key, stage.num_steps)), batches,
            num_steps=stage.num_steps, num_burnin=config.num_burnin, thinning=config.thinning if sampling else 1,
            keep=lambda state, sampling=sampling: state.position["discriminator"] if sampling else (),
            **run.stage(f"{stage.name}-{num_labelled}"),
        )  # fmt: skip
        position = training.fetch(state.position)
    kept = trace.draws if sampling else jax.tree.map(lambda leaf: leaf[None], position["discriminator"])

    # Leaves are [kept draws, label draws, (games,) networks, ...]: all axes but the label draw's are averaged over.
    one = jax.eval_shape(lambda: net.init(init_key, 1, 1))
    kept = jax.tree.map(
        lambda leaf, w: np.moveaxis(leaf, 1, 0).reshape(draws, -1, *w.shape[1:]), kept, one["discriminator"]
    )
    classify = lambda params, x: semi_supervised.class_probabilities(net.logits(params, x))  # noqa: E731
    result = {"errors": [], "nll": []}
    for draw in range(draws):
        discriminators = jax.tree.map(lambda leaf, draw=draw: leaf[draw], kept)
        predictive = evaluation.predict_mean(classify, discriminators, 2 * judged.inputs - 1)
        result["errors"].append(evaluation.error_rate(predictive, judged.labels).value)
        result["nll"].append(evaluation.negative_log_likelihood(predictive, judged.labels).value)
    if "generator" in position:
        generators = jax.tree.map(
            lambda leaf, w: leaf[0].reshape(-1, *w.shape[1:]), position["generator"], one["generator"]
        )
        image_key = jax.random.fold_in(stage_key, stage.num_steps + 1)
        images = jax.jit(functools.partial(game.generate_each, net, num=12))(generators, image_key)
        parts.save_arrays(run, f"images-{method}-{num_labelled}", images=(images + 1) / 2)
    return result | game.timings(trace)


def main(config: Config) -> None:
    """Runs every method at every number of labels, then writes the table, the figures and the results."""
    with common.Experiment("bayesian_gan_semisupervised", config) as run:
        check(config)
        dataset = data.load(config.dataset, data_dir=config.data_dir or None)
        require_images(dataset, config)
        judged = dataset.test
        if config.evaluate_on == "validation":
            dataset, judged = set_aside(dataset, 240)
        results = {
            (method, num): run.cached(f"{method}-{num}", lambda m=method, n=num: run_method(run, dataset, judged, m, n))
            for num in config.num_labelled
            for method in config.methods
        }
        metrics = {}
        for num in config.num_labelled:
            for method in config.methods:
                errors = 100 * np.array(results[method, num]["errors"])
                sd = errors.std(ddof=1) if len(errors) > 1 else math.nan
                spread = {"sd": sd, "stderr": sd / math.sqrt(len(errors)), "errors": errors.tolist()}
                metrics[f"{method} N_s={num} error %"] = {"value": errors.mean(), **spread}
                metrics[f"{method} N_s={num} nll"] = {"value": float(np.mean(results[method, num]["nll"]))}
                metrics[f"{method} N_s={num} ms per step"] = {"value": results[method, num]["ms_per_step"]}
        for method in config.methods:
            name = f"images-{method}-{config.num_labelled[-1]}"
            if (run.out / "parts" / f"{name}.npz").exists():
                plots.image_grid(
                    run.out / "figures" / f"samples-{method}.png", parts.load_arrays(run, name)["images"],
                    title=f"{method}, {config.dataset}, {config.num_labelled[-1]} labels: a row for each generator",
                )  # fmt: skip
        if len(config.num_labelled) > 1:
            errors = {
                m: 100 * np.array([results[m, n]["errors"] for n in config.num_labelled]).T for m in config.methods
            }
            curves = {method: (config.num_labelled, values) for method, values in errors.items()}
            plots.curves(
                run.out / "figures" / "errors.png", curves, xlabel="labelled images",
                ylabel=f"{config.evaluate_on} error (%)", title=config.dataset,
            )  # fmt: skip
        path = run.finish(metrics)
        print(f"{config.evaluate_on} split, {len(judged)} images")
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


def require_images(dataset: data.Dataset, config: Config) -> None:
    """Raises ValueError unless the data set has labelled images that the networks can take."""
    common.require(
        len(dataset.input_shape) == 3,
        f"--dataset {dataset.name} must hold images [height, width, channels]; its examples are {dataset.input_shape}",
    )
    common.require(dataset.num_classes > 1, f"--dataset {dataset.name} must have labels")
    for features in (config.generator_features, config.discriminator_features):
        dcgan.layer_sizes(dataset.input_shape, len(features))
    for num in config.num_labelled:
        common.require(
            dataset.num_classes <= num <= len(dataset.train),
            f"--num-labelled must lie between {dataset.num_classes} (one of each class) and {len(dataset.train)} (all "
            f"training images); got {num}",
        )


def set_aside(dataset: data.Dataset, num: int) -> tuple[data.Dataset, data.Split]:
    """The data set without its last `num` training images, and those as a validation split."""
    train = dataset.train
    common.require(
        num < len(train) // 2, f"--evaluate-on validation needs {2 * num} training images; there are {len(train)}"
    )
    rest, judged = (
        data.Split(train.inputs[:-num], train.labels[:-num]),
        data.Split(train.inputs[-num:], train.labels[-num:]),
    )
    return replace(dataset, train=rest), judged


if __name__ == "__main__":
    main(CONFIG)
