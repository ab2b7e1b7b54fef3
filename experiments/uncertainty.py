"""Two uncertainties on problems whose noise is known: what more data removes, and what stays.

Paper: Kendall & Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017,
sections 2 and 3 and table 3 (epistemic uncertainty falls with data, aleatoric does not).

    python -m experiments.uncertainty                      quick: 100 to 1000 points, under a minute
    python -m experiments.uncertainty --preset paper       300 to 30000 points, five seeds

Regression: y = sin(3 x) + x / 2 + s(x) e with s(x) = 0.1 + 0.3 / (1 + exp(-4 x)), x uniform on (-1.5, 1.5); a network
that puts out mean and log variance, and one whose noise is a single number. Classification: two overlapping
classes in the plane with p(y = 1 | x) = 1 / (1 + exp(-3 x_1 - 2 x_2^2 + 1)); softmax of the logits, and of logits with
learned noise. All have a mean-field posterior over the weights.

Expected (no numbers in the paper for these problems): epistemic variance and mutual information fall with the number
of points, about as 1/N; aleatoric variance and expected entropy tend to those of the problem.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.uncertainty."""

    dataset: str = "synthetic/known_noise"
    """The two problems above; there are no others."""
    num_data: tuple[int, ...] = (100, 300, 1000)
    """Numbers of training points, a training each."""
    num_seeds: int = 2
    """Data sets of each size, trained at once."""
    hidden: tuple[int, ...] = (20, 20)
    """Widths of the hidden layers, of ReLU units."""
    prior_scale: float = 2.0
    """Of the weights' prior, over the root of their fan-in."""
    initial_scale: float = 0.02
    """Of the posterior's standard deviations."""
    num_steps: int = 1500
    """Steps of a training."""
    batch_size: int = 100
    """Points a step."""
    learning_rate: float = 0.01
    """Adam's; it falls to 0 along a cosine."""
    num_draws: int = 100
    """Draws of the weights for the predictive."""


