"""experiments.bayesian_segnet: class weights, the mean of passes and the rows of an evaluation."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.data.segmentation import SegmentationDataset, SegmentationSplit
from experiments.bayesian_segnet import Maps, class_weights, judge, mean_prediction

VOID = 2


def split():
    """Two images of 2 x 2 pixels of two classes and void."""
    labels = np.array([[[0, 0], [0, 1]], [[0, 0], [0, VOID]]])
    return SegmentationSplit(np.zeros((2, 2, 2, 1), np.float32), labels)


def test_class_weights_by_hand():
    """Class 0 has 6 of 7 labelled pixels, class 1 has 1 of 4 in the image that has it; class 2 does not occur."""
    frequencies = np.array([6 / 7, 1 / 4])
    np.testing.assert_allclose(class_weights(split(), 2), np.median(frequencies) / frequencies)
    assert class_weights(SegmentationSplit(split().images, np.minimum(split().labels, 0)), 2)[1] == 0


@pytest.mark.parametrize("num_passes", [0, 3])
def test_mean_of_passes(num_passes):
    """Entropy and mutual information equal those from the probabilities of all passes."""

    def apply(params, rng_key, x):
        return jnp.stack([x, 2 * x], axis=-1) + (0 if rng_key is None else jax.random.normal(rng_key, (2,)))

    x = jnp.linspace(-1, 1, 6).reshape(1, 2, 3)
    keys = jax.random.split(jax.random.key(0), num_passes) if num_passes else None
    maps = mean_prediction(apply)(None, keys, x)
    passes = np.stack([jax.nn.softmax(apply(None, key, x)) for key in ([None] if keys is None else keys)])
    mean = passes.mean(axis=0)
    entropy = -(mean * np.log(mean)).sum(axis=-1)
    expected = -(passes * np.log(passes)).sum(axis=-1).mean(axis=0)
    np.testing.assert_array_equal(maps.labels, mean.argmax(axis=-1))
    np.testing.assert_allclose(maps.entropy, entropy, rtol=1e-5)
    np.testing.assert_allclose(maps.mutual_information, entropy - expected, atol=1e-6)
    assert (np.abs(maps.mutual_information).max() > 0.01) == (num_passes > 1)


def test_rows_ignore_void_pixels():
    """Six of seven labelled pixels are right; the wrong one has the most entropy; a single pass has no disagreement."""
    labels, entropy = np.zeros((2, 2, 2), int), np.array([[[0.0, 1], [2, 3]], [[0, 1], [2, 9]]])
    dataset = SegmentationDataset("test", split(), split(), split(), num_classes=2)
    maps = Maps(labels, entropy, -entropy)
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # images this small have boundaries alone
        rows = judge(dataset, split(), "2 passes", maps)
        single = judge(dataset, split(), "one pass", maps)
    values = {(row["measure"], row.get("score")): row["value"] for row in rows}
    assert values["pixel accuracy", None] == pytest.approx(6 / 7)
    assert values["class-average accuracy", None] == pytest.approx(1 / 2)
    assert values["mean IoU", None] == pytest.approx(6 / 7 / 2)
    assert values["AUROC for errors", "entropy"] == 1
    assert values["AUROC for errors", "mutual information"] == 0
    assert {row.get("score") for row in single} == {None, "entropy"}
