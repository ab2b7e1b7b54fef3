"""The regression half of `mc_dropout.py`: both methods on all splits of a set, those of one setting in one training.

One hidden layer of ReLU units, with noise of one learned precision. Every split chooses its settings by itself: each of
them is trained on the split's training rows but a fifth, the log-likelihood of that fifth decides (also on a factor
for the learned precision), and what it chose is trained again on all its training rows. Test rows choose nothing.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import data, evaluation, kernels, models, objectives, plots, training
from bayesjax.data.regression import RegressionDataset, StandardisedSplit
from bayesjax.evaluation import uncertainty
from bayesjax.objectives.dropout import mc_dropout
from experiments import common
from experiments.mc_dropout_flags import Config
from experiments.regression import log_likelihood, posterior

FACTORS = np.geomspace(0.25, 4, 25)  # of the learned precision, to choose from
PUBLISHED = {  # RMSE and log-likelihood: variational inference (Graves), and the grid of 2018 for MC dropout
    "uci/bostonHousing": {"bbb": (4.32, -2.90), "dropout": (2.90, -2.40)},
    "uci/concrete": {"bbb": (7.19, -3.39), "dropout": (4.82, -2.93)},
    "uci/energy": {"bbb": (2.65, -2.39), "dropout": (0.54, -1.21)},
    "uci/kin8nm": {"bbb": (0.10, 0.90), "dropout": (0.08, 1.14)},
    "uci/protein-tertiary-structure": {"bbb": (4.84, -2.99), "dropout": (4.27, -2.87)},
    "uci/wine-quality-red": {"bbb": (0.65, -0.98), "dropout": (0.62, -0.93)},
}
SOURCE = {
    "bbb": "Graves (2011), by Hernandez-Lobato & Adams (2015)",
    "dropout": "grid of 2018, yaringal/DropoutUncertaintyExps",
}


class Method(NamedTuple):
    """What one choice of settings trains and predicts with, for a single split.

    Attributes:
      init: `rng_key -> position`, with the leaf "log_precision" of the noise.
      loss: of a batch `(x, y)`.
      outputs: `(position, rng_key, x [num, features]) -> means [num]` of one draw or mask.
    """

    init: Callable
    loss: Callable
    outputs: Callable


def method(config: Config, name: str, setting: float, num_features: int, num_data: int) -> Method:
    """MC dropout at a rate, or Bayes by Backprop under a prior scale."""
    rate = setting if name == "dropout" else 0.0
    model = models.MLP((config.hidden, 1), dropout_rate=rate, input_dropout_rate=rate)

    def init(rng_key: jax.Array) -> dict:
        return {"network": model.init(rng_key, jnp.zeros(num_features))["params"], "log_precision": jnp.zeros(())}

    if name == "dropout":

        def dropped(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
            return model.apply({"params": params}, x, deterministic=False, rngs={"dropout": rng_key})

        loss = mc_dropout(
            log_likelihood(dropped), num_data=num_data, rates=rate, length_scale=config.length_scale,
            weights=lambda params: params["network"],
        )  # fmt: skip
        return Method(init, loss, lambda params, rng_key, x: dropped(params["network"], rng_key, x)[:, 0])
    family, kl = posterior(config.initial_scale, setting)
    loss = objectives.bayes_by_backprop(
        log_likelihood(models.local_reparameterisation(model)), family.moments, kl, num_data=num_data
    )

    def outputs(variational: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
        found: Any = model.apply({"params": family.sample(variational, rng_key)["network"]}, x)
        return found[:, 0]

    return Method(lambda rng_key: family.init(init(rng_key)), loss, outputs)


# ---- all splits at once


def stacked(regression: RegressionDataset) -> StandardisedSplit:
    """Every split in its own units, `[splits, ...]` each."""
    splits = [regression.standardise(i) for i in range(len(regression.splits))]
    sizes = {(len(one.x), len(one.x_test)) for one in splits}
    common.require(len(sizes) == 1, f"--dataset {regression.name} must have splits of one size; got {sorted(sizes)}")
    return StandardisedSplit(*(np.stack(parts) for parts in zip(*splits, strict=True)))


def held_out(regression: RegressionDataset, fraction: float) -> RegressionDataset:
    """The same set with a part of each split's training rows for its test rows, drawn by the split's number."""
    inner = []
    for number, (train, _) in enumerate(regression.splits):
        order = np.random.default_rng(number).permutation(train)
        num = max(1, int(fraction * len(train)))
        common.require(num < len(train), f"--dataset {regression.name} has too few rows to hold some out")
        inner.append((order[num:], order[:num]))
    return dataclasses.replace(regression, splits=tuple(inner))


class Predictions(NamedTuple):
    """What trained splits say of their test rows, in the units of the standardised targets.

    Attributes:
      means: `[splits, num_draws, num_test]`.
      precision: of the noise, `[splits]`.
    """

    means: np.ndarray
    precision: np.ndarray


def train(run: common.Experiment, splits: StandardisedSplit, name: str, setting: float, stage: str) -> Predictions:
    """Trains a network on each split, all at once, and predicts."""
    config, (num, num_data, num_features) = run.config, splits.x.shape
    how = method(config, name, setting, num_features, num_data)
    data_key, init_key, start_key, run_key, draws_key = jax.random.split(jax.random.key(config.seed), 5)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_steps))
    kernel = run.spread(kernels.particles(kernels.optimize(how.loss, optimizer), num, batch_axis=0))
    position = jax.jit(jax.vmap(how.init))(jax.random.split(init_key, num))
    arrays = (jnp.asarray(splits.x), jnp.asarray(splits.y))
    batches = data.stacked_minibatches(jax.random.split(data_key, num), arrays, min(config.batch_size, num_data))
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batches, num_steps=config.num_steps,
        keep=lambda state: (), **run.stage(stage),
    )  # fmt: skip

    @jax.jit
    def predict(position: Any, keys: jax.Array, x: jax.Array) -> jax.Array:
        of_all = jax.vmap(how.outputs, in_axes=(0, None, 0))
        return jnp.moveaxis(jax.lax.map(lambda key: of_all(position, key, x), keys), 0, 1)

    trained = training.fetch(state.position)
    means = predict(trained, jax.random.split(draws_key, config.num_draws), splits.x_test)
    return Predictions(np.asarray(means), np.exp(np.asarray(trained["log_precision"], float)))


def log_likelihoods(splits: StandardisedSplit, found: Predictions, factor: float | np.ndarray) -> np.ndarray:
    """Mean log density of each split's test targets, in their own units, `[splits]`; a factor for all, or for each."""
    scales = (found.precision * factor) ** -0.5
    values = [
        uncertainty.mixture_log_density(y, means, scale).mean() - np.log(target_scale)
        for y, means, scale, target_scale in zip(splits.y_test, found.means, scales, splits.target_scale, strict=True)
    ]
    return np.array(values)


