"""Named data sets: shapes, ranges, splits, and what happens to bad input."""

import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bayesjax import data
from bayesjax.data import synthetic

RNG = np.random.default_rng(0)
GOOD = {
    "x_train": RNG.integers(0, 256, (6, 8, 8), np.uint8),
    "y_train": np.array([0, 1, 2, 1, 0, 2], np.int64),
    "x_test": RNG.integers(0, 256, (2, 8, 8), np.uint8),
    "y_test": np.array([2, 0], np.uint8),
}


@pytest.fixture
def npz(tmp_path):
    """Writes the good arrays with some replaced, or left out where None, and returns the path."""

    def write(**changed):
        arrays = {name: array for name, array in (GOOD | changed).items() if array is not None}
        np.savez(tmp_path / "images.npz", **arrays)
        return str(tmp_path / "images.npz")

    return write


def test_digits():
    """1437 + 360 grey 8 x 8 images in [0, 1], all ten classes in both splits, in the proportions of the whole."""
    digits = data.load("digits")
    assert digits.name == "digits" and digits.num_classes == 10 and digits.input_shape == (8, 8, 1)
    for split, num in ((digits.train, 1437), (digits.test, 360)):
        assert split.inputs.shape == (num, 8, 8, 1) and split.inputs.dtype == np.float32 and len(split) == num
        assert split.labels.shape == (num,) and split.labels.dtype == np.int32
        assert split.inputs.min() == 0 and split.inputs.max() == 1
        counts = np.bincount(split.labels, minlength=10)
        assert len(counts) == 10 and counts.min() > 0.09 * num and counts.max() < 0.11 * num


def test_digits_splits_are_fixed_and_disjoint():
    """The same 360 images every time, and the two splits are scikit-learn's 1797 images, each once."""
    from sklearn.datasets import load_digits

    first, second = data.load("digits"), data.load("digits")
    np.testing.assert_array_equal(first.test.inputs, second.test.inputs)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)
    assert first.test.labels[:12].tolist() == [7, 6, 3, 7, 7, 3, 2, 8, 9, 3, 2, 6]
    pixels, labels = load_digits(return_X_y=True)
    rows = lambda x, y: sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))  # noqa: E731
    together = np.concatenate([first.train.inputs, first.test.inputs]).reshape(-1, 64) * 16
    both = np.concatenate([first.train.labels, first.test.labels])
    assert rows(together.astype(np.float32), both) == rows(pixels.astype(np.float32), labels)


@pytest.mark.parametrize(
    ("name", "near"), [("mnits", "mnist"), ("digit", "digits"), ("synthetic/ten_cluster", "ten_clusters")]
)
def test_unknown_name(name, near):
    """A misspelt name is refused with the nearest names."""
    with pytest.raises(data.UnknownDataset, match=near) as caught:
        data.load(name)
    assert repr(name) in str(caught.value) and isinstance(caught.value, ValueError)


def test_hopeless_name():
    """Where no name is near, the message says what to try."""
    with pytest.raises(data.UnknownDataset, match="try digits"):
        data.load("qqqzzzwww")


