"""`load(name) -> Dataset`: named data as plain arrays.

    digits              1797 grey 8 x 8 images of handwritten digits, shipped inside scikit-learn: needs no network
    synthetic/...       made on the spot (`synthetic.py`)
    path/to/file.npz    your own arrays: x_train, y_train, x_test, y_test (as Keras has them), or no labels at all
    path/to/file.npy    one array without labels, such as the Frey faces; a tenth of it is the test split
    anything else       an image data set of TensorFlow Datasets by its name, already prepared in `data_dir`

Images are float32 `[num, height, width, channels]` in [0, 1]. In files they may be uint8, which is divided by 255
(unless all arrays hold 0 and 1 alone), and may lack the axis of a single channel; channels come last. Labels are
integers that count the classes from 0. `files.py` says how files are read; read `batches.py` next for minibatches.
"""

import difflib
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bayesjax import checks
from bayesjax.data import files, synthetic


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


def load(
    name: str,
    *,
    data_dir: str | None = None,
    num_classes: int | None = None,
    max_bytes: int = files.MAX_BYTES,
) -> Dataset:
    """Loads a data set by name.

    Args:
      name: see the top of this file.
      data_dir: where TensorFlow Datasets keeps prepared sets; else `TFDS_DATA_DIR`, else its own default.
      num_classes: the number of classes of an .npz file with labels, some of which may have no example. If None, the
        largest training label plus 1, and every class must have a training example.
      max_bytes: limit on the size of the arrays that an .npz or .npy file declares; uint8 takes four times as much
        once it is float32.

    Raises:
      UnknownDataset: if there is no data set of that name.
      DataUnavailable: if it is not prepared on this machine and cannot be.
      ValueError: if a file is unreadable or lacks an array, or its arrays do not fit each other or their description
        above; or if `num_classes` is given for a set that has its own.
      FileNotFoundError: if a file does not exist.
    """
    if num_classes is not None:
        checks.count(num_classes=num_classes)
        if not name.endswith(".npz"):
            raise ValueError(f"num_classes is an argument for .npz files; got {num_classes} for {name!r}")
    if name == "digits":
        return _load_digits()
    if name in SYNTHETIC:
        inputs = SYNTHETIC[name]()
        return Dataset(name, Split(inputs), Split(inputs[:0]))
    if name.endswith(".npz"):
        return _load_npz(Path(name), num_classes, max_bytes)
    if name.endswith(".npy"):
        return _load_npy(Path(name), max_bytes)
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


def _load_npz(path: Path, num_classes: int | None, max_bytes: int) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an .npz file with arrays {', '.join(NPZ_ARRAYS)}")
    names = files.npz_names(path)
    has_labels = "y_train" in names or "y_test" in names
    missing = [key for key in NPZ_ARRAYS if key not in names and (has_labels or key.startswith("x"))]
    if missing:
        raise ValueError(
            f"{path} lacks the arrays {', '.join(missing)}; it has {', '.join(names) or 'none'}, and "
            f"{', '.join(NPZ_ARRAYS)} are expected (the y together or not at all)"
        )
    arrays = files.read_npz(path, names=NPZ_ARRAYS, max_bytes=max_bytes)
    x_train, x_test = normalise_images({f"{path}: {key}": arrays[key] for key in ("x_train", "x_test")})
    if x_train.shape[1:] != x_test.shape[1:]:
        shapes = [arrays[key].shape[1:] for key in ("x_train", "x_test")]
        raise ValueError(f"{path}: x_train has examples of shape {shapes[0]}, x_test of {shapes[1]}")
    if not has_labels:
        return Dataset(str(path), Split(x_train), Split(x_test))
    y_train = arrays["y_train"]
    if is_dense := num_classes is None:
        num_classes = int(y_train.max()) + 1 if y_train.size and y_train.dtype.kind in "ui" else 0
    train = Split(x_train, _labels(y_train, len(x_train), num_classes, f"{path}: y_train"))
    test = Split(x_test, _labels(arrays["y_test"], len(x_test), num_classes, f"{path}: y_test"))
    if is_dense:
        check_classes(train.labels, num_classes, f"{path}: y_train")
    return Dataset(str(path), train, test, num_classes)