def errors(splits: StandardisedSplit, found: Predictions) -> np.ndarray:
    """Root mean squared error of the predictive mean on each split's test rows, in their own units, `[splits]`."""
    return np.sqrt(((splits.y_test - found.means.mean(axis=1)) ** 2).mean(axis=1)) * splits.target_scale


def chosen(
    run: common.Experiment, splits: StandardisedSplit, settings: tuple[float, ...], name: str
) -> dict[str, list]:
    """For every split the numbers of the setting and of FACTORS with the best held-out log-likelihood."""
    table = []
    for setting in settings:
        found = train(run, splits, name, setting, f"{name}-{setting:g}-held-out")
        table.append([log_likelihoods(splits, found, factor) for factor in FACTORS])
    values = np.array(table)  # [settings, factors, splits]
    setting, factor = np.unravel_index(values.reshape(-1, values.shape[-1]).argmax(axis=0), values.shape[:2])
    return {"setting": setting.tolist(), "factor": factor.tolist()}


def judged(
    run: common.Experiment, splits: StandardisedSplit, name: str, setting: float, factors: np.ndarray
) -> dict[str, Any]:
    """Trains the splits that chose a setting, on all their training rows; judges each with its factor of the precision.

    Args:
      run: the experiment.
      splits: those.
      name: of the method.
      setting: theirs.
      factors: `[splits]`.
    """
    found = train(run, splits, name, setting, f"{name}-{setting:g}")
    return {
        "rmse": errors(splits, found).tolist(),
        "log-likelihood": log_likelihoods(splits, found, factors).tolist(),
    }


# ---- the run


def compare(run: common.Experiment) -> dict[str, dict]:
    """Chooses, trains and judges the methods on every split; draws the figure; what goes into the results file."""
    config = run.config
    regression = data.load_regression(config.dataset, data_dir=config.data_dir or None)
    splits, inner = stacked(regression), stacked(held_out(regression, config.validation_fraction))
    of_splits, parts = {}, math.gcd(len(splits.x), config.devices * jax.process_count())
    for name in config.methods:
        settings = config.dropout_rates if name == "dropout" else config.prior_scales
        choice = run.cached(f"{name}-chosen", functools.partial(chosen, run, inner, settings, name))
        picked, factors = np.array(choice["setting"]), FACTORS[choice["factor"]]
        measures = {measure: np.empty(len(picked)) for measure in ("rmse", "log-likelihood")}
        for at in np.unique(picked):
            those = np.flatnonzero(picked == at)
            padded = np.resize(those, -(-len(those) // parts) * parts)  # some again: devices take equal parts
            some = StandardisedSplit(*(part[padded] for part in splits))
            judge = functools.partial(judged, run, some, name, settings[at], factors[padded])
            found = run.cached(f"{name}-{settings[at]:g}-judged", judge)
            for measure, values in measures.items():
                values[those] = found[measure][: len(those)]
        of_splits[name] = {measure: values.tolist() for measure, values in measures.items()}
        of_splits[name]["setting"] = [settings[at] for at in picked]
    series = {name: (np.arange(len(splits.x)), np.array(one["log-likelihood"])) for name, one in of_splits.items()}
    plots.curves(
        run.out / "figures" / "splits.png", series, xlabel="split", ylabel="test log-likelihood (nats a row)",
        title=config.dataset,
    )  # fmt: skip
    return summarise(config, of_splits)


def summarise(config: Config, of_splits: dict[str, dict[str, list]]) -> dict[str, dict]:
    """What goes into the results file: means over the splits with their standard errors, and the splits themselves."""
    metrics = {}
    for name, found in of_splits.items():
        published = PUBLISHED.get(config.dataset, {}).get(name)
        for i, measure in enumerate(("rmse", "log-likelihood")):
            entry = metrics[f"{name} {measure}"] = {
                **evaluation.mean_estimate(found[measure])._asdict(), "splits": found[measure],
            }  # fmt: skip
            if published:
                entry |= {"paper": published[i], "source": SOURCE[name]}
        metrics[f"{name} setting"] = {
            **evaluation.mean_estimate(found["setting"])._asdict(),
            "splits": found["setting"],
        }
    return metrics


if __name__ == "__main__":
    common.not_a_command("hmc_regression", "mc_dropout")