def test_known_but_not_prepared(tmp_path):
    """A set of TensorFlow Datasets that is not on this machine: the folder looked in, the variable, the command."""
    with pytest.raises(data.DataUnavailable) as caught:
        data.load("mnist", data_dir=str(tmp_path))
    message = str(caught.value)
    assert str(tmp_path) in message and "TFDS_DATA_DIR" in message and "tfds build mnist" in message
    assert not list(tmp_path.iterdir()), "nothing is downloaded or written"


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="TFDS_DATA_DIR is not set")
def test_mnist():
    """MNIST as its page has it: 60000 + 10000 images, and the class counts of the test split."""
    mnist = data.load("mnist")
    assert mnist.train.inputs.shape == (60000, 28, 28, 1) and mnist.test.inputs.shape == (10000, 28, 28, 1)
    assert mnist.train.inputs.min() == 0 and mnist.train.inputs.max() == 1 and mnist.num_classes == 10
    assert np.bincount(mnist.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_npz_round_trip(npz):
    """uint8 images come back over 255 with a channel axis, labels as int32; floats in [0, 1] come back as they are."""
    path = npz()
    dataset = data.load(path)
    assert dataset.name == path and dataset.num_classes == 3 and dataset.input_shape == (8, 8, 1)
    np.testing.assert_allclose(dataset.train.inputs[..., 0], GOOD["x_train"] / 255, rtol=1e-6)
    np.testing.assert_allclose(dataset.test.inputs[..., 0], GOOD["x_test"] / 255, rtol=1e-6)
    assert dataset.train.inputs.dtype == np.float32 and dataset.train.labels.dtype == np.int32
    assert dataset.train.labels.tolist() == GOOD["y_train"].tolist() and dataset.test.labels.tolist() == [2, 0]
    colour = RNG.random((6, 4, 4, 3)).astype(np.float32)
    dataset = data.load(npz(x_train=colour, x_test=colour[:2]))
    np.testing.assert_array_equal(dataset.train.inputs, colour)


def test_npz_of_vectors(npz):
    """Vectors are no images: any finite values, no channel axis."""
    vectors = 100 * RNG.normal(size=(6, 5))
    dataset = data.load(npz(x_train=vectors, x_test=vectors[:2]))
    np.testing.assert_allclose(dataset.train.inputs, vectors, rtol=1e-6)
    assert dataset.input_shape == (5,)


def nan_image():
    images = np.zeros((6, 8, 8), np.float32)
    images[3, 2, 1] = np.nan
    return images


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"y_train": None, "x_test": None}, "lacks the arrays y_train, x_test; it has x_train, y_test"),
        ({"y_test": np.array([0, 3])}, "y_test must lie in 0 .. 2, the classes; got 0 .. 3"),
        ({"y_train": np.array([0, 1, 2, -1, 0, 2])}, "y_train must lie in 0 .. 2, the classes; got -1 .. 2"),
        ({"y_train": np.array([0, 1, 2, 1, 0, 1.5])}, "y_train must be 6 integers"),
        ({"y_train": np.eye(3, dtype=int)[[0, 1, 2, 1, 0, 2]]}, "y_train must be 6 integers"),
        ({"y_train": GOOD["y_train"][:5]}, "y_train must be 6 integers, one for each example; got int64 of shape (5,)"),
        ({"x_train": nan_image()}, "x_train holds NaN or infinite values"),
        ({"x_test": np.full((2, 8, 8), 255.0)}, "x_test must hold uint8 images or floats in [0, 1]; got float64"),
        ({"x_train": np.full((6, 8, 8), -0.5)}, "x_train must hold uint8 images or floats in [0, 1]"),
        ({"x_test": np.zeros((2, 8, 9))}, "x_train has examples of shape (8, 8), x_test of (8, 9)"),
        ({"x_train": np.zeros((0, 8, 8)), "y_train": np.zeros(0, int)}, "x_train must hold at least one example"),
        ({"x_train": np.zeros(6)}, "x_train must hold at least one example"),
        ({"x_train": np.zeros((6, 3, 32, 32)), "x_test": np.zeros((2, 3, 32, 32))}, "np.moveaxis(x_train, 1, -1)"),
        ({"x_test": np.zeros((2, 1, 28, 28), np.uint8)}, "with 1 to 4 channels; got shape (2, 1, 28, 28)"),
        ({"x_train": np.zeros((6, 8, 8), complex)}, "x_train must hold real numbers; got elements of type complex128"),
        ({"x_test": np.full((2, 8, 8), "1")}, "x_test must hold real numbers; got elements of type <U1"),
        ({"x_test": np.zeros((2, 8), "M8[s]")}, "x_test must hold real numbers; got elements of type datetime64[s]"),
        ({"x_test": np.zeros((2, 8, 8), object)}, "holds Python objects, which are not read"),
        ({"x_test": np.zeros((2, 0))}, "x_test must hold at least one example"),
        ({"y_test": np.array([0, 1]) * 1j}, "y_test must be 2 integers, one for each example; got complex128"),
        ({"y_train": np.array([0, 1, 2, 1, 0, 2], "m8[s]")}, "y_train must be 6 integers"),
        ({"y_train": GOOD["y_train"] + 1}, "got 1 .. 3 with no example of class 0: pass num_classes"),
        ({"y_train": 10**9 * GOOD["y_train"]}, "got 0 .. 2000000000 with no example of class 1: pass num_classes"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_bad_npz(npz, changed, words):
    """Each fault is a ValueError that names the file, the array and what was expected."""
    path = npz(**changed)
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        data.load(path)
    assert path in str(caught.value)


def test_missing_npz(tmp_path):
    """A file that is not there is named, and so is what it should hold."""
    path = str(tmp_path / "nowhere.npz")
    with pytest.raises(FileNotFoundError, match=re.escape(path)) as caught:
        data.load(path)
    assert "x_train" in str(caught.value)


@pytest.mark.parametrize("content", ["half", "text", "array"])
def test_a_file_that_is_no_npz(npz, content):
    """Half a download, a text file or a single array under that name: a ValueError that names the file."""
    path = npz()
    whole = Path(path).read_bytes()
    with open(path, "wb") as file:
        if content == "half":
            file.write(whole[: len(whole) // 2])
        elif content == "text":
            file.write(b"x_train = ...\n")
        else:
            np.save(file, GOOD["x_train"])
    assert content == "array" or not zipfile.is_zipfile(path)
    with pytest.raises(ValueError, match=re.escape(path)):
        data.load(path)


def test_npy(tmp_path):
    """One array: every image once, a tenth of them for the test, always the same ones, in the order of the file.

    Neighbours stay together: of 400 frames, those with a neighbour in the training set are the ends of five runs.
    """
    path = tmp_path / "faces.npy"
    images = np.arange(40, dtype=np.uint8)[:, None, None] * np.ones((3, 2), np.uint8)
    np.save(path, images)
    dataset, again = data.load(str(path)), data.load(str(path))
    assert dataset.input_shape == (3, 2, 1) and len(dataset.test) == 4 and dataset.num_classes == 0
    both = [np.round(255 * split.inputs[:, 0, 0, 0]).astype(int) for split in (dataset.train, dataset.test)]
    assert sorted([*both[0], *both[1]]) == list(range(40)) and (np.diff(both[1]) > 0).all() and both[1][-1] != 39
    np.testing.assert_array_equal(again.test.inputs, dataset.test.inputs)
    np.save(path, np.arange(400.0)[:, None])
    test = data.load(str(path)).test.inputs[:, 0]
    assert len(test) == 40 and (np.diff(test) > 1).sum() == 4 and test[0] > 0 and test[-1] < 399


def test_labels_are_not_needed(npz):
    """An .npz without labels; one split alone with them is refused, below."""
    dataset = data.load(npz(y_train=None, y_test=None))
    assert dataset.num_classes == 0 and len(dataset.train) == 6 and dataset.train.labels.size == 0


def test_zeros_and_ones_stay(npz, tmp_path):
    """uint8 images of 0 and 1, as binarised sets have them, are not divided by 255; all arrays decide together.

    One split without a bright pixel is on the scale of the others: decided array by array, its 1s would stay 1.
    """
    binary = (GOOD["x_train"] > 100).astype(np.uint8)
    assert data.load(npz(x_train=binary, x_test=binary[:2])).train.inputs.max() == 1
    for changed in ({"x_test": binary[:2]}, {"x_train": binary}):
        dataset = data.load(npz(**changed))
        dark = dataset.test if "x_test" in changed else dataset.train
        assert dark.inputs.max() == np.float32(1 / 255)
    is_test = np.isin(np.arange(10), np.flatnonzero(data.load(npy_of(tmp_path, np.eye(10))).test.inputs[0]))
    images = np.where(is_test, 1, 200).astype(np.uint8)[:, None, None] * np.ones((3, 3), np.uint8)
    assert data.load(npy_of(tmp_path, images)).test.inputs.max() == np.float32(1 / 255)


def npy_of(folder, array):
    np.save(folder / "images.npy", array)
    return str(folder / "images.npy")


def test_a_given_number_of_classes(npz):
    """Classes may then be empty, but labels must lie in 0 .. num_classes - 1; other sets have their own number."""
    path = npz(y_train=GOOD["y_train"] + 1)
    assert data.load(path, num_classes=5).num_classes == 5
    with pytest.raises(ValueError, match=r"y_train must lie in 0 \.\. 2, the classes; got 1 \.\. 3"):
        data.load(path, num_classes=3)
    with pytest.raises(ValueError, match="num_classes must be at least 1; got 0"):
        data.load(path, num_classes=0)
    with pytest.raises(ValueError, match=r"argument for \.npz files; got 9 for 'digits'"):
        data.load("digits", num_classes=9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "is not a readable .npy file"),
        (np.zeros(5), "must hold one array of numbers [num >= 2, ...]; got float64 of shape (5,)"),
        (np.array([["a"], ["b"]]), "must hold one array of numbers"),
        (np.full((4, 3, 3), 7.0), "must hold uint8 images or floats in [0, 1]"),
    ],
)
def test_bad_npy(content, message, tmp_path):
    path = tmp_path / "faces.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(ValueError, match=re.escape(message)):
        data.load(str(path))
    with pytest.raises(FileNotFoundError, match=r"expected an \.npy file"):
        data.load(str(tmp_path / "none.npy"))


@pytest.mark.parametrize("dim", [100, 500])
@pytest.mark.parametrize("name", ["synthetic/ten_clusters", "synthetic/single_gaussian"])
def test_synthetic_sets(name, dim):
    """Deterministic, standardised per column, no labels, an empty test split."""
    name = f"{name}_{dim}" if dim != 100 else name
    first, second = data.load(name), data.load(name)
    x = first.train.inputs
    assert x.shape == (10000, dim) and x.dtype == np.float32
    np.testing.assert_array_equal(x, second.train.inputs)
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=1e-4)
    assert len(first.test) == 0 and first.num_classes == 0 and len(first.train.labels) == 0


