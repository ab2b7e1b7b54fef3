"""Labelled images for the experiments on weight uncertainty, and the log likelihood of a label."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood
from experiments.harness import require


class Images(NamedTuple):
    """Images `x`, `[num, height, width, channels]` or flat `[num, pixels]`, and their labels `y [num]`."""

    x: np.ndarray
    y: np.ndarray


def load_images(config: Any, *, scale: float = 1.0, flat: bool = False) -> tuple[Images, Images, int]:
    """Loads the training images, the evaluation images and the number of classes.

    Args:
      config: has `dataset`, `data_dir` and `num_validation`, the number of training images that replace the test set.
      scale: factor by which pixels in [0, 1] are multiplied.
      flat: whether each image is flattened to a vector.

    Raises:
      ValueError: if the data set has no labels or no images to evaluate on, or `num_validation` is out of range.
    """
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    require(dataset.num_classes > 1, f"--dataset {config.dataset} must have labels of two classes or more")
    held, most = config.num_validation, len(dataset.train) - 1
    require(held <= most, f"--num-validation must lie in 0 .. {most}; got {held}")
    dataset = dataset.hold_out(held)
    train, test = (
        Images(scale * (part.inputs.reshape(len(part), -1) if flat else part.inputs), part.labels)
        for part in (dataset.train, dataset.test)
    )
    require(len(test.x) > 0, f"--dataset {config.dataset} has no test images: set --num-validation")
    return train, test, dataset.num_classes


def log_likelihood(apply: Callable) -> Callable:
    """Returns `(params, rng_key, image) -> log p(label | image)`, in nats, from logits `apply(params, rng_key, x)`."""

    def log_prob(params: Any, rng_key: jax.Array, image: Images) -> jax.Array:
        return categorical_log_likelihood(apply(params, rng_key, image.x), jnp.asarray(image.y))

    return log_prob
