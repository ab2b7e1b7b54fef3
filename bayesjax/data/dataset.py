"""`load(name) -> Dataset`: data sets by name as plain arrays.

    digits              1797 grey 8 x 8 images of handwritten digits, which are part of scikit-learn (no download)
    synthetic/...       data that are generated on the fly (`synthetic.py`)
    stacked/NAME        images whose three channels are random grey images of the data set NAME (`stacked.py`)
    path/to/file.npz    arrays named x_train, y_train, x_test and y_test, as in Keras; both y may be absent
    path/to/file.npy    one array without labels, such as the Frey faces; a tenth of its rows is the test split
    path/to/file.csv    a table with named columns (`tables.py`); `target` names the column of the classes
    path/to/folder/     PNG and JPEG images in folders of classes (`folders.py`); the slash at the end matters
    any other name      an image data set of TensorFlow Datasets that is already prepared in `data_dir`

Images are float32 `[num, height, width, channels]` in [0, 1]. In files they may be uint8; they are then divided by 255,
unless all arrays contain only 0 and 1. Files may omit the axis of a single channel. Labels are integers that count the
classes from 0. `files.py` reads the files. Read `batches.py` next for minibatches.
"""

import dataclasses
import functools
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bayesjax import checks
from bayesjax.data import decoded, files, folders, prepared, stacked, synthetic, tables
from bayesjax.data.arrays import check_classes, checked_labels, normalise_images, test_runs, test_tenth
from bayesjax.data.errors import DataUnavailable


@dataclass(frozen=True)
class Split:
    """The examples of one split.

    Attributes:
      inputs: float32 `[num, ...]`; images are in [0, 1].
      labels: int32 `[num]` in 0 .. num_classes - 1, or `[0]` if the data set has no labels.
    """

    inputs: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.inputs)


@dataclass(frozen=True)
class Dataset:
    """A data set with a training and a test split.

    Attributes:
      name: the name that was given to `load`.
      train, test: the splits; the test split of a synthetic data set is empty.
      num_classes: number of classes, or 0 without labels.
      class_names: names of the classes, if the source has them.
    """

    name: str
    train: Split
    test: Split
    num_classes: int = 0
    class_names: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.train.inputs.shape[1:]

    def hold_out(self, num: int) -> "Dataset":
        """Returns a copy of the data set whose test split is a validation split: the last `num` training examples.

        These examples are removed from the training split. The original test split is dropped.

        Args:
          num: number of examples to hold out, less than the number of training examples. With 0 the data set is
            returned unchanged.

        Raises:
          ValueError: if `num` is negative or leaves no training example.
        """
        if not 0 <= num < max(len(self.train), 1):
            raise ValueError(f"num must lie in 0 .. {len(self.train) - 1}, to leave a training example; got {num}")
        if not num:
            return self
        inputs, labels = self.train.inputs, self.train.labels
        train, held = Split(inputs[:-num], labels[:-num]), Split(inputs[-num:], labels[-num:])
        return dataclasses.replace(self, train=train, test=held)


NPZ_ARRAYS = ("x_train", "y_train", "x_test", "y_test")
SYNTHETIC = {
    "synthetic/ten_clusters": synthetic.ten_clusters,
    "synthetic/single_gaussian": synthetic.single_gaussian,
    "synthetic/ten_clusters_500": functools.partial(synthetic.ten_clusters, dim=500),
    "synthetic/single_gaussian_500": functools.partial(synthetic.single_gaussian, dim=500),
    "synthetic/ring": functools.partial(synthetic.mixture, "ring"),
    "synthetic/grid": functools.partial(synthetic.mixture, "grid"),
}

STACKED = "stacked/"
FILE_SUFFIXES = (".npz", ".npy", ".csv")


