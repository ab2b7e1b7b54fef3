"""`load_regression(name) -> RegressionDataset`: real-valued targets, with the train/test splits of the literature.

    diabetes        442 patients, 10 features, shipped inside scikit-learn; 20 splits of 90 % drawn with a fixed seed
    uci/NAME        a folder NAME of text files in `uci/` of the data folder, in the format of Hernandez-Lobato & Adams
                    (2015): data.txt (a row an example), index_features.txt and index_target.txt (its columns),
                    index_train_I.txt and index_test_I.txt (its rows, for I = 0, 1, ...)

Numbers come as they are in the file; `standardise` scales a split by its own training part.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from bayesjax.data import files
from bayesjax.data.dataset import UnknownDataset, data_folder


class StandardisedSplit(NamedTuple):
    """One split in units of its training part.

    Attributes:
      x, y: float32 training inputs `[num, features]` and targets `[num]`, of mean 0 and variance 1.
      x_test, y_test: the test part in the same units.
      target_mean, target_scale: what undoes them, scalars: target = target_mean + target_scale * y.
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    target_mean: np.ndarray
    target_scale: np.ndarray


@dataclass(frozen=True)
class RegressionDataset:
    """A regression set with its splits.

    Attributes:
      name: as given to `load_regression`.
      inputs: float64 `[num, features]`.
      targets: float64 `[num]`.
      splits: (training rows, test rows) of each split, integers.
    """

    name: str
    inputs: np.ndarray
    targets: np.ndarray
    splits: tuple[tuple[np.ndarray, np.ndarray], ...]

    def rows(self, split: int) -> tuple[np.ndarray, np.ndarray]:
        """Training rows and test rows of a split by number.

        Raises:
          ValueError: if there is no such split.
        """
        if not 0 <= split < len(self.splits):
            raise ValueError(f"split must lie in 0 .. {len(self.splits) - 1}; got {split}")
        return self.splits[split]

    def standardise(self, split: int) -> StandardisedSplit:
        """A split by number; a column that is constant over the training rows becomes 0 there.

        Raises:
          ValueError: if there is no such split.
        """
        train, test = self.rows(split)
        x, y = self.inputs[train], self.targets[train]
        scale, target_scale = (np.where(np.ptp(part, axis=0) > 0, part.std(axis=0), 1.0) for part in (x, y))

        def scaled(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            inputs, targets = (
                (self.inputs[rows] - x.mean(axis=0)) / scale,
                (self.targets[rows] - y.mean()) / target_scale,
            )
            return inputs.astype(np.float32), targets.astype(np.float32)

        return StandardisedSplit(*scaled(train), *scaled(test), y.mean(), target_scale)


def load_regression(name: str, *, data_dir: str | None = None) -> RegressionDataset:
    """Loads a regression set by name.

    Args:
      name: see the top of this file.
      data_dir: the folder that has `uci/`; else `BAYESJAX_DATA_DIR`.

    Raises:
      UnknownDataset: if there is no set of that name.
      DataUnavailable: if no data folder is named.
      ValueError: if a file cannot be read, or its numbers do not fit.
    """
    if name == "diabetes":
        return _diabetes()
    if not name.startswith("uci/"):
        raise UnknownDataset(f"unknown regression set {name!r}: expected diabetes or uci/NAME")
    folder = data_folder(name, data_dir, "uci/") / name
    if not (folder / "data.txt").is_file():
        there = sorted(path.parent.name for path in folder.parent.glob("*/data.txt"))
        near = difflib.get_close_matches(folder.name, there, n=3, cutoff=0.3) or there
        hint = f"there are {', '.join(near)}" if near else f"there is nothing in {folder.parent}"
        raise UnknownDataset(f"unknown data set {name!r}: no file {folder / 'data.txt'}; {hint}")
    table = _numbers(folder / "data.txt", 2)
    columns = _rows(folder / "index_features.txt", table.shape[1], "columns")
    target = _rows(folder / "index_target.txt", table.shape[1], "columns")
    if len(target) != 1:
        raise ValueError(f"{folder / 'index_target.txt'} must name one column; got {len(target)}")
    splits = []
    while (folder / f"index_train_{len(splits)}.txt").is_file():
        pair = [_rows(folder / f"index_{part}_{len(splits)}.txt", len(table), "rows") for part in ("train", "test")]
        if shared := np.intersect1d(pair[0], pair[1]).size:
            raise ValueError(f"{folder}: split {len(splits)} has {shared} rows in both its parts")
        splits.append((pair[0], pair[1]))
    if not splits:
        raise ValueError(f"{folder} has no splits: expected index_train_0.txt, index_test_0.txt and so on")
    return RegressionDataset(name, table[:, columns], table[:, target[0]], tuple(splits))


def _diabetes() -> RegressionDataset:
    from sklearn.datasets import load_diabetes

    inputs, targets = (np.asarray(array, float) for array in load_diabetes(return_X_y=True))
    random, num_test = np.random.default_rng(0), len(targets) // 10
    orders = [random.permutation(len(targets)) for _ in range(20)]
    splits = tuple((np.sort(order[num_test:]), np.sort(order[:num_test])) for order in orders)
    return RegressionDataset("diabetes", inputs, targets, splits)


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
    """Indices in 0 .. num - 1, none twice."""
    values = _numbers(path, 1)
    if not (values == np.floor(values)).all() or values.min() < 0 or values.max() >= num:
        raise ValueError(
            f"{path} must hold whole numbers in 0 .. {num - 1}, of {what}; got {values.min():g} .. {values.max():g}"
        )
    if len(np.unique(values)) < values.size:
        raise ValueError(f"{path} names {values.size - len(np.unique(values))} {what} twice")
    return values.astype(int)
