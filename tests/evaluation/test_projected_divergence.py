"""The kernel density and the Jensen-Shannon divergence in the plane of the two leading components."""

import math

import numpy as np
import pytest
from scipy import stats

from bayesjax import evaluation


def two_clusters(seed):
    """Two clusters of 150 points, the first of them first."""
    x = np.random.default_rng(seed).normal(size=(300, 5))
    x[150:, 0] += 6
    return x * [1, 2, 0.3, 0.2, 0.1]


DATA = two_clusters(0)


@pytest.fixture(scope="module")
def plane():
    return evaluation.ProjectedDivergence(DATA, step=0.3)


@pytest.mark.parametrize(("num", "dim"), [(200, 2), (50, 3), (40, 1)])
def test_kernel_density_is_scipys(num, dim):
    """Equal to `gaussian_kde` to 1e-4 relative, wherever the density is above 1e-6 of its maximum.

    With the bandwidth half as large again it is not: the comparison sees a wrong rule.
    """
    rng = np.random.default_rng(num)
    samples = rng.normal(size=(num, dim)) @ rng.normal(size=(dim, dim)) + 3
    points = samples[rng.integers(num, size=1000)] + rng.normal(size=(1000, dim))
    ours = evaluation.kernel_density(samples, points)
    scipys = stats.gaussian_kde(samples.T)(points.T)
    there = scipys > 1e-6 * scipys.max()
    assert ours.shape == (1000,) and there.sum() > 500
    np.testing.assert_allclose(ours[there], scipys[there], rtol=1e-4)
    wrong = stats.gaussian_kde(samples.T, bw_method=1.5 * num ** (-1 / (dim + 4)))(points.T)
    assert np.abs(wrong[there] / scipys[there] - 1).max() > 0.1


def test_kernel_density_far_from_the_origin():
    """Float32 sums lose nothing to a large mean: the samples are centred first."""
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(100, 2)) * 0.01 + 1000
    ours, scipys = evaluation.kernel_density(samples, samples), stats.gaussian_kde(samples.T)(samples.T)
    np.testing.assert_allclose(ours, scipys, rtol=1e-4)


def test_projection(plane):
    """Orthonormal components of largest variance; the projected data have the two largest eigenvalues, uncorrelated."""
    np.testing.assert_allclose(plane.components @ plane.components.T, np.eye(2), atol=1e-10)
    eigenvalues = np.linalg.eigvalsh(np.cov(DATA.T))[::-1]
    np.testing.assert_allclose(np.cov(plane.projected_data.T), np.diag(eigenvalues[:2]), atol=1e-8)
    np.testing.assert_allclose(plane.project(DATA.astype(np.float32)), plane.projected_data, atol=1e-5)


def test_density_integrates_to_one(plane):
    """The grid reaches far enough beyond the data to hold all its mass."""
    assert plane.data_density.sum() * plane.cell == pytest.approx(1, abs=5e-3)


def test_of_itself_is_zero(plane):
    """The data compared with itself, or with itself in another order, are at no distance."""
    assert plane(DATA) == pytest.approx(0, abs=1e-7)
    assert plane(DATA[::-1]) == pytest.approx(0, abs=1e-6)


def test_same_law_is_near_and_half_the_modes_is_far(plane):
    """A fresh sample of the same law is near; one of the two clusters is far; all numbers lie in 0 .. ln 2."""
    fresh = two_clusters(5)
    same, half = plane(fresh), plane(fresh[:150])
    assert 0 < same < 0.05 < 0.15 < half < math.log(2)


def test_disjoint_is_ln_2():
    """Samples and data without overlap, both inside the grid, are at ln 2; outside the grid altogether, at ln(2)/2."""
    rng = np.random.default_rng(2)
    plane = evaluation.ProjectedDivergence(rng.normal(size=(100, 2)), step=0.2, margin=15)
    apart = rng.normal(size=(100, 2)) + np.array([9, 0])
    assert plane(apart) == pytest.approx(math.log(2), abs=5e-3)
    assert plane(apart + 1000) == pytest.approx(math.log(2) / 2, abs=5e-3)


