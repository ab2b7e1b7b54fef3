"""`load_regression(name) -> RegressionDataset`: real-valued targets, with the train/test splits of the literature.

    diabetes        442 patients with 10 features, part of scikit-learn; 20 random splits of 90 % and 10 %, fixed seed
    uci/NAME        the folder uci/NAME of the data folder, in the format of Hernandez-Lobato & Adams (2015): data.txt
                    with one example per row; index_features.txt and index_target.txt with columns; index_train_I.txt
                    and index_test_I.txt with the rows of split I = 0, 1, ...

Inputs and targets have the units of the file. `RegressionDataset.standardise` scales a split by its training part. Read
`experiments/hmc_regression.py` next.
"""

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from bayesjax.data import files, tables
from bayesjax.data.dataset import data_folder
from bayesjax.data.errors import UnknownDataset


class StandardisedSplit(NamedTuple):
    """One split, standardised by the mean and standard deviation of its training part.

    Attributes:
      x, y: float32 training inputs `[num, num_features]` and targets `[num]`, with mean 0 and variance 1.
      x_test, y_test: the test part in the same units.
      target_mean, target_scale: scalars that restore the units: target = target_mean + target_scale * y.
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    target_mean: np.ndarray
    target_scale: np.ndarray


@dataclass(frozen=True)
class RegressionDataset:
    """A regression data set with its train/test splits.

    Attributes:
      name: the name that was given to `load_regression`.
      inputs: float64 `[num, num_features]`.
      targets: float64 `[num]`.
      splits: (training rows, test rows) of each split, as integer arrays.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]

    def rows(self, split: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the indices of the training rows and of the test rows of a split.

        Args:
          split: number of the split, 0, 1, ...

        Raises:
          ValueError: if there is no such split.
        """
        if not 0 <= split < len(self.splits):
            raise ValueError(f"split must lie in 0 .. {len(self.splits) - 1}; got {split}")
        return self.splits[split]

    def standardise(self, split: int) -> StandardisedSplit:
        """Standardises a split by the mean and the standard deviation of its training rows.

        A column that is constant over the training rows is centred and not scaled.

        Args:
          split: number of the split, 0, 1, ...

        Raises:
          ValueError: if there is no such split.
        """
        train, test = self.rows(split)
        x, y = self.inputs[train], self.targets[train]
        scale, target_scale = (np.where(np.ptp(part, axis=0) > 0, part.std(axis=0), 1.0) for part in (x, y))

        def scaled(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            inputs = (self.inputs[rows] - x.mean(axis=0)) / scale
            targets = (self.targets[rows] - y.mean()) / target_scale
            return inputs.astype(np.float32), targets.astype(np.float32)

        return StandardisedSplit(*scaled(train), *scaled(test), y.mean(), target_scale)

    def standardise_all(self) -> StandardisedSplit:
        """Standardises every split and stacks the results along a leading axis of splits.

        Raises:
          ValueError: if the splits differ in size.
        """
        splits = [self.standardise(i) for i in range(len(self.splits))]
        sizes = {(len(split.x), len(split.x_test)) for split in splits}
        if len(sizes) != 1:
            raise ValueError(f"{self.name} must have splits of one size; got {sorted(sizes)}")
        return StandardisedSplit(*(np.stack(arrays) for arrays in zip(*splits, strict=True)))

    def hold_out(self, fraction: float) -> "RegressionDataset":
        """Returns a copy of the data set in which validation rows take the place of the test rows of each split.

        The validation rows of a split are a random part of its training rows, and are removed from those. The original
        test rows are dropped. NumPy's generator with seed I chooses the validation rows of split I.

        Args:
          fraction: fraction of the training rows to hold out, in (0, 1). At least one row is held out.

        Raises:
          ValueError: if no training row would remain in a split.
        """
        splits = []
        for number, (train, _) in enumerate(self.splits):
            order = np.random.default_rng(number).permutation(train)
            num = max(1, int(fraction * len(train)))
            if num >= len(train):
                raise ValueError(f"{self.name} has too few rows to hold some out")
            splits.append((order[num:], order[:num]))
        return dataclasses.replace(self, splits=tuple(splits))


def load_regression(name: str | Path, *, data_dir: str | None = None, target: str | None = None) -> RegressionDataset:
    """Loads a regression data set by name.

    Args:
      name: "diabetes", the path of a .csv file, or "uci/NAME" for a folder in the format that
        `bayesjax/data/regression.py` describes.
      target: the column of a .csv file that has the targets.
      data_dir: the folder that contains `uci/`; the default is `BAYESJAX_DATA_DIR`.

    Returns:
      The data set with its splits.

    Raises:
      UnknownDataset: if there is no data set of that name.
      DataUnavailable: if no data folder is given.
      ValueError: if a file cannot be read, its numbers are not finite, or its indices are out of range or not distinct.
        Also if there is not exactly one target column, there are no splits, or a row is in both parts of a split.
    """
    name = str(name)
    if (target is not None) != name.endswith(".csv"):
        raise ValueError(f"target must name the column of the targets of a .csv file; got {target!r} for {name!r}")
    if target is not None:
        return _of_table(tables.read_csv(Path(name), target), name)
    if name == "diabetes":
        return _diabetes()
    if not name.startswith("uci/"):
        raise UnknownDataset(
            f"unknown regression data set {name!r}: expected diabetes, uci/NAME or a path ending in .csv"
        )
    folder = data_folder(name, data_dir, "uci/") / name
    if not (folder / "data.txt").is_file():
        names = sorted(path.parent.name for path in folder.parent.glob("*/data.txt"))
        near = difflib.get_close_matches(folder.name, names, n=3, cutoff=0.3) or names
        hint = f"available: {', '.join(near)}" if near else f"{folder.parent} contains no data set"
        raise UnknownDataset(f"unknown data set {name!r}: no file {folder / 'data.txt'}; {hint}")
    table = _numbers(folder / "data.txt", 2)
    columns = _rows(folder / "index_features.txt", table.shape[1], "columns")
    targets = _rows(folder / "index_target.txt", table.shape[1], "columns")
    if len(targets) != 1:
        raise ValueError(f"{folder / 'index_target.txt'} must name one column; got {len(targets)}")
    splits = []
    while (folder / f"index_train_{len(splits)}.txt").is_file():
        pair = [_rows(folder / f"index_{part}_{len(splits)}.txt", len(table), "rows") for part in ("train", "test")]
        if shared := np.intersect1d(pair[0], pair[1]).size:
            raise ValueError(f"{folder}: split {len(splits)} has {shared} rows in both parts")
        splits.append((pair[0], pair[1]))
    if not splits:
        raise ValueError(f"{folder} has no splits: expected index_train_0.txt, index_test_0.txt and so on")
    return RegressionDataset(name, table[:, columns], table[:, targets[0]], tuple(splits))


def _diabetes() -> RegressionDataset:
    from sklearn.datasets import load_diabetes

    inputs, targets = (np.asarray(array, float) for array in load_diabetes(return_X_y=True))
    return RegressionDataset("diabetes", inputs, targets, _random_splits(len(targets)))


def regression_from_frame(frame: Any, *, target: str) -> RegressionDataset:
    """A regression data set from a data frame of pandas or polars.

    Args:
      frame: the data frame; all columns must be numbers.
      target: the column of the targets.

    Returns:
      The data set, with 20 random splits of 90 % and 10 % by a fixed seed.

    Raises:
      ValueError: if there is no column `target`, a value is not a finite number, or there are fewer than 10 rows.
    """
    return _of_table(tables.from_columns(tables.frame_columns(frame), str(target), "frame"), "frame")


def _of_table(table: tables.Table, name: str) -> RegressionDataset:
    if bad := [each for each in table.target if not tables.is_number(each) or not np.isfinite(float(each))]:
        raise ValueError(f"{name}: the target must be finite numbers; it has {str(bad[0])!r}")
    if len(table.target) < 10:
        raise ValueError(f"{name} must have at least 10 rows, to split them; got {len(table.target)}")
    return RegressionDataset(name, table.inputs, table.target.astype(float), _random_splits(len(table.target)))


def _random_splits(num: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Twenty random splits of `num` rows, 90 % and 10 %, by a fixed seed."""
    random, num_test = np.random.default_rng(0), num // 10
    orders = [random.permutation(num) for _ in range(20)]
    return tuple((np.sort(order[num_test:]), np.sort(order[:num_test])) for order in orders)


def _numbers(path: Path, rank: Literal[1, 2]) -> np.ndarray:
    try:
        values = files.read_numbers(path, ndim=rank)
    except OSError as error:
        raise ValueError(f"{path} cannot be read as numbers: {error}") from None
    if not values.size or not np.isfinite(values).all():
        raise ValueError(
            f"{path} must hold finite numbers; got {'none' if not values.size else 'NaN or infinite ones'}"
        )
    return values


def _rows(path: Path, num: int, what: str) -> np.ndarray:
    """Reads distinct indices in 0 .. num - 1; `what` describes the indexed items."""
    values = _numbers(path, 1)
    if not (values == np.floor(values)).all() or values.min() < 0 or values.max() >= num:
        raise ValueError(
            f"{path} must hold whole numbers in 0 .. {num - 1}, of {what}; got {values.min():g} .. {values.max():g}"
        )
    if len(np.unique(values)) < values.size:
        raise ValueError(f"{path} names {values.size - len(np.unique(values))} {what} twice")
    return values.astype(int)
