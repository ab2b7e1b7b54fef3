"""The problems of `bnn_posterior`: a network with its prior and data, and the measures of a predictive distribution.

Parameters are {"network": weights}, and for real-valued targets also the "log_precision" of the noise. The outputs of a
draw at a point are logits, or (mean, log precision of the noise). All measures are functions of the outputs.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from bayesjax import data, evaluation, models, posteriors
from bayesjax.data.regression import RegressionDataset
from bayesjax.evaluation import agreement, calibration
from bayesjax.evaluation.targets import NOISE, curve_with_a_gap
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood, gaussian_log_likelihood
from bayesjax.types import Density
from experiments.harness import require
from experiments.shared.classification import load_images
from experiments.shared.regression import LOG_PRECISION, measure, noise_scales, noise_unit


class Points(NamedTuple):
    """Inputs `x [num, features]` and targets `y [num]`, which are labels or real numbers."""

    x: np.ndarray
    y: np.ndarray


class Problem(NamedTuple):
    """The network, prior, data and measures that all methods share.

    Attributes:
      train, test: training points and test points.
      model: the network.
      init: `rng_key -> params`.
      outputs: `(params, output of the network [..., features]) -> [..., num_outputs]`.
      log_likelihood: `(outputs of one point, its target) -> scalar`.
      log_prior: the log prior density of params.
      log_noise_prior: the term of `log_prior` that does not belong to the network.
      units: standard deviations of the prior, and the unit of the noise's log precision, structured like params.
        Samplers move in these units, which act as a diagonal mass matrix.
      evaluate: `(outputs, outputs of the reference) -> {measure: number or estimate}`; both outputs are
        `[num_draws, num_test, num_outputs]`.
      scores: `outputs [..., num_test, num_outputs] -> [..., num]`, identified quantities for R-hat and ESS.
      probabilities: `outputs [num_draws, num_test, num_outputs] -> [num_test, num_classes]`; None without labels.
    """

    train: Points
    test: Points
    model: models.MLP
    init: Callable
    outputs: Callable
    log_likelihood: Callable
    log_prior: Callable
    log_noise_prior: Callable
    units: Any
    evaluate: Callable[[np.ndarray, np.ndarray], dict[str, Any]]
    scores: Callable[[np.ndarray], np.ndarray]
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None

    def apply(self, params: Any, x: Any) -> jax.Array:
        """Outputs of the network at points."""
        return self.outputs(params, self.model.apply({"params": params["network"]}, x))

    def point_likelihood(self, network: Callable) -> Callable:
        """The log likelihood of one point under `network(weights, rng_key, x) -> output of the network`."""

        def log_prob(params: Any, rng_key: jax.Array, point: Points) -> jax.Array:
            return self.log_likelihood(self.outputs(params, network(params["network"], rng_key, point.x)), point.y)

        return log_prob

    def density(self, network: Callable | None = None) -> Density:
        """The log posterior density by batch; `network`, if given, replaces that of the problem."""
        plain = lambda weights, rng_key, x: self.model.apply({"params": weights}, x)  # noqa: E731
        return posteriors.log_posterior(self.point_likelihood(network or plain), self.log_prior, len(self.train.x))

    def scaled_density(self) -> Density:
        """The log posterior of parameters divided by their units."""
        density = self.density()
        return lambda scaled, rng_key, batch: density(self.unscale(scaled), rng_key, batch)

    def unscale(self, scaled: Any) -> Any:
        """Parameters from parameters divided by their units."""
        return jax.tree.map(lambda leaf, unit: unit * leaf, scaled, self.units)

    def scale(self, params: Any) -> Any:
        """Parameters divided by their units."""
        return jax.tree.map(lambda leaf, unit: leaf / unit, params, self.units)


def load(config: Any) -> Problem:
    """The problem of a configuration, classification or regression as the name of the data set requires."""
    if config.dataset == "synthetic/gap" or config.dataset == "diabetes" or config.dataset.startswith("uci/"):
        return regression(config)
    return classification(config)


def take_first(config: Any, train: Any, test: Any) -> tuple[Points, Points]:
    """The first --num-train and --num-test points; a flag of 0 means all points.

    Raises:
      ValueError: if there are fewer points.
    """
    for flag, wanted, part in (("num-train", config.num_train, train), ("num-test", config.num_test, test)):
        require(wanted <= len(part.x), f"--{flag} must be at most {len(part.x)}; got {wanted}")
    num_train, num_test = config.num_train or None, config.num_test or None
    return Points(train.x[:num_train], train.y[:num_train]), Points(test.x[:num_test], test.y[:num_test])


def prior_scales(config: Any, init: Callable) -> Any:
    """Standard deviations of the prior of the network's weights, structured like the weights."""
    return posteriors.fan_in_scales(jax.eval_shape(init, jax.random.key(0))["network"], config.prior_scale)


def percent(estimate: evaluation.Estimate) -> evaluation.Estimate:
    """Converts an estimated fraction to %."""
    return evaluation.Estimate(100 * estimate.value, 100 * estimate.stderr)


# ---- labels of images


def average_probabilities(logits: np.ndarray) -> np.ndarray:
    """Predictive probabilities `[num_test, num_classes]` from logits `[num_draws, num_test, num_classes]`."""
    return special.softmax(logits.astype(float), axis=-1).mean(axis=0)


