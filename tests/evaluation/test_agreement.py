"""Distances from a reference predictive, by hand and against SciPy."""

import numpy as np
import pytest
from scipy import stats

from bayesjax.evaluation import agreement, calibration


def distributions(num, seed=0):
    """Random rows of four class probabilities."""
    return np.random.default_rng(seed).dirichlet(np.ones(4), size=num)


def test_by_hand():
    """Two points: the same one, and one that differs by 0.2 of probability and in its class."""
    p, q = np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0.9, 0.1], [0.4, 0.6]])
    assert agreement.agreement(p, q).value == 0.5
    assert agreement.total_variation(p, q).value == pytest.approx(0.1)
    assert agreement.total_variation(p, q).stderr == pytest.approx(0.1 / np.sqrt(2))
    expected = (0.4 * np.log(0.4 / 0.6) + 0.6 * np.log(0.6 / 0.4)) / 2
    assert agreement.kl_from_reference(p, q).value == pytest.approx(expected)


def test_of_itself_and_of_the_opposite():
    """A predictive agrees with itself wholly, and with a disjoint one not at all."""
    p = distributions(50)
    assert agreement.agreement(p, p).value == 1
    assert agreement.total_variation(p, p).value == 0
    assert agreement.kl_from_reference(p, p).value == pytest.approx(0, abs=1e-12)
    one, other = np.eye(2)[[0, 1]], np.eye(2)[[1, 0]]
    assert agreement.agreement(one, other).value == 0
    assert agreement.total_variation(one, other).value == 1
    assert agreement.kl_from_reference(one, other).value == np.inf


def test_calibration_error():
    """0 of itself; by hand; and the error of labels drawn from the reference, many of each row, within 4 standard
    errors (false alarms: 6e-5) where a reference of other confidence is refused."""
    q = distributions(50)
    assert agreement.calibration_error(q, q) == pytest.approx(0, abs=1e-12)
    p, known = np.array([[0.9, 0.1], [0.6, 0.4]]), np.array([[0.7, 0.3], [0.4, 0.6]])
    assert agreement.calibration_error(p, known) == pytest.approx((0.2 + 0.2) / 2)
    sharper = q**2 / (q**2).sum(axis=1, keepdims=True)
    num, rng = 2000, np.random.default_rng(1)
    labels = np.array([rng.choice(4, size=num, p=row) for row in q]).ravel()
    drawn = calibration.expected_calibration_error(np.repeat(sharper, num, axis=0), labels)
    assert abs(agreement.calibration_error(sharper, q) - drawn) < 4 * 0.5 / np.sqrt(50 * num)
    assert abs(agreement.calibration_error(sharper, sharper) - drawn) > 0.05


def test_wasserstein():
    """Equal numbers of draws: sorted differences. Unequal: repeating every draw changes nothing. A shift is itself."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 5)), rng.normal(1, 2, size=(30, 5))
    expected = np.sqrt(np.square(np.sort(x, axis=0) - np.sort(y, axis=0)).mean(axis=0)).mean()
    assert agreement.wasserstein_distance(x, y).value == pytest.approx(expected)
    assert agreement.wasserstein_distance(np.repeat(x, 3, axis=0), np.repeat(y, 7, axis=0)).value == pytest.approx(
        expected
    )
    assert agreement.wasserstein_distance(x, x + 2.5).value == pytest.approx(2.5)


def test_wasserstein_of_normals():
    """sqrt((difference of means)^2 + (difference of deviations)^2) between N(0, 1) and N(1, 2^2), within 1 %.

    Of 10 000 and 20 000 quantiles, without noise.
    """
    quantiles = [(np.arange(n) + 0.5) / n for n in (10_000, 20_000)]
    x, y = stats.norm.ppf(quantiles[0])[:, None], stats.norm(1, 2).ppf(quantiles[1])[:, None]
    assert agreement.wasserstein_distance(x, y).value == pytest.approx(np.sqrt(2), rel=0.01)


def test_files(tmp_path):
    """Written and read again to 7 digits; blanks or commas; refused: a wrong number of classes, rows of sum 2."""
    p = distributions(20)
    path = agreement.save_reference(tmp_path / "sub" / "hmc.csv", p)
    np.testing.assert_allclose(agreement.load_reference(path, num_classes=4), p, rtol=1e-6, atol=1e-9)
    blanks = tmp_path / "blanks.txt"
    np.savetxt(blanks, p)
    np.testing.assert_allclose(agreement.load_reference(blanks), p, rtol=1e-12)
    np.save(tmp_path / "hmc.npy", p)
    np.testing.assert_array_equal(agreement.load_reference(tmp_path / "hmc.npy"), p)
    with pytest.raises(ValueError, match=r"must have 10 probabilities a row; got 4"):
        agreement.load_reference(path, num_classes=10)
    np.savetxt(blanks, 2 * p)
    with pytest.raises(ValueError, match=r"blanks.txt must be non-negative and sum to 1"):
        agreement.load_reference(blanks)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("one.npy", lambda path: np.save(path, np.ones(4) / 4), r"must be \[num, num_classes\] .* shape \(4,\)"),
        ("objects.npy", lambda path: np.save(path, np.array([{}])), "is not a readable .npy file.* Python objects"),
        ("words.npy", lambda path: np.save(path, np.array(["a"])), "must hold real numbers; got elements of type <U1"),
        ("blank.npy", lambda path: path.touch(), "is not a readable .npy file"),
        ("blank.csv", lambda path: path.write_text("# p\n\n"), r"must be \[num, num_classes\] and not empty"),
        ("packed.npz", lambda path: np.savez(path, np.eye(4)), "is not text in UTF-8"),
        ("header.csv", lambda path: path.write_text("a,b\n0.5,0.5\n"), "is not a table of numbers: could not convert"),
        ("semicolons.csv", lambda path: path.write_text("0.5;0.5\n"), "is not a table of numbers: could not convert"),
        ("ragged.csv", lambda path: path.write_text("0.5,0.5\n1\n"), "is not a table of numbers: .* at row 2$"),
    ],
)  # fmt: skip
def test_unreadable_files(tmp_path, name, write, message):
    """What is no table of numbers, or an empty one, is refused by its path."""
    write(tmp_path / name)
    for num_classes in (None, 4):
        with pytest.raises(ValueError, match=rf"{name} {message}"):
            agreement.load_reference(tmp_path / name, num_classes=num_classes)