def spectrum(x):
    """Singular values of the data, largest first."""
    x = x.astype(np.float64)
    return np.sqrt(np.maximum(np.linalg.eigvalsh(x.T @ x)[::-1], 0))


def test_ten_clusters_span_twenty_dimensions():
    """Ten planes through the origin, moved together by the standardisation: rank 20 or 21, never the 2 of one plane."""
    values = spectrum(synthetic.ten_clusters(1000))
    assert values[19] > 1e-2 * values[0]
    assert values[21] < 1e-5 * values[0]


def test_ten_clusters_are_ten():
    """The points fall into ten planes of a tenth of the data each.

    A plane through three points holds a whole cluster if they are of one cluster, and next to nothing else.
    """
    left, sizes, rng = synthetic.ten_clusters(1000).astype(np.float64), [], np.random.default_rng(1)
    for _ in range(10000):
        a, b, c = left[rng.choice(len(left), 3, replace=False)]
        basis = np.linalg.qr(np.stack([b - a, c - a]).T)[0]
        off = (left - a) - (left - a) @ basis @ basis.T
        inside = (off**2).sum(axis=1) < 1e-5
        if inside.sum() >= 50:
            sizes.append(int(inside.sum()))
            left = left[~inside]
        if len(left) < 3:
            break
    assert sizes == [100] * 10