def classification(config: Any) -> Problem:
    """The problem of classifying images, which are flattened to vectors."""
    require(config.split == 0, f"--split is for regression sets only; got {config.split} for {config.dataset}")
    *parts, num_classes = load_images(config, flat=True)
    train, test = take_first(config, *parts)
    model = models.MLP((*config.hidden, num_classes), activation=jnp.tanh)
    prior = posteriors.fan_in_gaussian(config.prior_scale)

    def init(rng_key: jax.Array) -> Any:
        return {"network": model.init(rng_key, train.x[:1])["params"]}

    def evaluate(outputs: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
        predictive, known = average_probabilities(outputs), average_probabilities(reference)
        return {
            "error %": percent(evaluation.error_rate(predictive, test.y)),
            "NLL": evaluation.negative_log_likelihood(predictive, test.y),
            "ECE": calibration.expected_calibration_error(predictive, test.y),
            "agreement %": percent(agreement.agreement(predictive, known)),
            "total variation": agreement.total_variation(predictive, known),
            "ECE by the reference": agreement.calibration_error(predictive, known),
        }

    def log_odds(outputs: np.ndarray) -> np.ndarray:
        is_label = np.arange(num_classes) == test.y[:, None]
        return outputs[..., is_label] - special.logsumexp(np.where(is_label, -np.inf, outputs), axis=-1)

    return Problem(
        train, test, model, init, lambda params, logits: logits, categorical_log_likelihood,
        lambda params: prior(params["network"]), lambda params: jnp.zeros(()), {"network": prior_scales(config, init)},
        evaluate, log_odds, average_probabilities,
    )  # fmt: skip


def load_reference(config: Any, problem: Problem) -> np.ndarray:
    """Reads log class probabilities from --reference, as the outputs `[1, num_test, num_classes]` of one draw.

    Raises:
      ValueError: if the data have no labels, or the file is missing or has other numbers of points or classes.
    """
    require(
        problem.probabilities is not None, f"--reference is for labels, which --dataset {config.dataset} does not have"
    )
    require(Path(config.reference).is_file(), f"--reference {config.reference}: there is no such file")
    known = agreement.load_reference(config.reference, num_classes=problem.model.features[-1])
    num_test = len(problem.test.x)
    require(
        len(known) == num_test,
        f"{config.reference} must have a row for each of {num_test} test points; got {len(known)}",
    )
    with np.errstate(divide="ignore"):
        return np.log(known)[None]


# ---- real-valued targets


def regression(config: Any) -> Problem:
    """The problem of regression on standardised targets, with noise of unknown precision."""
    if config.dataset == "synthetic/gap":
        require(config.split == config.num_validation == 0, "synthetic/gap has no --split or --num-validation")
        dataset = curve_and_grid(config.seed)
    else:
        dataset = take_split(data.load_regression(config.dataset, data_dir=config.data_dir or None), config)
    scaled = dataset.standardise(0)
    scale = float(scaled.target_scale)
    train, test = take_first(config, Points(scaled.x, scaled.y), Points(scaled.x_test, scaled.y_test))
    model = models.MLP((*config.hidden, 1), activation=jnp.tanh)
    prior, (centre, width) = posteriors.fan_in_gaussian(config.prior_scale), LOG_PRECISION

    def init(rng_key: jax.Array) -> Any:
        return {"network": model.init(rng_key, train.x[:1])["params"], "log_precision": jnp.full((), centre)}

    def outputs(params: Any, means: Any) -> jax.Array:
        return jnp.concatenate([means, jnp.broadcast_to(params["log_precision"], means.shape)], axis=-1)

    def log_likelihood(outputs: jax.Array, target: jax.Array) -> jax.Array:
        return gaussian_log_likelihood(outputs[0], -outputs[1], target)

    def log_noise_prior(params: Any) -> jax.Array:
        return gaussian_log_likelihood(params["log_precision"], jnp.full((), 2 * np.log(width)), jnp.full((), centre))

    def evaluate(outputs: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
        means = outputs[..., 0]
        quality = measure(test.y, means, noise_scales(outputs[..., 1]), scale)
        return {
            "RMSE": quality.rmse,
            "NLL": quality.nll,
            "% in the 90 % band": percent(quality.in_band),
            "distance of f": agreement.wasserstein_distance(means, reference[..., 0]),
            "spread of f": means.std(axis=0).mean() / reference[..., 0].std(axis=0).mean(),
        }

    units = {
        "network": prior_scales(config, init),
        "log_precision": jnp.full((), config.noise_unit * noise_unit(len(train.x))),
    }
    return Problem(
        train, test, model, init, outputs, log_likelihood,
        lambda params: prior(params["network"]) + log_noise_prior(params), log_noise_prior, units, evaluate,
        lambda outputs: np.concatenate([outputs[..., 0], outputs[..., :1, 1]], axis=-1),
    )  # fmt: skip


def take_split(dataset: RegressionDataset, config: Any) -> RegressionDataset:
    """Returns the data set with the split that --split selects as its only one.

    If --num-validation is positive, as many random training rows are held out and replace the test rows.

    Raises:
      ValueError: if --num-validation is not less than the number of training rows.
    """
    train, test = dataset.rows(config.split)
    held = config.num_validation
    require(0 <= held < len(train), f"--num-validation must lie in 0 .. {len(train) - 1}; got {held}")
    if held:
        order = np.random.default_rng(config.split).permutation(train)
        train, test = order[held:], order[:held]
    return dataclasses.replace(dataset, splits=((train, test),))


def curve_and_grid(seed: int) -> RegressionDataset:
    """Training points on a curve with a gap; the test inputs are a grid over the gap and beyond the data."""
    random = np.random.default_rng(seed)
    x, y = curve_with_a_gap(random)
    grid = np.linspace(-2.5, 2.5, 200)
    inputs, targets = np.concatenate([x, grid]), np.concatenate([y, np.sin(2 * grid) + NOISE * random.normal(size=200)])
    rows = np.arange(len(inputs))
    return RegressionDataset("synthetic/gap", inputs[:, None], targets, ((rows[: len(x)], rows[len(x) :]),))
