"""The labelled subset: balanced, without replacement, fixed by its seed."""

import numpy as np
import pytest

from bayesjax import data

NUM, CLASSES = 60, 5
SPLIT = data.Split(
    np.arange(NUM, dtype=np.float32)[:, None], (np.random.default_rng(0).permutation(NUM) % CLASSES).astype(np.int32)
)


@pytest.mark.parametrize("num_labelled", [5, 13, 20, 60])
def test_balanced_without_replacement(num_labelled):
    """As many of each class as of any other, to within one; no example twice; every label is its example's own."""
    subset = data.labelled_subset(SPLIT, num_labelled, CLASSES, seed=3)
    assert len(subset) == len(subset.labels) == num_labelled
    counts = np.bincount(subset.labels, minlength=CLASSES)
    assert counts.max() - counts.min() <= (1 if num_labelled % CLASSES else 0)
    index = subset.inputs[:, 0].astype(int)
    assert len(set(index)) == num_labelled
    np.testing.assert_array_equal(SPLIT.labels[index], subset.labels)


def test_seeds():
    """A seed fixes the draw; other seeds give other examples, and the odd ones out fall on different classes."""
    draws = [data.labelled_subset(SPLIT, 13, CLASSES, seed=seed) for seed in (0, 0, *range(1, 9))]
    np.testing.assert_array_equal(draws[0].inputs, draws[1].inputs)
    assert len({tuple(sorted(draw.inputs[:, 0])) for draw in draws[1:]}) == 9
    assert len({tuple(np.bincount(draw.labels)) for draw in draws[1:]}) > 1


def test_order_is_mixed():
    """The subset is shuffled, not sorted by class, so that its first rows are no biased sample."""
    labels = data.labelled_subset(SPLIT, 40, CLASSES, seed=0).labels
    assert labels.tolist() != sorted(labels)


@pytest.mark.parametrize("num_labelled", [0, 4, 61])
def test_number_out_of_range(num_labelled):
    """Fewer than the classes, or more than there are, is refused in numbers."""
    with pytest.raises(ValueError, match=rf"num_labelled .* 5 classes and the 60 .* got {num_labelled}"):
        data.labelled_subset(SPLIT, num_labelled, CLASSES, seed=0)


def test_too_few_of_a_class():
    """A class with fewer examples than its share is named."""
    labels = np.zeros(NUM, np.int32)
    labels[:3] = 1
    with pytest.raises(ValueError, match="needs 4 examples of class 1; there are 3"):
        data.labelled_subset(data.Split(SPLIT.inputs, labels), 8, 2, seed=0)


def test_no_labels():
    """A split without labels has nothing to draw."""
    with pytest.raises(ValueError, match="labels"):
        data.labelled_subset(data.Split(SPLIT.inputs), 8, 2, seed=0)


def test_hold_out():
    """The last training examples replace the test split; none changes nothing; all is refused."""
    digits = data.load("digits")
    held = digits.hold_out(100)
    np.testing.assert_array_equal(held.test.inputs, digits.train.inputs[-100:])
    np.testing.assert_array_equal(held.train.labels, digits.train.labels[:-100])
    assert digits.hold_out(0) is digits
    for num in (-1, len(digits.train)):
        with pytest.raises(ValueError, match=rf"num must lie in 0 .. {len(digits.train) - 1}.*got {num}"):
            digits.hold_out(num)
