"""Distances between samples against closed forms, brute force and samples made to fail in one way each."""

import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import divergences
from bayesjax.evaluation import fidelity

RANDOM = np.random.default_rng(0)


def test_frechet_distance():
    """The distance uses the samples' own moments, tends to that of the Gaussians, and carries both sample sizes."""
    mean, scale = np.array([1.0, 0.0, -1.0]), np.array([1.0, 2.0, 0.5])
    real, fake = RANDOM.normal(size=(40_000, 3)), mean + scale * RANDOM.normal(size=(30_000, 3))
    found = fidelity.frechet_distance(real, fake)
    assert (found.num_real, found.num_fake) == (40_000, 30_000)
    exact = np.sum(mean**2) + np.sum((1 - scale) ** 2)
    assert found.value == pytest.approx(exact, rel=0.03)
    moments = [(x.mean(axis=0), np.cov(x.T)) for x in (real, fake)]
    assert found.value == pytest.approx(divergences.frechet_gaussian(*moments[0], *moments[1]), rel=1e-10)
    assert fidelity.frechet_distance(real, real).value == pytest.approx(0, abs=1e-9)
    assert fidelity.frechet_distance(real[:, :1], real[:, :1] + 2).value == pytest.approx(4)


def test_kernel_distance():
    """All samples in one subset: `mmd_squared` of them all. Over 200 pairs of equal laws the mean is 0 within 4
    standard errors (false alarms: 6e-5), and the shifted law's is not."""
    x, y = RANDOM.normal(size=(30, 4)), 0.5 + RANDOM.normal(size=(30, 4))
    kernel = divergences.polynomial_kernel()
    whole = divergences.mmd_squared(jnp.asarray(x), jnp.asarray(y), kernel, is_unbiased=True)
    found = fidelity.kernel_distance(x, y, subset_size=100, num_subsets=2)
    assert found.subset_size == 30 and found.value == pytest.approx(float(whole), rel=1e-4)
    assert np.isnan(found.stderr)  # all subsets are the same
    equal, shifted = (
        np.array(
            [
                fidelity.kernel_distance(
                    RANDOM.normal(size=(20, 4)), shift + RANDOM.normal(size=(20, 4)), subset_size=20, num_subsets=2
                ).value
                for _ in range(200)
            ]
        )
        for shift in (0.0, 0.5)
    )
    error = equal.std() / np.sqrt(200)
    assert abs(equal.mean()) < 4 * error < shifted.mean()
    several = fidelity.kernel_distance(x, y, subset_size=10, num_subsets=50)
    assert several.stderr > 0 and abs(several.value - float(whole)) < 6 * several.stderr
    many = fidelity.kernel_distance(x, y, subset_size=10, num_subsets=800)
    assert many.stderr == pytest.approx(several.stderr / 4, rel=0.4)  # a standard deviation would not fall


def test_inception_score():
    """The number of classes for sure and even predictions; 1 for unsure ones and for one class; else exp of a mean."""
    even = np.tile(np.eye(5), (40, 1))
    assert fidelity.inception_score(even, num_splits=4) == pytest.approx((5, 0, 200))
    assert fidelity.inception_score(np.full((50, 5), 0.2)).value == pytest.approx(1)
    assert fidelity.inception_score(np.tile(np.eye(5)[0], (50, 1))).value == pytest.approx(1)
    p = RANDOM.dirichlet(np.ones(3), 60)
    mean = p.mean(axis=0)
    by_hand = np.exp(np.mean([np.sum(row * np.log(row / mean)) for row in p]))
    assert fidelity.inception_score(p, num_splits=1).value == pytest.approx(by_hand, rel=1e-10)
    assert fidelity.inception_score(p, num_splits=6).stddev > 0


