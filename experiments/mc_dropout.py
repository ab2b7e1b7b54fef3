"""MC dropout: regression on the UCI data sets beside Bayes by Backprop, and the uncertainty of a rotated digit.

Papers: Gal & Ghahramani, "Dropout as a Bayesian approximation", ICML 2016, table 1 and figure 4, and the authors' grid
search of 2018 (no hyper-parameters shared between splits); Hernandez-Lobato & Adams, "Probabilistic
backpropagation", ICML 2015, for the splits and the results of variational inference (Graves 2011).

    python -m experiments.mc_dropout                                            quick: diabetes, 20 splits
    python -m experiments.mc_dropout --preset paper --dataset uci/bostonHousing     also concrete, energy, wine
    python -m experiments.mc_dropout --preset large --dataset uci/kin8nm        8 minutes on one core
    python -m experiments.mc_dropout --preset protein                           18 minutes
    python -m experiments.mc_dropout --preset rotation                          MNIST, LeNet, a 1 turned by 180 degrees

Regression uses one hidden layer of ReLU units and Gaussian noise with one learned precision. Settings are chosen for
each split without its test rows. Every setting is trained on 80 % of the split's training rows. The log-likelihood of
the remaining rows selects the setting and a factor of the learned precision. The chosen setting is trained again on all
training rows. For each setting, all splits are trained in one program.

Expected: on kin8nm, MC dropout has a test RMSE of 0.076 and a log-likelihood of 1.17; the grid search of 2018 published
0.08 and 1.14. `PUBLISHED` has the numbers of the other sets. On the rotated digit single passes stay confident, while
their most probable class changes from pass to pass.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.ndimage

from bayesjax import data, evaluation, kernels, models, objectives, plots, training
from bayesjax.data import StandardisedSplit
from bayesjax.evaluation import uncertainty
from bayesjax.objectives.dropout import mc_dropout
from experiments.harness import Column, Run, Table, cli, row
from experiments.harness.cli import Count, NonEmpty, Positive, Range, RunConfig, require
from experiments.shared import classification
from experiments.shared.regression import TABLE, log_likelihood, network_posterior

Fraction = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.mc_dropout."""

    dataset: str = "diabetes"
    """For regression: diabetes, or uci/NAME for the folder uci/NAME of --data-dir (BAYESJAX_DATA_DIR if empty). For the
    rotated digit: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file with labels."""
    methods: tuple[Literal["dropout", "bbb"], ...] = ("dropout", "bbb")
    """Methods to compare: dropout (MC dropout), bbb (Bayes by Backprop)."""
    hidden: Count = 50
    """Number of units of the hidden layer."""
    dropout_rates: Annotated[tuple[Fraction, ...], NonEmpty] = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
    """Dropout rates, in (0, 1), from which each split chooses."""
    prior_scales: Annotated[tuple[Positive, ...], NonEmpty] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
    """Scales s of bbb's prior N(0, s^2 / fan-in) from which each split chooses."""
    length_scale: Positive = 0.01
    """Length scale of MC dropout's prior N(0, 1 / length_scale^2)."""
    initial_scale: Positive = 0.02
    """Initial standard deviation of every weight under bbb's posterior."""
    num_epochs: Count = 400
    """Number of epochs of each training for regression."""
    num_steps: Count = 4000
    """Number of steps of Adam for the rotated digit."""
    batch_size: Count = 32
    """Number of training rows or images in a minibatch."""
    learning_rate: Positive = 0.01
    """Initial learning rate of Adam; it decays to 0 along a cosine."""
    num_draws: Count = 200
    """Number of dropout masks or posterior draws in the predictive average."""
    validation_fraction: Fraction = 0.2
    """Fraction of a split's training rows, in (0, 1), on which its settings are chosen."""
    rotated_label: int = 1
    """Label of the digit that is rotated, which must occur among the test images."""
    rotation_rate: Fraction = 0.5
    """Dropout rate of LeNet's dense layer, in (0, 1), for the rotated digit."""


