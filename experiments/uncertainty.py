"""Epistemic and aleatoric uncertainty on problems with known noise, as the number of training points grows.

Paper: Kendall & Gal, "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017,
sections 2 and 3 and table 3 (epistemic uncertainty falls with data, aleatoric does not).

    python -m experiments.uncertainty                      quick: 100 and 1000 points, two networks, a minute
    python -m experiments.uncertainty --preset paper       300 to 30000 points, five seeds: 13 minutes

Regression: y = sin(3 x) + x / 2 + s(x) e with e ~ N(0, 1), s(x) = 0.1 + 0.3 / (1 + exp(-4 x)) and x uniform on (-1.5,
1.5). One network has a mean and a log variance as outputs (heteroscedastic); the other learns one variance for all
inputs (homoscedastic). Classification: two overlapping classes in the plane with p(y = 1 | x) = 1 / (1 + exp(-3 x_1
- 2 x_2^2 + 1)). One network has a softmax of its logits (softmax), the other also learns noise on the logits
(noisy_logits). Each has a mean-field posterior over its weights, trained by Bayes by Backprop.

Expected (the paper has no numbers for these problems): epistemic variance and mutual information fall with the number
of points, with an exponent of -0.7 to -0.8. Aleatoric variance and expected entropy tend to those of the problem.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from bayesjax import data, evaluation, kernels, models, objectives, plots, posteriors, training
from bayesjax.data import known_noise
from bayesjax.data.known_noise import Points
from bayesjax.evaluation import calibration, uncertainty
from bayesjax.objectives import heteroscedastic
from experiments.harness import Column, Count, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, require, row

Likelihood = Literal["heteroscedastic", "homoscedastic", "noisy_logits", "softmax"]


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.uncertainty."""

    dataset: Literal["synthetic/known_noise"] = "synthetic/known_noise"
    """Name of the data in the results: a regression and a classification problem with known noise."""
    methods: tuple[Likelihood, ...] = get_args(Likelihood)
    """Likelihoods to compare; the description above defines them."""
    num_data: tuple[Annotated[int, Range(least=2)], ...] = (100, 300, 1000)
    """Numbers of training points to compare, two or more in ascending order, each at least 2."""
    num_seeds: Count = 2
    """Number of data sets of each size; their networks are trained together."""
    hidden: Annotated[tuple[Count, ...], NonEmpty] = (20, 20)
    """Widths of the hidden layers of ReLU units."""
    prior_scale: Positive = 2.0
    """Scale s of the prior: N(0, s^2 / fan-in) for weights, N(0, s^2) for biases."""
    initial_scale: Positive = 0.02
    """Initial standard deviation of the posterior of every weight."""
    num_steps: Count = 1500
    """Number of steps of Adam."""
    batch_size: Count = 100
    """Number of training points in a minibatch; all points if there are fewer."""
    learning_rate: Positive = 0.01
    """Initial learning rate of Adam; it decays to 0 along a cosine."""
    num_draws: Count = 100
    """Number of posterior draws of the weights in a prediction."""

    def __post_init__(self) -> None:
        """Checks that --num-data has two or more ascending numbers."""
        super().__post_init__()
        require(
            len(self.num_data) > 1 and sorted(set(self.num_data)) == list(self.num_data),
            f"--num-data must be two or more ascending numbers; got {self.num_data}",
        )


PRESETS = {
    "quick": Config(methods=("heteroscedastic", "softmax"), num_data=(100, 1000), num_steps=300, batch_size=50),
    "paper": Config(num_data=(300, 1000, 3000, 10_000, 30_000), num_seeds=5, num_steps=10_000, num_draws=500),
}
REGRESSION, CLASSIFICATION = ("heteroscedastic", "homoscedastic"), ("noisy_logits", "softmax")
LINES = {"method": "likelihood", "points": "points"}
TABLES = [
    Table(
        LINES,
        [Column("epistemic variance", digits=4), Column("aleatoric variance", digits=4),
         Column("error of the noise %", digits=3), Column("coverage of the 90 % band %", digits=3)],
        where={"method": (*REGRESSION, "true regression")},
    ),
    Table(
        LINES,
        [Column("mutual information (nats)", digits=4), Column("expected entropy (nats)", digits=4),
         Column("NLL (nats)", digits=3), Column("ECE", digits=3)],
        where={"method": (*CLASSIFICATION, "true classes")},
    ),
    Table(
        {"method": "likelihood"},
        [Column("exponent of epistemic uncertainty"), Column("exponent of aleatoric uncertainty")],
        note="The exponents of the number of training points are fitted by least squares on logarithmic axes.",
    ),
]  # fmt: skip
HEADLINE = (
    "uncertainty-paper-synthetic_known_noise",
    {"measure": "exponent of epistemic uncertainty", "method": "heteroscedastic"},
)

NUM_TEST = 2000
LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of the drawn bands
GRID = np.linspace(-2 * known_noise.LIMIT, 2 * known_noise.LIMIT, 301)  # inputs of the drawn bands

# ---- the four likelihoods


