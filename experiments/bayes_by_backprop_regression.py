"""Bayes by Backprop on a curve: predictive bands that widen where there are no data.

Paper: Blundell et al., "Weight uncertainty in neural networks", ICML 2015, section 5.2 and figure 5:

    y = x + 0.3 sin(2 pi (x + e)) + 0.3 sin(4 pi (x + e)) + e,   e ~ N(0, 0.02)

    python -m experiments.bayes_by_backprop_regression                     quick: 2000 steps, half a minute
    python -m experiments.bayes_by_backprop_regression --preset paper      20000 steps, a minute

Training inputs x are uniform between --low and --high. The figure extends beyond this interval by its width on both
sides. The variational posterior is compared with a point estimate of the same network, which models the noise but not
the uncertainty of the weights. Both methods learn the precision of the noise. Inputs and targets are standardised.

Expected (the paper gives no numbers): the inter-quartile range of the posterior predictive is narrow within the data
and grows outside; that of the point estimate does not grow. The noise inside the sines has more effect where they are
steep, whereas the networks model normal noise of one scale. The quartiles of such a normal would contain 66 % of the
points instead of 50 %.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import kernels, models, objectives, plots, training
from bayesjax.evaluation import calibration, uncertainty
from experiments.harness import Run, Table, cli, row
from experiments.harness.cli import Count, NonEmpty, Positive, RunConfig, require
from experiments.shared.regression import LEVELS, log_likelihood, network_posterior


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bayes_by_backprop_regression."""

    dataset: Literal["synthetic/wave"] = "synthetic/wave"
    """Name of the data, which are drawn from the noisy curve in the description above."""
    num_data: Count = 1000
    """Number of training points."""
    low: float = 0.0
    """Lower end of the interval of training inputs, below --high."""
    high: float = 0.5
    """Upper end of the interval of training inputs, above --low."""
    noise: Positive = 0.02
    """Standard deviation of the noise e of the curve."""
    hidden: Annotated[tuple[Count, ...], NonEmpty] = (50, 50)
    """Widths of the hidden layers of ReLU units."""
    prior_scale: Positive = 2.0
    """Scale s of the weights' prior N(0, s^2 / fan-in)."""
    initial_scale: Positive = 0.02
    """Initial standard deviation of each weight in the variational posterior."""
    num_steps: Count = 2000
    """Number of training steps, each on all training points."""
    learning_rate: Positive = 0.01
    """Initial learning rate of Adam; it decays to 0 along a cosine."""
    num_draws: Count = 500
    """Number of posterior draws of the weights from which the predictive bands are computed."""

    def __post_init__(self) -> None:
        """Rejects an empty interval of inputs."""
        super().__post_init__()
        require(self.low < self.high, f"--low must be below --high; got {self.low} and {self.high}")


PRESETS = {"quick": Config(), "paper": Config(num_steps=20_000, num_draws=2000)}
TABLES = [
    Table(
        {"measure": "measure"},
        across="method",
        note='"Inside" is the interval of the training inputs. "Outside" is further from it than half its width.',
    )
]
HEADLINE = "bayes_by_backprop_regression-paper-synthetic_wave", {"measure": "outside / inside", "method": "posterior"}


def curve(random: np.random.Generator, x: np.ndarray, noise: float) -> np.ndarray:
    """Draws targets `[num]` at inputs `x [num]`; `noise` is the standard deviation of e."""
    e = noise * random.normal(size=x.shape)
    return x + 0.3 * np.sin(2 * np.pi * (x + e)) + 0.3 * np.sin(4 * np.pi * (x + e)) + e


def fit(run: Run, method: str, x: np.ndarray, y: np.ndarray) -> Callable:
    """Trains a method; returns `(rng_keys, x [num]) -> (means [num_draws, num], standard deviation of the noise)`."""
    config = run.config
    model = models.MLP((*config.hidden, 1))
    (x_mean, x_scale), (y_mean, y_scale) = (x.mean(), x.std()), (y.mean(), y.std())
    init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 3)
    params = {"network": jax.jit(model.init)(init_key, jnp.zeros(1))["params"], "log_precision": jnp.zeros(())}

    def network(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
        del rng_key
        return model.apply({"params": params}, x)

    if method == "point":
        log_prob = log_likelihood(network)
        loss = objectives.batch_mean(lambda params, rng_key, example: -log_prob(params, rng_key, example))
        position, sample = params, lambda position, rng_key: position
    else:
        family, kl = network_posterior(config.initial_scale, config.prior_scale)
        local = log_likelihood(models.local_reparameterisation(model))
        loss = objectives.bayes_by_backprop(local, family.moments, kl, num_data=len(x))
        position, sample = family.init(params), family.sample

    def standardise(x: np.ndarray) -> jax.Array:
        return jnp.asarray((x[:, None] - x_mean) / x_scale, jnp.float32)

    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_steps))
    kernel, options = run.stage(method, kernels.optimize(loss, optimizer))
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key),
        (standardise(x), jnp.asarray((y - y_mean) / y_scale, jnp.float32)),
        num_steps=config.num_steps, keep=lambda state: (), **options,
    )  # fmt: skip
    trained = training.fetch(state.position)

    def predict(rng_keys: jax.Array, x: np.ndarray) -> tuple[np.ndarray, float]:
        inputs = standardise(x)
        means = jax.jit(jax.vmap(lambda key: network(sample(trained, key)["network"], key, inputs)[:, 0]))(rng_keys)
        noise = np.exp(-0.5 * float(trained["log_precision"]))
        return y_mean + y_scale * np.asarray(means, float), float(y_scale * noise)

    return predict


def main(config: Config) -> None:
    """Trains both methods, plots their predictive bands, and measures them within the training inputs and outside."""
    with Run("bayes_by_backprop_regression", config) as run:
        random, width = np.random.default_rng(config.seed), config.high - config.low
        x = random.uniform(config.low, config.high, config.num_data)
        y = curve(random, x, config.noise)
        test_x = random.uniform(config.low, config.high, 2000)
        test_y = curve(random, test_x, config.noise)
        grid = np.linspace(config.low - width, config.high + width, 301)
        inside = (grid >= config.low) & (grid <= config.high)
        outside = (grid < config.low - width / 2) | (grid > config.high + width / 2)
        keys = jax.random.split(jax.random.key(config.seed + 1), config.num_draws)
        bands, rows = {}, []
        for method in ("point", "posterior"):
            predict = fit(run, method, x, y)
            bands[method] = quantiles = uncertainty.mixture_quantiles(LEVELS, *predict(keys, grid))
            spread = quantiles[3] - quantiles[1]
            low, high = uncertainty.mixture_quantiles((0.25, 0.75), *predict(keys, test_x))
            covered = calibration.coverage(test_y, low, high)
            rows += [
                row("inter-quartile range inside", spread[inside].mean(), method=method),
                row("inter-quartile range outside", spread[outside].mean(), method=method),
                row("outside / inside", spread[outside].mean() / spread[inside].mean(), method=method),
                row("% of test points between the quartiles", 100 * covered.value, 100 * covered.stderr, method=method),
            ]
        plots.bands(run.figure("bands.png"), grid, bands, (x, y))
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
