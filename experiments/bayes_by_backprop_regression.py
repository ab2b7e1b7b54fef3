"""Bayes by Backprop on a curve: bands of the predictive that open where there are no data.

Paper: Blundell et al., "Weight uncertainty in neural networks", ICML 2015, section 5.2 and figure 5:

    y = x + 0.3 sin(2 pi (x + e)) + 0.3 sin(4 pi (x + e)) + e,   e ~ N(0, 0.02)

    python -m experiments.bayes_by_backprop_regression                     quick: 2000 steps, half a minute
    python -m experiments.bayes_by_backprop_regression --preset paper      20000 steps

Inputs are drawn from --low to --high; what is shown reaches as far again to both sides. Beside the posterior stands the
same network as a point, which knows noise but no doubt. Both learn the precision of their noise, and see inputs and
targets in units of their spread.

Expected (no numbers in the paper): the posterior's inter-quartile range is narrow where the data are and grows outside;
the point's stays as it is. Noise inside the sines is larger where they are steep, and the networks know one scale: 66 %
of the points would be between the quartiles of that normal, not 50.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.bayes_by_backprop_regression."""

    dataset: str = "synthetic/wave"
    """The curve above; there is no other."""
    num_data: int = 1000
    """Training points."""
    low: float = 0.0
    """Where the training inputs begin."""
    high: float = 0.5
    """Where they end."""
    noise: float = 0.02
    """Standard deviation of e."""
    hidden: tuple[int, ...] = (50, 50)
    """Widths of the hidden layers, of ReLU units."""
    prior_scale: float = 2.0
    """Of the weights' prior, over the root of their fan-in."""
    initial_scale: float = 0.02
    """Of the posterior's standard deviations."""
    num_steps: int = 2000
    """Steps on all data at once."""
    learning_rate: float = 0.01
    """Adam's; it falls to 0 along a cosine."""
    num_draws: int = 500
    """Draws of the weights for the bands."""


PRESETS = {
    "quick": Config(),
    "paper": dataclasses.replace(Config(), preset="paper", num_steps=20_000, num_draws=2000),
}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import kernels, models, objectives, plots, training
from bayesjax.evaluation import calibration, uncertainty
from experiments import tables
from experiments.regression import LEVELS, log_likelihood, posterior


def curve(random: np.random.Generator, x: np.ndarray, noise: float) -> np.ndarray:
    """Targets at x, with noise inside the sines as well."""
    e = noise * random.normal(size=x.shape)
    return x + 0.3 * np.sin(2 * np.pi * (x + e)) + 0.3 * np.sin(4 * np.pi * (x + e)) + e


def fit(run: common.Experiment, name: str, data: tuple[np.ndarray, np.ndarray]) -> Callable:
    """Trains the point or the posterior; `(rng_keys, x [num]) -> means [num_draws, num], scale of the noise`."""
    config = run.config
    model = models.MLP((*config.hidden, 1))
    (x_mean, x_scale), (y_mean, y_scale) = ((part.mean(), part.std()) for part in data)
    init_key, start_key, run_key = jax.random.split(jax.random.key(config.seed), 3)
    point = {"network": jax.jit(model.init)(init_key, jnp.zeros(1))["params"], "log_precision": jnp.zeros(())}
    family, kl = posterior(config.initial_scale, config.prior_scale)

    def plain(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
        del rng_key
        return model.apply({"params": params}, x)

    if name == "point":
        of_point = log_likelihood(plain)
        loss = objectives.batch_mean(lambda params, rng_key, example: -of_point(params, rng_key, example))
        position, draw = point, lambda position, rng_key: position
    else:
        loss = objectives.bayes_by_backprop(
            log_likelihood(models.local_reparameterisation(model)), family.moments, kl, num_data=len(data[0])
        )
        position, draw = family.init(point), family.sample
    falling = optax.cosine_decay_schedule(config.learning_rate, config.num_steps)
    kernel = run.spread(kernels.optimize(loss, optax.adam(falling)))
    x, y = data
    batch = jnp.asarray((x[:, None] - x_mean) / x_scale, jnp.float32), jnp.asarray((y - y_mean) / y_scale, jnp.float32)
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batch, num_steps=config.num_steps,
        keep=lambda state: (), **run.stage(name),
    )  # fmt: skip
    trained = training.fetch(state.position)

    def predict(rng_keys: jax.Array, x: np.ndarray) -> tuple[np.ndarray, float]:
        inputs = jnp.asarray((x[:, None] - x_mean) / x_scale, jnp.float32)
        of_each = jax.jit(jax.vmap(lambda key: plain(draw(trained, key)["network"], key, inputs)[:, 0]))
        noise = np.exp(-0.5 * float(trained["log_precision"]))
        return y_mean + y_scale * np.asarray(of_each(rng_keys), float), float(y_scale * noise)

    return predict


def main(config: Config) -> None:
    """Trains both, draws the bands, measures them where data are and where none are."""
    with common.Experiment("bayes_by_backprop_regression", config) as run:
        common.require_choice(config, "dataset", ("synthetic/wave",))
        common.require_positive(config, "noise", "prior_scale", "initial_scale", "learning_rate")
        common.require_all_positive(config, "hidden")
        common.require_at_least(config, 1, "num_data", "num_steps", "num_draws")
        common.require(config.low < config.high, f"--low must be below --high; got {config.low} and {config.high}")
        random, width = np.random.default_rng(config.seed), config.high - config.low
        x = random.uniform(config.low, config.high, config.num_data)
        data = x, curve(random, x, config.noise)
        test_x = random.uniform(config.low, config.high, 2000)
        test_y = curve(random, test_x, config.noise)
        grid = np.linspace(config.low - width, config.high + width, 301)
        inside = (grid >= config.low) & (grid <= config.high)
        far = (grid < config.low - width / 2) | (grid > config.high + width / 2)
        keys = jax.random.split(jax.random.key(config.seed + 1), config.num_draws)
        bands, metrics = {}, {}
        for name in ("point", "posterior"):
            predict = fit(run, name, data)
            bands[name] = quantiles = uncertainty.mixture_quantiles(LEVELS, *predict(keys, grid))
            between = quantiles[3] - quantiles[1]
            low, high = uncertainty.mixture_quantiles((0.25, 0.75), *predict(keys, test_x))
            covered = calibration.coverage(test_y, low, high)
            metrics |= {
                f"{name} inter-quartile range inside": {"value": float(between[inside].mean())},
                f"{name} inter-quartile range outside": {"value": float(between[far].mean())},
                f"{name} outside / inside": {"value": float(between[far].mean() / between[inside].mean())},
                f"{name} % of test points between the quartiles": {
                    "value": 100 * covered.value, "stderr": 100 * covered.stderr,
                },
            }  # fmt: skip
        plots.bands(run.out / "figures" / "bands.png", grid, bands, data)
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
