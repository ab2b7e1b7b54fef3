"""Learning from few labels with a discriminator of K classes and the class "fake": data, networks and test errors.

    FewLabelsConfig                     flags
    load, draw_labelled                 the splits of a data set, and random choices of the labelled images
    networks                            the generator and the discriminator
    predict                             averaged class probabilities
    score, score_rows, plot_errors      errors, log-likelihoods and calibration on the test images; a figure

The discriminator's probabilities are in `bayesjax/objectives/semi_supervised.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation, models, plots
from bayesjax.models import dcgan, noisy_mlp
from bayesjax.objectives import semi_supervised
from bayesjax.types import Array, Params
from experiments.harness import Count, Natural, NonEmpty, RunConfig, require, row
from experiments.shared import populations
from experiments.shared.populations import Networks


@dataclass(frozen=True)
class FewLabelsConfig(RunConfig):
    """Flags of GANs with few labels; as a base class of a configuration it must come first."""

    dataset: str = "digits"
    """Labelled images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file with
    x_train, y_train, x_test and y_test."""
    num_labelled: Annotated[tuple[Count, ...], NonEmpty] = (100,)
    """Numbers of labelled training images to compare."""
    num_label_draws: Count = 1
    """Number of independent random choices of labelled images; each has its own networks, trained side by side."""
    num_validation: Natural = 0
    """Number of training images that replace the test set, to choose settings; 0 uses the test set."""
    labelled_batch_size: Count = 32
    """Largest number of labelled images in a step."""
    architecture: Literal["dcgan", "mlp_noise"] = "dcgan"
    """Networks: convolutions, or the dense layers with noise of the improved GAN (`models/noisy_mlp.py`)."""
    generator_features: Annotated[tuple[Count, ...], NonEmpty] = (32, 16)
    """Numbers of channels of the generator's layers, each of which doubles height and width, or numbers of units."""
    discriminator_features: Annotated[tuple[Count, ...], NonEmpty] = (16, 32)
    """Numbers of channels of the discriminator's layers, each of which halves height and width, or numbers of units."""
    norm: Literal["group", "batch", "none"] = "none"
    """Normalisation in both networks of dcgan. With batch, the logits of an image depend on its batch."""
    kernel_size: Count = 3
    """Height and width of the convolution kernels of dcgan, in pixels."""


class Splits(NamedTuple):
    """The training images, most of whose labels will be withheld, the test images, and the number of classes."""

    train: data.Split
    test: data.Split
    num_classes: int


def load(config: FewLabelsConfig) -> Splits:
    """Loads the splits of `config.dataset`; with --num-validation the last training images replace the test set.

    Raises:
      ValueError: if the data are not images [height, width, channels] with labels of two classes or more, or are too
        small for the numbers of layers; if --num-validation exceeds half of the training images; if --num-labelled is
        less than the number of classes, or more than the number of training images.
    """
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    require(
        len(dataset.input_shape) == 3 and dataset.num_classes > 1,
        f"--dataset {config.dataset} must hold images [height, width, channels] with labels of two classes or more",
    )
    most = len(dataset.train) // 2
    require(config.num_validation <= most, f"--num-validation must be at most {most}; got {config.num_validation}")
    dataset = dataset.hold_out(config.num_validation)
    train, test = dataset.train, dataset.test
    for features in (config.generator_features, config.discriminator_features):
        if config.architecture == "dcgan":
            dcgan.layer_sizes(dataset.input_shape, len(features))
    for num in config.num_labelled:
        require(
            dataset.num_classes <= num <= len(train),
            f"--num-labelled must lie between {dataset.num_classes} (one image of each class) and {len(train)} (all "
            f"training images); got {num}",
        )
    return Splits(train, test, dataset.num_classes)


def draw_labelled(config: FewLabelsConfig, splits: Splits, num_labelled: int) -> dict[str, np.ndarray]:
    """Random class-balanced choices of images "x" in (-1, 1) and labels "y", `[num_label_draws, num_labelled, ...]`."""
    subsets = [
        data.labelled_subset(splits.train, num_labelled, splits.num_classes, seed=1000 * config.seed + draw)
        for draw in range(config.num_label_draws)
    ]
    return {
        "x": np.stack([2 * subset.inputs - 1 for subset in subsets]),
        "y": np.stack([subset.labels for subset in subsets]),
    }


