"""`load_unpaired(name, size) -> UnpairedDataset`: images of two domains without pairs, for image translation.

    cycle_gan/NAME      a prepared data set of TensorFlow Datasets, such as horse2zebra, apple2orange or maps
    path/to/file.npz    own arrays trainA, trainB, testA, testB, each `[num, height, width(, channels)]`

Images are float32 `[num, size, size, channels]` in [0, 1]. Grey images get three equal channels if the other domain has
colours. The program of the CycleGAN paper resizes images to 286 pixels, crops 256 at random and mirrors half of them.
Here they are resized once, with a cubic kernel that removes high frequencies when an image becomes smaller. Read
`models/cyclegan.py` next.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from bayesjax.data import files, prepared
from bayesjax.data.arrays import normalise_images

PARTS = ("trainA", "trainB", "testA", "testB")


class UnpairedDataset(NamedTuple):
    """Images of two domains, X and Y.

    Attributes:
      x_train, y_train: training images `[num, size, size, channels]` in [0, 1]; `num` may differ between X and Y.
      x_test, y_test: test images, in the same format.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def load_unpaired(
    name: str | Path, size: int = 0, *, data_dir: str | None = None, max_bytes: int = files.MAX_BYTES
) -> UnpairedDataset:
    """Loads the images of two domains.

    Args:
      name: "cycle_gan/NAME" or the path of an .npz file.
      size: height and width in pixels to which images are resized; 0 keeps their size.
      data_dir: folder of the prepared data sets of TensorFlow Datasets; by default `TFDS_DATA_DIR`, or else the default
        folder of TensorFlow Datasets.
      max_bytes: limit in bytes on the size of the arrays that a file declares.

    Returns:
      The images of both domains.

    Raises:
      UnknownDataset: if there is no data set of that name.
      DataUnavailable: if the data set is not prepared on this machine, or has no random access.
      FileNotFoundError: if a file does not exist.
      ValueError: if a file lacks an array, a prepared data set lacks a split, or the images have the wrong shape or
        different shapes.
    """
    name = str(name)
    parts = _read_file(Path(name), max_bytes) if name.endswith(".npz") else _read_tfds(name, data_dir)
    resized = {part: _resize(images, size, f"{name}: {part}") for part, images in parts.items()}
    channels = max(images.shape[-1] for images in resized.values())
    images = [np.repeat(each, channels, axis=-1) if each.shape[-1] == 1 else each for each in resized.values()]
    if len(shapes := {each.shape[1:] for each in images}) > 1:
        raise ValueError(f"{name}: images must have the same shape, or be resized to one size; got {sorted(shapes)}")
    return UnpairedDataset(*images)


def is_unpaired_file(path: str) -> bool:
    """Whether a path is an .npz file with the arrays of two domains.

    Args:
      path: a path, or any other name of a data set.

    Raises:
      ValueError: if the path is an .npz file that is not readable.
    """
    if not path.endswith(".npz") or not Path(path).is_file():
        return False
    return any(part in files.npz_names(path) for part in PARTS)


def _read_file(path: Path, max_bytes: int) -> dict[str, Iterable[np.ndarray]]:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an .npz file with arrays {', '.join(PARTS)}")
    names = files.npz_names(path)
    if missing := [part for part in PARTS if part not in names]:
        raise ValueError(f"{path} lacks the arrays {', '.join(missing)}; {', '.join(PARTS)} are expected")
    arrays = files.read_npz(path, names=PARTS, max_bytes=max_bytes)
    for part in PARTS:
        if arrays[part].ndim not in (3, 4):
            raise ValueError(f"{path}: {part} must be [num, height, width(, channels)]; got {arrays[part].shape}")
    images = normalise_images({f"{path}: {part}": arrays[part] for part in PARTS})
    return dict(zip(PARTS, images, strict=True))


def _read_tfds(name: str, data_dir: str | None) -> dict[str, Iterable[np.ndarray]]:
    builder: Any = prepared.load_builder(name, data_dir)
    if missing := [part for part in PARTS if part not in builder.info.splits]:
        raise ValueError(f"data set {name!r} must have the splits {', '.join(PARTS)}; it lacks {', '.join(missing)}")
    return {part: (example["image"] for example in prepared.data_source(builder, name, part)) for part in PARTS}


def _resize(images: Iterable[np.ndarray], size: int, name: str) -> np.ndarray:
    """Resizes images, which may have different sizes, and stacks them."""
    out = []
    for image in images:
        one = image.astype(np.float32) / (255 if image.dtype == np.uint8 else 1)
        if size and one.shape[:2] != (size, size):
            one = np.clip(jax.image.resize(one, (size, size, one.shape[-1]), "cubic"), 0, 1)
        out.append(np.asarray(one, np.float32))
    if not out or len({one.shape for one in out}) > 1:
        shapes = sorted({one.shape for one in out})
        raise ValueError(f"{name} must hold images of one shape, or be resized to one size; got {shapes or 'none'}")
    return np.stack(out)