PRESETS = {
    "quick": Config(),
    "paper": dataclasses.replace(
        Config(), preset="paper", num_data=(300, 1000, 3000, 10_000, 30_000), num_seeds=5, num_steps=10_000,
        num_draws=500,
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
from scipy import special

from bayesjax import data, evaluation, kernels, models, objectives, plots, training
from bayesjax.evaluation import calibration, uncertainty
from bayesjax.objectives.heteroscedastic import (
    categorical_log_likelihood,
    gaussian_log_likelihood,
    noisy_logits_log_likelihood,
)
from experiments import tables
from experiments.shared.regression import LEVELS, network_posterior

REACH = 1.5
METHODS = ("heteroscedastic", "homoscedastic", "noisy_logits", "softmax")
NUM_TEST = 2000


class Points(NamedTuple):
    """Inputs `[..., num, features]` and targets `[..., num]`: numbers, or classes."""

    x: Any
    y: Any


def scale(x: np.ndarray) -> np.ndarray:
    """Standard deviation of the regression's noise."""
    return 0.1 + 0.3 * special.expit(4 * x)


def regression(random: np.random.Generator, num: int) -> Points:
    """Points of the noisy curve."""
    x = random.uniform(-REACH, REACH, num)
    return Points(x[:, None], np.sin(3 * x) + x / 2 + scale(x) * random.normal(size=num))


def class_probability(x: np.ndarray) -> np.ndarray:
    """p(y = 1 | x)."""
    return special.expit(3 * x[:, 0] + 2 * x[:, 1] ** 2 - 1)


def classification(random: np.random.Generator, num: int) -> Points:
    """Points of the two classes."""
    x = random.uniform(-REACH, REACH, (num, 2))
    return Points(x, (random.random(num) < class_probability(x)).astype(int))


class Method(NamedTuple):
    """A likelihood and how it predicts.

    Attributes:
      sample: `(random, num) -> Points`, its problem.
      num_outputs: of the network.
      log_likelihood: `(outputs, rng_key, y) -> scalar`, of one example; the last output is a log variance that all
        examples share.
    """

    sample: Callable[[np.random.Generator, int], Points]
    num_outputs: int
    log_likelihood: Callable


def method(name: str) -> Method:
    """The four of them; `outputs` are followed by the shared log variance."""
    if name == "heteroscedastic":
        return Method(regression, 2, lambda outputs, rng_key, y: gaussian_log_likelihood(outputs[0], outputs[1], y))
    if name == "homoscedastic":
        return Method(regression, 1, lambda outputs, rng_key, y: gaussian_log_likelihood(outputs[0], outputs[-1], y))
    if name == "softmax":
        return Method(classification, 2, lambda outputs, rng_key, y: categorical_log_likelihood(outputs[:2], y))
    return Method(
        classification, 4,
        lambda outputs, rng_key, y: noisy_logits_log_likelihood(outputs[:2], outputs[2:4], y, rng_key),
    )  # fmt: skip


def train(run: common.Experiment, name: str, points: Points) -> Callable:
    """Trains a posterior on each data set at once; `(rng_keys, x) -> outputs [sets, num_draws, num, outputs + 1]`."""
    config, how = run.config, method(name)
    num_sets, num_data, num_features = points.x.shape
    model = models.MLP((*config.hidden, how.num_outputs))
    apply = models.local_reparameterisation(model)
    family, kl = network_posterior(config.initial_scale, config.prior_scale)
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 4)

    def init(rng_key: jax.Array) -> dict:
        params = model.init(rng_key, jnp.zeros(num_features))["params"]
        return family.init({"network": params, "log_variance": jnp.zeros(())})

    def log_likelihood(params: Any, rng_key: jax.Array, example: Points) -> jax.Array:
        weights_key, noise_key = jax.random.split(rng_key)
        outputs = apply(params["network"], weights_key, example.x)
        return how.log_likelihood(jnp.append(outputs, params["log_variance"]), noise_key, example.y)

    loss = objectives.bayes_by_backprop(log_likelihood, family.moments, kl, num_data=num_data)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_steps))
    kernel = run.spread(kernels.particles(kernels.optimize(loss, optimizer), num_sets, batch_axis=0))
    position = jax.jit(jax.vmap(init))(jax.random.split(init_key, num_sets))
    arrays = Points(
        jnp.asarray(points.x, jnp.float32), jnp.asarray(points.y, jnp.float32 if how.sample is regression else int)
    )
    batches = data.stacked_minibatches(jax.random.split(data_key, num_sets), arrays, min(config.batch_size, num_data))
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batches, num_steps=config.num_steps,
        keep=lambda state: (), **run.stage(f"{name}-{num_data}"),
    )  # fmt: skip

    def of_one(position: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
        params = family.sample(position, rng_key)
        outputs: Any = model.apply({"params": params["network"]}, x)
        return jnp.concatenate([outputs, jnp.broadcast_to(params["log_variance"], (len(x), 1))], axis=1)

    @jax.jit
    def of_all(position: Any, rng_keys: jax.Array, x: jax.Array) -> jax.Array:
        of_sets = jax.vmap(of_one, in_axes=(0, None, None))
        return jnp.moveaxis(jax.lax.map(lambda key: of_sets(position, key, x), rng_keys), 1, 0)

    trained = training.fetch(state.position)
    return lambda rng_keys, x: np.asarray(of_all(trained, rng_keys, jnp.asarray(x, jnp.float32)), float)


def judge_regression(name: str, outputs: np.ndarray, test: Points) -> dict[str, float]:
    """Measures of one posterior on test points; outputs `[num_draws, num, 2 or 3]`."""
    means, log_variances = outputs[..., 0], outputs[..., 1 if name == "heteroscedastic" else -1]
    split = uncertainty.decompose_gaussian_variance(means, np.exp(log_variances))
    quantiles = uncertainty.mixture_quantiles((0.05, 0.95), means, np.exp(0.5 * log_variances))
    known = scale(test.x[:, 0])
    return {
        "epistemic": float(split.epistemic.mean()),
        "aleatoric": float(split.aleatoric.mean()),
        "error of the noise %": 100 * float(np.mean(np.abs(np.sqrt(split.aleatoric) / known - 1))),
        "coverage of the 90 % band": 100 * calibration.coverage(test.y, *quantiles).value,
    }


def judge_classification(name: str, outputs: np.ndarray, test: Points) -> dict[str, float]:
    """Measures of one posterior on test points; outputs `[num_draws, num, 3 or 5]`."""
    logits = outputs[..., :2]
    probabilities = special.softmax(logits, axis=-1)
    if name == "noisy_logits":  # of two logits the difference decides, and of its noise the integral is exact
        difference, deviation = logits[..., 1] - logits[..., 0], np.sqrt(np.exp(outputs[..., 2:4]).sum(axis=-1))
        nodes, weights = np.polynomial.hermite_e.hermegauss(32)
        pairs = zip(nodes, weights / weights.sum(), strict=True)
        second = sum(weight * special.expit(difference + deviation * node) for node, weight in pairs)
        probabilities = np.stack([1 - second, second], axis=-1)
    return {
        "epistemic": float(uncertainty.mutual_information(probabilities).mean()),
        "aleatoric": float(uncertainty.expected_entropy(probabilities).mean()),
        "nll": evaluation.negative_log_likelihood(probabilities.mean(axis=0), test.y).value,
        "ece": calibration.expected_calibration_error(probabilities.mean(axis=0), test.y),
    }


def of_size(run: common.Experiment, name: str, num: int, test: Points) -> dict[str, list[float]]:
    """Trains on data sets of one size and judges each."""
    config, how = run.config, method(name)
    sets = [how.sample(np.random.default_rng((config.seed + seed, num)), num) for seed in range(config.num_seeds)]
    predict = train(run, name, Points(*(np.stack(parts) for parts in zip(*sets, strict=True))))
    keys = jax.random.split(jax.random.key(config.seed + 1), config.num_draws)
    judge = judge_regression if how.sample is regression else judge_classification
    judged = [judge(name, outputs, test) for outputs in predict(keys, test.x)]
    if how.sample is regression and num == config.num_data[-1]:
        grid = np.linspace(-2 * REACH, 2 * REACH, 301)
        outputs = predict(keys, grid[:, None])[0]
        log_variances = outputs[..., 1 if name == "heteroscedastic" else -1]
        quantiles = uncertainty.mixture_quantiles(LEVELS, outputs[..., 0], np.exp(0.5 * log_variances))
        shown = sets[0].x[:1000, 0], sets[0].y[:1000]
        plots.bands(
            run.out / "figures" / f"{name}.png", grid, {f"{name}, {num} points": quantiles}, shown,
            truth=np.sin(3 * grid) + grid / 2,
        )  # fmt: skip
    return {measure: [one[measure] for one in judged] for measure in judged[0]}


def main(config: Config) -> None:
    """Trains all four at every size, fits how the uncertainties fall; writes table, figures and results."""
    with common.Experiment("uncertainty", config) as run:
        common.require_choice(config, "dataset", ("synthetic/known_noise",))
        common.require_positive(config, "prior_scale", "initial_scale", "learning_rate")
        common.require_all_positive(config, "hidden")
        common.require_at_least(config, 1, "num_seeds", "num_steps", "batch_size", "num_draws")
        common.require(
            len(config.num_data) > 1
            and sorted(set(config.num_data)) == list(config.num_data)
            and config.num_data[0] > 1,
            f"--num-data must be two or more ascending numbers above 1; got {config.num_data}",
        )
        metrics, curves = {}, {}
        for name in METHODS:
            test = method(name).sample(np.random.default_rng(10**6 + config.seed), NUM_TEST)
            found = {
                num: run.cached(f"{name}-{num}", functools.partial(of_size, run, name, num, test))
                for num in config.num_data
            }
            for num, measures in found.items():
                for measure, values in measures.items():
                    metrics[f"{name} {measure}, {num} points"] = evaluation.mean_estimate(values)._asdict()
            for part in ("epistemic", "aleatoric"):
                values = np.array([measures[part] for measures in found.values()])  # [sizes, seeds]
                slopes = np.polyfit(np.log(config.num_data), np.log(values), 1)[0]
                metrics[f"{name} exponent of {part}"] = evaluation.mean_estimate(slopes)._asdict()
                curves[f"{name}, {part}"] = (np.array(config.num_data), values.T)
        known_regression, known_classes = (  # at the inputs that all are judged at
            method(name).sample(np.random.default_rng(10**6 + config.seed), NUM_TEST).x
            for name in ("heteroscedastic", "softmax")
        )
        probability = class_probability(known_classes)
        metrics["known aleatoric of the classes"] = {
            "value": float(uncertainty.entropy(np.stack([probability, 1 - probability], axis=-1)).mean())
        }
        metrics["known aleatoric of the regression"] = {"value": float((scale(known_regression) ** 2).mean())}
        for kind, names in (("regression", METHODS[:2]), ("classification", METHODS[2:])):
            shown = {key: curve for key, curve in curves.items() if key.partition(",")[0] in names}
            plots.curves(
                run.out / "figures" / f"{kind}.png", shown,
                xlabel="training points", ylabel="variance" if kind == "regression" else "nats", log_x=True, log_y=True,
            )  # fmt: skip
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