PAPER = Config(
    dataset="uci/bostonHousing", dropout_rates=(0.00001, 0.00003, *Config.dropout_rates),
    prior_scales=(*Config.prior_scales, 32.0, 64.0), num_draws=1000,
)  # fmt: skip
PRESETS = {
    "quick": Config(dropout_rates=(0.05,), prior_scales=(1.0,), num_epochs=25),
    "paper": PAPER,
    "large": Config(dataset="uci/kin8nm", batch_size=128, num_draws=1000),
    "protein": Config(dataset="uci/protein-tertiary-structure", hidden=100, batch_size=128, num_draws=1000),
    "rotation": Config(dataset="mnist", batch_size=128, learning_rate=1e-3),
}
TABLES = [
    TABLE,
    Table(
        {"angle": "rotated by (degrees)"},
        [
            Column("confidence of a pass", digits=3),
            Column("spread of the input", digits=3),
            Column("spread of the output", digits=3),
            Column("expected entropy", digits=3),
            Column("mutual information", digits=3),
        ],
        note=lambda config: (
            f"Values are averages over {config['num_draws']} passes; spreads are standard deviations over passes."
        ),
    ),
    Table({}, [Column("error %", "test error % of LeNet")]),
]
HEADLINE = "mc_dropout-large-uci_kin8nm", {"measure": "log-likelihood", "method": "dropout"}, 3
FACTORS = np.geomspace(0.25, 16, 37)  # candidate factors of the learned precision
PUBLISHED = {  # RMSE and log-likelihood of variational inference (Graves) and of MC dropout (grid search of 2018)
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
ANGLES = np.linspace(0, 180, 13)  # degrees

# ---- regression: one split


class Method(NamedTuple):
    """The loss and the predictions of one setting, for a single split.

    Attributes:
      init: `rng_key -> position`, with the leaf "log_precision" of the noise.
      loss: loss function on a batch `(x, y)`.
      predict: `(position, rng_key, x [num, features]) -> means [num]` of one draw or mask.
    """

    init: Callable
    loss: Callable
    predict: Callable


def build(config: Config, method: str, setting: float, num_features: int, num_data: int) -> Method:
    """MC dropout with the dropout rate `setting`, or Bayes by Backprop with the prior scale `setting`."""
    rate = setting if method == "dropout" else 0.0
    model = models.MLP((config.hidden, 1), dropout_rate=rate, input_dropout_rate=rate)

    def init(rng_key: jax.Array) -> dict:
        return {"network": model.init(rng_key, jnp.zeros(num_features))["params"], "log_precision": jnp.zeros(())}

    if method == "dropout":

        def masked(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
            return model.apply({"params": params}, x, deterministic=False, rngs={"dropout": rng_key})

        loss = mc_dropout(
            log_likelihood(masked), num_data=num_data, rates=rate, length_scale=config.length_scale,
            weights=lambda params: params["network"],
        )  # fmt: skip
        return Method(init, loss, lambda params, rng_key, x: masked(params["network"], rng_key, x)[:, 0])
    family, kl = network_posterior(config.initial_scale, setting)
    local = log_likelihood(models.local_reparameterisation(model))
    loss = objectives.bayes_by_backprop(local, family.moments, kl, num_data=num_data)

    def predict(variational: Any, rng_key: jax.Array, x: jax.Array) -> jax.Array:
        means: Any = model.apply({"params": family.sample(variational, rng_key)["network"]}, x)
        return means[:, 0]

    return Method(lambda rng_key: family.init(init(rng_key)), loss, predict)


# ---- regression: all splits at once


class Predictions(NamedTuple):
    """Standardised test predictions: `means [num_splits, num_draws, num_test]` and noise `precision [num_splits]`."""

    means: np.ndarray
    precision: np.ndarray


def train(run: Run, splits: StandardisedSplit, method: str, setting: float, stage: str) -> Predictions:
    """Trains a network on each split, all in one program, and predicts the test rows."""
    config, (num, num_data, num_features) = run.config, splits.x.shape
    setup = build(config, method, setting, num_features, num_data)
    data_key, init_key, start_key, run_key, draws_key = jax.random.split(jax.random.key(config.seed), 5)
    batch_size = min(config.batch_size, num_data)
    num_steps = config.num_epochs * num_data // batch_size
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps))
    kernel, options = run.stage(stage, kernels.particles(kernels.optimize(setup.loss, optimizer), num, batch_axis=0))
    position = jax.jit(jax.vmap(setup.init))(jax.random.split(init_key, num))
    batches = data.stacked_minibatches(jax.random.split(data_key, num), (splits.x, splits.y), batch_size)
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(position, start_key), batches, num_steps=num_steps,
        keep=lambda state: (), **options,
    )  # fmt: skip
    trained, keys = training.fetch(state.position), jax.random.split(draws_key, config.num_draws)
    predict = jax.vmap(lambda position, x: jax.lax.map(lambda key: setup.predict(position, key, x), keys))
    means = jax.jit(predict)(trained, splits.x_test)
    return Predictions(np.asarray(means), np.exp(np.asarray(trained["log_precision"], float)))


