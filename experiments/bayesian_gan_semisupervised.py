"""Semi-supervised learning with few labels: the Bayesian GAN against its point-estimate relatives.

Paper: Saatci & Wilson, "Bayesian GAN", NIPS 2017, section 4.2 and table 1: a discriminator of K classes and "fake" sees
N_s labelled images and all others without their labels; test error against N_s.

    python -m experiments.bayesian_gan_semisupervised                    quick: digits, 100 labels, about a minute
    python -m experiments.bayesian_gan_semisupervised --preset paper     digits, 20 to 200 labels, ten label draws each
    python -m experiments.bayesian_gan_semisupervised --dataset mnist    any image set by name, or an .npz file

Methods, all with the same networks and the same number of steps:
    supervised     the discriminator's network on the labelled images alone
    dcgan          one generator, one discriminator, Adam
    w_dcgan        the same with a clipped Wasserstein critic in place of real-or-fake
    dcgan_10       ten independent dcgans, their predictions averaged
    ml_coupled     J_g generators facing J_d discriminators, Adam
    bayes          the same players, Adam to warm up and then SGHMC; predictions averaged over all kept draws
    authors_code   the same players as the released program moves them (`objectives/released_bayesian_gan.py`)

All label draws of a row are trained at once, as one vmapped pytree. Labels are class-balanced and truly withheld:
the unlabelled images are the whole training set without labels. Settings were chosen on a validation split
(--evaluate-on validation: 240 training images set aside), never on the test split.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, plots, posteriors, training
from bayesjax.models import dcgan
from bayesjax.objectives import released_bayesian_gan, semi_supervised
from bayesjax.types import Kernel, Prior
from experiments import common

METHODS = ("supervised", "dcgan", "w_dcgan", "dcgan_10", "ml_coupled", "bayes", "authors_code")


@dataclass(frozen=True)
class Config:
    """Flags of experiments.bayesian_gan_semisupervised."""

    preset: str = "quick"
    """Which defaults: quick or paper."""
    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets by name, or an .npz file with x_train, y_train, x_test, y_test."""
    data_dir: str = ""
    """Where TensorFlow Datasets keeps prepared sets; TFDS_DATA_DIR if empty."""
    methods: tuple[str, ...] = METHODS
    """Which methods to run."""
    num_labelled: tuple[int, ...] = (100,)
    """N_s: one row of the table each."""
    num_label_draws: int = 1
    """Independent draws of the labelled set, each with networks of its own."""
    evaluate_on: str = "test"
    """test, or validation: training images set aside, to choose settings on."""
    seed: int = 0
    """Seed of everything: label draws, networks, noise."""
    num_generators: int = 10
    """J_g."""
    num_discriminators: int = 1
    """J_d."""
    num_chains: int = 1
    """M: chains per generator and per discriminator; J_g x M and J_d x M networks in all."""
    temperature: float = 1.0
    """T of the Bayesian GAN's posterior."""
    friction: float = 0.1
    """alpha of SGHMC; 1 - alpha is the momentum."""
    learning_rate: float = 1e-3
    """SGHMC's step size times the number of unlabelled data: the step on U/N."""
    prior_scale: float = 1.0
    """Standard deviation of the Gaussian prior on every weight."""
    prior: str = "fan_in"
    """gaussian: prior_scale on every weight; fan_in: prior_scale / sqrt(fan-in) on the weights of a layer."""
    labels_count_as: str = "unlabelled"
    """How many data the labelled images count as in the likelihood: their number (labelled), or N (unlabelled), as the
    released code has it. With N_s << N the first lets the real-or-fake terms drown the labels."""
    pool: str = "mean"
    """Whether the likelihood sums over the other player's networks (the paper) or takes their mean."""
    generator_features: tuple[int, ...] = (32, 16)
    """Channels of the generator's layers, from the noise up; one halving of the image each."""
    discriminator_features: tuple[int, ...] = (16, 32)
    """Channels of the discriminator's layers, from the image down."""
    norm: str = "none"
    """group, batch or none. Batch norm makes an image's logits depend on its batch."""
    kernel_size: int = 3
    """Of the convolutions."""
    latent_dim: int = 32
    """Noise dimensions, uniform on (-1, 1)."""
    batch_size: int = 32
    """Unlabelled images, and noise vectors per generator, in a step; at most as many labelled images."""
    warmup: int = 300
    """Adam steps before SGHMC."""
    num_steps: int = 500
    """All steps, warm-up included."""
    num_burnin: int = 50
    """SGHMC steps before the first kept draw."""
    thinning: int = 5
    """Steps between kept draws."""
    adam_learning_rate: float = 1e-3
    """Adam's learning rate, beta1 = 0.5."""
    clip: float = 0.1
    """Bound on the weights of the Wasserstein critic."""
    checkpoint_interval: float = 60.0
    """Seconds between checkpoints."""
    out: str = ""
    """Folder of the run; runs/bayesian_gan_semisupervised-PRESET-DATASET-seedS if empty."""
    resume: bool = False
    """Go on from the checkpoints in --out."""
    overwrite: bool = False
    """Delete a run that is in --out."""
    publish: bool = False
    """Also write experiments/results/bayesian_gan_semisupervised-PRESET-DATASET.json, to be committed."""