def load(
    name: str | Path,
    *,
    data_dir: str | None = None,
    num_classes: int | None = None,
    size: int | tuple[int, int] | None = None,
    target: str | None = None,
    max_bytes: int = files.MAX_BYTES,
) -> Dataset:
    """Loads a data set by name.

    Args:
      name: "digits", "synthetic/...", "stacked/NAME", the path of an .npz, .npy or .csv file or of a folder, or the
        name of an image data set of TensorFlow Datasets. `bayesjax/data/dataset.py` describes each of them. A `Path`
        without one of these suffixes is a folder, also without a slash at its end.
      data_dir: folder of the prepared data sets of TensorFlow Datasets; by default `TFDS_DATA_DIR`, or else the default
        folder of TensorFlow Datasets.
      num_classes: number of classes of an .npz file with labels; a class may then have no example. If None, it is the
        largest training label plus 1, and every class must have a training example.
      size: height and width to which the images of a folder are resized, or one number for both; None if they all have
        one size.
      target: the column of a .csv file that has the classes.
      max_bytes: limit in bytes on the size of the arrays that an .npz or .npy file declares. Arrays of uint8 take four
        times that space as float32.

    Returns:
      The data set, with float32 inputs and int32 labels.

    Raises:
      UnknownDataset: if there is no data set of that name.
      DataUnavailable: if the data set is not prepared on this machine.
      ValueError: if a file is unreadable or lacks an array, if its arrays have the wrong shape, type or range, if the
        images to stack are not grey or have no labels, or if `num_classes` is given for a data set with a fixed number
        of classes.
      FileNotFoundError: if a file does not exist.
    """
    if isinstance(name, Path):
        name = str(name) if name.suffix in FILE_SUFFIXES else f"{name}/"
    if num_classes is not None:
        checks.count(num_classes=num_classes)
        if not name.endswith(".npz"):
            raise ValueError(f"num_classes is an argument for .npz files; got {num_classes} for {name!r}")
    if size is not None and not folders.is_path(name):
        raise ValueError(f"size is an argument for folders, whose names end with a slash; got {size} for {name!r}")
    if (target is not None) != name.endswith(".csv"):
        raise ValueError(f"target must name the column of the classes of a .csv file; got {target!r} for {name!r}")
    if name.startswith(STACKED):
        source = load(name.removeprefix(STACKED), data_dir=data_dir, num_classes=num_classes, max_bytes=max_bytes)
        return _stack(source, name)
    if name == "digits":
        return _load_digits()
    if name in SYNTHETIC:
        inputs = SYNTHETIC[name]()
        return Dataset(name, Split(inputs), Split(inputs[:0]))
    if name.endswith(".npz"):
        return _load_npz(Path(name), num_classes, max_bytes)
    if name.endswith(".npy"):
        return _load_npy(Path(name), max_bytes)
    if target is not None:
        return _of_table(tables.read_csv(Path(name), target), name)
    if folders.is_path(name):
        return _load_folder(name, size, max_bytes)
    return _load_tfds(name, data_dir)


def _stack(source: Dataset, name: str) -> Dataset:
    """Stacks random images of each split. The training and the test split use separate seeds."""
    if len(source.input_shape) != 3 or source.input_shape[-1] != 1 or not source.num_classes:
        raise ValueError(
            f"data set {name!r} must stack grey images [height, width, 1] with labels; {source.name!r} has examples of "
            f"shape {source.input_shape} and {source.num_classes} classes"
        )
    train, test = (
        Split(*stacked.stack_images(split.inputs, split.labels, num, source.num_classes, seed))
        for seed, (split, num) in enumerate(((source.train, stacked.NUM_TRAIN), (source.test, stacked.NUM_TEST)))
    )
    return Dataset(name, train, test, source.num_classes**stacked.NUM_CHANNELS)


