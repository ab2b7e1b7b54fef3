"""Tables with named columns, from .csv files and data frames, for classification and regression.

    data.load("x.csv", target="species")              Dataset: inputs [num, num_features], classes from the column
    data.load_regression("x.csv", target="price")     RegressionDataset with 20 random splits
    data.from_frame(frame, target="species")          the same from a data frame of pandas or polars
    data.regression_from_frame(frame, target="price")

All columns except the target are inputs, and must be numbers. A classification set has a random tenth of every class as
its test split, by a fixed seed; inputs are not standardised. Read `dataset.py` next.
"""

import csv
import io
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bayesjax.data import files


class Table(NamedTuple):
    """The inputs and the target of a table.

    Attributes:
      inputs: float64 `[num, num_features]`.
      target: the column of the target as it is stored, `[num]`.
      names: names of the input columns.
    """

    inputs: np.ndarray
    target: np.ndarray
    names: tuple[str, ...]


def read_csv(path: Path, target: str) -> Table:
    """Reads a .csv file whose first line has the names of the columns.

    Args:
      path: the file, in UTF-8, with commas.
      target: name of the target column.

    Raises:
      FileNotFoundError: if there is no such file.
      ValueError: if the file has no header or no rows, a row has another number of values than the header, a name
        occurs twice, there is no column `target`, or an input is not a finite number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}: expected a .csv file with names of columns in its first line")
    text = files.read_text(path).removeprefix("\ufeff")  # spreadsheets write this mark
    try:
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error as error:
        raise ValueError(f"{path} is not a table of comma-separated values: {error}") from None
    header, rows = ([name.strip() for name in lines[0]], lines[1:]) if lines else ([], [])
    rows = [row for row in rows if row]
    if not header or not rows:
        raise ValueError(f"{path} must have a line of names and at least one row; it has {len(lines)} lines")
    _check_distinct(header, str(path))
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"{path}: row {number} has {len(row)} values; the header names {len(header)} columns")
    columns = {name: np.array([row[i].strip() for row in rows]) for i, name in enumerate(header)}
    return from_columns({name: _numbers_if_possible(values) for name, values in columns.items()}, target, str(path))


def frame_columns(frame: Any) -> dict[str, np.ndarray]:
    """The columns of a data frame of pandas or polars as arrays, by name.

    Raises:
      ValueError: if `frame` has no columns.
    """
    if not hasattr(frame, "columns"):
        raise ValueError(f"frame must be a data frame with columns; got {type(frame).__name__}")
    names = [str(name) for name in frame.columns]
    _check_distinct(names, "frame")
    return {
        name: _as_numbers(np.asarray(frame[key].to_numpy())) for name, key in zip(names, frame.columns, strict=True)
    }


def from_columns(columns: Mapping[str, np.ndarray], target: str, source: str) -> Table:
    """Separates the target from the inputs.

    Args:
      columns: arrays `[num]` by name.
      target: name of the target column.
      source: name of the table, used only in error messages.

    Raises:
      ValueError: as in `read_csv`.
    """
    if target not in columns:
        names = [*list(columns)[:12], *(["..."] if len(columns) > 12 else [])]
        raise ValueError(f"{source} has no column {target!r}, the target; it has {', '.join(names)}")
    if not len(columns[target]):
        raise ValueError(f"{source} has no rows")
    inputs = {name: values for name, values in columns.items() if name != target}
    if not inputs:
        raise ValueError(f"{source} has no column besides the target {target!r}")
    text = [name for name, values in inputs.items() if values.dtype.kind not in "biuf"]
    if text:
        example = next(value for value in inputs[text[0]] if not is_number(value))
        raise ValueError(
            f"{source}: inputs must be numbers; {', '.join(text)} {'has' if len(text) == 1 else 'have'} other values, "
            f"such as {str(example)!r}: encode them as numbers or leave them out"
        )
    array = np.stack([np.asarray(values, float) for values in inputs.values()], axis=1)
    if not np.isfinite(array).all():
        row, column = np.argwhere(~np.isfinite(array))[0]
        raise ValueError(
            f"{source}: inputs must be finite; {list(inputs)[column]} is {array[row, column]} in row {row}"
        )
    return Table(array, columns[target], tuple(inputs))


def classes(target: np.ndarray, source: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers the classes of a target in the order of their values.

    Returns:
      int32 labels `[num]`, and the names of the classes.

    Raises:
      ValueError: if the target has values that are not whole, or a single class.
    """
    if target.dtype.kind == "f" and not (np.isfinite(target).all() and (target == np.round(target)).all()):
        bad = target[~(np.isfinite(target) & (target == np.round(target)))][0]
        raise ValueError(f"{source}: classes must be text or whole numbers; got {bad}: see data.load_regression")
    if target.dtype.kind in "OUS":
        missing = [row for row, value in enumerate(target) if value is None or value != value or str(value) == ""]
        if missing:
            raise ValueError(f"{source}: row {missing[0]} has no class: leave such rows out")
    values = np.array([str(value) for value in target]) if target.dtype.kind in "OUS" else target
    if values.dtype.kind == "f":
        values = values.astype(np.int64)
    names, labels = np.unique(values, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"{source}: the target must have at least two classes; got only {names[0]}")
    return labels.astype(np.int32), tuple(str(name) for name in names)


def _check_distinct(names: list[str], source: str) -> None:
    if len(set(names)) < len(names):
        raise ValueError(f"{source} has the column {next(each for each in names if names.count(each) > 1)!r} twice")


def _as_numbers(values: np.ndarray) -> np.ndarray:
    """Numbers that are stored as Python objects become an array of numbers."""
    is_stored = values.dtype.kind == "O" and all(isinstance(value, numbers.Real) for value in values)
    return values.astype(float) if is_stored else values


def _numbers_if_possible(values: np.ndarray) -> np.ndarray:
    return values.astype(float) if all(is_number(value) for value in values) else values


def is_number(value: Any) -> bool:
    """Whether `float` accepts the value."""
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True