class Method(NamedTuple):
    """A likelihood, and the problem on which it is used.

    Attributes:
      sample: `(NumPy generator, num) -> Points`, draws of the problem's data.
      num_outputs: number of outputs of the network; the log variance that all examples share is appended to them.
      log_likelihood: `(outputs, rng_key, y) -> scalar` of one example.
    """

    sample: Callable[[np.random.Generator, int], Points]
    num_outputs: int
    log_likelihood: Callable


METHODS = {
    "heteroscedastic": Method(
        known_noise.sample_regression, 2,
        lambda outputs, rng_key, y: heteroscedastic.gaussian_log_likelihood(outputs[0], outputs[1], y),
    ),
    "homoscedastic": Method(
        known_noise.sample_regression, 1,
        lambda outputs, rng_key, y: heteroscedastic.gaussian_log_likelihood(outputs[0], outputs[-1], y),
    ),
    "noisy_logits": Method(
        known_noise.sample_classification, 4,
        lambda outputs, rng_key, y: heteroscedastic.noisy_logits_log_likelihood(outputs[:2], outputs[2:4], y, rng_key),
    ),
    "softmax": Method(
        known_noise.sample_classification, 2,
        lambda outputs, rng_key, y: heteroscedastic.categorical_log_likelihood(outputs[:2], y),
    ),
}  # fmt: skip


# ---- posteriors over the weights