QUICK = Config(methods=METHODS[:-1])
PAPER = replace(
    QUICK,
    preset="paper",
    methods=METHODS,
    num_labelled=(20, 50, 100, 200),
    num_label_draws=10,
    warmup=800,
    num_steps=1200,
    num_burnin=100,
    thinning=10,
)
PRESETS = {"quick": QUICK, "paper": PAPER}


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_positive(config, "temperature", "learning_rate", "adam_learning_rate", "prior_scale", "clip")
    common.require_at_least_one(
        config, "num_label_draws", "num_generators", "num_discriminators", "num_chains", "batch_size", "latent_dim"
    )
    unknown = [method for method in config.methods if method not in METHODS]
    common.require(not unknown, f"--methods must be among {', '.join(METHODS)}; got {', '.join(unknown)}")
    for name, choices in (
        ("evaluate_on", ("test", "validation")),
        ("labels_count_as", ("labelled", "unlabelled")),
        ("prior", ("gaussian", "fan_in")),
    ):
        given = getattr(config, name)
        common.require(given in choices, f"--{name.replace('_', '-')} must be {' or '.join(choices)}; got {given!r}")
    common.require(0 <= config.warmup < config.num_steps, "--warmup must be less than --num-steps")
    left = config.num_steps - config.warmup - config.num_burnin
    common.require(
        left >= config.thinning,
        f"no draw is kept: {left} steps after warm-up and burn-in, --thinning {config.thinning}",
    )


class Networks(NamedTuple):
    """Generator and discriminator as pure functions of their parameters."""

    init: Callable[..., dict]
    """`(rng_key, num_generators, num_discriminators) -> {"generator": stacked, "discriminator": stacked}`"""
    generate: Callable
    """`(generator_params, rng_key, num) -> images [num, height, width, channels]` in (-1, 1)"""
    logits: Callable
    """`(discriminator_params, images [n, ...]) -> [n, K]`"""
    features: Callable
    """`(discriminator_params, images [n, ...]) -> [n, F]`"""


def networks(config: Config, image_shape: tuple[int, ...], num_classes: int) -> Networks:
    """A DCGAN sized by the image."""
    kernel_init = models.initializers.fan_in_normal(math.sqrt(2)) if config.norm == "none" else dcgan.DCGAN_INIT
    generator = dcgan.Generator(image_shape, config.generator_features, config.norm, config.kernel_size, kernel_init)
    discriminator = dcgan.Discriminator(
        image_shape, num_classes, config.discriminator_features, config.norm, config.kernel_size, kernel_init
    )

    def init(rng_key, num_generators, num_discriminators):
        generator_key, discriminator_key = jax.random.split(rng_key)
        stacked = {}
        for name, module, key, num, shape in (
            ("generator", generator, generator_key, num_generators, (config.latent_dim,)),
            ("discriminator", discriminator, discriminator_key, num_discriminators, image_shape),
        ):
            variables = jax.vmap(module.init, in_axes=(0, None))(jax.random.split(key, num), jnp.zeros((1, *shape)))
            stacked[name] = variables["params"]
        return stacked

    def generate(params, rng_key, num):
        return generator.apply({"params": params}, models.latent_noise(rng_key, num, config.latent_dim))

    def logits(params, x):
        return discriminator.apply({"params": params}, x)

    def features(params, x):
        return discriminator.apply({"params": params}, x, method=discriminator.embed)

    return Networks(init, generate, logits, features)


