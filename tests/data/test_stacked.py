"""Stacks of grey images: every channel is an image of its class, and the classes have their probabilities."""

import numpy as np
import pytest

from bayesjax import data
from bayesjax.data import stacked

IMAGES = np.arange(20, dtype=np.float32)[:, None, None, None] * np.ones((2, 3, 1), np.float32)  # image i is full of i
LABELS = np.arange(20) % 5


def test_channels_and_classes():
    """A stack of images i, j, k has their pixels as channels and the class c_i c_j c_k to the base 5."""
    stacks, classes = stacked.stack_images(IMAGES, LABELS, 4000, 5, seed=0)
    assert stacks.shape == (4000, 2, 3, 3) and stacks.dtype == np.float32 and classes.dtype == np.int32
    chosen = stacks[:, 0, 0].astype(int)
    np.testing.assert_array_equal(stacks, np.broadcast_to(chosen[:, None, None], stacks.shape))
    np.testing.assert_array_equal(classes, (chosen % 5) @ [25, 5, 1])
    assert not np.array_equal(classes, (chosen % 5) @ [1, 5, 25])


def test_channels_are_independent():
    """Counts of all 25 pairs of classes of two channels are within 4.5 standard deviations of those of independent
    ones; channels that share an image are not."""
    _, classes = stacked.stack_images(IMAGES, LABELS, 4000, 5, seed=0)
    digits = np.stack([classes // 25, classes // 5 % 5, classes % 5])

    def largest_deviation(a, b):
        return np.abs(np.bincount(5 * a + b, minlength=25) - 160).max() / np.sqrt(160)

    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert largest_deviation(digits[a], digits[b]) < 4.5 < largest_deviation(digits[a], digits[a])


def test_stacked_digits(monkeypatch):
    """By name: sizes, range, classes; the same every time; the splits have images of their own splits only."""
    monkeypatch.setattr(stacked, "NUM_TRAIN", 900)
    monkeypatch.setattr(stacked, "NUM_TEST", 300)
    dataset, again, digits = data.load("stacked/digits"), data.load("stacked/digits"), data.load("digits")
    assert dataset.name == "stacked/digits" and dataset.num_classes == 1000 and dataset.input_shape == (8, 8, 3)
    assert (len(dataset.train), len(dataset.test)) == (900, 300)
    np.testing.assert_array_equal(dataset.train.inputs, again.train.inputs)
    for split, source in ((dataset.train, digits.train), (dataset.test, digits.test)):
        classes = {image.tobytes(): label for image, label in zip(source.inputs[..., 0], source.labels, strict=True)}
        for channel, place in enumerate((100, 10, 1)):
            found = [classes[image.tobytes()] for image in np.ascontiguousarray(split.inputs[..., channel])]
            np.testing.assert_array_equal(found, split.labels // place % 10)
    assert not np.array_equal(dataset.train.labels[:300], dataset.test.labels)


def test_images_that_cannot_be_stacked(tmp_path):
    """Colours, vectors and images without labels are refused; names keep the errors of their source."""
    path = str(tmp_path / "images.npz")
    colour = np.zeros((4, 2, 2, 3), np.float32)
    np.savez(path, x_train=colour, y_train=np.arange(4) % 2, x_test=colour, y_test=np.arange(4) % 2)
    with pytest.raises(ValueError, match=r"must stack grey images .* has examples of shape \(2, 2, 3\) and 2 classes"):
        data.load(f"stacked/{path}")
    np.savez(path, x_train=colour[..., :1], x_test=colour[..., :1])
    with pytest.raises(ValueError, match=r"has examples of shape \(2, 2, 1\) and 0 classes"):
        data.load(f"stacked/{path}")
    with pytest.raises(ValueError, match=r"has examples of shape \(2,\) and 0 classes"):
        data.load("stacked/synthetic/ring")
    with pytest.raises(data.UnknownDataset, match="stacked/mnist"):
        data.load("stacked_mnist")
    with pytest.raises(data.DataUnavailable, match="'mnist' is not prepared"):
        data.load("stacked/mnist", data_dir=str(tmp_path))
