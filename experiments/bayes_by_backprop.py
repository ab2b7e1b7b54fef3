"""Bayes by Backprop on images: test errors beside SGD and dropout, histograms of the weights, and pruning.

Paper: Blundell, Cornebise, Kavukcuoglu & Wierstra, "Weight uncertainty in neural networks", ICML 2015: table 1 (test
errors by width), figure 2 (curves), figure 3 (weights), table 2 and figure 4 (pruning by signal-to-noise ratio).

    python -m experiments.bayes_by_backprop                     quick: digits, 100 units: under a minute
    python -m experiments.bayes_by_backprop --preset paper      MNIST, 400 units, three seeds: an hour on two cores
    python -m experiments.bayes_by_backprop --preset wide       MNIST, 1200 units, three seeds: three hours on one core

Every network has two hidden layers of ReLU units. Each method trains one network for each of --widths and --num-seeds.
The curves show the test error of the mean weights after each epoch. The table shows the error, the negative
log-likelihood and the calibration of the predictive distribution, an average over --num-draws draws or dropout masks.
To choose settings, --num-validation training images are held out and replace the test set. For MNIST the posterior is
tempered by --kl-weight 0.05, whereas the paper uses the untempered bound. The second component of the mixture prior is
wide enough for weights to reach it from their initial values, so that unnecessary weights can be pruned.

Expected (the paper's test error in % at 400, 800 and 1200 units): SGD 1.83, 1.84, 1.88; dropout 1.51, 1.33, 1.36;
Gaussian prior 1.82, 1.99, 2.04; scale mixture 1.36, 1.34, 1.32. If 50, 75, 95 and 98 % of the weights of the mixture
at 1200 units are pruned, the errors are 1.24, 1.24, 1.29 and 1.39; without pruning the error is 1.24. The paper trains
for 600 epochs.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, objectives, plots, posteriors, training
from bayesjax.evaluation import calibration
from experiments.harness import Column, Run, Table, cli, row
from experiments.harness.cli import Count, Natural, NonEmpty, NonNegative, Positive, Range, RunConfig, require
from experiments.shared.classification import Images, load_images, log_likelihood


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bayes_by_backprop."""

    dataset: str = "digits"
    """Labelled images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file."""
    methods: tuple[Literal["sgd", "dropout", "bbb_gaussian", "bbb_mixture"], ...] = (
        "sgd", "dropout", "bbb_gaussian", "bbb_mixture",
    )  # fmt: skip
    """Methods to compare; bbb_gaussian is Bayes by Backprop with a Gaussian prior, and bbb_mixture is Bayes by Backprop
    with a mixture of two Gaussians as the prior of each weight."""
    widths: Annotated[tuple[Count, ...], NonEmpty] = (100,)
    """Numbers of units in each of the two hidden layers; one network is trained for each width."""
    num_seeds: Count = 1
    """Number of training runs of each network; their random seeds are --seed, --seed + 1, ..."""
    num_epochs: Count = 60
    """Number of training epochs of Bayes by Backprop and of dropout."""
    num_sgd_epochs: Count = 30
    """Number of training epochs of SGD."""
    batch_size: Count = 128
    """Number of images in a training step."""
    learning_rate: Positive = 1e-3
    """Initial learning rate of Adam for Bayes by Backprop and dropout; it decays to 0 along a cosine."""
    sgd_learning_rate: Positive = 0.1
    """Initial learning rate of SGD with momentum 0.9; it decays to 0 along a cosine."""
    dropout_rate: Annotated[float, Range(least=0, below=1)] = 0.5
    """Dropout rate of hidden units, in [0, 1); the rate of inputs is 0.4 times as large."""
    initial_scale: Positive = 0.05
    """Initial standard deviation of each weight in the variational posterior."""
    prior_scale: Positive = 0.1
    """Standard deviation of the Gaussian prior of each weight."""
    mixture_weight: Annotated[float, Range(above=0, below=1)] = 0.5
    """Weight pi of the mixture prior's first component, in (0, 1)."""
    mixture_scales: tuple[Positive, Positive] = (1.0, 0.0025)
    """Standard deviations sigma_1 and sigma_2 of the mixture prior's components."""
    kl_weight: NonNegative = 1.0
    """Weight, at least 0, of the KL divergence in the loss; 1 gives the ELBO, and lower values temper the posterior."""
    kl_schedule: Literal["uniform", "blundell"] = "uniform"
    """Share of the KL divergence in the loss of batch i of the M batches of an epoch; uniform is 1 / M, and blundell is
    2^(M - i) / (2^M - 1), equation 9 of the paper."""
    estimator: Literal["weights", "flipout", "local"] = "flipout"
    """Gradient estimator; weights uses one draw of the weights for a batch, flipout uses Flipout, and local uses local
    reparameterisation (for the Gaussian prior only)."""
    num_draws: Count = 50
    """Number of posterior draws, or of dropout masks, over which predictions are averaged."""
    removed: tuple[Annotated[float, Range(least=0, below=1)], ...] = (0.5, 0.75, 0.95, 0.98)
    """Fractions of the weights to prune, in [0, 1); only the posteriors with the last of --widths are pruned."""
    num_validation: Natural = 0
    """Number of held-out training images that replace the test set, for choosing settings; 0 uses the test set."""

    def __post_init__(self) -> None:
        """Rejects `local` for the mixture prior, whose KL divergence is estimated from a draw of the weights."""
        super().__post_init__()
        require(
            self.estimator != "local" or "bbb_mixture" not in self.methods,
            "--estimator local draws no weights, which the KL divergence from bbb_mixture's prior needs",
        )