def test_ten_clusters_of_any_size():
    """Sizes that ten does not divide are spread; the shapes asked for are those given."""
    assert synthetic.ten_clusters(103, dim=30).shape == (103, 30)


def excess_kurtosis(x):
    z = (x - x.mean()) / x.std()
    return float((z**4).mean() - 3)


def test_single_gaussian_is_one_mode():
    """One Gaussian: rank 2 but for the noise, and its leading coordinates have no excess kurtosis.

    Kurtosis of n = 10000 normal draws has standard deviation sqrt(24 / n) = 0.049; 0.25 is five of them, one false
    alarm in 10^6 (the data are fixed, so there is none). The ten clusters, projected likewise, are far from it.
    """
    x = synthetic.single_gaussian()
    values = spectrum(x)
    assert values[1] > 10 * values[2], "two dimensions carry the signal"
    assert values[-1] > 1e-3 * values[0], "and the noise all others"

    def leading(x):
        return x @ np.linalg.eigh(x.astype(np.float64).T @ x)[1][:, -2:]

    assert max(abs(excess_kurtosis(column)) for column in leading(x).T) < 0.25
    assert max(abs(excess_kurtosis(column)) for column in leading(synthetic.ten_clusters()).T) > 0.25


@pytest.mark.parametrize(("name", "num", "scale"), [("ring", 8, 0.02), ("grid", 25, 0.05)])
def test_mixtures_in_the_plane(name, num, scale):
    """As many points of each component; their deviation to 4 standard errors, 4 / sqrt(2 x 20000) = 2 %."""
    x, (centres, deviation) = data.load(f"synthetic/{name}").train.inputs, synthetic.MIXTURES[name]
    assert x.shape == (10000, 2) and len(centres) == num and deviation == scale
    distances = np.linalg.norm(x[:, None] - centres, axis=-1)
    np.testing.assert_array_equal(np.bincount(distances.argmin(axis=1)), 10000 // num)
    left = x - centres[distances.argmin(axis=1)]
    assert abs(np.sqrt(np.mean(left**2)) / scale - 1) < 0.02
    between = np.linalg.norm(centres[:, None] - centres, axis=-1)
    assert between[between > 0].min() > 20 * scale
