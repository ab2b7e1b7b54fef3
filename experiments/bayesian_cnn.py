"""LeNet as a point estimate, an ensemble, MC dropout and Bayes by Backprop: calibration, and images of another set.

Papers: Blundell et al., "Weight uncertainty in neural networks", ICML 2015; Gal & Ghahramani, "Bayesian convolutional
neural networks with Bernoulli approximate variational inference", 2015; Lakshminarayanan et al., "Simple and scalable
predictive uncertainty estimation using deep ensembles", NeurIPS 2017; Wen et al., "Flipout", ICLR 2018.

    python -m experiments.bayesian_cnn                                          quick: digits, two methods
    python -m experiments.bayesian_cnn --preset paper                           MNIST, outside images from Fashion-MNIST
    python -m experiments.bayesian_cnn --preset paper --dataset fashion_mnist --outside mnist

All methods train the same LeNet for the same number of epochs. The variational posterior is a product of normal
distributions, one for each element of the kernels and biases. Training uses Flipout, and prediction uses posterior
draws of the weights. Outside images are out of distribution. They are detected by the entropy of the predictive
distribution, and by the mutual information between the label and the weights.

Expected (MNIST, LeNet5 of uncertainty-baselines: NLL, accuracy and ECE): point .037, 99.1 % and -, ensemble of ten
.016, 99.4 % and .005, variational .048, 98.5 % and .010.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, objectives, plots, posteriors, training
from bayesjax.evaluation import calibration, uncertainty
from experiments.harness import Column, Run, Table, cli, row
from experiments.harness.cli import Count, Natural, NonEmpty, NonNegative, Positive, Range, RunConfig, require
from experiments.shared.classification import Images, load_images, log_likelihood


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bayesian_cnn."""

    dataset: str = "digits"
    """Labelled images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file."""
    outside: str = "permuted"
    """Out-of-distribution images: a data set as in --dataset, or `permuted`, test images with permuted pixels."""
    methods: tuple[Literal["point", "ensemble", "dropout", "bbb"], ...] = ("point", "ensemble", "dropout", "bbb")
    """Methods to compare; bbb is Bayes by Backprop."""
    channels: Annotated[tuple[Count, ...], NonEmpty] = (8, 16)
    """Number of channels of each of LeNet's convolutions."""
    hidden: Count = 64
    """Number of units of the dense layer."""
    num_members: Count = 5
    """Number of networks in the ensemble."""
    num_epochs: Count = 20
    """Number of training epochs of each method."""
    batch_size: Count = 128
    """Number of images in a training step."""
    learning_rate: Positive = 3e-3
    """Initial learning rate of Adam; it decays to 0 along a cosine."""
    dropout_rate: Annotated[float, Range(above=0, below=1)] = 0.5
    """Dropout rate of the dense layer, in (0, 1); the rate after the convolutions is 0.4 times as large."""
    initial_scale: Positive = 0.02
    """Initial standard deviation of each weight in the variational posterior."""
    prior_scale: Positive = 1.4142
    """Scale s of the prior: N(0, s^2 / fan-in) for kernels, N(0, s^2) for biases."""
    kl_weight: NonNegative = 1.0
    """Weight, at least 0, of the KL divergence in the loss; 1 gives the ELBO, and lower values temper the posterior."""
    num_draws: Count = 50
    """Number of posterior draws, or of dropout masks, over which predictions are averaged."""
    num_validation: Natural = 0
    """Number of held-out training images that replace the test set, for choosing settings; 0 uses the test set."""


