"""LeNet four ways: a point, an ensemble, MC dropout and Bayes by Backprop; calibration, and images from elsewhere.

Papers: Blundell et al., "Weight uncertainty in neural networks", ICML 2015; Gal & Ghahramani, "Bayesian convolutional
neural networks with Bernoulli approximate variational inference", 2015; Lakshminarayanan et al., "Simple and scalable
predictive uncertainty estimation using deep ensembles", NeurIPS 2017; Wen et al., "Flipout", ICLR 2018.

    python -m experiments.bayesian_cnn                                          quick: digits, under a minute
    python -m experiments.bayesian_cnn --preset paper                           MNIST, outside images from Fashion-MNIST
    python -m experiments.bayesian_cnn --preset paper --dataset fashion_mnist --outside mnist

All are the same Flax module, trained for as many epochs. The posterior is a normal for every weight of kernels and
biases, with Flipout's noise in training; it is judged by plain draws. Outside images are told from test images by the
entropy of the predictive and by its mutual information with the weights.

Expected (MNIST, uncertainty-baselines' LeNet5, NLL, accuracy and ECE): point .037, 99.1 % and -, ensemble of ten .016,
99.4 % and .005, variational .048, 98.5 % and .010.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common

METHODS = ("point", "ensemble", "dropout", "bbb")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.bayesian_cnn."""

    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets (mnist, fashion_mnist, cifar10), or an .npz file with labels."""
    outside: str = "permuted"
    """Images of another set, by its name; permuted: the test images with their pixels in another order."""
    methods: tuple[str, ...] = METHODS
    """point, ensemble, dropout, bbb."""
    channels: tuple[int, ...] = (8, 16)
    """Of LeNet's convolutions."""
    hidden: int = 64
    """Units of its dense layer."""
    num_members: int = 5
    """Networks of the ensemble."""
    num_epochs: int = 20
    """Epochs of every method."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 3e-3
    """Adam's; it falls to 0 along a cosine."""
    dropout_rate: float = 0.5
    """Of the dense layer; 0.4 times it after the convolutions."""
    initial_scale: float = 0.02
    """Of the posterior's standard deviations."""
    prior_scale: float = 1.4142
    """Of the prior of kernels, over the root of their fan-in, and of biases."""
    kl_weight: float = 1.0
    """Factor of the divergence: 1 for the bound on the evidence, less for a tempered posterior."""
    num_draws: int = 50
    """Draws or masks that the predictive averages over."""
    num_validation: int = 0
    """Training images that stand in for the test set, to choose settings by."""


PRESETS = {
    "quick": Config(),
    "paper": dataclasses.replace(
        Config(), preset="paper", dataset="mnist", outside="fashion_mnist", channels=(20, 50), hidden=500,
        learning_rate=1e-3, num_epochs=12,
    ),
}  # fmt: skip

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, objectives, plots, posteriors, training
from bayesjax.evaluation import calibration, uncertainty
from experiments import tables
from experiments.classification import Images, log_likelihood, splits

AT_A_TIME = 500  # images in a prediction


class Method(NamedTuple):
    """What one row of the table trains and draws from.

    Attributes:
      init: `rng_key -> position`.
      loss: of a batch.
      outputs: `(position, rng_key, x) -> logits` of one draw.
    """

    init: Callable
    loss: Callable
    outputs: Callable


def method(config: Config, name: str, images: Images, num_classes: int) -> Method:
    """The module and how it is trained on the images; an ensemble is points."""
    rate = config.dropout_rate if name == "dropout" else 0.0
    model = models.LeNet(
        num_classes, config.channels, config.hidden, dropout_rate=rate, convolution_dropout_rate=0.4 * rate
    )

    def init(rng_key: jax.Array) -> Any:
        return model.init(rng_key, images.x[:1])["params"]

    def plain(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
        return model.apply({"params": params}, x, deterministic=rate == 0, rngs={"dropout": rng_key})

    if name != "bbb":
        fit = log_likelihood(plain)
        loss = objectives.batch_mean(lambda params, rng_key, image: -fit(params, rng_key, image))
        return Method(init, loss, plain)
    family = posteriors.mean_field(config.initial_scale)
    loss = objectives.bayes_by_backprop(
        log_likelihood(models.flipout(model)), family.perturb, posteriors.kl_to_fan_in_gaussian(config.prior_scale),
        num_data=len(images.x), kl_weight=config.kl_weight,
    )  # fmt: skip

    def drawn(variational: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
        return plain(family.sample(variational, rng_key), rng_key, x)

    return Method(lambda rng_key: family.init(init(rng_key)), loss, drawn)


def train(run: common.Experiment, train_set: Images, num_classes: int, name: str) -> tuple[Method, Any]:
    """A method and its trained position; a stack of them for the ensemble."""
    config = run.config
    how, steps = method(config, name, train_set, num_classes), max(1, len(train_set.x) // config.batch_size)
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 4)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, steps * config.num_epochs))
    kernel = kernels.optimize(how.loss, optimizer)
    if name == "ensemble":  # of networks that see the images in orders of their own
        kernel = kernels.particles(kernel, config.num_members, batch_axis=0)
        position = jax.jit(jax.vmap(how.init))(jax.random.split(init_key, config.num_members))
        orders, images = jax.random.split(data_key, config.num_members), jax.tree.map(jnp.asarray, train_set)
        batches = data.stacked_minibatches(orders, images, config.batch_size, shared=True)
    else:
        position, batches = jax.jit(how.init)(init_key), data.Minibatches(data_key, train_set, config.batch_size)
    kernel = run.spread(kernel)
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batches, num_steps=steps * config.num_epochs,
        keep=lambda state: (), **run.stage(name),
    )  # fmt: skip
    return how, training.fetch(state.position)


