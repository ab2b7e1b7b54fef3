"""Samples balanced over classes and draws, and classification by the mean over draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.shared import conditional


def test_probabilities_are_averaged_before_the_most_probable_is_taken(monkeypatch):
    """The more confident of two draws decides where a vote would be a tie; chunks of images make no difference."""
    monkeypatch.setattr(conditional, "CHUNK_SIZE", 2)
    draws = jnp.array([[1.0, 0.0], [-9.0, 0.0]])
    x = np.array([1.0, 1.0, -1.0], np.float32)
    classify = conditional.classifier(lambda params, x: x[:, None] * params, draws)
    np.testing.assert_array_equal(classify(x), [1, 1, 0])


def test_classes_alternate():
    """As many of each class and of each draw; the classes returned are those that were made."""
    make = lambda params, key, classes: params + 10 * classes  # noqa: E731
    samples, classes = conditional.generate_balanced(make, jnp.arange(2), jax.random.key(0), 12, 3)
    np.testing.assert_array_equal(samples // 10, classes)
    np.testing.assert_array_equal(np.bincount(classes), [4, 4, 4])
    np.testing.assert_array_equal(np.bincount(samples % 10), [6, 6])


@pytest.mark.parametrize(("num_draws", "num"), [(20, 100), (20, 12), (30, 1000), (1, 25), (7, 33)])
def test_classes_are_balanced_however_few_samples_a_draw_makes(num_draws, num):
    """To within one; if each draw began with the first class, 100 samples would have twenty of each of five classes."""
    make = lambda params, key, classes: params + 100 * classes  # noqa: E731
    samples, classes = conditional.generate_balanced(make, jnp.arange(num_draws), jax.random.key(0), num, 10)
    np.testing.assert_array_equal(samples // 100, classes)
    counts, draws = np.bincount(classes, minlength=10), np.bincount(samples % 100)
    assert len(classes) == num and np.ptp(counts) <= 1 and np.ptp(draws[draws > 0]) <= 1
