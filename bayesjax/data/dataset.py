"""`load(name) -> Dataset`: named data as plain arrays.

    digits              1797 grey 8 x 8 images of handwritten digits, shipped inside scikit-learn: needs no network
    synthetic/...       made on the spot (`synthetic.py`)
    path/to/file.npz    your own arrays: x_train, y_train, x_test, y_test (as Keras has them), or no labels at all
    path/to/file.npy    one array without labels, such as the Frey faces; a tenth of it is the test split
    anything else       an image data set of TensorFlow Datasets by its name, already prepared in `data_dir`

Images are float32 `[num, height, width, channels]` in [0, 1]. Read `batches.py` next for minibatches.
"""

import difflib
import functools
import os
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bayesjax.data import synthetic


class UnknownDataset(ValueError):
    """No data set of that name; the message lists the nearest names."""


class DataUnavailable(RuntimeError):
    """The data set exists but is not on this machine; the message says what to set or run."""


@dataclass(frozen=True)
class Split:
    """Examples of one split.

    Attributes:
      inputs: float32 `[num, ...]`; images in [0, 1].
      labels: int32 `[num]` in 0 .. num_classes - 1; `[0]` if there are none.
    """

    inputs: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.inputs)


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    Attributes:
      name: as given to `load`.
      train, test: its splits; synthetic sets have an empty test split.
      num_classes: number of labels, or 0.
    """

    name: str
    train: Split
    test: Split
    num_classes: int = 0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train.inputs.shape[1:]


NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
SYNTHETIC = {
    "synthetic/ten_clusters": synthetic.ten_clusters,
    "synthetic/single_gaussian": synthetic.single_gaussian,
    "synthetic/ring": functools.partial(synthetic.mixture, "ring"),
    "synthetic/grid": functools.partial(synthetic.mixture, "grid"),
}


def load(name: str, *, data_dir: str | None = None) -> Dataset:
    """Loads a data set by name.

    Args:
      name: see the top of this file.
      data_dir: where TensorFlow Datasets keeps prepared sets; else `TFDS_DATA_DIR`, else its own default.

    Raises:
      UnknownDataset: if there is no data set of that name.
      DataUnavailable: if it is not prepared on this machine and cannot be.
      ValueError: if a file lacks an array, or its arrays do not fit each other.
      FileNotFoundError: if a file does not exist.
    """
    if name == "digits":
        return _load_digits()
    if name in SYNTHETIC:
        inputs = SYNTHETIC[name]()
        return Dataset(name, Split(inputs), Split(inputs[:0]))
    if name.endswith(".npz"):
        return _load_npz(Path(name))
    if name.endswith(".npy"):
        return _load_npy(Path(name))
    return _load_tfds(name, data_dir)


def _load_digits() -> Dataset:
    """1437 training and 360 test images: a stratified split with a fixed seed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8, 1) / 16
    split = train_test_split(images, np.asarray(labels, np.int32), test_size=360, random_state=0, stratify=labels)
    x_train, x_test, y_train, y_test = map(np.asarray, split)
    return Dataset("digits", Split(x_train, y_train), Split(x_test, y_test), 10)


