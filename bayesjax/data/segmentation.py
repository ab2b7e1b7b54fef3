"""`load_segmentation(name) -> SegmentationDataset`: images with a label for every pixel.

    synthetic/shapes        bright and dark discs and squares on a grey background, 32 x 32, generated; 4 classes
    FOLDER                  a folder in the data folder, or a path, with train.npz, val.npz and test.npz. Each contains
                            `label` `[num, height, width]` and `image` `[num, height, width, channels]`. Instead of
                            `image` it may contain `jpeg` (all JPEG files joined, uint8) and `offset` `[num + 1]`

Images are uint8, or floats in [0, 1]. Pixels with a label of `num_classes` or more are ignored. Read `models/segnet.py`
next.
"""

import io
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bayesjax.data.arrays import check_classes, normalise_images
from bayesjax.data.errors import UnknownDataset
from bayesjax.data.files import MAX_BYTES, npz_names, read_npz


class SegmentationSplit(NamedTuple):
    """The images and labels of one split.

    Attributes:
      images: float32 `[num, height, width, channels]` in [0, 1].
      labels: int32 `[num, height, width]`; the value `num_classes` marks pixels that are ignored.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class SegmentationDataset:
    """A segmentation data set.

    Attributes:
      name: the name that was given to `load_segmentation`.
      train, validation, test: the splits.
      num_classes: number of classes.
    """

    name: str
    train: SegmentationSplit
    validation: SegmentationSplit
    test: SegmentationSplit
    num_classes: int


def load_segmentation(
    name: str, *, num_classes: int | None = None, data_dir: str | None = None, max_bytes: int = MAX_BYTES
) -> SegmentationDataset:
    """Loads a segmentation data set.

    Args:
      name: "synthetic/shapes" or a folder in the format that `bayesjax/data/segmentation.py` describes.
      num_classes: number of classes; larger labels are ignored. If None, it is the largest label plus 1, and every
        class must occur in the training split.
      data_dir: the folder that contains FOLDER; the default is `BAYESJAX_DATA_DIR`, or else the working directory.
      max_bytes: limit in bytes on the size of the arrays that a file declares, and of its decoded images.

    Returns:
      The data set with its three splits.

    Raises:
      UnknownDataset: if there is no such data set or folder.
      ValueError: if a file or an array is missing, if arrays have the wrong shape, type or range, if images differ in
        shape, or if there are fewer than two classes.
    """
    if name == "synthetic/shapes":
        return _shapes()
    folder = Path(data_dir or os.getenv("BAYESJAX_DATA_DIR") or "") / name
    if not folder.is_dir():
        raise UnknownDataset(
            f"unknown segmentation data set {name!r}: expected synthetic/shapes or a folder; got {folder}"
        )
    paths = [folder / f"{part}.npz" for part in ("train", "val", "test")]
    read = [_read(path, max_bytes) for path in paths]
    images = normalise_images({f"{path}: image": image for path, (image, _) in zip(paths, read, strict=True)})
    labels = [label for _, label in read]
    shapes = {each.shape[1:] for each in images}
    if len(shapes) > 1:
        raise ValueError(f"{folder}: images must all have one shape; got {sorted(shapes)}")
    is_dense = num_classes is None
    num_classes = max(int(each.max()) for each in labels) + 1 if num_classes is None else num_classes
    least = min(int(each.min()) for each in labels)
    if least < 0 or num_classes < 2:
        raise ValueError(
            f"{folder}: labels must be at least 0, and num_classes at least 2; got {least} and {num_classes}"
        )
    if is_dense:
        check_classes(labels[0], num_classes, f"{paths[0]}: label")
    labels = [np.where(each < num_classes, each.astype(np.int32), np.int32(num_classes)) for each in labels]
    splits = [SegmentationSplit(*pair) for pair in zip(images, labels, strict=True)]
    return SegmentationDataset(name, splits[0], splits[1], splits[2], num_classes)


def _read(path: Path, max_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads images and labels in the types of the file."""
    if not path.is_file():
        raise ValueError(f"no file {path}: expected train.npz, val.npz and test.npz")
    names = npz_names(path)
    if "label" not in names or not ("image" in names or {"jpeg", "offset"} <= set(names)):
        raise ValueError(
            f"{path} must contain label, and either image or jpeg and offset; it contains {', '.join(names) or 'none'}"
        )
    arrays = read_npz(path, names=("label", "image", "jpeg", "offset"), max_bytes=max_bytes)
    labels = arrays["label"]
    images = arrays["image"] if "image" in arrays else _decoded(arrays["jpeg"], arrays["offset"], path, max_bytes)
    if images.ndim != 4 or labels.shape != images.shape[:3] or not labels.size or labels.dtype.kind not in "ui":
        raise ValueError(
            f"{path}: label must be integers [num, height, width] and image [num, height, width, channels]; got "
            f"{labels.dtype} of shape {labels.shape} and {images.shape}"
        )
    return images, labels


def _decoded(joined: np.ndarray, offset: np.ndarray, path: Path, max_bytes: int) -> np.ndarray:
    from PIL import Image

    if joined.dtype != np.uint8 or joined.ndim != 1 or offset.dtype.kind not in "ui" or offset.ndim != 1:
        raise ValueError(
            f"{path}: jpeg must be uint8 [bytes] and offset integers [num + 1]; got {joined.dtype} of shape "
            f"{joined.shape} and {offset.dtype} of shape {offset.shape}"
        )
    try:
        pairs = itertools.pairwise(int(place) for place in offset)
        images = [Image.open(io.BytesIO(joined[start:stop].tobytes())) for start, stop in pairs]
        # `Image.open` reads only the headers, so the sizes are checked before the pixels are decoded.
        size = sum(image.width * image.height * len(image.getbands()) for image in images)
        if size > max_bytes:
            raise ValueError(f"it declares {size} bytes of pixels; the limit, max_bytes, is {max_bytes}")
        return np.stack([np.asarray(image) for image in images])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:  # damaged or malicious files
        raise ValueError(f"{path}: jpeg cannot be read at its offsets: {error}") from None


def _shapes(size: int = 32, counts: tuple[int, int, int] = (200, 50, 100)) -> SegmentationDataset:
    """Generates noisy images of shapes: background 0, bright discs 1, dark discs 2, squares of either brightness 3."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size]

    def draw_image() -> tuple[np.ndarray, np.ndarray]:
        image, label = np.full((size, size), 0.5), np.zeros((size, size), np.int32)
        for _ in range(random.integers(2, 5)):
            row, column, radius = random.uniform(4, size - 4), random.uniform(4, size - 4), random.uniform(3, 7)
            is_disc, is_bright = random.random(2) < 0.5
            distance = (
                np.hypot(rows - row, columns - column)
                if is_disc
                else np.maximum(abs(rows - row), abs(columns - column))
            )
            inside = distance < radius
            image[inside] = 0.8 if is_bright else 0.2
            label[inside] = (1 if is_bright else 2) if is_disc else 3
        noisy = np.clip(image + 0.1 * random.normal(size=image.shape), 0, 1)
        return noisy[..., None].astype(np.float32), label

    splits = [
        SegmentationSplit(*(np.stack(parts) for parts in zip(*(draw_image() for _ in range(num)), strict=True)))
        for num in counts
    ]
    return SegmentationDataset("synthetic/shapes", splits[0], splits[1], splits[2], 4)
