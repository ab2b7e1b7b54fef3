"""What experiments on labelled images share: splits, the likelihood of a label, and what a predictive is worth."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation
from bayesjax.evaluation import calibration
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood
from experiments import common

MEASURES = ("error %", "error of the mean %", "nll", "ece")


class Images(NamedTuple):
    """Images and their labels.

    Attributes:
      x: `[num, height, width, channels]`, or flat `[num, pixels]`.
      y: `[num]`.
    """

    x: np.ndarray
    y: np.ndarray


def splits(config: Any, *, scale: float = 1.0, flat: bool = False) -> tuple[Images, Images, int]:
    """Training images, those to judge by, and the number of classes.

    Args:
      config: with `dataset`, `data_dir` and `num_validation`: training images that stand in for the test set.
      scale: of pixels in [0, 1].
      flat: whether images are vectors.
    """
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    common.require(dataset.num_classes > 1, f"--dataset {config.dataset} must have labels of two classes or more")
    train, test = (
        Images(scale * (part.inputs.reshape(len(part), -1) if flat else part.inputs), part.labels)
        for part in (dataset.train, dataset.test)
    )
    held = config.num_validation
    common.require(0 <= held < len(train.x), f"--num-validation must lie in 0 .. {len(train.x) - 1}; got {held}")
    if held:
        train, test = Images(train.x[:-held], train.y[:-held]), Images(train.x[-held:], train.y[-held:])
    common.require(len(test.x) > 0, f"--dataset {config.dataset} has no test images: hold some out")
    return train, test, dataset.num_classes


def log_likelihood(apply: Callable) -> Callable:
    """Of one example, log p(label | image) from logits `apply(params, rng_key, x)`."""

    def of_one(params: Any, rng_key: jax.Array, image: Images) -> jax.Array:
        return categorical_log_likelihood(apply(params, rng_key, image.x), jnp.asarray(image.y))

    return of_one


@functools.partial(jax.jit, static_argnums=0)
def average(outputs: Callable, position: Any, rng_keys: jax.Array, x: jax.Array) -> jax.Array:
    """The mean of softmax(outputs(position, key, x)) over keys, one after another: all at once need not fit."""

    def add(total: jax.Array, rng_key: jax.Array) -> tuple[jax.Array, None]:
        return total + jax.nn.softmax(outputs(position, rng_key, x)), None

    total, _ = jax.lax.scan(add, jax.nn.softmax(outputs(position, rng_keys[0], x)), rng_keys[1:])
    return total / len(rng_keys)


def judge(predictive: Any, of_mean: Any, labels: np.ndarray) -> dict[str, float]:
    """MEASURES of an averaged prediction `[num, num_classes]`, and of that of the mean weights."""
    return {
        "error %": 100 * evaluation.error_rate(predictive, labels).value,
        "error of the mean %": 100 * evaluation.error_rate(of_mean, labels).value,
        "nll": evaluation.negative_log_likelihood(predictive, labels).value,
        "ece": calibration.expected_calibration_error(predictive, labels),
    }


def mean_of(results: list[dict], measure: str) -> dict[str, float]:
    """Mean and standard error over results."""
    return evaluation.mean_estimate([result[measure] for result in results])._asdict()


if __name__ == "__main__":
    common.not_a_command()