def test_symmetry():
    """Exchanging data and samples changes the plane and the grid, and the number only a little."""
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(300, 2)) * [3, 1], rng.normal(size=(300, 2)) * [3, 1] + [1.5, 0]
    there, back = (evaluation.ProjectedDivergence(x, step=0.2)(y) for x, y in ((a, b), (b, a)))
    assert there == pytest.approx(back, rel=0.05) and there > 0.02


def test_known_divergence():
    """Two Gaussians a distance d apart: the numerical integral in one dimension, to the kernel's smoothing.

    4000 samples each: the kernel widens both and the estimate reads 0.319 for 0.337; in bits, or halved, it would be
    further off than the 10 % allowed.
    """
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(4000, 2)) * [1, 0.2], rng.normal(size=(4000, 2)) * [1, 0.2] + [2, 0]
    x = np.linspace(-10, 12, 20001)
    p, q = stats.norm.pdf(x), stats.norm.pdf(x, 2)
    m = (p + q) / 2
    exact = 0.5 * float(np.sum(p * np.log(p / m) + q * np.log(q / m)) * (x[1] - x[0]))
    estimate = evaluation.ProjectedDivergence(a, step=0.1)(b)
    assert estimate == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("is_line", [False, True])
@pytest.mark.parametrize("num", [1, 2, 300])
def test_collapsed_samples(plane, is_line, num):
    """All equal to a point of the data, or on a line through them: far from the data, at most ln 2, and the numerical
    integral against the Gaussian (or the row of them) of the grid's step."""
    points = np.repeat(DATA[:1], num, axis=0) + (is_line * np.linspace(-2, 2, num)[:, None] * plane.components[0])
    value = plane(points)
    assert 0.3 < value <= math.log(2) + 1e-6
    projected = plane.project(points)
    along = projected.std(axis=0, ddof=1) * num ** (-1 / 6) if num > 1 else np.zeros(2)
    width = np.maximum(along, plane.step)
    each = [stats.norm.pdf(plane.grid, centre, width).prod(axis=1) for centre in projected]
    p, q = plane.data_density * plane.cell, np.mean(each, axis=0) * plane.cell
    m = (p + q) / 2
    expected = (stats.entropy(p, m) * p.sum() + stats.entropy(q, m) * q.sum()) / 2
    assert value == pytest.approx(expected, abs=2e-3)
    assert plane(points + 1e3) == pytest.approx(math.log(2) / 2, abs=5e-3)


def test_less_and_less_spread_is_continuous(plane):
    """Shrinking half of the data to a point moves it away without a jump, and never beyond ln 2."""
    values = [plane(DATA[:1] + share * (DATA[:150] - DATA[:1])) for share in (1, 0.3, 0.1, 0.01, 1e-9, 0)]
    assert (np.diff(values) > -1e-6).all() and values[-1] < math.log(2)
    assert values[-1] == pytest.approx(values[-2], abs=1e-6)
    flat = evaluation.ProjectedDivergence(DATA * [1, 0, 0, 0, 0], step=0.3)  # of data on a line, too
    assert flat(DATA * [1, 0, 0, 0, 0]) == pytest.approx(0, abs=1e-7) and flat(DATA) > 0.01


@pytest.mark.parametrize("shape", [(10, 1), (2, 5), (10,)])
def test_data_of_the_wrong_shape(shape):
    """Fewer than three points or two dimensions make no plane."""
    with pytest.raises(ValueError, match=r"data must be \[num >= 3, dim >= 2\]"):
        evaluation.ProjectedDivergence(np.zeros(shape))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda plane: plane(DATA[:, :4]), r"samples must be \[num, 5\] like the data; got shape \(300, 4\)"),
        (lambda plane: plane(DATA * np.nan), "samples must be finite; got 1500 of 1500"),
        (lambda plane: plane.evaluate_projected(DATA[0, :2]), r"projected must be \[num, 2\]"),
        (lambda plane: evaluation.ProjectedDivergence(DATA / 0), "data must be finite"),
        (lambda plane: evaluation.kernel_density(np.ones((5, 2)), plane.grid), "vary in all 2 dimensions"),
        (lambda plane: evaluation.kernel_density(np.ones((1, 2)), plane.grid), "min_bandwidth is positive; got 1"),
        (lambda plane: evaluation.kernel_density(DATA, plane.grid), r"points must be \[num_points, 5\]"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_input(plane, call, message):
    with pytest.raises(ValueError, match=message):
        call(plane)
