"""`load_unpaired(name, size) -> UnpairedDataset`: images of two domains, of which no image has a partner in the other.

    cycle_gan/NAME      a set of TensorFlow Datasets, already prepared: horse2zebra, apple2orange, maps ...
    path/to/file.npz    your own arrays trainA, trainB, testA, testB, each `[num, height, width(, channels)]`

Images are float32 `[num, size, size, channels]` in [0, 1], grey ones with three equal channels where the other domain
has colours. The paper's program resizes to 286 pixels, cuts 256 out at random and mirrors half of the images; here they
are resized once, under a cubic kernel that blurs what is made smaller.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesjax.data import dataset, files

PARTS = ("trainA", "trainB", "testA", "testB")


class UnpairedDataset(NamedTuple):
    """Two domains, X and Y.

    Attributes:
      x_train, y_train: `[num, size, size, channels]` in [0, 1]; they need not be as many.
      x_test, y_test: likewise.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load_unpaired(
    name: str, size: int = 0, *, data_dir: str | None = None, max_bytes: int = files.MAX_BYTES
) -> UnpairedDataset:
    """Loads two domains of images.

    Args:
      name: see the top of this file.
      size: height and width to which images are brought; 0 if they stay as they are.
      data_dir: where TensorFlow Datasets keeps prepared sets; else `TFDS_DATA_DIR`, else its own default.
      max_bytes: limit on the size of the arrays that a file declares.

    Raises:
      UnknownDataset: if there is no data set of that name.
      DataUnavailable: if it is not prepared on this machine, or not so that it can be read.
      FileNotFoundError: if a file does not exist.
      ValueError: if a file lacks an array, or images do not fit each other.
    """
    found = _of_file(Path(name), max_bytes) if name.endswith(".npz") else _of_tfds(name, data_dir)
    resized = {part: _resized(images, size, f"{name}: {part}") for part, images in found.items()}
    channels = max(images.shape[-1] for images in resized.values())
    images = [np.repeat(each, channels, axis=-1) if each.shape[-1] == 1 else each for each in resized.values()]
    if len(shapes := {each.shape[1:] for each in images}) > 1:
        raise ValueError(f"{name}: images must all have one shape, or be brought to one size; got {sorted(shapes)}")
    return UnpairedDataset(*images)


def is_unpaired_file(path: str) -> bool:
    """Whether a file holds two domains rather than one data set; False if it is no .npz file.

    Raises:
      ValueError: if it has the name of one and is not readable.
    """
    if not path.endswith(".npz") or not Path(path).is_file():
        return False
    return any(part in files.npz_names(path) for part in PARTS)


def _of_file(path: Path, max_bytes: int) -> dict[str, Iterable[np.ndarray]]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an .npz file with arrays {', '.join(PARTS)}")
    names = files.npz_names(path)
    if missing := [part for part in PARTS if part not in names]:
        raise ValueError(f"{path} lacks the arrays {', '.join(missing)}; {', '.join(PARTS)} are expected")
    arrays = files.read_npz(path, names=PARTS, max_bytes=max_bytes)
    for part in PARTS:
        if arrays[part].ndim not in (3, 4):
            raise ValueError(f"{path}: {part} must be [num, height, width(, channels)]; got {arrays[part].shape}")
    images = dataset.normalise_images({f"{path}: {part}": arrays[part] for part in PARTS})
    return dict(zip(PARTS, images, strict=True))


def _of_tfds(name: str, data_dir: str | None) -> dict[str, Iterable[np.ndarray]]:
    builder: Any = dataset.load_builder(name, data_dir)
    if missing := [part for part in PARTS if part not in builder.info.splits]:
        raise ValueError(f"data set {name!r} must have the splits {', '.join(PARTS)}; it lacks {', '.join(missing)}")
    return {part: (example["image"] for example in dataset.data_source(builder, name, part)) for part in PARTS}


def _resized(images: Iterable[np.ndarray], size: int, name: str) -> np.ndarray:
    """All images as one array, each brought to its size by itself: they may come in several."""
    out = []
    for image in images:
        one = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
        if size and one.shape[:2] != (size, size):
            one = np.clip(jax.image.resize(one, (size, size, one.shape[-1]), "cubic"), 0, 1)
        out.append(np.asarray(one, np.float32))
    if not out or len({one.shape for one in out}) > 1:
        shapes = sorted({one.shape for one in out})
        raise ValueError(f"{name} must hold images of one shape, or be brought to one size; got {shapes or 'none'}")
    return np.stack(out)
