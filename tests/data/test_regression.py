"""Regression sets: the folder format, standardisation by the training part alone, and files that are wrong."""

import numpy as np
import pytest

from bayesjax import data

TABLE = np.array([[1.0, 5.0, 10.0], [2.0, 5.0, 20.0], [3.0, 5.0, 30.0], [4.0, 6.0, 99.0], [0.0, 5.0, 0.0]])


def write(folder, **files):
    files = {
        "data": TABLE, "index_features": [0, 1], "index_target": [2],
        "index_train_0": [0, 1, 2], "index_test_0": [3], "index_train_1": [0, 1, 2, 3], "index_test_1": [4], **files,
    }  # fmt: skip
    target = folder / "uci" / "mine"
    target.mkdir(parents=True, exist_ok=True)
    for name, values in files.items():
        if values is not None:
            np.savetxt(target / f"{name}.txt", values)
    return str(folder)


def test_a_folder_in_the_fixed_format(tmp_path, monkeypatch):
    monkeypatch.setenv("BAYESJAX_DATA_DIR", write(tmp_path))
    found = data.load_regression("uci/mine")
    np.testing.assert_array_equal(found.inputs, TABLE[:, :2])
    np.testing.assert_array_equal(found.targets, TABLE[:, 2])
    assert [tuple(map(len, split)) for split in found.splits] == [(3, 1), (4, 1)]


def test_a_split_is_in_units_of_its_training_part_and_constant_columns_stay_finite(tmp_path):
    found = data.load_regression("uci/mine", data_dir=write(tmp_path)).standardise(0)
    np.testing.assert_allclose(found.x.mean(axis=0), 0, atol=1e-7)
    np.testing.assert_allclose(found.x.std(axis=0), [1, 0], atol=1e-6)
    np.testing.assert_allclose([found.y.mean(), found.y.std()], [0, 1], atol=1e-6)
    np.testing.assert_allclose(found.x_test, [[2 / np.std([1, 2, 3]), 1.0]], rtol=1e-6)
    np.testing.assert_allclose(found.target_mean + found.target_scale * found.y_test, [99.0], rtol=1e-6)
    with pytest.raises(ValueError, match=r"split must lie in 0 \.\. 1; got 2"):
        data.load_regression("uci/mine", data_dir=str(tmp_path)).standardise(2)


def test_held_out_rows_are_training_rows():
    """Every split keeps 80 % of its training rows, tests on the rest, and never sees its test rows."""
    regression = data.load_regression("diabetes")
    inner = regression.hold_out(0.2)
    for (train, test), (kept, held) in zip(regression.splits, inner.splits, strict=True):
        assert len(held) == int(0.2 * len(train)) and sorted([*kept, *held]) == sorted(train)
        assert not set(held) & set(test)
    with pytest.raises(ValueError, match="diabetes has too few rows to hold some out"):
        regression.hold_out(1.0)


def test_all_splits_are_standardised_together(tmp_path):
    """Each split is that of `standardise`; splits of different sizes are refused."""
    regression = data.load_regression("diabetes")
    stacked = regression.standardise_all()
    for split in (0, 7):
        for together, alone in zip(stacked, regression.standardise(split), strict=True):
            np.testing.assert_array_equal(together[split], alone)
    with pytest.raises(ValueError, match=r"uci/mine must have splits of one size; got \[\(3, 1\), \(4, 1\)\]"):
        data.load_regression("uci/mine", data_dir=write(tmp_path)).standardise_all()


def test_diabetes_needs_no_network_and_its_splits_stay():
    found = data.load_regression("diabetes")
    assert found.inputs.shape == (442, 10)
    assert len(found.splits) == 20
    for train, test in found.splits:
        assert (len(train), len(test)) == (398, 44)
        assert not np.intersect1d(train, test).size
    assert found.splits[0][1][:5].tolist() == data.load_regression("diabetes").splits[0][1][:5].tolist()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"index_test_0": [0]}, "split 0 has 1 rows in both parts"),
        ({"index_train_0": [0, 7]}, r"whole numbers in 0 \.\. 4, of rows; got 0 \.\. 7"),
        ({"index_train_0": [0, 0, 1]}, "names 1 rows twice"),
        ({"index_target": [1, 2]}, "must name one column; got 2"),
        ({"data": np.where(TABLE == 99, np.nan, TABLE)}, "finite numbers; got NaN"),
        ({"index_train_0": None}, "has no splits"),
        ({"index_test_1": None}, "index_test_1.txt cannot be read as numbers"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        data.load_regression("uci/mine", data_dir=write(tmp_path, **files))


def test_names(tmp_path, monkeypatch):
    monkeypatch.delenv("BAYESJAX_DATA_DIR", raising=False)
    with pytest.raises(data.DataUnavailable, match="set BAYESJAX_DATA_DIR"):
        data.load_regression("uci/mine")
    with pytest.raises(data.UnknownDataset, match="available: mine"):
        data.load_regression("uci/mime", data_dir=write(tmp_path))
    with pytest.raises(data.UnknownDataset, match="expected diabetes, uci/NAME or a path"):
        data.load_regression("boston")