def log_likelihoods(splits: StandardisedSplit, predictions: Predictions, factors: np.ndarray) -> np.ndarray:
    """Mean log density (nats) of unstandardised test targets, `[num_splits, num_factors]`.

    The precision of split i is multiplied by each of `factors[i]`. Squared errors are computed once for all factors.
    """
    values = np.empty(factors.shape)
    for i, (y, means, precision) in enumerate(zip(splits.y_test, *predictions, strict=True)):
        energies = 0.5 * precision * (y - means.astype(float)) ** 2  # [num_draws, num_test]
        least = energies.min(axis=0)
        energies -= least  # the largest term of each sum over draws becomes 1
        values[i] = [np.mean(np.log(np.exp(-f * energies).mean(axis=0)) - f * least) for f in factors[i]]
        values[i] += 0.5 * np.log(factors[i] * precision / (2 * np.pi)) - np.log(splits.target_scale[i])
    return values


def choose(run: Run, splits: StandardisedSplit, settings: tuple[float, ...], method: str) -> dict[str, np.ndarray]:
    """Indices `[num_splits]` of the setting and of the factor with the best held-out log-likelihood."""
    factors = np.tile(FACTORS, (len(splits.x), 1))
    predictions = (train(run, splits, method, setting, f"{method}-{setting:g}-held-out") for setting in settings)
    values = np.stack([log_likelihoods(splits, each, factors) for each in predictions], axis=1)
    setting, factor = np.unravel_index(values.reshape(len(values), -1).argmax(axis=1), values.shape[1:])
    return {"setting": setting, "factor": factor}


def evaluate(run: Run, splits: StandardisedSplit, method: str, setting: float, factors: np.ndarray) -> dict[str, Any]:
    """Test RMSE and log-likelihood (nats per row), `[num_splits]`, after training on all training rows.

    All splits have the same setting (dropout rate or prior scale), and each has its own factor of the precision.
    """
    predictions = train(run, splits, method, setting, f"{method}-{setting:g}")
    squares = ((splits.y_test - predictions.means.mean(axis=1)) ** 2).mean(axis=1)
    return {
        "RMSE": np.sqrt(squares) * splits.target_scale,
        "log-likelihood": log_likelihoods(splits, predictions, factors[:, None])[:, 0],
    }


