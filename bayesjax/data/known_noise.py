"""A regression and a classification with known noise, for judging epistemic and aleatoric uncertainty.

    regression       y = sin(3 x) + x / 2 + s(x) e,   s(x) = 0.1 + 0.3 / (1 + exp(-4 x)),   e ~ N(0, 1)
    classification   p(y = 1 | x) = 1 / (1 + exp(-3 x_1 - 2 x_2^2 + 1))

Sampled inputs are uniform on (-LIMIT, LIMIT). Epistemic uncertainty should therefore be high at inputs outside of that
interval. Read `evaluation/uncertainty.py` and `experiments/uncertainty.py` next.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import special

LIMIT = 1.5
"""Largest absolute value of an input."""


class Points(NamedTuple):
    """Examples of a regression or a classification.

    Attributes:
      x: inputs, `[..., num, num_features]`.
      y: real-valued targets or class labels, `[..., num]`.
    """

    x: Any
    y: Any


def regression_mean(x: np.ndarray) -> np.ndarray:
    """Returns the mean of the regression's targets, sin(3 x) + x / 2, at inputs of any shape."""
    return np.sin(3 * x) + x / 2


def noise_scale(x: np.ndarray) -> np.ndarray:
    """Returns the standard deviation s(x) of the regression's noise at inputs of any shape."""
    return 0.1 + 0.3 * special.expit(4 * x)


def sample_regression(rng: np.random.Generator, num: int) -> Points:
    """Draws `num` examples of the regression, which has one feature, from NumPy's generator `rng`."""
    x = rng.uniform(-LIMIT, LIMIT, num)
    return Points(x[:, None], regression_mean(x) + noise_scale(x) * rng.normal(size=num))


def class_probability(x: np.ndarray) -> np.ndarray:
    """Returns p(y = 1 | x) of the classification, `[num]`, at inputs `[num, 2]`."""
    return special.expit(3 * x[:, 0] + 2 * x[:, 1] ** 2 - 1)


def sample_classification(rng: np.random.Generator, num: int) -> Points:
    """Draws `num` examples of the classification, which has two features, from NumPy's generator `rng`."""
    x = rng.uniform(-LIMIT, LIMIT, (num, 2))
    return Points(x, (rng.random(num) < class_probability(x)).astype(int))