def networks(config: FewLabelsConfig, splits: Splits, latent_dim: int) -> Networks:
    """The networks of `config.architecture` for the images of `splits`."""
    if config.architecture == "mlp_noise":
        pixels, shape = splits.train.inputs, splits.train.inputs.shape[1:]
        generator: Any = noisy_mlp.Generator(shape, config.generator_features)
        discriminator: Any = noisy_mlp.Discriminator(
            shape, splits.num_classes, config.discriminator_features, pixel_mean=float(pixels.mean()),
            pixel_sd=math.sqrt(pixels.var(axis=0).mean()),
        )  # fmt: skip
        return populations.networks(generator, discriminator, latent_dim, shape, is_noisy=True)
    init = models.initializers.fan_in_normal(math.sqrt(2)) if config.norm == "none" else dcgan.DCGAN_INIT
    shape, options = splits.train.inputs.shape[1:], (config.norm, config.kernel_size, init)
    generator = dcgan.Generator(shape, config.generator_features, *options)
    discriminator = dcgan.Discriminator(shape, splits.num_classes, config.discriminator_features, *options)
    return populations.networks(generator, discriminator, latent_dim, shape)


def predict(net: Networks, discriminators: Params, inputs: Array) -> Array:
    """Class probabilities of images, averaged over networks, for each random choice of the labelled images.

    Args:
      net: functions of the networks.
      discriminators: parameters, leaves `[num_label_draws, num_networks, ...]`.
      inputs: images in [0, 1], `[n, height, width, channels]`.

    Returns:
      Probabilities `[num_label_draws, n, K]`.
    """
    num = len(inputs)
    size = next(size for size in range(min(num, 1000), 0, -1) if num % size == 0)  # bounds the memory
    chunks = (2 * jnp.asarray(inputs) - 1).reshape(-1, size, *inputs.shape[1:])

    def classify(params: Params) -> Array:
        def chunk(x: Array) -> Array:
            return semi_supervised.class_probabilities(net.logits(params, x))

        return jax.lax.map(chunk, chunks).reshape(num, -1)

    return jax.lax.map(lambda networks: jax.lax.map(classify, networks).mean(axis=0), discriminators)


def score(probabilities: Array, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Test error, negative log-likelihood and calibration error for each random choice of the labelled images.

    Args:
      probabilities: class probabilities, `[num_label_draws, n, K]`.
      labels: integers `[n]`.

    Returns:
      Arrays `[num_label_draws]`: "errors" in %; "nll", the mean per image in nats; and "ece", the expected calibration
      error in % with 15 bins.
    """
    draws = np.asarray(probabilities)
    return {
        "errors": np.array([100 * float(evaluation.error_rate(each, labels).value) for each in draws]),
        "nll": np.array([float(evaluation.negative_log_likelihood(each, labels).value) for each in draws]),
        "ece": np.array([100 * evaluation.calibration.expected_calibration_error(each, labels) for each in draws]),
    }


def score_rows(method: str, num_labelled: int, result: Mapping[str, Any], **published: Any) -> list[dict]:
    """The result rows of one method with one number of labels; `result` has the values of `score` and "ms per step".

    `published` may contain the published error, `paper`, and its `source`.
    """
    errors, num = result["errors"], len(result["errors"])
    keys: dict[str, Any] = {"method": method, "labels": num_labelled}
    spread: dict[str, Any] = {"values": errors}
    if num > 1:
        sd = errors.std(ddof=1)
        spread |= {"sd": sd, "stderr": sd / math.sqrt(num)}
    return [
        row("error %", errors.mean(), **keys, **spread, **published),
        row("negative log-likelihood", evaluation.mean_estimate(result["nll"]), **keys),
        row("ECE %", evaluation.mean_estimate(result["ece"]), **keys),
        row("ms per step", result["ms per step"], **keys),
        *([row("network steps", result["network steps"], **keys)] if "network steps" in result else []),
    ]


def plot_errors(path: Path, results: Mapping[tuple[str, int], Mapping[str, Any]], title: str) -> None:
    """Plots the test errors of each method against the number of labelled images, if there are several numbers.

    Args:
      path: file of the figure.
      results: scores by (method, number of labelled images); `errors` has the error of each run in percent.
      title: title of the figure.
    """
    methods, numbers = (list(dict.fromkeys(names)) for names in zip(*results, strict=True))
    if len(numbers) > 1:
        errors = {method: np.stack([results[method, num]["errors"] for num in numbers], axis=1) for method in methods}
        curves = {method: (numbers, values) for method, values in errors.items()}
        plots.curves(path, curves, xlabel="labelled images", ylabel="error (%)", title=title, log_x=True, log_y=True)
