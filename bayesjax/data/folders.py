"""Images in folders of classes, as PNG or JPEG files.

    FOLDER/CLASS/*.png                                      a tenth of every class is the test split, by a fixed seed
    FOLDER/train/CLASS/*.png, FOLDER/test/CLASS/*.png       the splits of the folder
    FOLDER/*.png, or FOLDER/train/*.png and FOLDER/test/*.png       without labels

The classes are numbered in the order of their names. Images are grey if all files are grey, else RGB. Files whose names
begin with a dot are ignored. Read `dataset.py` next: `load` is the function to call.
"""

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bayesjax.data.arrays import test_runs, test_tenth
from bayesjax.data.decoded import Decoded

SUFFIXES = (".png", ".jpg", ".jpeg")
SPLITS = ("train", "test")
GREY_MODES = ("1", "L", "LA", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True)
class ImageFolder:
    """The images of a folder.

    Attributes:
      path: the folder.
      files: the files of the training and of the test split.
      labels: the classes of these files; both empty without classes.
      class_names: names of the classes; empty without classes.
    """

    path: Path
    files: tuple[list[Path], list[Path]]
    labels: tuple[np.ndarray, np.ndarray]
    class_names: tuple[str, ...]


def is_path(name: str) -> bool:
    """Whether a data set is named by the path of a folder: it ends with a slash, or begins with one or with a dot."""
    return name.endswith("/") or name.startswith(("/", "."))


def checked_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """The height and width to which images are resized, from one or two numbers, or None.

    Raises:
      ValueError: if a number is not an integer of at least 1.
    """
    if size is None:
        return None
    try:
        height, width = (operator.index(each) for each in (size if isinstance(size, tuple | list) else (size, size)))
    except (TypeError, ValueError):
        height, width = 0, 0
    if min(height, width) < 1:
        raise ValueError(f"size must be one or two integers of at least 1; got {size!r}")
    return height, width


def find(name: str) -> ImageFolder:
    """Lists the images of a folder and their classes.

    Raises:
      FileNotFoundError: if there is no such folder.
      ValueError: if it has no images, one split without the other, other classes in the test split than in the training
        split, or images beside folders of classes; or if a class has fewer than 2 images to split.
    """
    path = Path(name)
    if not path.is_dir():
        raise FileNotFoundError(f"no folder {path}: expected a folder of PNG or JPEG images")
    present = [split for split in SPLITS if (path / split).is_dir()]
    if not present:
        files, labels, names = _classes(path)
        is_test = (
            test_tenth(labels, [str(path / name) for name in names])
            if names
            else test_runs(_at_least(2, len(files), path))
        )
        splits = [[file for file, is_in in zip(files, mask, strict=True) if is_in] for mask in (~is_test, is_test)]
        parts = (labels[~is_test], labels[is_test]) if names else (labels, labels)
        return ImageFolder(path, (splits[0], splits[1]), parts, names)
    if len(present) == 1:
        raise ValueError(f"{path} must have both folders train and test, or neither; it has {present[0]}")
    (train, train_labels, names), (test, test_labels, test_names) = (_classes(path / split) for split in SPLITS)
    if names != test_names:
        raise ValueError(
            f"{path}: train and test must have the same classes; got {', '.join(names) or 'none'} and "
            f"{', '.join(test_names) or 'none'}"
        )
    return ImageFolder(path, (train, test), (train_labels, test_labels), names)


def read(folder: ImageFolder, size: tuple[int, int] | None, max_bytes: int) -> Decoded:
    """Reads the images of a folder as uint8 arrays. It shows a progress bar if this takes more than two seconds.

    Args:
      folder: the result of `find`.
      size: height and width to which the images are resized, with bilinear filtering; None if they have one size.
      max_bytes: limit in bytes on the size of the arrays.

    Raises:
      ValueError: if a file is not a readable image, the images differ in size and `size` is None, or the arrays exceed
        `max_bytes`.
    """
    from PIL import Image
    from tqdm import tqdm

    everything = [file for split in folder.files for file in split]
    headers = []
    for file in everything:
        with _opened(file) as image:
            if image.mode in ("I", "F"):
                raise ValueError(f"{file} must have 8 or 16 bits for each colour; got mode {image.mode}")
            headers.append((file, image.mode, (image.height, image.width)))
    is_grey = all(mode in GREY_MODES for _, mode, _ in headers)
    height, width = size or headers[0][2]
    for file, _, (other_height, other_width) in headers:
        if size is None and (other_height, other_width) != (height, width):
            raise ValueError(
                f"{folder.path} has images of {height} x {width} ({headers[0][0].name}) and of {other_height} x "
                f"{other_width} ({file.name}) pixels: pass size=(height, width)"
            )
    shape = (height, width, 1 if is_grey else 3)
    if (num_bytes := len(everything) * int(np.prod(shape))) > max_bytes:
        raise ValueError(f"{folder.path} would take {num_bytes} bytes; max_bytes is {max_bytes}")
    images = np.empty((len(everything), *shape), np.uint8)
    for i, file in enumerate(tqdm(everything, desc=f"reading {folder.path}", leave=False, mininterval=1, delay=2)):
        with _opened(file) as image:
            try:
                if image.mode.startswith("I;16"):  # 16 bits, which `convert` would clip at 255
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                pixels = image.convert("L" if is_grey else "RGB")
            except OSError as error:
                raise ValueError(f"{file} is not a readable image: {error}") from None
        if (pixels.height, pixels.width) != (height, width):
            pixels = pixels.resize((width, height), Image.Resampling.BILINEAR)
        images[i] = np.asarray(pixels).reshape(shape)
    num_train = len(folder.files[0])
    return Decoded(images[:num_train], folder.labels[0], images[num_train:], folder.labels[1], len(folder.class_names))


def _opened(file: Path) -> Any:
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(file)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise ValueError(f"{file} is not a readable image: {error}") from None


def _classes(path: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """Files of a folder, their classes and the names of the classes."""
    names = sorted(each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith("."))
    loose = _images(path)
    if not names:
        _at_least(1, len(loose), path)
        return loose, np.zeros(0, np.int32), ()
    if loose:
        raise ValueError(f"{path} must have images or folders of classes; it has {loose[0].name} beside {names[0]}/")
    by_class = [_images(path / name) for name in names]
    for name, files in zip(names, by_class, strict=True):
        _at_least(1, len(files), path / name)
    labels = np.repeat(np.arange(len(names), dtype=np.int32), [len(files) for files in by_class])
    return [file for files in by_class for file in files], labels, tuple(names)


def _images(path: Path) -> list[Path]:
    return sorted(each for each in path.iterdir() if each.suffix.lower() in SUFFIXES and not each.name.startswith("."))


def _at_least(least: int, num: int, path: Path) -> int:
    if num < least:
        raise ValueError(f"{path} must have at least {least} PNG or JPEG images; got {num}")
    return num
