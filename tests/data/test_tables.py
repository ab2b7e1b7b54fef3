"""Tables from .csv files and data frames: classes, regression targets, splits, and errors that name the column."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bayesjax import data

IRIS = "length, width,species\n" + "".join(f"{i / 4},{i % 3},{('virginica', 'setosa')[i % 2]}\n" for i in range(40))


def write(tmp_path, text):
    path = tmp_path / "x.csv"
    path.write_text(text)
    return str(path)


def test_classes_of_a_csv_file(tmp_path):
    """Inputs are the other columns, classes are numbered by name, and a tenth of each class is the test split."""
    dataset = data.load(write(tmp_path, IRIS), target="species")
    assert dataset.class_names == ("setosa", "virginica") and dataset.num_classes == 2
    assert len(dataset.train) == 36 and np.bincount(dataset.test.labels).tolist() == [2, 2]
    inputs = np.concatenate([dataset.train.inputs, dataset.test.inputs])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    rows = (4 * inputs[:, 0]).round().astype(int)
    assert sorted(rows) == list(range(40)) and inputs.dtype == np.float32
    np.testing.assert_array_equal(inputs[:, 1], rows % 3)
    np.testing.assert_array_equal(labels, 1 - rows % 2)


def test_regression_of_a_csv_file(tmp_path):
    """The target keeps its units, and each of the 20 splits has every row once."""
    path = write(tmp_path, "a,b,price\n" + "".join(f"{i},1,{i * 0.5}\n" for i in range(30)))
    dataset = data.load_regression(Path(path), target="price")
    np.testing.assert_array_equal(dataset.targets, 0.5 * np.arange(30))
    np.testing.assert_array_equal(dataset.inputs, np.stack([np.arange(30), np.ones(30)], axis=1))
    assert len(dataset.splits) == 20
    assert all(sorted([*train, *test]) == list(range(30)) and len(test) == 3 for train, test in dataset.splits)
    assert len({tuple(test) for _, test in dataset.splits}) > 10


def test_a_data_frame_gives_the_same_arrays(tmp_path):
    """Data frames of whole numbers as classes, which need not begin at 0."""
    path = write(tmp_path, IRIS.replace("setosa", "3").replace("virginica", "7"))
    frame = pd.read_csv(path, skipinitialspace=True)
    of_file, of_frame = data.load(path, target="species"), data.from_frame(frame, target="species")
    np.testing.assert_array_equal(of_file.train.inputs, of_frame.train.inputs)
    np.testing.assert_array_equal(of_file.train.labels, of_frame.train.labels)
    assert of_frame.class_names == of_file.class_names == ("3", "7")
    regression = data.regression_from_frame(frame, target="length")
    np.testing.assert_array_equal(regression.targets, np.arange(40) / 4)


def test_what_spreadsheets_write(tmp_path):
    """A byte-order mark, quoted commas and line breaks, and carriage returns."""
    text = '\ufefftype,"size, cm"\r\n' + '"long, hair",1\r\n"two\nlines",2\r\n' * 4
    dataset = data.load(write(tmp_path, text), target="type")
    assert dataset.class_names == ("long, hair", "two\nlines") and dataset.input_shape == (1,)


def test_columns_of_a_frame():
    """Whole numbers as names, numbers stored as objects, and names that are equal as text."""
    frame = pd.DataFrame({0: pd.Series(range(12), dtype=object), 1: [0, 1] * 6})
    dataset = data.from_frame(frame, target=1)
    assert sorted(np.concatenate([dataset.train.inputs, dataset.test.inputs])[:, 0]) == list(range(12))
    with pytest.raises(ValueError, match="frame has the column '1' twice"):
        data.from_frame(pd.DataFrame([[1, 2, 0]] * 4, columns=[1, "1", "y"]), target="y")
    with pytest.raises(ValueError, match="frame: row 2 has no class"):
        data.from_frame(pd.DataFrame({"a": range(6), "y": ["p", "q", None] * 2}), target="y")
    with pytest.raises(ValueError, match="frame has no rows"):
        data.from_frame(pd.DataFrame({"a": [], "y": []}), target="y")


ROWS = "".join(f"{i},{i % 2}\n" for i in range(12))
ERRORS = {
    "no file": (None, "y"),
    r"must have a line of names and at least one row; it has 1 lines": ("a,y\n", "y"),
    r"has the column 'a' twice": ("a,a\n1,2\n", "a"),
    r"row 3 has 3 values; the header names 2 columns": ("a,y\n1,2\n1,2,3\n", "y"),
    r"has no column 'z', the target; it has a, y": ("a,y\n" + ROWS, "z"),
    r"has no column besides the target 'y'": ("y\n1\n2\n", "y"),
    r"inputs must be numbers; colour, city have other values, such as 'red': encode them": (
        "colour,city,y\nred,Bonn,1\nblue,Rome,0\n", "y",
    ),
    r"inputs must be numbers; a has other values, such as ''": ("a,y\n1,0\n,1\n", "y"),
    r"inputs must be finite; a is nan in row 1": ("a,y\n1,0\nnan,1\n", "y"),
    r"row 1 has no class": ("a,y\n1,cat\n2,\n", "y"),
    r"column a has numbers beyond the range of float32": ("a,y\n" + "1e300,0\n2,1\n" * 3, "y"),
    r"classes must be text or whole numbers; got 0.5: see data.load_regression": ("a,y\n1,0.5\n2,1\n", "y"),
    r"must have at least two classes; got only 1": ("a,y\n1,1\n2,1\n", "y"),
    r"class dog must have at least 2 examples, for two splits; got 1": ("a,y\n1,cat\n2,cat\n3,dog\n", "y"),
}  # fmt: skip


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message, tmp_path):
    """One line that names the file, the column and the value."""
    text, target = ERRORS[message]
    path = str(tmp_path / "x.csv") if text is None else write(tmp_path, text)
    with pytest.raises((ValueError, OSError), match=message) as error:
        data.load(path, target=target)
    assert "\n" not in str(error.value) and "x.csv" in str(error.value)


def test_errors_of_arguments(tmp_path):
    """A target belongs to a table; a regression target must be numbers."""
    path = write(tmp_path, IRIS)
    with pytest.raises(
        ValueError, match=r"target must name the column of the classes of a .csv file; got None for .*x.csv"
    ):
        data.load(path)
    with pytest.raises(ValueError, match="got 'y' for 'digits'"):
        data.load("digits", target="y")
    with pytest.raises(ValueError, match=r"got None for .*x.csv"):
        data.load_regression(path)
    with pytest.raises(ValueError, match=r"the target must be finite numbers; it has 'virginica'"):
        data.load_regression(path, target="species")
    with pytest.raises(ValueError, match="must have at least 10 rows, to split them; got 2"):
        data.load_regression(write(tmp_path, "a,y\n1,2\n3,4\n"), target="y")
    with pytest.raises(ValueError, match="frame must be a data frame with columns; got list"):
        data.from_frame([1, 2], target="y")
