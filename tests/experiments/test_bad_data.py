"""Data sets that are unknown, missing or malformed are refused in one line, before anything is written."""

import numpy as np
import pytest

from tests.experiments.test_every_experiment import refusal


def npz(path, **changed):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.random((40, 8, 8)).astype(np.float32),
        "y_train": np.arange(40) % 2,
        "x_test": rng.random((10, 8, 8)).astype(np.float32),
        "y_test": np.arange(10) % 2,
    }
    np.savez(path, **{name: array for name, array in (arrays | changed).items() if array is not None})
    return path


@pytest.mark.parametrize(
    ("name", "dataset", "near"),
    [("bayesian_gan_semisupervised", "digit", "digits"), ("bayesian_gan", "mnits", "mnist"), ("gan", "minst", "mnist")],
)
def test_unknown_data_set(tmp_path, capsys, name, dataset, near):
    """The nearest names are offered."""
    line = refusal(capsys, name, "--out", tmp_path / "run", "--dataset", dataset)
    assert repr(dataset) in line and "nearest" in line and near in line
    assert not (tmp_path / "run").exists()


def test_data_set_that_is_not_prepared(tmp_path, capsys):
    """The line says where it was looked for, and what to set or run."""
    flags = ("--out", tmp_path / "run", "--dataset", "mnist", "--data-dir", tmp_path / "tfds")
    line = refusal(capsys, "bayesian_gan_semisupervised", *flags)
    assert "TFDS_DATA_DIR" in line and str(tmp_path / "tfds") in line and "tfds build mnist" in line


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"y_train": None}, "lacks the arrays y_train"),
        ({"y_test": np.full(10, 2)}, "y_test must lie in 0 .. 1"),
        ({"x_train": np.zeros((40, 2, 2)), "x_test": np.zeros((10, 2, 2))}, "too small for 2 layers"),
        ({"x_train": np.zeros((40, 5)), "x_test": np.zeros((10, 5))}, "must hold images"),
    ],
    ids=["missing array", "label out of range", "image too small", "no images"],
)
def test_malformed_file(tmp_path, capsys, changed, words):
    """The file or the data set is named, and what is wrong with it."""
    path = npz(tmp_path / "images.npz", **changed)
    flags = ("--out", tmp_path / "run", "--dataset", path, "--num-labelled", "4")
    assert words in refusal(capsys, "bayesian_gan_semisupervised", *flags)


def test_missing_file(tmp_path, capsys):
    """A path at which there is no file is named."""
    path = tmp_path / "nowhere.npz"
    assert str(path) in refusal(capsys, "bayesian_gan", "--out", tmp_path / "run", "--dataset", path)


def test_refused_flags_leave_the_folder_free(tmp_path, capsys):
    """After a refusal, the next call in the same folder is judged anew: nothing there claims to be a run."""
    flags = ("--out", tmp_path / "run", "--num-labelled", "9")
    refusal(capsys, "bayesian_gan_semisupervised", *flags, "--learning-rate", "0")
    line = refusal(capsys, "bayesian_gan_semisupervised", *flags)
    assert "--num-labelled" in line and "already holds" not in line
