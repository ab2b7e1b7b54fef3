"""Decoded images that are kept on the disk: the same arrays, without TensorFlow Datasets, and never stale ones."""

import os
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from bayesjax import data
from bayesjax.data import decoded, prepared

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 4, 5, 1), np.uint8)
LABELS = np.arange(7) % 3


class Builder:
    """A prepared data set of seven training and two test images, whose files lie in `folder`."""

    def __init__(self, folder, images=IMAGES):
        self.data_path = folder
        self.info = types.SimpleNamespace(features={"image": None, "label": types.SimpleNamespace(num_classes=3)})
        self.images = images

    def as_data_source(self, split):
        chosen = slice(0, 7) if split == "train" else slice(0, 3)
        return [
            {"image": image, "label": label} for image, label in zip(self.images[chosen], LABELS[chosen], strict=True)
        ]


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A prepared set with one file, `source.folder`; `source.builders` has one entry for each time it was decoded."""
    folder = tmp_path / "data" / "toy" / "1.0.0"
    folder.mkdir(parents=True)
    (folder / "records").write_bytes(b"abc")
    source = types.SimpleNamespace(folder=folder, images=IMAGES, builders=[], cache=tmp_path / "cache")

    def load_builder(*arguments):
        source.builders.append(Builder(folder, source.images))
        return source.builders[-1]

    monkeypatch.setattr(prepared, "load_builder", load_builder)
    monkeypatch.setenv("BAYESJAX_CACHE_DIR", str(source.cache))
    source.load = lambda: data.load("toy", data_dir=str(tmp_path / "data"))
    return source


def equal(first, second):
    """Whether two data sets have the same arrays and classes."""
    pairs = [(getattr(getattr(first, split), kind), getattr(getattr(second, split), kind))
             for split in ("train", "test") for kind in ("inputs", "labels")]  # fmt: skip
    return first.num_classes == second.num_classes and all(
        a.dtype == b.dtype and np.array_equal(a, b) for a, b in pairs
    )


def test_decoded_once(source):
    """The second time the arrays come from the disk, and are the same to the bit."""
    first, second = source.load(), source.load()
    assert len(source.builders) == 1 and equal(first, second)
    np.testing.assert_array_equal(second.train.inputs, IMAGES.astype(np.float32) / 255)


@pytest.mark.parametrize("change", ["size", "time", "file", "version", "name", "folder"])
def test_a_changed_source_is_decoded_anew(source, change, tmp_path):
    """Another size, time or number of files, another version beside it, another name or folder of data."""
    source.load()
    source.images = IMAGES[::-1]
    records = source.folder / "records"
    if change == "size":
        before = records.stat()
        records.write_bytes(b"abcd")
        os.utime(records, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif change == "time":
        os.utime(records, ns=(0, 0))
    elif change == "file":
        (source.folder / "more").write_bytes(b"")
    elif change == "version":
        (source.folder.parent / "2.0.0").mkdir()
    other = {"name": ("toy2", tmp_path / "data"), "folder": ("toy", tmp_path / "other")}.get(change)
    loaded = data.load(other[0], data_dir=str(other[1])) if other else source.load()
    assert len(source.builders) == 2
    np.testing.assert_array_equal(loaded.train.inputs, IMAGES[::-1].astype(np.float32) / 255)


@pytest.mark.parametrize("damage", [b"", b"PK not an archive", None])
def test_a_damaged_file_is_replaced(source, damage):
    """An empty, foreign or truncated file is decoded anew and replaced."""
    first = source.load()
    (path,) = source.cache.iterdir()
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert equal(source.load(), first) and len(source.builders) == 2
    assert equal(source.load(), first) and len(source.builders) == 2


def test_unfinished_files_of_killed_processes(source):
    """A killed writer leaves a file, which is deleted after an hour; younger ones and other files stay."""
    kill = (
        "import os, sys, pathlib; from bayesjax import atomic\n"
        "with atomic.replacing(pathlib.Path(sys.argv[1])) as path: path.write_bytes(b'a'); os.kill(os.getpid(), 9)"
    )
    source.cache.mkdir()
    for name in ("old-0123.npz", "new-0123.npz"):
        subprocess.run([sys.executable, "-c", kill, str(source.cache / name)], check=False)
    (old,), (new,) = source.cache.glob(".old*"), source.cache.glob(".new*")
    other = source.cache / "notes.unfinished"
    other.write_text("")
    for path, age in ((old, 3700), (new, 3500), (other, 3700)):
        changed = time.time() - age
        os.utime(path, (changed, changed))
    source.load()
    assert not old.exists() and new.exists() and other.exists() and len(list(source.cache.glob("toy-*.npz"))) == 1


@pytest.mark.parametrize("folder", ["", "file/below"])
def test_without_a_folder(source, folder, monkeypatch, tmp_path):
    """An empty variable keeps nothing, and a folder that cannot be written is no error."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BAYESJAX_CACHE_DIR", folder and str(tmp_path / folder))
    monkeypatch.chdir(tmp_path)
    first = source.load()
    assert equal(source.load(), first) and len(source.builders) == 2 and not source.cache.exists()


def test_without_a_home(source, monkeypatch):
    """A user whose home folder is unknown, as in some containers, keeps nothing."""
    monkeypatch.delenv("BAYESJAX_CACHE_DIR")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    first = source.load()
    assert equal(source.load(), first) and len(source.builders) == 2


def test_a_source_that_cannot_be_listed(source, monkeypatch):
    """Data that were decoded are returned even if their folder cannot be described."""

    def fingerprint(folder):
        raise PermissionError(13, "denied")

    monkeypatch.setattr(decoded, "fingerprint", fingerprint)
    assert len(source.load().train) == 7 and not list(source.cache.rglob("*.npz"))


def test_the_limit(source, monkeypatch):
    """Sets beyond the limit of the reader are not written."""
    monkeypatch.setattr(decoded.files, "MAX_BYTES", 200)
    source.load()
    assert not source.cache.exists()


def test_the_folder_of_the_user(source, monkeypatch, tmp_path):
    """Without the variable the files lie below XDG_CACHE_HOME, or below ~/.cache."""
    monkeypatch.delenv("BAYESJAX_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    source.load()
    assert [path.parent for path in (tmp_path / "xdg").rglob("*.npz")] == [tmp_path / "xdg" / "bayesjax"]
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    source.load()
    assert len(list((tmp_path / "home" / ".cache" / "bayesjax").iterdir())) == 1


def test_tensorflow_datasets_is_not_imported(source, tmp_path):
    """In a new process a decoded set opens without TensorFlow Datasets, whose import takes longer than reading."""
    source.load()
    folder = str(tmp_path / "data")
    program = (
        f"import sys; from bayesjax import data; print(len(data.load('toy', data_dir={folder!r}).train), "
        "'tensorflow_datasets' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["7", "False"]
