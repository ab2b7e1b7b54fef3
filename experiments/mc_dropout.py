"""MC dropout: UCI regression beside Bayes by Backprop, and a digit that turns until the network is unsure.

Papers: Gal & Ghahramani, "Dropout as a Bayesian approximation", ICML 2016, table 1 and figure 4, and the authors' grid
of 2018 (no hyper-parameters shared between splits); Hernandez-Lobato & Adams, "Probabilistic backpropagation", ICML
2015, for the splits and the column of variational inference (Graves 2011).

    python -m experiments.mc_dropout                                            quick: diabetes, 20 splits
    python -m experiments.mc_dropout --preset paper --dataset uci/bostonHousing     and concrete, energy, wine
    python -m experiments.mc_dropout --preset large --dataset uci/kin8nm
    python -m experiments.mc_dropout --preset protein
    python -m experiments.mc_dropout --preset rotation                          MNIST, LeNet, a 1 turned by 180 degrees

How settings are chosen, split by split and without the test rows, is in `mc_dropout_regression.py`.

Expected: test RMSE and log-likelihood of the grid of 2018, boston 2.90 and -2.40, concrete 4.82 and -2.93, energy 0.54
and -1.21, kin8nm 0.08 and 1.14, protein 4.27 and -2.87, wine 0.62 and -0.93. The rotating digit: single passes stay
confident while the class they are confident of changes from pass to pass.
"""

from experiments import common
from experiments.mc_dropout_flags import PRESETS

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.ndimage

from bayesjax import data, evaluation, kernels, models, objectives, plots, training
from bayesjax.evaluation import uncertainty
from experiments import mc_dropout_flags, mc_dropout_regression, tables
from experiments.classification import Images, log_likelihood
from experiments.mc_dropout_flags import Config

ANGLES = np.linspace(0, 180, 13)


def rotate(run: common.Experiment) -> dict[str, dict]:
    """Trains LeNet with dropout, turns a test digit, and looks at many passes over each angle."""
    config = run.config
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    train, test = dataset.train, dataset.test
    common.require(dataset.num_classes > 1, f"--dataset {config.dataset} must have labels of two classes or more")
    of_label = np.flatnonzero(test.labels == config.rotated_label)
    common.require(len(of_label) > 0, f"--rotated-label {config.rotated_label} is no label of {config.dataset}")
    model = models.LeNet(dataset.num_classes, dropout_rate=config.rotation_rate)
    data_key, init_key, start_key, run_key, passes_key = jax.random.split(jax.random.key(config.seed), 5)

    def logits(params: Any, rng_key: jax.Array, x: jax.Array) -> Any:
        return model.apply({"params": params}, x, deterministic=False, rngs={"dropout": rng_key})

    fit = log_likelihood(logits)
    loss = objectives.batch_mean(lambda params, rng_key, image: -fit(params, rng_key, image))
    falling = optax.cosine_decay_schedule(config.learning_rate, config.num_steps)
    kernel = run.spread(kernels.optimize(loss, optax.adam(falling)))
    params = jax.jit(model.init)(init_key, train.inputs[:1])["params"]
    batches = data.Minibatches(data_key, Images(train.inputs, train.labels), config.batch_size)
    state, _ = training.run(
        run_key, kernel, jax.jit(kernel.init)(params, start_key), batches, num_steps=config.num_steps,
        keep=lambda state: (), **run.stage("lenet"),
    )  # fmt: skip
    params = training.fetch(state.position)
    plain = jax.jit(lambda x: model.apply({"params": params}, x))
    error = evaluation.error_rate(
        np.concatenate([plain(part) for part in np.array_split(test.inputs, 10)]), test.labels
    )

    upright = test.inputs[of_label[0], ..., 0]
    turned = np.stack([scipy.ndimage.rotate(upright, -angle, reshape=False, order=1) for angle in ANGLES])
    images = np.clip(turned, 0, 1)[..., None].astype(np.float32)
    keys = jax.random.split(passes_key, config.num_draws)
    passes = np.asarray(evaluation.predict(lambda key, x: logits(params, key, x), keys, images))
    probabilities = np.asarray(jax.nn.softmax(jnp.asarray(passes)), float)
    classes = np.sort(np.argsort(passes.mean(axis=0).max(axis=0))[-3:])
    plot_passes(
        run.out / "figures" / "rotation.png", ANGLES, images[..., 0],
        {"softmax input": passes[:, :, classes], "softmax output": probabilities[:, :, classes]}, classes.tolist(),
    )  # fmt: skip
    measures = {
        "confidence of a pass": probabilities.max(axis=-1).mean(axis=0),
        "spread of the input": passes.std(axis=0).mean(axis=-1),
        "spread of the output": probabilities.std(axis=0).max(axis=-1),
        "expected entropy": uncertainty.expected_entropy(probabilities),
        "mutual information": uncertainty.mutual_information(probabilities),
    }
    metrics = {
        f"{name} at {angle:g} degrees": {"value": float(value)}
        for name, values in measures.items()
        for angle, value in zip(ANGLES, values, strict=True)
    }
    return {"error %": {"value": 100 * error.value, "stderr": 100 * error.stderr}, **metrics}


def plot_passes(
    path: str | Path,
    angles: np.ndarray,
    images: np.ndarray,
    panels: Mapping[str, np.ndarray],
    class_names: Sequence[Any],
) -> Path:
    """Plots the outputs of several stochastic passes against the angle of the image, with the images below.

    Args:
      path: the PNG file to write.
      angles: in degrees, `[num]`.
      images: the rotated images, `[num, height, width]` in [0, 1].
      panels: `{title: outputs [num_passes, num, num_classes]}`.
      class_names: the names of the classes on the last axis; each class has one colour.
    """
    figure, axes = plots.new_figure(
        4.6 * len(panels) + 0.4, 4.2, nrows=2, ncols=len(panels), squeeze=False, gridspec_kw={"height_ratios": (7, 1)}
    )
    strip = np.concatenate(list(images), axis=1)
    step = angles[1] - angles[0]
    jitter = np.linspace(-0.25, 0.25, len(class_names)) * step
    for (top, bottom), (title, values) in zip(axes.T, panels.items(), strict=True):
        for i, name in enumerate(class_names):
            x = np.broadcast_to(angles + jitter[i], values.shape[:2])
            top.scatter(x, values[..., i], s=40, marker="_", alpha=0.15, linewidths=0.8, color=f"C{i}")
            top.plot(angles, values[..., i].mean(axis=0), color=f"C{i}", label=str(name))
        limits = (angles[0] - step / 2, angles[-1] + step / 2)
        top.set(title=title, xlim=limits)
        top.grid(alpha=0.3)
        top.legend(fontsize=8, title="class")
        bottom.imshow(1 - strip, cmap="gray", vmin=0, vmax=1, extent=(*limits, 0, step), aspect="auto")
        bottom.set(xlabel="degrees", yticks=[], xlim=limits)
    return plots.save_figure(figure, path)


def main(config: Config) -> None:
    """One half or the other, by the data set; writes table, figure and results."""
    with common.Experiment("mc_dropout", config) as run:
        mc_dropout_flags.check(config)
        part = mc_dropout_regression.compare if mc_dropout_flags.is_regression(config.dataset) else rotate
        path = run.finish(part(run))
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