def compare_on_splits(run: Run) -> list[dict]:
    """Chooses settings, trains and evaluates the methods on every split; draws the figure; returns the rows."""
    config = run.config
    regression = data.load_regression(config.dataset, data_dir=config.data_dir or None)
    splits = regression.standardise_all()
    inner = regression.hold_out(config.validation_fraction).standardise_all()
    num_parts = math.gcd(len(splits.x), config.devices * jax.process_count())
    rows, curves = [], {}
    for method in config.methods:
        settings = config.dropout_rates if method == "dropout" else config.prior_scales
        choice = run.part(f"{method}-chosen", functools.partial(choose, run, inner, settings, method))
        chosen, factors = choice["setting"], FACTORS[choice["factor"]]
        measures = {measure: np.empty(len(chosen)) for measure in ("RMSE", "log-likelihood")}
        for index in np.unique(chosen):
            members, setting = np.flatnonzero(chosen == index), settings[index]
            padded = np.resize(members, -(-len(members) // num_parts) * num_parts)  # equal numbers per device
            some = StandardisedSplit(*(array[padded] for array in splits))
            compute = functools.partial(evaluate, run, some, method, setting, factors[padded])
            result = run.part(f"{method}-{setting:g}-evaluated", compute)
            for measure, values in measures.items():
                values[members] = result[measure][: len(members)]
        published = PUBLISHED.get(config.dataset, {}).get(method, (None, None))
        measures["dropout rate" if method == "dropout" else "prior scale"] = np.array(settings)[chosen]
        for (measure, values), paper in zip(measures.items(), (*published, None), strict=True):
            source = None if paper is None else SOURCE[method]
            keys = {"method": method, "n": len(values), "paper": paper, "source": source, "values": values}
            rows.append(row(measure, evaluation.mean_estimate(values), **keys))
        curves[method] = np.arange(len(chosen)), measures["log-likelihood"]
    ylabel = "test log-likelihood (nats per row)"
    plots.curves(run.figure("splits.png"), curves, xlabel="split", ylabel=ylabel, title=config.dataset)
    return rows


# ---- a rotated digit


def rotate_digit(run: Run) -> list[dict]:
    """Trains LeNet with dropout and measures its stochastic passes at each angle of a test digit; draws the figure.

    Raises:
      ValueError: if the data have no labels, or no test image has the label --rotated-label.
    """
    config = run.config
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    train, test = dataset.train, dataset.test
    require(dataset.num_classes > 1, f"--dataset {config.dataset} must have labels of two classes or more")
    candidates = np.flatnonzero(test.labels == config.rotated_label)
    require(len(candidates) > 0, f"--rotated-label {config.rotated_label} is no label of {config.dataset}")
    model = models.LeNet(dataset.num_classes, dropout_rate=config.rotation_rate)
    data_key, init_key, start_key, run_key, passes_key = jax.random.split(jax.random.key(config.seed), 5)

    def logits(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
        return model.apply({"params": params}, x, deterministic=False, rngs={"dropout": rng_key})

    log_prob = classification.log_likelihood(logits)
    loss = objectives.batch_mean(lambda params, rng_key, image: -log_prob(params, rng_key, image))
    optimizer = optax.adam(optax.cosine_decay_schedule(config.learning_rate, config.num_steps))
    kernel, options = run.stage("lenet", kernels.optimize(loss, optimizer))
    params = jax.jit(model.init)(init_key, train.inputs[:1])["params"]
    batches = data.Minibatches(data_key, classification.Images(train.inputs, train.labels), config.batch_size)
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(params, start_key), batches, num_steps=config.num_steps,
        keep=lambda state: (), **options,
    )  # fmt: skip
    params = training.fetch(state.position)
    plain: Any = jax.jit(lambda x: model.apply({"params": params}, x))
    outputs = np.concatenate([plain(chunk) for chunk in np.array_split(test.inputs, 10)])
    error = evaluation.error_rate(jax.nn.softmax(outputs), test.labels)

    upright = test.inputs[candidates[0], ..., 0]
    rotated = np.stack([scipy.ndimage.rotate(upright, -angle, reshape=False, order=1) for angle in ANGLES])
    images = np.clip(rotated, 0, 1)[..., None].astype(np.float32)
    keys = jax.random.split(passes_key, config.num_draws)
    passes = np.asarray(evaluation.predict(lambda key, x: logits(params, key, x), keys, images))
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(passes)), float)
    classes = np.sort(np.argsort(passes.mean(axis=0).max(axis=0))[-3:])
    panels = {"softmax input": passes[:, :, classes], "softmax output": probabilities[:, :, classes]}
    plots.passes(run.figure("rotation.png"), ANGLES, images[..., 0], panels, classes)
    measures = {
        "confidence of a pass": probabilities.max(axis=-1).mean(axis=0),
        "spread of the input": passes.std(axis=0).mean(axis=-1),
        "spread of the output": probabilities.std(axis=0).max(axis=-1),
        "expected entropy": uncertainty.expected_entropy(probabilities),
        "mutual information": uncertainty.mutual_information(probabilities),
    }
    rows = [row("error %", 100 * error.value, 100 * error.stderr)]
    for measure, values in measures.items():
        rows += [row(measure, value, angle=angle) for angle, value in zip(ANGLES, values, strict=True)]
    return rows


def main(config: Config) -> None:
    """Compares the methods on a regression set, or rotates a digit; writes the figure and the results."""
    with Run("mc_dropout", config) as run:
        is_regression = config.dataset == "diabetes" or config.dataset.startswith("uci/")
        run.finish(compare_on_splits(run) if is_regression else rotate_digit(run), TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
