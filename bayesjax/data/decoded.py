"""Decoded images of prepared data sets and of folders, kept on the disk: decoding takes half a minute for MNIST.

    BAYESJAX_CACHE_DIR          folder of the decoded sets; empty keeps none
    XDG_CACHE_HOME/bayesjax     the folder if that is not set; XDG_CACHE_HOME is ~/.cache by default

There is one file for each name and folder of data. It also has the names, sizes and times of the files from which it
was decoded, and is decoded anew if they change. A file that cannot be read is decoded anew, and an error of writing is
ignored. Files that a killed process has left unfinished are deleted after an hour. TensorFlow Datasets is not imported
if a file is found. Read `dataset.py` next, which calls these functions.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bayesjax import atomic
from bayesjax.data import files

UNFINISHED_AGE = 3600.0
"""Age in seconds from which on an unfinished file belongs to a killed process. Writing a file takes seconds."""
ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


class Decoded(NamedTuple):
    """The arrays of a prepared data set.

    Attributes:
      train_images, test_images: `[num, height, width, channels]`, with the type that is stored.
      train_labels, test_labels: int32 `[num]`, or `[0]` without labels.
      num_classes: number of classes, or 0 without labels.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    num_classes: int


def read(name: str, data_dir: str | None) -> Decoded | None:
    """Reads a decoded data set, if there is a file for it and its source has not changed.

    Args:
      name, data_dir: as in `dataset.load`.
    """
    path = _path(name, data_dir)
    if path is None or not path.is_file():
        return None
    try:
        described = files.read_npz(path, names=("source", "fingerprint", "num_classes"))
        if str(described["fingerprint"]) != fingerprint(Path(str(described["source"]))):
            return None
        arrays = files.read_npz(path, names=ARRAYS)
        return Decoded(**{each: arrays[each] for each in ARRAYS}, num_classes=int(described["num_classes"]))
    except (OSError, ValueError, KeyError):
        return None


def write(name: str, data_dir: str | None, source: Path, decoded: Decoded) -> None:
    """Writes a decoded data set for `read`, unless its images take more than half the limit of `files.read_npz`.

    Args:
      name, data_dir: as in `dataset.load`.
      source: the folder of the data set.
      decoded: its arrays.
    """
    path = _path(name, data_dir)
    size = decoded.train_images.nbytes + decoded.test_images.nbytes
    if path is None or size > files.MAX_BYTES // 2 or not source.is_dir():
        return
    with contextlib.suppress(OSError):
        described = {"source": np.array(str(source.resolve())), "fingerprint": np.array(fingerprint(source))}
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic.remove_unfinished(path.parent, name=".*.npz.*", min_age=UNFINISHED_AGE)
        with atomic.replacing(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **described, **decoded._asdict())


def fingerprint(source: Path) -> str:
    """A hash of the names, sizes and modification times of all files of a data set.

    The names of other versions of a prepared set, which are siblings of its folder, are part of it.

    Raises:
      OSError: if the folder does not exist.
    """
    siblings = [each.name for each in source.resolve().parent.iterdir()]
    versions = sorted(name for name in siblings if re.fullmatch(r"\d+\.\d+\.\d+", name))
    below = sorted(Path(folder, name) for folder, _, names in os.walk(source, followlinks=True) for name in names)
    entries = [(str(each.relative_to(source)), each.stat().st_size, each.stat().st_mtime_ns) for each in below]
    return hashlib.sha256(json.dumps([versions, entries]).encode()).hexdigest()


def cache_folder() -> Path | None:
    """The folder of the decoded data sets, or None if none are kept."""
    folder = os.getenv("BAYESJAX_CACHE_DIR")
    if folder is None:
        folder = os.path.join(os.getenv("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bayesjax")
    return None if not folder or folder.startswith("~") else Path(folder)  # "~" is left for a user without a home


def _path(name: str, data_dir: str | None) -> Path | None:
    """The file of a data set, or None if no files are kept. Other releases of TensorFlow Datasets have other files."""
    folder = cache_folder()
    if folder is None:
        return None
    where = data_dir or os.getenv("TFDS_DATA_DIR") or ""
    key = [name, os.path.abspath(where) if where else "", importlib.metadata.version("tensorflow_datasets")]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    return folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', name)}-{digest}.npz"