PRESETS = {
    "quick": Config(methods=("ensemble", "bbb"), num_members=3, num_epochs=12, num_draws=30),
    "paper": Config(
        dataset="mnist", outside="fashion_mnist", channels=(20, 50), hidden=500, learning_rate=1e-3, num_epochs=12
    ),
}
TABLES = [
    Table(
        {"method": "method"},
        [
            Column("error %"),
            Column("NLL", digits=3),
            Column("ECE", digits=3),
            Column("Brier score", digits=3),
            Column("AUROC of outside images", "AUROC of outside images, entropy", 3, where={"score": "entropy"}),
            Column("AUROC of outside images", "mutual information", 3, where={"score": "mutual information"}),
            Column("mean selective risk %", digits=3),
        ],
        note="± is the standard error over the test images. The selective risk is the error of the images of lowest "
        "entropy; its mean is over all coverages.",
    )
]


class Method(NamedTuple):
    """The functions that initialise a method, train it and predict with it.

    Attributes:
      init: `rng_key -> position`.
      loss: `(position, rng_key, batch) -> (scalar, aux)`.
      logits: `(position, rng_key, x [num, ...]) -> [num, num_classes]`, the logits of one draw or dropout mask.
    """

    init: Callable
    loss: Callable
    logits: Callable


def build(config: Config, method: str, images: Images, num_classes: int) -> Method:
    """Returns the functions of a method for training on `images`; the members of an ensemble are point estimates."""
    rate = config.dropout_rate if method == "dropout" else 0.0
    model = models.LeNet(
        num_classes, config.channels, config.hidden, dropout_rate=rate, convolution_dropout_rate=0.4 * rate
    )

    def init(rng_key: jax.Array) -> Any:
        return model.init(rng_key, images.x[:1])["params"]

    def network(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
        return model.apply({"params": params}, x, deterministic=rate == 0, rngs={"dropout": rng_key})

    if method != "bbb":
        log_prob = log_likelihood(network)
        loss = objectives.batch_mean(lambda params, rng_key, image: -log_prob(params, rng_key, image))
        return Method(init, loss, network)
    family = posteriors.mean_field(config.initial_scale)
    loss = objectives.bayes_by_backprop(
        log_likelihood(models.flipout(model)), family.perturb, posteriors.kl_to_fan_in_gaussian(config.prior_scale),
        num_data=len(images.x), kl_weight=config.kl_weight,
    )  # fmt: skip

    def drawn(variational: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
        return network(family.sample(variational, rng_key), rng_key, x)

    return Method(lambda rng_key: family.init(init(rng_key)), loss, drawn)


def train(run: Run, setup: Method, method: str, train_set: Images) -> Any:
    """Trains a method; returns its parameters or variational posterior, for the ensemble `[num_members, ...]`."""
    config, num_steps = run.config, max(1, len(train_set.x) // run.config.batch_size) * run.config.num_epochs
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 4)
    kernel = kernels.optimize(setup.loss, optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps)))
    if method == "ensemble":  # each member has its own order of the images
        kernel = kernels.particles(kernel, config.num_members, batch_axis=0)
        position = jax.jit(jax.vmap(setup.init))(jax.random.split(init_key, config.num_members))
        orders, images = jax.random.split(data_key, config.num_members), jax.tree.map(jnp.asarray, train_set)
        batches = data.stacked_minibatches(orders, images, config.batch_size, shared=True)
    else:
        position, batches = jax.jit(setup.init)(init_key), data.Minibatches(data_key, train_set, config.batch_size)
    kernel, options = run.stage(method, kernel)
    state = jax.jit(kernel.init)(position, start_key)
    state, _ = training.run(run_key, kernel, state, batches, num_steps=num_steps, keep=lambda state: (), **options)
    return training.fetch(state.position)


def predict(config: Config, setup: Method, method: str, position: Any, x: np.ndarray) -> np.ndarray:
    """Class probabilities of images for each draw, dropout mask or ensemble member, `[num_draws, num, num_classes]`."""
    keys = jax.random.split(jax.random.key(config.seed + 1), 1 if method == "point" else config.num_draws)
    if method == "ensemble":
        apply, draws = lambda member, x: jax.nn.softmax(setup.logits(member, keys[0], x)), position
    else:
        apply, draws = lambda key, x: jax.nn.softmax(setup.logits(position, key, x)), keys
    return np.asarray(evaluation.predict(apply, draws, x, chunk_size=500, draw_chunk_size=1))


