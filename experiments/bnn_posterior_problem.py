"""The problems of `bnn_posterior.py`: a network, its prior and data, and what a predictive of it is worth.

Parameters are {"network": weights}, and for real-valued targets also {"log_precision"} of the noise. A draw's outputs
are logits, or (mean, log precision), so all that is judged is in them.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from bayesjax import data, evaluation, models, plots, posteriors
from bayesjax.data.regression import RegressionDataset
from bayesjax.evaluation import agreement, calibration
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood, gaussian_log_likelihood
from bayesjax.types import Density
from experiments import classification, common
from experiments.bnn_posterior_flags import Config
from experiments.regression import LOG_PRECISION, measured, noise_scales, noise_unit
from experiments.targets import NOISE, curve_with_a_gap

OF_LABELS = ("error %", "nll", "ece", "agreement %", "total variation", "bulk ess a 1000 passes")
OF_NUMBERS = ("rmse", "nll", "in the 90 % band %", "distance of f", "spread of f", "bulk ess a 1000 passes")
"""What the figure shows."""


class Points(NamedTuple):
    """Inputs and targets.

    Attributes:
      x: `[num, features]`.
      y: labels or real numbers, `[num]`.
    """

    x: np.ndarray
    y: np.ndarray


class Problem(NamedTuple):
    """What all methods share.

    Attributes:
      train, test: points.
      model: the network.
      init: `rng_key -> params`.
      outputs: `(params, what the network puts out [..., features]) -> [..., num_outputs]`.
      log_likelihood: `(outputs of one point, its target) -> scalar`.
      prior: the log density of params.
      noise_prior: the part of it that is not of the network.
      units: a tree like params: deviations of the prior, and of the noise's precision about what the data leave of it.
        Samplers move in these, as with a mass matrix.
      judge: `(outputs [num_draws, num_test, num_outputs], those of the reference) -> measures`.
      scores: `outputs [..., num_test, num_outputs] -> [..., num]`, numbers by which chains are compared.
      probabilities: of labels, `[num_test, num_classes]` from `outputs [num_draws, num_test, num_outputs]`; or None.
    """

    train: Points
    test: Points
    model: models.MLP
    init: Callable
    outputs: Callable
    log_likelihood: Callable
    prior: Callable
    noise_prior: Callable
    units: Any
    judge: Callable[[np.ndarray, np.ndarray], dict[str, Any]]
    scores: Callable[[np.ndarray], np.ndarray]
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None

    def apply(self, params: Any, x: Any) -> jax.Array:
        """Outputs of points."""
        return self.outputs(params, self.model.apply({"params": params["network"]}, x))

    def fit(self, network: Callable) -> Callable:
        """The log likelihood of one point, from `network(weights, rng_key, x) -> what the network puts out`."""

        def of_one(params: Any, rng_key: jax.Array, point: Points) -> jax.Array:
            return self.log_likelihood(self.outputs(params, network(params["network"], rng_key, point.x)), point.y)

        return of_one

    def density(self, network: Callable | None = None) -> Density:
        """The log posterior of a batch, of the network as it is if not of another."""
        plain = lambda weights, rng_key, x: self.model.apply({"params": weights}, x)  # noqa: E731
        return posteriors.log_posterior(self.fit(network or plain), self.prior, len(self.train.x))

    def density_in_units(self) -> Density:
        """The log posterior, of parameters over their units."""
        density = self.density()
        return lambda scaled, rng_key, batch: density(self.of_units(scaled), rng_key, batch)

    def of_units(self, scaled: Any) -> Any:
        """Parameters over their units as parameters."""
        return jax.tree.map(lambda leaf, unit: unit * leaf, scaled, self.units)

    def in_units(self, params: Any) -> Any:
        """Parameters over their units."""
        return jax.tree.map(lambda leaf, unit: leaf / unit, params, self.units)


def of_config(config: Config) -> Problem:
    """Labelled images, or real-valued targets, by the name of the data set."""
    if config.dataset == "synthetic/gap" or config.dataset == "diabetes" or config.dataset.startswith("uci/"):
        return regression(config)
    return images(config)


def first(config: Config, train: Any, test: Any) -> tuple[Points, Points]:
    """As many points as the flags say, the first ones; all where they say 0."""
    found = []
    for name, part in (("num_train", train), ("num_test", test)):
        wanted = getattr(config, name)
        flag = name.replace("_", "-")
        common.require(wanted <= len(part.x), f"--{flag} must be at most {len(part.x)}; got {wanted}")
        found.append(Points(*(array[: wanted or None] for array in (part.x, part.y))))
    return found[0], found[1]


def images(config: Config) -> Problem:
    """Labels of images, as vectors of their pixels."""
    common.require(config.split == 0, f"--split is of regression sets; got {config.split} for {config.dataset}")
    *parts, num_classes = classification.splits(config, flat=True)
    train, test = first(config, *parts)
    model = models.MLP((*config.hidden, num_classes), activation=jnp.tanh)
    prior = posteriors.fan_in_gaussian(config.prior_scale)

    def init(rng_key: jax.Array) -> Any:
        return {"network": model.init(rng_key, train.x[:1])["params"]}

    def judge(outputs: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
        predictive, known = probabilities(outputs), probabilities(reference)
        return {
            "error %": percent(evaluation.error_rate(predictive, test.y)),
            "nll": evaluation.negative_log_likelihood(predictive, test.y)._asdict(),
            "ece": {"value": calibration.expected_calibration_error(predictive, test.y)},
            "agreement %": percent(agreement.agreement(predictive, known)),
            "total variation": agreement.total_variation(predictive, known)._asdict(),
            "ece by the reference": {"value": agreement.calibration_error(predictive, known)},
        }

    def scores(outputs: np.ndarray) -> np.ndarray:
        """Log odds of the labels: weights have no identity, since units may be exchanged."""
        is_label = np.arange(num_classes) == test.y[:, None]
        return outputs[..., is_label] - special.logsumexp(np.where(is_label, -np.inf, outputs), axis=-1)

    return Problem(
        train, test, model, init, lambda params, logits: logits, categorical_log_likelihood,
        lambda params: prior(params["network"]), lambda params: jnp.zeros(()), {"network": deviations(config, init)},
        judge, scores, probabilities,
    )  # fmt: skip


def regression(config: Config) -> Problem:
    """Real-valued targets in units of their spread, with noise of an unknown precision."""
    if config.dataset == "synthetic/gap":
        common.require(config.split == config.num_validation == 0, "synthetic/gap has no --split or --num-validation")
        found = gap(config.seed)
    else:
        found = held_out(data.load_regression(config.dataset, data_dir=config.data_dir or None), config)
    scaled = found.standardise(0)
    scale = float(scaled.target_scale)
    train, test = first(config, Points(scaled.x, scaled.y), Points(scaled.x_test, scaled.y_test))
    model = models.MLP((*config.hidden, 1), activation=jnp.tanh)
    prior, (centre, width) = posteriors.fan_in_gaussian(config.prior_scale), LOG_PRECISION

    def init(rng_key: jax.Array) -> Any:
        return {"network": model.init(rng_key, train.x[:1])["params"], "log_precision": jnp.full((), centre)}

    def outputs(params: Any, found: Any) -> jax.Array:
        return jnp.concatenate([found, jnp.broadcast_to(params["log_precision"], found.shape)], axis=-1)

    def log_likelihood(outputs: jax.Array, target: jax.Array) -> jax.Array:
        return gaussian_log_likelihood(outputs[0], -outputs[1], target)

    def noise_prior(params: Any) -> jax.Array:
        return gaussian_log_likelihood(params["log_precision"], jnp.full((), 2 * np.log(width)), jnp.full((), centre))

    def judge(outputs: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
        means = outputs[..., 0]
        found = measured(test.y, means, noise_scales(outputs[..., 1]), scale)
        return {
            "rmse": found.rmse._asdict(),
            "nll": found.nll._asdict(),
            "in the 90 % band %": percent(found.in_band),
            "distance of f": agreement.wasserstein_distance(means, reference[..., 0])._asdict(),
            "spread of f": {"value": float(means.std(axis=0).mean() / reference[..., 0].std(axis=0).mean())},
        }

    units = {
        "network": deviations(config, init),
        "log_precision": jnp.full((), config.noise_lightness * noise_unit(len(train.x))),
    }
    return Problem(
        train, test, model, init, outputs, log_likelihood,
        lambda params: prior(params["network"]) + noise_prior(params), noise_prior, units, judge,
        lambda outputs: np.concatenate([outputs[..., 0], outputs[..., :1, 1]], axis=-1),
    )  # fmt: skip


def held_out(found: RegressionDataset, config: Config) -> RegressionDataset:
    """One split alone; with --num-validation, random rows of its training part stand in for its test part."""
    train, test = found.rows(config.split)
    held = config.num_validation
    common.require(0 <= held < len(train), f"--num-validation must lie in 0 .. {len(train) - 1}; got {held}")
    if held:
        order = np.random.default_rng(config.split).permutation(train)
        train, test = order[held:], order[:held]
    return dataclasses.replace(found, splits=((train, test),))


def gap(seed: int) -> RegressionDataset:
    """A curve with a gap, and as test points others of the same curve, in the gap and beyond the ends too."""
    random = np.random.default_rng(seed)
    x, y = curve_with_a_gap(random)
    wide = np.linspace(-2.5, 2.5, 200)
    inputs, targets = np.concatenate([x, wide]), np.concatenate([y, np.sin(2 * wide) + NOISE * random.normal(size=200)])
    rows = np.arange(len(inputs))
    return RegressionDataset("synthetic/gap", inputs[:, None], targets, ((rows[: len(x)], rows[len(x) :]),))


def deviations(config: Config, init: Callable) -> Any:
    """The prior's, of the network's weights."""
    shapes = jax.eval_shape(init, jax.random.key(0))["network"]
    return posteriors.fan_in_scales(shapes, config.prior_scale)


def given_reference(config: Config, task: Problem) -> np.ndarray:
    """The class probabilities of a file, as the outputs `[1, num_test, num_classes]` of one draw: their logarithms."""
    common.require(
        task.probabilities is not None, f"--reference is of labels, which --dataset {config.dataset} does not have"
    )
    common.require(Path(config.reference).is_file(), f"--reference {config.reference}: there is no such file")
    known = agreement.load_reference(config.reference, num_classes=task.model.features[-1])
    num_test = len(task.test.x)
    common.require(
        len(known) == num_test,
        f"{config.reference} must have a row for each of {num_test} test points; got {len(known)}",
    )
    with np.errstate(divide="ignore"):
        return np.log(known)[None]


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The predictive `[num_test, num_classes]` of draws `[num_draws, num_test, num_classes]`."""
    return special.softmax(logits.astype(float), axis=-1).mean(axis=0)


def percent(estimate: evaluation.Estimate) -> dict[str, float]:
    """In hundredths."""
    return {key: 100 * value for key, value in estimate._asdict().items()}


def figure_of_methods(path: Path, methods: Sequence[str], metrics: dict[str, dict]) -> None:
    """Measures of all methods with their errors; ESS of those that are chains."""
    shown = OF_LABELS if f"{methods[0]} error %" in metrics else OF_NUMBERS
    panels = {
        measure: {name: metrics[f"{name} {measure}"] for name in methods if f"{name} {measure}" in metrics}
        for measure in shown
    }
    logarithmic = ("total variation", "distance of f", "bulk ess a 1000 passes")
    plots.estimates(path, panels, log_x=logarithmic)


if __name__ == "__main__":
    common.not_a_command("bnn_posterior")
