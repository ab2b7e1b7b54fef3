"""Two domains of images: from a file, and from a data source with the splits and sizes of `cycle_gan/*`."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from bayesjax import data

RNG = np.random.default_rng(0)
SIZES = {"trainA": 5, "trainB": 3, "testA": 2, "testB": 4}


@pytest.fixture
def npz(tmp_path):
    """Writes domains to a file, but for changes."""

    def write(**changed):
        arrays = {part: RNG.integers(0, 256, (num, 6, 6, 3), np.uint8) for part, num in SIZES.items()} | changed
        path = tmp_path / "domains.npz"
        np.savez(path, **{part: array for part, array in arrays.items() if array is not None})
        return str(path), arrays

    return write


def test_file(npz):
    """Images come back over 255, as they are; brought to a size, they keep their mean."""
    path, arrays = npz()
    found = data.load_unpaired(path)
    np.testing.assert_allclose(found.x_train, arrays["trainA"] / 255, rtol=1e-6)
    np.testing.assert_allclose(found.y_test, arrays["testB"] / 255, rtol=1e-6)
    assert data.is_unpaired_file(path) and not data.is_unpaired_file("digits")
    dark = data.load_unpaired(npz(testB=np.ones((4, 6, 6, 3), np.uint8))[0])
    assert dark.y_test.max() == np.float32(1 / 255)  # on the scale of the other parts
    small = data.load_unpaired(Path(path), 3)
    assert small.x_train.shape == (5, 3, 3, 3) and small.y_train.shape == (3, 3, 3, 3)
    np.testing.assert_allclose(small.x_train.mean(), found.x_train.mean(), atol=0.02)


def test_grey_beside_colours(npz):
    """The grey domain is repeated to three channels."""
    path, _ = npz(trainA=np.full((2, 6, 6), 51, np.uint8), testA=np.full((2, 6, 6), 102, np.uint8))
    found = data.load_unpaired(path)
    assert found.x_train.shape == (2, 6, 6, 3) and found.y_train.shape == (3, 6, 6, 3)
    np.testing.assert_allclose(found.x_train, 0.2, rtol=1e-6)


def test_files_that_do_not_fit(npz, tmp_path):
    with pytest.raises(ValueError, match="lacks the arrays testB"):
        data.load_unpaired(npz(testB=None)[0])
    with pytest.raises(ValueError, match="must have the same shape"):
        data.load_unpaired(npz(testA=np.zeros((2, 5, 5, 3), np.uint8))[0])
    with pytest.raises(ValueError, match=r"testA must be \[num, height, width\(, channels\)\]; got \(2, 5\)"):
        data.load_unpaired(npz(testA=np.zeros((2, 5)))[0])
    with pytest.raises(ValueError, match=r"testA, 1, -1"):
        data.load_unpaired(npz(testA=np.zeros((2, 3, 6, 6)))[0])
    with pytest.raises(FileNotFoundError, match="trainA, trainB, testA, testB"):
        data.load_unpaired(str(tmp_path / "none.npz"))


def fake_tfds(splits, folder):
    """A stand-in for TensorFlow Datasets that has horse2zebra in images of two sizes."""
    images = {
        split: [np.full((8 + 4 * (i % 2), 8, 3), 10 * i, np.uint8) for i in range(SIZES[split])] for split in splits
    }
    builder = types.SimpleNamespace(
        data_path=folder,
        data_dir=str(folder),
        info=types.SimpleNamespace(features={"image": None}, splits=dict.fromkeys(splits)),
        as_data_source=lambda split: [{"image": image, "label": 0} for image in images[split]],
    )
    known = lambda **_: ["cycle_gan", "mnist"]  # noqa: E731
    return types.SimpleNamespace(list_builders=known, builder=lambda name, data_dir: builder)


def test_data_source(monkeypatch, tmp_path):
    """As TensorFlow Datasets has horse2zebra: four splits, images of several sizes, brought to one."""
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tfds(SIZES, tmp_path))
    found = data.load_unpaired("cycle_gan/horse2zebra", 8)
    assert [len(part) for part in found] == [5, 3, 2, 4] and found.x_train.shape[1:] == (8, 8, 3)
    np.testing.assert_allclose(found.x_train[:, 0, 0, 0], np.arange(5) * 10 / 255, atol=1e-5)
    with pytest.raises(ValueError, match="must hold images of one shape, or be resized to one size"):
        data.load_unpaired("cycle_gan/horse2zebra")
    with pytest.raises(data.UnknownDataset, match="nearest"):
        data.load_unpaired("cycle_gam/horse2zebra")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", fake_tfds(("trainA", "trainB"), tmp_path))
    with pytest.raises(ValueError, match="it lacks testA, testB"):
        data.load_unpaired("cycle_gan/horse2zebra", 8)