def test_reach_against_brute_force():
    """Each of the four written with loops over pairs; the size of blocks is no matter."""
    real, fake, k = RANDOM.normal(size=(23, 2)), 0.7 + RANDOM.normal(size=(17, 2)), 3

    def radius(x, i):
        return np.sort(np.linalg.norm(x - x[i], axis=1))[k]

    is_in_real = np.array([[np.linalg.norm(f - r) <= radius(real, i) for f in fake] for i, r in enumerate(real)])
    is_in_fake = np.array([[np.linalg.norm(f - r) <= radius(fake, j) for j, f in enumerate(fake)] for r in real])
    expected = (
        is_in_real.any(axis=0).mean(), is_in_fake.any(axis=1).mean(), is_in_real.sum() / (k * 17),
        is_in_real.any(axis=1).mean(), 23, 17,
    )  # fmt: skip
    for chunk_size in (4, 100):
        assert fidelity.precision_recall(real, fake, num_neighbours=k, chunk_size=chunk_size) == pytest.approx(
            expected, rel=1e-10
        )
    assert len(set(expected[:4])) == 4


def test_reach_tells_the_two_failures_apart():
    """Fakes of one of two modes are precise and lose recall and coverage; noise among them costs precision alone."""
    real = np.concatenate([RANDOM.normal(size=(200, 2)), 20 + RANDOM.normal(size=(200, 2))])
    dropped = fidelity.precision_recall(real, RANDOM.normal(size=(400, 2)))
    assert dropped.precision > 0.9 and dropped.recall < 0.6 and dropped.coverage < 0.6
    whole = np.concatenate([RANDOM.normal(size=(200, 2)), 20 + RANDOM.normal(size=(200, 2))])
    noisy = fidelity.precision_recall(real, np.concatenate([whole, RANDOM.uniform(-500, 500, size=(400, 2))]))
    assert noisy.precision < 0.6 and noisy.density < 0.7 and noisy.coverage > 0.9


def test_modes():
    """A ring: half of its modes, one sample too far; counts, share and KL by hand; NaN is near nothing."""
    angles = 2 * np.pi * np.arange(8) / 8
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    samples = np.concatenate([ring[:4], ring[:4] + np.array([0.029, 0]), ring[:2] + np.array([0, 0.06])])
    found = fidelity.mode_coverage(samples, ring, 0.01)
    assert found == pytest.approx((4, 0.8, np.log(2), 10))
    assert fidelity.mode_coverage(samples, ring, 0.01, num_deviations=7).high_quality == 1
    assert fidelity.mode_coverage(np.full((3, 2), np.nan), ring, 0.01) == (0, 0, np.inf, 3)


def test_neighbours_far_from_the_origin():
    """As around 0: squares of 1e16 would leave nothing of distances of 1."""
    x, y = np.random.default_rng(1).normal(size=(2, 40, 3)).round(6)
    near, far = fidelity.precision_recall(x, y), fidelity.precision_recall(x + 2.0**27, y + 2.0**27)
    assert far == pytest.approx(near, abs=0.03) and 0.1 < near.coverage < 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fidelity.frechet_distance(x, x[:, :1]), r"of one dim; got \(6, 2\) and \(6, 1\)"),
        (lambda x: fidelity.frechet_distance(x, np.nan * x), "fake must be finite; got 12 of 12"),
        (lambda x: fidelity.frechet_distance(x[:, 0], x), r"real must be \[num, dim\]"),
        (lambda x: fidelity.frechet_distance(x[:1], x), "num >= 2"),
        (lambda x: fidelity.kernel_distance(x, x, num_subsets=1), "must be at least 2; got 1 and 1000"),
        (fidelity.inception_score, "non-negative and sum to 1"),
        (lambda x: fidelity.inception_score(np.eye(3)), "num_splits must lie in 1 .. 3; got 10"),
        (lambda x: fidelity.precision_recall(x, x, num_neighbours=6), "num_neighbours must lie in 1 .. 5; got 6"),
        (lambda x: fidelity.mode_coverage(x, x[:, :1], 1.0), "samples and centres must be"),
        (lambda x: fidelity.mode_coverage(x, x * np.nan, 1.0), "centres must be finite"),
        (lambda x: fidelity.mode_coverage(x, x, 0.0), "must be positive; got 0.0 and 3.0"),
        (lambda x: fidelity.mode_coverage(x[:0], x, 1.0), "samples must be .* not empty"),
        (lambda x: fidelity.mode_coverage(x, x[:0], 1.0), "centres must be .* not empty"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.arange(12.0).reshape(6, 2))