def npz_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, or ValueError in a line."""
    try:
        with zipfile.ZipFile(path), np.load(path) as file:  # np.load alone would take a text or a lone array, too
            return dict(file)
    except (zipfile.BadZipFile, zlib.error, ValueError) as error:
        raise ValueError(f"{path} is not a readable .npz file of plain arrays: {error}") from None


def data_folder(name: str, data_dir: str | None, contents: str) -> Path:
    """`data_dir`, else `BAYESJAX_DATA_DIR`; DataUnavailable if neither is set.

    Args:
      name: of the set that is asked for.
      data_dir: the folder, if one is given.
      contents: what the folder has, for the message.
    """
    if root := data_dir or os.getenv("BAYESJAX_DATA_DIR"):
        return Path(root)
    raise DataUnavailable(f"data set {name!r}: set BAYESJAX_DATA_DIR (or --data-dir) to the folder that has {contents}")


def _load_npz(path: Path) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an .npz file with arrays {', '.join(NPZ_ARRAYS)}")
    arrays = npz_arrays(path)
    has_labels = "y_train" in arrays or "y_test" in arrays
    missing = [key for key in NPZ_ARRAYS if key not in arrays and (has_labels or key.startswith("x"))]
    if missing:
        raise ValueError(
            f"{path} lacks the arrays {', '.join(missing)}; it has {', '.join(arrays) or 'none'}, and "
            f"{', '.join(NPZ_ARRAYS)} are expected (the y together or not at all)"
        )
    inputs = {name: as_images(arrays[f"x_{name}"], f"{path}: x_{name}") for name in ("train", "test")}
    if inputs["train"].shape[1:] != inputs["test"].shape[1:]:
        shapes = [arrays[f"x_{name}"].shape[1:] for name in inputs]
        raise ValueError(f"{path}: x_train has examples of shape {shapes[0]}, x_test of {shapes[1]}")
    if not has_labels:
        return Dataset(str(path), Split(inputs["train"]), Split(inputs["test"]))
    known = arrays["y_train"]
    num_classes = int(known.max()) + 1 if known.size and np.issubdtype(known.dtype, np.integer) else 0
    train, test = (
        Split(x, _labels(arrays[f"y_{name}"], len(x), num_classes, f"{path}: y_{name}")) for name, x in inputs.items()
    )
    return Dataset(str(path), train, test, num_classes)


def _load_npy(path: Path) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an .npy file with one array [num, ...]")
    try:
        x = np.load(path)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a readable .npy file of a plain array: {error}") from None
    if not isinstance(x, np.ndarray) or x.ndim < 2 or len(x) < 2 or x.dtype.kind not in "uif":
        found = f"{x.dtype} of shape {x.shape}" if isinstance(x, np.ndarray) else "several arrays"
        raise ValueError(f"{path} must hold one array of numbers [num >= 2, ...]; got {found}")
    is_test = _test_runs(len(x))
    return Dataset(str(path), Split(as_images(x[~is_test], str(path))), Split(as_images(x[is_test], str(path))))


def _test_runs(num: int) -> np.ndarray:
    """Which tenth of `num` examples is the test split: runs of neighbours, in five places.

    Were it drawn one by one, each frame of a video would be tested on a model that has seen the frame before.
    """
    num_test, is_test = max(1, num // 10), np.zeros(num, bool)
    places = np.array_split(np.arange(num), min(5, num_test))
    for place, run in zip(places, np.array_split(np.arange(num_test), len(places)), strict=True):
        start = place[0] + (len(place) - len(run)) // 2
        is_test[start : start + len(run)] = True
    return is_test


def as_images(x: np.ndarray, name: str) -> np.ndarray:
    """float32 with a channel axis; uint8 is scaled to [0, 1], unless it is 0 and 1 already."""
    if x.ndim < 2 or not len(x):
        raise ValueError(f"{name} must hold at least one example, [num, ...]; got shape {x.shape}")
    out = x.astype(np.float32) / (255 if x.dtype == np.uint8 and x.max() > 1 else 1)
    if not np.isfinite(out).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    if x.ndim in (3, 4) and not (out.min() >= 0 and out.max() <= 1):
        raise ValueError(f"{name} must hold uint8 images or floats in [0, 1]; got {x.dtype} in [{x.min()}, {x.max()}]")
    return out[..., None] if x.ndim == 3 else out


def _labels(y: np.ndarray, num: int, num_classes: int, name: str) -> np.ndarray:
    if y.shape != (num,) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"{name} must be {num} integers, one for each example; got {y.dtype} of shape {y.shape}")
    if num and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(f"{name} must lie in 0 .. {num_classes - 1}, the training labels; got {y.min()} .. {y.max()}")
    return y.astype(np.int32)


def _load_tfds(name: str, data_dir: str | None) -> Dataset:
    builder = prepared(name, data_dir)
    features = builder.info.features
    sources = [source(builder, name, split) for split in ("train", "test")]
    num_classes = features["label"].num_classes if "label" in features else 0
    splits = []
    for split, examples in zip(("train", "test"), sources, strict=True):
        images, labels = _decode(examples, f"{name} {split}")
        if num_classes:
            labels = _labels(labels, len(images), num_classes, f"{name} {split} labels")
        splits.append(Split(as_images(images, f"{name} {split} images"), labels))
    return Dataset(name, splits[0], splits[1], num_classes)


def prepared(name: str, data_dir: str | None) -> Any:
    """The builder of a set of images of TensorFlow Datasets that is prepared on this machine.

    Raises:
      UnknownDataset: if there is no data set of that name.
      DataUnavailable: if it is not prepared.
      ValueError: if its examples are no images.
    """
    import tensorflow_datasets as tfds

    known = [*SYNTHETIC, "digits", *tfds.list_builders(with_community_datasets=False)]
    try:
        if name.partition("/")[0].partition(":")[0] not in known:
            raise ValueError(name)
        builder: Any = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError):  # the latter for a version that does not exist
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"the nearest names are {', '.join(near)}" if near else "try digits, mnist, or a path ending in .npz"
        raise UnknownDataset(f"unknown data set {name!r}: {hint}") from None
    if not builder.data_path.exists():
        raise DataUnavailable(
            f"data set {name!r} is not prepared in {builder.data_dir}: set TFDS_DATA_DIR (or --data-dir) to a folder "
            f"that has it, or prepare it where there is a network: tfds build {name} --file_format=array_record"
        )
    features = builder.info.features
    if features is None or "image" not in features:
        raise ValueError(f"data set {name!r} must have the feature image; it has {list(features or ())}")
    return builder


def source(builder: Any, name: str, split: str) -> Any:
    """A split as a sequence of examples.

    Raises:
      DataUnavailable: if it is stored in a format that has no random access.
    """
    try:
        return builder.as_data_source(split=split)
    except NotImplementedError as error:
        raise DataUnavailable(
            f"data set {name!r} in {builder.data_dir} cannot be read at random: prepare it with "
            f"tfds build {name} --file_format=array_record ({str(error).splitlines()[0]})"
        ) from None


def _decode(source: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a random-access source: decoding takes half a minute for MNIST, so it shows progress."""
    from tqdm import tqdm

    images, labels = None, []
    for i, example in enumerate(tqdm(source, desc=f"decoding {name}", leave=False, mininterval=1, delay=2)):
        if images is None:
            images = np.empty((len(source), *example["image"].shape), example["image"].dtype)
        if example["image"].shape != images.shape[1:]:
            raise ValueError(
                f"{name}: images must all have one shape; the first has {images.shape[1:]}, number {i} has "
                f"{example['image'].shape}"
            )
        images[i] = example["image"]
        if "label" in example:
            labels.append(example["label"])
    return np.zeros((0,)) if images is None else images, np.array(labels, np.int32)