def _load_digits() -> Dataset:
    """Splits the digits into 1437 training and 360 test images, stratified by class, with a fixed seed."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels, np.float32).reshape(-1, 8, 8, 1) / 16
    split = train_test_split(images, np.asarray(labels, np.int32), test_size=360, random_state=0, stratify=labels)
    x_train, x_test, y_train, y_test = map(np.asarray, split)
    return Dataset("digits", Split(x_train, y_train), Split(x_test, y_test), 10)


def data_folder(name: str, data_dir: str | None, contents: str) -> Path:
    """Returns `data_dir` or, if that is None, the folder named by the environment variable `BAYESJAX_DATA_DIR`.

    Args:
      name: name of the data set, used only in the error message.
      data_dir: a folder, or None.
      contents: the expected contents of the folder, used only in the error message.

    Raises:
      DataUnavailable: if both are unset.
    """
    if root := data_dir or os.getenv("BAYESJAX_DATA_DIR"):
        return Path(root)
    raise DataUnavailable(
        f"data set {name!r}: set BAYESJAX_DATA_DIR (or --data-dir) to the folder that contains {contents}"
    )


def _load_npz(path: Path, num_classes: int | None, max_bytes: int) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an .npz file with arrays {', '.join(NPZ_ARRAYS)}")
    names = files.npz_names(path)
    has_labels = "y_train" in names or "y_test" in names
    missing = [key for key in NPZ_ARRAYS if key not in names and (has_labels or key.startswith("x"))]
    if missing:
        raise ValueError(
            f"{path} lacks the arrays {', '.join(missing)}; it has {', '.join(names) or 'none'}, and "
            f"{', '.join(NPZ_ARRAYS)} are expected (both y or neither)"
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
    train = Split(x_train, checked_labels(y_train, len(x_train), num_classes, f"{path}: y_train"))
    test = Split(x_test, checked_labels(arrays["y_test"], len(x_test), num_classes, f"{path}: y_test"))
    if is_dense:
        check_classes(train.labels, num_classes, f"{path}: y_train")
    return Dataset(str(path), train, test, num_classes)


def _load_npy(path: Path, max_bytes: int) -> Dataset:
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected an .npy file with one array [num, ...]")
    x = files.read_npy(path, max_bytes=max_bytes)
    if x.ndim < 2 or len(x) < 2 or x.dtype.kind not in "buif":
        raise ValueError(f"{path} must hold one array of numbers [num >= 2, ...]; got {x.dtype} of shape {x.shape}")
    (images,), is_test = normalise_images({str(path): x}), test_runs(len(x))
    return Dataset(str(path), Split(images[~is_test]), Split(images[is_test]))


def from_frame(frame: Any, *, target: str) -> Dataset:
    """A classification data set from a data frame of pandas or polars.

    Args:
      frame: the data frame; all columns except `target` must be numbers.
      target: the column of the classes, text or whole numbers.

    Returns:
      The data set, whose test split is a random tenth of every class, by a fixed seed.

    Raises:
      ValueError: if there is no column `target`, an input is not a finite number, the target has values that are not
        whole, or a class has fewer than 2 rows.
    """
    return _of_table(tables.from_columns(tables.frame_columns(frame), str(target), "frame"), "frame")


def _of_table(table: tables.Table, name: str) -> Dataset:
    labels, class_names = tables.classes(table.target, name)
    is_test = test_tenth(labels, [f"{name}: class {each}" for each in class_names])
    with np.errstate(over="ignore"):
        inputs = table.inputs.astype(np.float32)
    if not np.isfinite(inputs).all():
        column = table.names[np.argwhere(~np.isfinite(inputs))[0, 1]]
        raise ValueError(f"{name}: column {column} has numbers beyond the range of float32")
    train, test = (Split(inputs[mask], labels[mask]) for mask in (~is_test, is_test))
    return Dataset(name, train, test, len(class_names), class_names)


def _load_folder(name: str, size: int | tuple[int, int] | None, max_bytes: int) -> Dataset:
    folder = folders.find(name)
    target = folders.checked_size(size)
    key = f"{folder.path.resolve()}?{target}"
    arrays = decoded.read(key, None)
    if arrays is None:
        arrays = folders.read(folder, target, max_bytes)
        decoded.write(key, None, folder.path, arrays)
    return _of_decoded(name, arrays, folder.class_names)


def _load_tfds(name: str, data_dir: str | None) -> Dataset:
    return _of_decoded(name, decoded.read(name, data_dir) or _decode(name, data_dir))


def _of_decoded(name: str, arrays: decoded.Decoded, class_names: tuple[str, ...] = ()) -> Dataset:
    images = {f"{name} train images": arrays.train_images, f"{name} test images": arrays.test_images}
    labels = arrays.train_labels, arrays.test_labels
    train, test = (Split(*pair) for pair in zip(normalise_images(images), labels, strict=True))
    return Dataset(name, train, test, arrays.num_classes, class_names)


def _decode(name: str, data_dir: str | None) -> decoded.Decoded:
    """Decodes a prepared data set, and keeps the arrays on the disk."""
    builder = prepared.load_builder(name, data_dir, (*SYNTHETIC, "digits", f"{STACKED}mnist"))
    features = builder.info.features
    sources = [prepared.data_source(builder, name, split) for split in ("train", "test")]
    num_classes = features["label"].num_classes if "label" in features else 0
    arrays = {}
    for split, examples in zip(("train", "test"), sources, strict=True):
        images, labels = prepared.decode(examples, f"{name} {split}")
        if num_classes:
            labels = checked_labels(labels, len(images), num_classes, f"{name} {split} labels")
        arrays |= {f"{split}_images": images, f"{split}_labels": labels}
    result = decoded.Decoded(**arrays, num_classes=num_classes)
    decoded.write(name, data_dir, Path(str(builder.data_path)), result)
    return result