PAPER = Config(
    dataset="mnist", widths=(400,), num_seeds=3, num_sgd_epochs=20, mixture_weight=0.25, mixture_scales=(0.5, 0.02),
    kl_weight=0.05,
)  # fmt: skip
PRESETS = {"quick": Config(), "paper": PAPER, "wide": replace(PAPER, widths=(1200,))}


def describe(config: dict) -> str:
    """The note below the table on the settings of a run."""
    images = f"{config['num_validation']} held-out training" if config["num_validation"] else "test"
    (first, second), weight = config["mixture_scales"], config["mixture_weight"]
    return (
        f"± is the standard error over {config['num_seeds']} seeds, on the {images} images. Predictions are averages "
        f"of {config['num_draws']} draws or masks. SGD runs for {config['num_sgd_epochs']} epochs, the other "
        f"methods for {config['num_epochs']}. The KL divergence has the weight {config['kl_weight']:g}; its prior is "
        f"N(0, {config['prior_scale']:g}^2), or {weight:g} N(0, {first:g}^2) + {1 - weight:g} N(0, {second:g}^2). "
        f"The gradient estimator is {config['estimator']}."
    )


TABLES = [
    Table(
        {"method": "method", "width": "units"},
        [
            Column("error %"),
            Column("error % of the mean weights", "of the mean weights"),
            Column("NLL", digits=3),
            Column("ECE", digits=3),
            Column("error %", "published error %", field="paper"),
        ],
        where={"is_pruned": None},
        note=describe,
    ),
    Table(
        {"method": "method", "width": "units", "removed_percent": "% removed"},
        [
            Column("error %"),
            Column("rise in error %", "rise"),
            Column("NLL", digits=3),
            Column("error %", "published error %", field="paper"),
        ],
        where={"is_pruned": True},
    ),
]
HEADLINE = "bayes_by_backprop-wide-mnist", {
    "measure": "error %", "method": "bbb_mixture", "width": 1200, "removed_percent": 98.0,
}  # fmt: skip
PUBLISHED = {  # test error in %, table 1 of the paper; quoted from memory, except 1.34 and 1.32
    "sgd": {400: 1.83, 800: 1.84, 1200: 1.88},
    "dropout": {400: 1.51, 800: 1.33, 1200: 1.36},
    "bbb_gaussian": {400: 1.82, 800: 1.99, 1200: 2.04},
    "bbb_mixture": {400: 1.36, 800: 1.34, 1200: 1.32},
}
PUBLISHED_PRUNING = {0.0: 1.24, 0.5: 1.24, 0.75: 1.24, 0.95: 1.29, 0.98: 1.39}  # table 2: bbb_mixture, 1200 units
SCALE = 255 / 126  # factor of pixels in [0, 1]; the paper divides grey values by 126