def load_outside(config: Config, test_set: Images) -> np.ndarray:
    """Loads the outside images `[num, ...]`, at most as many as there are test images.

    Raises:
      ValueError: if their shape is not that of the test images.
    """
    if config.outside == "permuted":
        random, shape = np.random.default_rng(config.seed), test_set.x.shape
        pixels = random.permutation(shape[1] * shape[2])
        return test_set.x.reshape(len(test_set.x), -1, shape[-1])[:, pixels].reshape(shape)
    other = data.load(config.outside, data_dir=config.data_dir or None).test.inputs
    require(
        other.shape[1:] == test_set.x.shape[1:],
        f"--outside {config.outside} must have images like --dataset's, {test_set.x.shape[1:]}; got {other.shape[1:]}",
    )
    return other[: len(test_set.x)]


def evaluate(inside: np.ndarray, outside: np.ndarray, labels: np.ndarray, method: str) -> dict[str, Any]:
    """Evaluates a method from probabilities `[num_draws, num, num_classes]` of test (`inside`) and `outside` images.

    Returns:
      Result `rows`, and two curves: `selective`, (coverage, error in %), and `reliability`, (confidence, accuracy).
    """
    mean = inside.mean(axis=0)
    error = evaluation.error_rate(mean, labels)
    rows = [
        row("error %", 100 * error.value, 100 * error.stderr, method=method),
        row("NLL", evaluation.negative_log_likelihood(mean, labels), method=method),
        row("ECE", calibration.expected_calibration_error(mean, labels), method=method),
        row("Brier score", calibration.brier_score(mean, labels), method=method),
    ]
    is_outside = np.repeat([False, True], [inside.shape[1], outside.shape[1]])
    scores = {"entropy": uncertainty.predictive_entropy, "mutual information": uncertainty.mutual_information}
    for name, score in scores.items():
        if name == "entropy" or len(inside) > 1:
            auroc = uncertainty.auroc(np.concatenate([score(inside), score(outside)]), is_outside)
            rows.append(row("AUROC of outside images", auroc, method=method, score=name))
    wrong = mean.argmax(axis=1) != labels
    coverage, risk = uncertainty.selective_risk(wrong, uncertainty.predictive_entropy(inside))
    rows.append(row("mean selective risk %", 100 * float(risk.mean()), method=method))
    shown = np.unique(np.linspace(0, len(risk) - 1, 200).astype(int))
    diagram = calibration.reliability(mean, labels)
    used = diagram.counts > 0
    return {
        "rows": rows,
        "selective": (coverage[shown], 100 * risk[shown]),
        "reliability": (diagram.confidence[used], diagram.accuracy[used]),
    }


def main(config: Config) -> None:
    """Trains and evaluates every method; writes the figures and the results."""
    with Run("bayesian_cnn", config) as run:
        train_set, test_set, num_classes = load_images(config)
        outside = load_outside(config, test_set)

        def compute(method: str) -> dict[str, Any]:
            setup = build(config, method, train_set, num_classes)
            position = train(run, setup, method, train_set)
            inside, beyond = (predict(config, setup, method, position, x) for x in (test_set.x, outside))
            return evaluate(inside, beyond, test_set.y, method)

        results = {method: run.part(method, functools.partial(compute, method)) for method in config.methods}
        reliability = {method: result["reliability"] for method, result in results.items()}
        selective = {method: result["selective"] for method, result in results.items()}
        plots.curves(run.figure("reliability.png"), reliability, xlabel="confidence", ylabel="accuracy")
        plots.curves(run.figure("selective.png"), selective, xlabel="coverage of the test images", ylabel="error (%)")
        run.finish([row for result in results.values() for row in result["rows"]], TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