def train(run: Run, name: str, points: Points) -> Callable:
    """Trains a posterior on each data set, all at once, from points `[sets, num, features]` and `[sets, num]`.

    Returns:
      `(rng_keys, x) -> outputs [sets, num_draws, num, num_outputs + 1]`, one draw of the weights for each key.
    """
    config, method = run.config, METHODS[name]
    num_sets, num_data, num_features = points.x.shape
    model = models.MLP((*config.hidden, method.num_outputs))
    apply = models.local_reparameterisation(model)
    family = posteriors.apply_to_entry(posteriors.mean_field(config.initial_scale), "network")
    kl = posteriors.kl.apply_to_entry(posteriors.kl_to_fan_in_gaussian(config.prior_scale), "network")
    data_key, init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 4)

    def init(rng_key: jax.Array) -> dict:
        params = model.init(rng_key, jnp.zeros(num_features))["params"]
        return family.init({"network": params, "log_variance": jnp.zeros(())})

    def log_likelihood(params: Any, rng_key: jax.Array, example: Points) -> jax.Array:
        weights_key, noise_key = jax.random.split(rng_key)
        outputs = apply(params["network"], weights_key, example.x)
        return method.log_likelihood(jnp.append(outputs, params["log_variance"]), noise_key, example.y)

    loss = objectives.bayes_by_backprop(log_likelihood, family.moments, kl, num_data=num_data)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_steps))
    kernel = kernels.particles(kernels.optimize(loss, optimizer), num_sets, batch_axis=0)
    kernel, options = run.stage(f"{name}-{num_data}", kernel)
    position = jax.jit(jax.vmap(init))(jax.random.split(init_key, num_sets))
    y = jnp.asarray(points.y, jnp.float32 if name in REGRESSION else int)
    arrays = Points(jnp.asarray(points.x, jnp.float32), y)
    batches = data.stacked_minibatches(jax.random.split(data_key, num_sets), arrays, min(config.batch_size, num_data))
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batches, num_steps=config.num_steps,
        keep=lambda state: (), **options,
    )  # fmt: skip

    def predict_one(position: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
        params = family.sample(position, rng_key)
        outputs: Any = model.apply({"params": params["network"]}, x)
        return jnp.concatenate([outputs, jnp.broadcast_to(params["log_variance"], (len(x), 1))], axis=1)

    @jax.jit
    def predict(position: Any, rng_keys: jax.Array, x: jax.Array) -> jax.Array:
        predict_sets = jax.vmap(predict_one, in_axes=(0, None, None))
        return jnp.moveaxis(jax.lax.map(lambda key: predict_sets(position, key, x), rng_keys), 1, 0)

    trained = training.fetch(state.position)
    return lambda rng_keys, x: np.asarray(predict(trained, rng_keys, jnp.asarray(x, jnp.float32)), float)


# ---- evaluation


def gaussian_mixture(name: str, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and log variances of the draws of a regression, from outputs `[num_draws, num, 2 or 3]`."""
    return outputs[..., 0], outputs[..., 1 if name == "heteroscedastic" else -1]


def judge_regression(name: str, outputs: np.ndarray, test: Points) -> dict[str, float]:
    """Measures of a regression posterior on test points, from outputs `[num_draws, num, 2 or 3]`."""
    means, log_variances = gaussian_mixture(name, outputs)
    parts = uncertainty.decompose_gaussian_variance(means, np.exp(log_variances))
    quantiles = uncertainty.mixture_quantiles((0.05, 0.95), means, np.exp(0.5 * log_variances))
    known = known_noise.noise_scale(test.x[:, 0])
    return {
        "epistemic variance": float(parts.epistemic.mean()),
        "aleatoric variance": float(parts.aleatoric.mean()),
        "error of the noise %": 100 * float(np.mean(np.abs(np.sqrt(parts.aleatoric) / known - 1))),
        "coverage of the 90 % band %": 100 * calibration.coverage(test.y, *quantiles).value,
    }


def judge_classification(name: str, outputs: np.ndarray, test: Points) -> dict[str, float]:
    """Measures of a classification posterior on test points, from outputs `[num_draws, num, 3 or 5]`."""
    logits = outputs[..., :2]
    probabilities = special.softmax(logits, axis=-1)
    if name == "noisy_logits":  # only the difference of two logits matters; Gauss-Hermite quadrature over its noise
        difference, deviation = logits[..., 1] - logits[..., 0], np.sqrt(np.exp(outputs[..., 2:4]).sum(axis=-1))
        nodes, weights = np.polynomial.hermite_e.hermegauss(32)
        pairs = zip(nodes, weights / weights.sum(), strict=True)
        second = sum(weight * special.expit(difference + deviation * node) for node, weight in pairs)
        probabilities = np.stack([1 - second, second], axis=-1)
    return {
        "mutual information (nats)": float(uncertainty.mutual_information(probabilities).mean()),
        "expected entropy (nats)": float(uncertainty.expected_entropy(probabilities).mean()),
        "NLL (nats)": evaluation.negative_log_likelihood(probabilities.mean(axis=0), test.y).value,
        "ECE": calibration.expected_calibration_error(probabilities.mean(axis=0), test.y),
    }


def train_and_judge(run: Run, name: str, sets: list[Points], test: Points) -> dict[str, Any]:
    """Trains on data sets of one size; returns `measures` by set, and `bands` of the first set at the largest size."""
    config, is_regression, bands = run.config, name in REGRESSION, None
    predict = train(run, name, Points(*(np.stack(parts) for parts in zip(*sets, strict=True))))
    keys = jax.random.split(jax.random.key(config.seed + 1), config.num_draws)
    judge = judge_regression if is_regression else judge_classification
    judged = [judge(name, outputs, test) for outputs in predict(keys, test.x)]
    if is_regression and len(sets[0].x) == config.num_data[-1]:
        means, log_variances = gaussian_mixture(name, predict(keys, GRID[:, None])[0])
        bands = uncertainty.mixture_quantiles(LEVELS, means, np.exp(0.5 * log_variances))
    return {"measures": {measure: [one[measure] for one in judged] for measure in judged[0]}, "bands": bands}


def main(config: Config) -> None:
    """Trains a network of each likelihood at every size and fits exponents; writes the figures and the results."""
    with Run("uncertainty", config) as run:
        rows, figures = [], {REGRESSION: {}, CLASSIFICATION: {}}
        for name in config.methods:
            method = METHODS[name]
            test = method.sample(np.random.default_rng(10**6 + config.seed), NUM_TEST)
            judged = []
            for num in config.num_data:
                rngs = [np.random.default_rng((config.seed + i, num)) for i in range(config.num_seeds)]
                sets = [method.sample(rng, num) for rng in rngs]
                compute = functools.partial(train_and_judge, run, name, sets, test)
                judged.append(run.part(f"{name}-{num}", compute))
                for measure, values in judged[-1]["measures"].items():
                    rows.append(row(measure, evaluation.mean_estimate(values), method=name, points=num))
            measures = list(judged[0]["measures"])
            for kind, measure in (("epistemic", measures[0]), ("aleatoric", measures[1])):
                values = np.array([each["measures"][measure] for each in judged])  # [sizes, seeds]
                slopes = np.polyfit(np.log(config.num_data), np.log(values), 1)[0]
                rows.append(row(f"exponent of {kind} uncertainty", evaluation.mean_estimate(slopes), method=name))
                group = REGRESSION if name in REGRESSION else CLASSIFICATION
                figures[group][f"{name}, {kind}"] = np.array(config.num_data), values.T
            if name in REGRESSION:
                shown = sets[0].x[:1000, 0], sets[0].y[:1000]
                bands = {f"{name}, {config.num_data[-1]} points": judged[-1]["bands"]}
                plots.bands(run.figure(f"{name}.png"), GRID, bands, shown, truth=known_noise.regression_mean(GRID))

        rng = functools.partial(np.random.default_rng, 10**6 + config.seed)  # seeded as for the test points
        probability = known_noise.class_probability(known_noise.sample_classification(rng(), NUM_TEST).x)
        entropy = uncertainty.entropy(np.stack([probability, 1 - probability], axis=-1)).mean()
        variance = (known_noise.noise_scale(known_noise.sample_regression(rng(), NUM_TEST).x) ** 2).mean()
        rows.append(row("expected entropy (nats)", float(entropy), method="true classes"))
        rows.append(row("aleatoric variance", float(variance), method="true regression"))
        for figure, group, unit in (("regression", REGRESSION, "variance"), ("classification", CLASSIFICATION, "nats")):
            if not figures[group]:
                continue
            plots.curves(
                run.figure(f"{figure}.png"), figures[group], xlabel="training points", ylabel=unit, log_x=True,
                log_y=True,
            )  # fmt: skip
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