def predict(config: Config, name: str, how: Method, position: Any, x: np.ndarray) -> np.ndarray:
    """Probabilities of every draw, mask or member, `[num_draws, num, num_classes]`."""
    keys = jax.random.split(jax.random.key(config.seed + 1), 1 if name == "point" else config.num_draws)

    @jax.jit
    def of_some(position: Any, x: jax.Array) -> jax.Array:
        if name == "ensemble":
            return jax.lax.map(lambda member: jax.nn.softmax(how.outputs(member, keys[0], x)), position)
        return jax.lax.map(lambda key: jax.nn.softmax(how.outputs(position, key, x)), keys)

    return np.concatenate([of_some(position, x[i : i + AT_A_TIME]) for i in range(0, len(x), AT_A_TIME)], axis=1)


def outside_images(config: Config, test_set: Images) -> np.ndarray:
    """As many images from elsewhere as there are test images, or as there are."""
    if config.outside == "permuted":
        random, shape = np.random.default_rng(config.seed), test_set.x.shape
        pixels = random.permutation(shape[1] * shape[2])
        return test_set.x.reshape(len(test_set.x), -1, shape[-1])[:, pixels].reshape(shape)
    other = data.load(config.outside, data_dir=config.data_dir or None).test.inputs
    common.require(
        other.shape[1:] == test_set.x.shape[1:],
        f"--outside {config.outside} must have images like --dataset's, {test_set.x.shape[1:]}; got {other.shape[1:]}",
    )
    return other[: len(test_set.x)]


def judged(run: common.Experiment, train_set: Images, test_set: Images, num_classes: int, name: str) -> dict[str, Any]:
    """Trains a method; its errors, calibration, and how it tells outside images; entropies for the figure."""
    how, position = train(run, train_set, num_classes, name)
    inside, outside = (
        predict(run.config, name, how, position, x) for x in (test_set.x, outside_images(run.config, test_set))
    )
    mean = inside.mean(axis=0)
    error, nll = evaluation.error_rate(mean, test_set.y), evaluation.negative_log_likelihood(mean, test_set.y)
    is_outside = np.repeat([False, True], [inside.shape[1], outside.shape[1]])
    found: dict[str, Any] = {
        "error %": {"value": 100 * error.value, "stderr": 100 * error.stderr},
        "nll": nll._asdict(),
        "ECE": {"value": calibration.expected_calibration_error(mean, test_set.y)},
        "Brier score": calibration.brier_score(mean, test_set.y)._asdict(),
    }
    scores = {"entropy": uncertainty.predictive_entropy, "mutual information": uncertainty.mutual_information}
    for measure, score in scores.items():
        if measure == "entropy" or len(inside) > 1:
            values = np.concatenate([score(inside), score(outside)])
            found[f"AUROC of outside by {measure}"] = uncertainty.auroc(values, is_outside)._asdict()
    wrong = mean.argmax(axis=1) != test_set.y
    entropy = uncertainty.predictive_entropy(inside)
    coverage, risk = uncertainty.selective_risk(wrong, entropy)
    found["mean risk over coverages %"] = {"value": 100 * float(risk.mean())}
    shown = np.unique(np.linspace(0, len(risk) - 1, 200).astype(int))
    diagram = calibration.reliability(mean, test_set.y)
    used = diagram.counts > 0
    figure = {
        "coverage": coverage[shown].tolist(), "risk": risk[shown].tolist(),
        "confidence": diagram.confidence[used].tolist(), "accuracy": diagram.accuracy[used].tolist(),
    }  # fmt: skip
    return {"metrics": found, "figure": figure}


def main(config: Config) -> None:
    """Trains and judges every method; writes table, figures and results."""
    with common.Experiment("bayesian_cnn", config) as run:
        common.require_names(config, "methods", METHODS)
        common.require_all_positive(config, "channels")
        common.require_positive(config, "learning_rate", "initial_scale", "prior_scale")
        common.require_at_least(config, 1, "hidden", "num_members", "num_epochs", "batch_size", "num_draws")
        common.require(0 < config.dropout_rate < 1, f"--dropout-rate must lie in (0, 1); got {config.dropout_rate}")
        common.require(config.kl_weight >= 0, f"--kl-weight must be 0 or more; got {config.kl_weight}")
        train_set, test_set, num_classes = splits(config)
        of_one = functools.partial(judged, run, train_set, test_set, num_classes)
        found = {name: run.cached(name, functools.partial(of_one, name)) for name in config.methods}
        folder = run.out / "figures"
        plots.curves(
            folder / "reliability.png",
            {name: (one["figure"]["confidence"], np.array(one["figure"]["accuracy"])) for name, one in found.items()},
            xlabel="confidence", ylabel="accuracy",
        )  # fmt: skip
        plots.curves(
            folder / "selective.png",
            {name: (one["figure"]["coverage"], 100 * np.array(one["figure"]["risk"])) for name, one in found.items()},
            xlabel="part of the test images kept", ylabel="error of what is kept (%)",
        )  # fmt: skip
        path = run.finish(
            {f"{name} {what}": entry for name, one in found.items() for what, entry in one["metrics"].items()}
        )
        print(tables.render(path))
        print(f"results in {path}, figures in {folder}")


if __name__ == "__main__":
    main(CONFIG)