class Stage(NamedTuple):
    """A kernel and how long to run it."""

    name: str
    kernel: Kernel
    num_steps: int


def stages(config: Config, net: Networks, num_data: int, num_labelled: int, method: str) -> list[Stage]:
    """What a method does to one labelled set: one stage of optimisation, or a warm-up and a sampler."""
    num_generators, num_discriminators = num_networks(config, method)
    adam = functools.partial(optax.adam, config.adam_learning_rate, b1=0.5)

    def log_prob_label(params, x, labels):
        return semi_supervised.log_prob_label(net.logits(params, x), labels)

    def play(discriminator: Kernel, generator: Kernel) -> Kernel:
        return kernels.alternate(
            discriminator=kernels.particles(discriminator, num_discriminators),
            generator=kernels.particles(generator, num_generators),
        )

    def game(move: Callable, prior: Prior) -> Kernel:
        """The paper's conditionals; `move` turns each into a way to move one network."""
        log_prob_real = lambda params, x: semi_supervised.log_prob_real(net.logits(params, x))  # noqa: E731
        log_prob_fake = lambda params, x: semi_supervised.log_prob_fake(net.logits(params, x))  # noqa: E731
        shared = {"batch_size": config.batch_size, "pool": config.pool}
        label_count = num_data if config.labels_count_as == "unlabelled" else num_labelled
        discriminator = posteriors.discriminator_conditional(
            net.generate, log_prob_real, log_prob_fake, prior,
            num_data=num_data, log_prob_label=log_prob_label, num_labelled=label_count, **shared,
        )  # fmt: skip
        generator = posteriors.generator_conditional(
            net.generate, log_prob_real, prior, num_generated=num_data, **shared
        )
        return play(move(discriminator), move(generator))

    def optimise(logdensity):
        def loss(params, rng_key, batch):
            value, aux = logdensity(params, rng_key, batch)
            return -value / num_data, aux

        return kernels.optimize(loss, adam())

    def sample(logdensity):
        step_size = config.learning_rate / num_data
        return kernels.sghmc(logdensity, step_size=step_size, friction=config.friction, temperature=config.temperature)

    def supervised_loss(params, rng_key, batch):
        return -log_prob_label(params, batch.data.labelled, batch.data.labels).mean()

    def fakes(generators, rng_key):
        keys = jax.random.split(rng_key, num_generators)
        return jax.vmap(net.generate, in_axes=(0, 0, None))(generators, keys, config.batch_size)

    def critic(params, x):
        """How real an image looks: log sum_k exp m_k, unbounded."""
        return jax.nn.logsumexp(net.logits(params, x), axis=-1)

    def critic_loss(params, rng_key, batch):
        fake = critic(params, fakes(batch.others["generator"], rng_key)[0])
        return fake.mean() - critic(params, batch.data.real).mean() + supervised_loss(params, rng_key, batch)

    def critic_generator_loss(params, rng_key, batch):
        judge = jax.tree.map(lambda leaf: leaf[0], batch.others["discriminator"])
        return -critic(judge, net.generate(params, rng_key, config.batch_size)).mean()

    extra = functools.partial(
        released_bayesian_gan.prior_and_noise,
        num_data=num_data, prior_scale=1.0, friction=0.01, learning_rate=2e-4,
    )  # fmt: skip

    def released_discriminator_loss(params, rng_key, batch):
        fake_key, noise_key = jax.random.split(rng_key)
        fake_logits = jax.vmap(net.logits, in_axes=(None, 0))(params, fakes(batch.others["generator"], fake_key))
        label = log_prob_label(params, batch.data.labelled, batch.data.labels)
        loss = released_bayesian_gan.discriminator_loss(net.logits(params, batch.data.real), fake_logits, label)
        return loss + extra(params, noise_key)

    def released_generator_loss(params, rng_key, batch):
        fake_key, noise_key = jax.random.split(rng_key)
        fake = net.generate(params, fake_key, config.batch_size)
        all_logits, all_features = (jax.vmap(f, in_axes=(0, None)) for f in (net.logits, net.features))
        others = batch.others["discriminator"]
        loss = released_bayesian_gan.generator_loss(
            all_logits(others, fake), all_features(others, batch.data.real), all_features(others, fake)
        )
        return loss + extra(params, noise_key)

    flat = lambda params: jnp.zeros(())  # noqa: E731
    prior = (posteriors.gaussian if config.prior == "gaussian" else posteriors.fan_in_gaussian)(config.prior_scale)
    total, warmup = config.num_steps, config.warmup
    if method == "supervised":
        learner = kernels.particles(kernels.optimize(supervised_loss, adam()), num_discriminators)
        return [Stage(method, kernels.alternate(discriminator=learner), total)]
    if method == "w_dcgan":
        clipped = kernels.optimize(critic_loss, optax.chain(adam(), kernels.clip_weights(config.clip)))
        return [Stage(method, play(clipped, kernels.optimize(critic_generator_loss, adam())), total)]
    if method == "dcgan_10":
        return [Stage(method, kernels.particles(game(optimise, flat), 10), total)]
    if method in ("dcgan", "ml_coupled"):
        return [Stage(method, game(optimise, flat), total)]
    if method == "authors_code":
        warm, then = (
            play(
                kernels.optimize(released_discriminator_loss, optimizer),
                kernels.optimize(released_generator_loss, optimizer),
            )
            for optimizer in (adam(), optax.sgd(5e-3, momentum=0.5))
        )
        return [Stage("authors_code-warmup", warm, warmup), Stage("authors_code", then, total - warmup)]
    return [Stage("bayes-warmup", game(optimise, prior), warmup), Stage("bayes", game(sample, prior), total - warmup)]