def _load_npy(path: Path, max_bytes: int) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an .npy file with one array [num, ...]")
    x = files.read_npy(path, max_bytes=max_bytes)
    if x.ndim < 2 or len(x) < 2 or x.dtype.kind not in "buif":
        raise ValueError(f"{path} must hold one array of numbers [num >= 2, ...]; got {x.dtype} of shape {x.shape}")
    (images,), is_test = normalise_images({str(path): x}), _test_runs(len(x))
    return Dataset(str(path), Split(images[~is_test]), Split(images[is_test]))


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


def normalise_images(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """All arrays of a data set, in float32 and with an axis of channels.

    Arrays of uint8 are divided by 255, unless none of them exceeds 1: whether they are images of 0 and 1 is decided for
    all arrays together, since a split that happens to have no bright pixel is on the scale of the others.

    Args:
      arrays: the arrays by the names used in error messages; images `[num, height, width(, channels)]`, or vectors
        `[num, dim]`.

    Raises:
      ValueError: if an array is empty, has an element that is not a finite real number, or holds images with more than
        4 channels or with values outside [0, 1] after the division.
    """
    for name, x in arrays.items():
        if x.ndim < 2 or not x.size:
            raise ValueError(f"{name} must hold at least one example, [num, ...]; got shape {x.shape}")
        files.check_real(x, name)
        if x.ndim == 4 and x.shape[-1] > 4:
            raise ValueError(
                f"{name} must be [num, height, width, channels] with 1 to 4 channels; got shape {x.shape}: if the "
                f"channels come first, np.moveaxis({name.rpartition(' ')[2]}, 1, -1) puts them last"
            )
    is_scaled = any(x.dtype == np.uint8 and x.max() > 1 for x in arrays.values())
    return [_as_float(x, 255 if is_scaled and x.dtype == np.uint8 else 1, name) for name, x in arrays.items()]


def _as_float(x: np.ndarray, scale: int, name: str) -> np.ndarray:
    out = x.astype(np.float32) / scale
    if not np.isfinite(out).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    if x.ndim in (3, 4) and not (out.min() >= 0 and out.max() <= 1):
        raise ValueError(f"{name} must hold uint8 images or floats in [0, 1]; got {x.dtype} in [{x.min()}, {x.max()}]")
    return out[..., None] if x.ndim == 3 else out


def _labels(y: np.ndarray, num: int, num_classes: int, name: str) -> np.ndarray:
    if y.shape != (num,) or y.dtype.kind not in "ui":
        raise ValueError(f"{name} must be {num} integers, one for each example; got {y.dtype} of shape {y.shape}")
    if num and (y.min() < 0 or y.max() >= num_classes):
        raise ValueError(f"{name} must lie in 0 .. {num_classes - 1}, the classes; got {y.min()} .. {y.max()}")
    return y.astype(np.int32)


def check_classes(labels: np.ndarray, num_classes: int, name: str) -> None:
    """Raises ValueError if a class below the largest label has no example: labels from 1 on make an empty class 0.

    Args:
      labels: integers in 0 .. num_classes - 1 of the training split.
      num_classes: the largest label plus 1, since no number of classes was given.
      name: the name of the array in the message.
    """
    present = np.unique(labels)
    if len(present) < num_classes:
        absent = next((i for i, label in enumerate(present) if i != label), len(present))
        raise ValueError(
            f"{name} must count the classes from 0 without gaps; got {present[0]} .. {present[-1]} with no example of "
            f"class {absent}: pass num_classes if classes may be empty"
        )


def _load_tfds(name: str, data_dir: str | None) -> Dataset:
    builder = load_builder(name, data_dir)
    features = builder.info.features
    sources = [data_source(builder, name, split) for split in ("train", "test")]
    num_classes = features["label"].num_classes if "label" in features else 0
    images, all_labels = {}, []
    for split, examples in zip(("train", "test"), sources, strict=True):
        found, labels = _decode(examples, f"{name} {split}")
        if num_classes:
            labels = _labels(labels, len(found), num_classes, f"{name} {split} labels")
        images[f"{name} {split} images"] = found
        all_labels.append(labels)
    splits = [Split(*pair) for pair in zip(normalise_images(images), all_labels, strict=True)]
    return Dataset(name, splits[0], splits[1], num_classes)


def load_builder(name: str, data_dir: str | None) -> Any:
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


def data_source(builder: Any, name: str, split: str) -> Any:
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