# ---- the networks and their losses


class Network(NamedTuple):
    """The functions that initialise, train and evaluate a network.

    Attributes:
      init: `rng_key -> position`, parameters or a variational posterior.
      loss: `(position, rng_key, batch) -> (scalar, aux)`.
      logits: `(position, rng_key, x [num, pixels]) -> [num, num_classes]`, the logits of one draw or dropout mask.
      mean_logits: `logits` at the posterior mean of the weights, or without dropout.
      is_random: whether `logits` depends on its key.
    """

    init: Callable
    loss: Callable
    logits: Callable
    mean_logits: Callable
    is_random: bool


def build(config: Config, method: str, width: int, images: Images, num_classes: int) -> Network:
    """Returns the functions of a method's network with `width` units in each hidden layer, for training on `images`."""
    rate = config.dropout_rate if method == "dropout" else 0.0
    model = models.MLP(
        (width, width, num_classes), dropout_rate=rate, input_dropout_rate=0.4 * rate,
        kernel_init=models.initializers.fan_in_normal(math.sqrt(2)),
    )  # fmt: skip

    def init(rng_key: jax.Array) -> Any:
        return model.init(rng_key, images.x[:1])["params"]

    def plain(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
        del rng_key
        return model.apply({"params": params}, x)

    def masked(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
        return model.apply({"params": params}, x, deterministic=False, rngs={"dropout": rng_key})

    if method in ("sgd", "dropout"):
        logits = masked if rate else plain
        log_prob = log_likelihood(logits)
        loss = objectives.batch_mean(lambda params, rng_key, image: -log_prob(params, rng_key, image))
        return Network(init, loss, logits, plain, is_random=rate > 0)

    family = posteriors.mean_field(config.initial_scale)
    kl = posteriors.kl_to_gaussian(config.prior_scale)
    if method == "bbb_mixture":
        kl = posteriors.kl_sampled(posteriors.scale_mixture(config.mixture_weight, config.mixture_scales))
    sample, apply = {
        "weights": (family.sample, plain),
        "flipout": (family.perturb, models.flipout(model)),
        "local": (family.moments, models.local_reparameterisation(model)),
    }[config.estimator]
    blundell = objectives.blundell_kl_weights(steps_per_epoch(config, images))
    kl_weight = config.kl_weight if config.kl_schedule == "uniform" else lambda step: config.kl_weight * blundell(step)
    return Network(
        lambda rng_key: family.init(init(rng_key)),
        objectives.bayes_by_backprop(log_likelihood(apply), sample, kl, num_data=len(images.x), kl_weight=kl_weight),
        lambda variational, rng_key, x: plain(family.sample(variational, rng_key), rng_key, x),
        lambda variational, rng_key, x: plain(variational.mean, rng_key, x),
        is_random=True,
    )


# ---- training and evaluation


def steps_per_epoch(config: Config, images: Images) -> int:
    """Number of whole batches in an epoch, at least one."""
    return max(1, len(images.x) // config.batch_size)


def train(
    run: Run, network: Network, method: str, stage: str, seed: int, train_set: Images, test_set: Images
) -> dict[str, Any]:
    """Trains a network. Returns its `position`, the `errors` (%) of the mean weights by epoch, and final `measures`."""
    config, steps = run.config, steps_per_epoch(run.config, train_set)
    num_steps = steps * (config.num_sgd_epochs if method == "sgd" else config.num_epochs)
    data_key, init_key, start_key, run_key, draws_key = jax.random.split(jax.random.key(seed), 5)
    if method == "sgd":
        optimizer = optax.sgd(optax.cosine_decay_schedule(config.sgd_learning_rate, num_steps), momentum=0.9)
    else:
        optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps))
    kernel, options = run.stage(stage, kernels.optimize(network.loss, optimizer))
    test_x, test_y = jnp.asarray(test_set.x), jnp.asarray(test_set.y)

    def observe(state: Any) -> jax.Array:
        return 100 * jnp.mean(network.mean_logits(state.position, run_key, test_x).argmax(axis=-1) != test_y)

    state = jax.jit(lambda init_key, key: kernel.init(network.init(init_key), key))(init_key, start_key)
    batches = data.Minibatches(data_key, train_set, config.batch_size)
    if method.startswith("bbb"):
        batches = data.number_batches(batches)  # the Blundell schedule depends on the step
    state, trace = training.run(
        run_key, kernel, state, batches, num_steps=num_steps, thinning=steps, keep=observe, **options
    )
    position = training.fetch(state.position)
    measures = evaluate(config, network, position, draws_key, test_set)
    return {"position": position, "errors": trace.draws, "measures": measures}


@functools.partial(jax.jit, static_argnums=0)
def average(logits: Callable, position: Any, rng_keys: jax.Array, x: jax.Array) -> jax.Array:
    """The mean of softmax(logits(position, key, x)) over keys, accumulated one key at a time to limit memory."""

    def add(total: jax.Array, rng_key: jax.Array) -> tuple[jax.Array, None]:
        return total + jax.nn.softmax(logits(position, rng_key, x)), None

    total, _ = jax.lax.scan(add, jax.nn.softmax(logits(position, rng_keys[0], x)), rng_keys[1:])
    return total / len(rng_keys)


def evaluate(config: Config, network: Network, position: Any, rng_key: jax.Array, test_set: Images) -> dict[str, float]:
    """Measures of the predictive distribution, and the error of the mean weights."""
    keys = jax.random.split(rng_key, config.num_draws if network.is_random else 1)
    predictive = average(network.logits, position, keys, jnp.asarray(test_set.x))
    mean_predictive = average(network.mean_logits, position, keys[:1], jnp.asarray(test_set.x))
    return {
        "error %": 100 * evaluation.error_rate(predictive, test_set.y).value,
        "error % of the mean weights": 100 * evaluation.error_rate(mean_predictive, test_set.y).value,
        "NLL": evaluation.negative_log_likelihood(predictive, test_set.y).value,
        "ECE": calibration.expected_calibration_error(predictive, test_set.y),
    }


def evaluate_pruned(
    config: Config, network: Network, trained: Sequence[dict], seeds: Sequence[int], test_set: Images
) -> dict[str, list]:
    """Measures of the pruned posteriors, `{fraction of pruned weights: measures of each seed}`."""
    measures: dict[str, list] = {}
    for fraction, (seed, result) in itertools.product((0.0, *config.removed), zip(seeds, trained, strict=True)):
        kept, _ = posteriors.prune(posteriors.MeanFieldParams(**result["position"]), fraction)
        draws_key = jax.random.fold_in(jax.random.key(seed), 1)
        measures.setdefault(f"{fraction:g}", []).append(evaluate(config, network, kept, draws_key, test_set))
    for results in measures.values():
        for result, whole in zip(results, measures["0"], strict=True):
            result["rise in error %"] = result["error %"] - whole["error %"]
    return measures


def predict_run(config: Config, parts: dict[str, dict], inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Class probabilities of images by each network of a finished run, for `experiments.sample`."""
    train_set, _, num_classes = load_images(config, scale=SCALE, flat=True)
    x, made = SCALE * inputs.reshape(len(inputs), -1), {}
    require(
        x.shape[1] == train_set.x.shape[1],
        f"images of {x.shape[1]} pixels do not fit the networks of the run, which take {train_set.x.shape[1]}",
    )
    for method, width in itertools.product(config.methods, config.widths):
        network = build(config, method, width, train_set, num_classes)
        for seed in range(config.seed, config.seed + config.num_seeds):
            name = f"{method}-{width}-seed{seed}"
            position = parts[name]["position"]
            if method.startswith("bbb"):
                position = posteriors.MeanFieldParams(**position)
            keys = jax.random.split(jax.random.key(seed), config.num_draws if network.is_random else 1)
            made[name] = average(network.logits, position, keys, jnp.asarray(x))
    return made


# ---- the run


def make_rows(results: Sequence[dict], published: float | None, table: int, **keys: Any) -> list[dict]:
    """Result rows with means over seeds; the row of the error also has the published value of the paper's `table`."""
    rows = [row(measure, evaluation.mean_estimate([one[measure] for one in results]), **keys) for measure in results[0]]
    if published is not None:
        rows[0] |= {"paper": published, "source": f"Blundell et al. (2015), table {table}, as recalled"}
    return rows


def flatten(params: Any) -> np.ndarray:
    """All weights of a pytree in one vector."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(params)])


def main(config: Config) -> None:
    """Trains every network, prunes the posteriors, and writes figures and results."""
    with Run("bayes_by_backprop", config) as run:
        train_set, test_set, num_classes = load_images(config, scale=SCALE, flat=True)
        is_paper = config.preset in ("paper", "wide") and config.dataset == "mnist" and not config.num_validation
        seeds, widest = range(config.seed, config.seed + config.num_seeds), config.widths[-1]
        rows, pruned_rows, curves, weights, ratios = [], [], {}, {}, {}
        for method, width in itertools.product(config.methods, config.widths):
            network = build(config, method, width, train_set, num_classes)
            trained = []
            for seed in seeds:
                name = f"{method}-{width}-seed{seed}"
                compute = functools.partial(train, run, network, method, name, seed, train_set, test_set)
                trained.append(run.part(name, compute))
            published = PUBLISHED[method].get(width) if is_paper else None
            rows += make_rows([result["measures"] for result in trained], published, 1, method=method, width=width)
            errors = np.array([result["errors"] for result in trained])
            curves[f"{method} {width}"] = np.arange(1, errors.shape[1] + 1), errors
            if width != widest:
                continue
            params = trained[0]["position"]
            if method.startswith("bbb"):
                compute = functools.partial(evaluate_pruned, config, network, trained, seeds, test_set)
                for fraction, results in run.part(f"{method}-pruned", compute).items():
                    is_published = is_paper and width == 1200 and method == "bbb_mixture"
                    published = PUBLISHED_PRUNING.get(float(fraction)) if is_published else None
                    keys = {"is_pruned": True, "removed_percent": 100 * float(fraction)}
                    pruned_rows += make_rows(results, published, 2, method=method, width=width, **keys)
                variational = posteriors.MeanFieldParams(**params)
                params = posteriors.mean_field().sample(variational, jax.random.fold_in(jax.random.key(seeds[0]), 2))
                ratios[method] = 20 * np.log10(np.maximum(flatten(posteriors.signal_to_noise(variational)), 1e-6))
            weights[method] = flatten(params)

        plots.curves(
            run.figure("errors.png"), curves, xlabel="epoch", ylabel="test error of the mean weights (%)", log_y=True
        )
        title, xlabel = f"{widest} units", "signal-to-noise ratio (dB)"
        plots.distributions(run.figure("weights.png"), weights, xlabel="weight", title=title, log_y=True)
        if ratios:
            plots.distributions(run.figure("signal_to_noise.png"), ratios, xlabel=xlabel, title=title)
        run.finish([*rows, *pruned_rows], TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