def num_networks(config: Config, method: str) -> tuple[int, int]:
    """Generators and discriminators of one game."""
    if method in ("ml_coupled", "bayes", "authors_code"):
        return config.num_generators * config.num_chains, config.num_discriminators * config.num_chains
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
        data.Minibatches(label_key, labelled, min(config.batch_size, num_labelled)),
    )
    num = num_networks(config, method)
    init = net.init
    if method == "dcgan_10":
        init = lambda key, *num: jax.vmap(lambda k: net.init(k, *num))(jax.random.split(key, 10))  # noqa: E731
    position = jax.jit(jax.vmap(lambda key: init(key, *num)))(jax.random.split(init_key, draws))
    if method == "supervised":
        position = {"discriminator": position["discriminator"]}

    for index, stage in enumerate(stages(config, net, num_data, num_labelled, method)):
        kernel = kernels.particles(stage.kernel, draws, batch_axis=0)
        stage_key = jax.random.fold_in(run_key, index)
        sampling = stage.name == "bayes"
        state, trace = training.run(
            stage_key, kernel, jax.jit(kernel.init)(position, jax.random.fold_in(stage_key, 0)), batches,
            num_steps=stage.num_steps, num_burnin=config.num_burnin, thinning=config.thinning if sampling else 1,
            keep=lambda state, sampling=sampling: state.position["discriminator"] if sampling else (),
            **run.stage(f"{stage.name}-{num_labelled}"),
        )  # fmt: skip
        position = state.position
    kept = trace.draws if sampling else jax.tree.map(lambda leaf: leaf[None], position["discriminator"])

    # Leaves are [kept draws, label draws, (games,) networks, ...]: all axes but the label draw's are averaged over.
    one = jax.eval_shape(lambda: net.init(init_key, 1, 1))["discriminator"]
    kept = jax.tree.map(lambda leaf, w: jnp.moveaxis(leaf, 1, 0).reshape(draws, -1, *w.shape[1:]), kept, one)
    classify = lambda params, x: semi_supervised.class_probabilities(net.logits(params, x))  # noqa: E731
    result = {"errors": [], "nll": [], "errors_of_last_draw": []}
    for draw in range(draws):
        discriminators = jax.tree.map(lambda leaf, draw=draw: leaf[draw], kept)
        outputs = evaluation.predict(classify, discriminators, 2 * judged.inputs - 1)
        predictive = outputs.mean(axis=0)
        result["errors"].append(evaluation.error_rate(predictive, judged.labels).value)
        result["nll"].append(evaluation.negative_log_likelihood(predictive, judged.labels).value)
        result["errors_of_last_draw"].append(evaluation.error_rate(outputs[-1], judged.labels).value)
    if "generator" in position:
        one = jax.eval_shape(lambda: net.init(init_key, 1, 1))["generator"]
        generators = jax.tree.map(lambda leaf, w: leaf[0].reshape(-1, *w.shape[1:]), position["generator"], one)
        keys = jax.random.split(stage_key, jax.tree.leaves(generators)[0].shape[0])
        images = jax.vmap(net.generate, in_axes=(0, 0, None))(generators, keys, 12)
        np.save(run.out / "parts" / f"images-{method}-{num_labelled}.npy", (images + 1) / 2)
    return result | {"num_predictors": len(outputs), "ms_per_step": 1e3 * trace.chunk_seconds / stage.num_steps}


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
        metrics, rows = {}, []
        for num in config.num_labelled:
            row = [str(num)]
            for method in config.methods:
                errors = 100 * np.array(results[method, num]["errors"])
                sd = errors.std(ddof=1) if len(errors) > 1 else math.nan
                entry = {
                    "value": errors.mean(),
                    "sd": sd,
                    "stderr": sd / math.sqrt(len(errors)),
                    "errors": errors.tolist(),
                }
                metrics[f"{method} N_s={num} error %"] = entry
                metrics[f"{method} N_s={num} nll"] = {"value": float(np.mean(results[method, num]["nll"]))}
                metrics[f"{method} N_s={num} ms per step"] = {"value": results[method, num]["ms_per_step"]}
                row.append(f"{errors.mean():.1f} ± {sd:.1f}" if len(errors) > 1 else f"{errors.mean():.1f}")
            rows.append(row)
            for other in ("supervised", "dcgan"):
                if {"bayes", other} <= set(config.methods) and config.num_label_draws > 1:
                    gain = 100 * (np.array(results[other, num]["errors"]) - np.array(results["bayes", num]["errors"]))
                    estimate = evaluation.mean_estimate(gain)
                    metrics[f"{other} - bayes N_s={num} error %"] = {"value": estimate.value, "stderr": estimate.stderr}
        print(
            f"{config.evaluate_on} error in %, mean ± sd over {config.num_label_draws} label draw(s), "
            f"{len(judged)} images"
        )
        print(common.table(rows, ["N_s", *config.methods]))
        for method in config.methods:
            path = run.out / "parts" / f"images-{method}-{config.num_labelled[-1]}.npy"
            if path.exists():
                plots.image_grid(
                    run.out / "figures" / f"samples-{method}.png", np.load(path),
                    title=f"{method}, {config.dataset}, {config.num_labelled[-1]} labels: a row for each generator",
                )  # fmt: skip
        if len(config.num_labelled) > 1:
            curves = {
                method: (
                    config.num_labelled,
                    100 * np.array([results[method, n]["errors"] for n in config.num_labelled]).T,
                )
                for method in config.methods
            }
            plots.curves(
                run.out / "figures" / "errors.png", curves, xlabel="labelled images",
                ylabel=f"{config.evaluate_on} error (%)", title=config.dataset,
            )  # fmt: skip
        path = run.finish(metrics, publish=config.publish)
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
    main(common.parse(PRESETS, __doc__))
