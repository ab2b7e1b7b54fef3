"""Tests of divergences against independent computations in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from bayesjax import divergences

RANDOM = np.random.default_rng(0)
P, Q = RANDOM.dirichlet(np.ones(6), (2, 4))


def kl(p, q):
    return sum(pi * np.log(pi / qi) for pi, qi in zip(p, q, strict=True) if pi > 0)


def test_kl_categorical():
    """KL(p || q) = sum p log(p / q) by row; not KL(q || p); 0 at p = q; infinite where q = 0 < p, not where p = 0."""
    values = divergences.kl_categorical(jnp.asarray(P), jnp.asarray(Q))
    np.testing.assert_allclose(values, [kl(p, q) for p, q in zip(P, Q, strict=True)], rtol=1e-5)
    assert not np.allclose(values, [kl(q, p) for p, q in zip(P, Q, strict=True)], rtol=1e-2)
    assert divergences.kl_categorical(jnp.asarray(P), jnp.asarray(P)).tolist() == [0] * 4
    assert divergences.kl_categorical(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])) == jnp.inf
    assert divergences.kl_categorical(jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])) == pytest.approx(np.log(2))


def test_kl_categorical_refuses_other_shapes():
    """Probabilities on different spaces have no divergence."""
    with pytest.raises(AssertionError):
        divergences.kl_categorical(jnp.ones(3) / 3, jnp.ones(2) / 2)


def test_js_categorical():
    """JS = (KL(p || m) + KL(q || m)) / 2: symmetric, ln 2 on disjoint supports (2 ln 2 if the halves are forgotten)."""
    values = divergences.js_categorical(jnp.asarray(P), jnp.asarray(Q))
    expected = [(kl(p, (p + q) / 2) + kl(q, (p + q) / 2)) / 2 for p, q in zip(P, Q, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)
    np.testing.assert_allclose(values, divergences.js_categorical(jnp.asarray(Q), jnp.asarray(P)), rtol=1e-6)
    assert divergences.js_categorical(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0])) == pytest.approx(np.log(2))


def test_js_quadrature():
    """It is 0 at p = q, ln 2 for densities with disjoint supports, and scipy's integral for two Gaussians."""
    cell = 0.01
    x = np.arange(-12, 12, cell) + cell / 2
    log_p, log_q = scipy.stats.norm(0, 1).logpdf(x), scipy.stats.norm(1, 0.7).logpdf(x)
    assert divergences.js_quadrature(log_p, log_p, cell) == pytest.approx(0, abs=1e-12)
    shift = scipy.stats.norm(0, 0.1).logpdf(x[None] - [[-5.0], [5.0]])
    assert divergences.js_quadrature(*shift, cell) == pytest.approx(np.log(2), rel=1e-9)

    def integrand(x):
        p, q = scipy.stats.norm.pdf(x), scipy.stats.norm.pdf(x, 1, 0.7)
        return 0.5 * (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)))

    expected = scipy.integrate.quad(integrand, -8, 8, epsabs=1e-12)[0]
    assert divergences.js_quadrature(log_p, log_q, cell) == pytest.approx(expected, rel=1e-8)


def test_entropy_categorical():
    """ln n for the uniform, 0 for a certainty, scipy's value between."""
    np.testing.assert_allclose(
        divergences.entropy_categorical(jnp.asarray(P)), scipy.stats.entropy(P, axis=-1), rtol=1e-5
    )
    assert divergences.entropy_categorical(jnp.ones(8) / 8) == pytest.approx(np.log(8))
    assert divergences.entropy_categorical(jnp.array([0.0, 1.0])) == 0


def test_kl_diagonal_gaussian():
    """Sum over coordinates of the integral p log(p / q), by quadrature; the other direction differs."""
    mean0, scale0, mean1, scale1 = (np.array(row) for row in ([0.3, -1.0], [0.7, 1.9], [-0.2, 0.5], [1.1, 0.8]))

    def integral(mean0, scale0, mean1, scale1):
        p, q = scipy.stats.norm(mean0, scale0), scipy.stats.norm(mean1, scale1)
        bounds = (mean0 - 12 * scale0, mean0 + 12 * scale0)
        return scipy.integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), *bounds, epsabs=1e-11)[0]

    expected = sum(integral(*column) for column in zip(mean0, scale0, mean1, scale1, strict=True))
    arguments = [jnp.asarray(row, jnp.float32) for row in (mean0, scale0, mean1, scale1)]
    assert divergences.kl_diagonal_gaussian(*arguments) == pytest.approx(expected, rel=1e-5)
    assert divergences.kl_diagonal_gaussian(*arguments[2:], *arguments[:2]) != pytest.approx(expected, rel=1e-2)


def test_kl_diagonal_gaussian_does_not_broadcast_events():
    """[n] against [n, 1] would be n^2 terms; a batch against one distribution is meant."""
    with pytest.raises(ValueError, match=r"one length of the last axis; got shapes \[\(3,\), \(3, 1\)"):
        divergences.kl_diagonal_gaussian(jnp.ones(3), jnp.ones((3, 1)))
    assert divergences.kl_diagonal_gaussian(jnp.ones((2, 3)), jnp.ones(3), 0.0).shape == (2,)


def test_kl_diagonal_gaussian_to_the_standard_normal():
    """Defaults are N(0, I); zero there, and the reparameterised VAE's 1/2 sum(s^2 + m^2 - 1 - log s^2) elsewhere."""
    mean, log_scale = jnp.asarray(RANDOM.normal(size=(2, 3, 5)), jnp.float32)
    scale = jnp.exp(log_scale)
    expected = 0.5 * (scale**2 + mean**2 - 1 - 2 * log_scale).sum(axis=-1)
    np.testing.assert_allclose(divergences.kl_diagonal_gaussian(mean, scale), expected, rtol=1e-5)
    assert divergences.kl_diagonal_gaussian(jnp.zeros(4), jnp.ones(4)) == 0
    narrow = divergences.kl_diagonal_gaussian(jnp.zeros(1), jnp.full(1, 1e-23))  # its square is 0 in float32
    assert float(narrow) == pytest.approx(23 * np.log(10) - 0.5, rel=1e-6)


def test_gradients_are_finite_at_certainty():
    """Training may drive a probability to 0: JS keeps a finite gradient in the logits that made it."""
    logits = jnp.array([30.0, -30.0, -80.0])
    gradient = jax.grad(lambda m: divergences.js_categorical(jax.nn.softmax(m), jnp.ones(3) / 3))(logits)
    assert jnp.isfinite(gradient).all()


def test_cross_entropy_categorical():
    """H(p, q) = H(p) + KL(p || q); not H(q, p); infinite where q = 0 < p, and where p = 0 it does not matter."""
    values = divergences.cross_entropy_categorical(jnp.asarray(P), jnp.asarray(Q))
    np.testing.assert_allclose(values, -(P * np.log(Q)).sum(axis=-1), rtol=1e-5)
    np.testing.assert_allclose(values, divergences.entropy_categorical(P) + divergences.kl_categorical(P, Q), rtol=1e-5)
    assert not np.allclose(values, divergences.cross_entropy_categorical(jnp.asarray(Q), jnp.asarray(P)), rtol=1e-2)
    assert divergences.cross_entropy_categorical(jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])) == jnp.inf
    assert divergences.cross_entropy_categorical(jnp.array([1.0, 0.0]), jnp.array([1.0, 0.0])) == 0


MEANS = RANDOM.normal(size=(2, 3))
COVARIANCES = [a @ a.T + 0.1 * np.eye(3) for a in RANDOM.normal(size=(2, 3, 3))]


def test_kl_gaussian():
    """The mean of log p - log q over a million draws of p, within 4 standard errors; and the diagonal closed form."""
    p, q = (scipy.stats.multivariate_normal(m, s) for m, s in zip(MEANS, COVARIANCES, strict=True))
    x = p.rvs(10**6, random_state=1)
    differences = p.logpdf(x) - q.logpdf(x)
    with jax.enable_x64(True):
        value = float(divergences.kl_gaussian(MEANS[0], COVARIANCES[0], MEANS[1], COVARIANCES[1]))
        other = float(divergences.kl_gaussian(MEANS[1], COVARIANCES[1], MEANS[0], COVARIANCES[0]))
        scales = np.array([[0.5, 1.0, 2.0], [1.5, 0.7, 1.0]])
        full = divergences.kl_gaussian(MEANS[0], np.diag(scales[0] ** 2), MEANS[1], np.diag(scales[1] ** 2))
        diagonal = divergences.kl_diagonal_gaussian(MEANS[0], scales[0], MEANS[1], scales[1])
        assert float(full) == pytest.approx(float(diagonal), rel=1e-10)
    error = differences.std() / np.sqrt(len(x))
    assert abs(differences.mean() - value) < 4 * error < 0.1 * value
    assert abs(differences.mean() - other) > 20 * error


def test_frechet_gaussian():
    """In one dimension (m - m')^2 + (s - s')^2; with scipy's matrix square root in three; 0 of equals; symmetric."""
    assert divergences.frechet_gaussian([1.0], [[4.0]], [-1.0], [[9.0]]) == pytest.approx(4 + 1)
    (m0, m1), (s0, s1) = MEANS, COVARIANCES
    expected = np.sum((m0 - m1) ** 2) + np.trace(s0 + s1 - 2 * scipy.linalg.sqrtm(s0 @ s1).real)
    assert divergences.frechet_gaussian(m0, s0, m1, s1) == pytest.approx(expected, rel=1e-10)
    assert divergences.frechet_gaussian(m1, s1, m0, s0) == pytest.approx(expected, rel=1e-10)
    assert divergences.frechet_gaussian(m0, s0, m0, s0) == pytest.approx(0, abs=1e-10)


def test_frechet_gaussian_of_singular_covariances():
    """Fewer samples than dimensions: real, and that of the subspace that the samples span."""
    x = RANDOM.normal(size=(2, 5))
    wide = np.concatenate([x, np.zeros((2, 40))], axis=1)
    moments = [(a.mean(axis=0), np.cov(a.T)) for a in (x, x[::-1] * [1, 2, 3, 4, 5], wide, wide[::-1])]
    assert divergences.frechet_gaussian(*moments[2], *moments[3]) == pytest.approx(0, abs=1e-6)
    in_wide = [(np.pad(m, (0, 40)), np.pad(s, (0, 40))) for m, s in moments[:2]]
    expected = divergences.frechet_gaussian(*moments[0], *moments[1])
    assert expected > 1
    assert divergences.frechet_gaussian(*in_wide[0], *in_wide[1]) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(AssertionError):
        divergences.frechet_gaussian(m := np.zeros(3), np.eye(3), m, np.eye(2))


def pairs(x, y, kernel):
    """k of every pair, one by one."""
    return np.array([[kernel(a, b) for b in y] for a in x])


X, Y = RANDOM.normal(size=(7, 2)), 0.5 + RANDOM.normal(size=(5, 2))
KERNELS = {
    "gaussian": (
        divergences.gaussian_kernel([0.5, 2.0]),
        lambda a, b: sum(np.exp(-np.sum((a - b) ** 2) / (2 * s**2)) for s in (0.5, 2.0)),
    ),
    "polynomial": (divergences.polynomial_kernel(), lambda a, b: (a @ b / 2 + 1) ** 3),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("chunk_size", [2, 3, 100])
def test_mmd_squared(name, chunk_size):
    """Sums over pairs written out, with and without a point's pair with itself; the size of the blocks is no matter."""
    kernel, one = KERNELS[name]
    xx, yy, xy = pairs(X, X, one), pairs(Y, Y, one), pairs(X, Y, one)
    biased = xx.mean() + yy.mean() - 2 * xy.mean()
    unbiased = (xx.sum() - np.trace(xx)) / 42 + (yy.sum() - np.trace(yy)) / 20 - 2 * xy.mean()
    assert abs(biased - unbiased) > 0.1
    for is_unbiased, expected in ((False, biased), (True, unbiased)):
        mmd = functools.partial(divergences.mmd_squared, kernel=kernel, is_unbiased=is_unbiased, chunk_size=chunk_size)
        assert float(jax.jit(mmd)(X, Y)) == pytest.approx(expected, rel=1e-4)


def test_mmd_squared_far_from_the_origin():
    """In float32 around 1000 as around 0: the squares of the distances are not left to cancel."""
    kernel = divergences.gaussian_kernel([1.0])
    x, y = (jnp.asarray(1000 + np.round(z, 2), jnp.float32) for z in (X, Y))
    mmd = jax.jit(functools.partial(divergences.mmd_squared, kernel=kernel, is_unbiased=True))
    near = mmd(x - 1000, y - 1000)
    assert float(mmd(x, y)) == pytest.approx(float(near), abs=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("make", [divergences.polynomial_kernel, lambda: divergences.gaussian_kernel([4.0])])
def test_mmd_squared_of_half_precision(dtype, make):
    """As of the same numbers in float32; in half precision neither kernel's values are right to 0.1 %."""
    kernel = make()
    x, y = (jnp.asarray(z, dtype) for z in np.random.default_rng(2).normal(size=(2, 300, 16)))
    mmd = functools.partial(divergences.mmd_squared, is_unbiased=True)
    expected = mmd(x.astype(jnp.float32), y.astype(jnp.float32), kernel)
    assert float(mmd(x, y, kernel)) == pytest.approx(float(expected), rel=1e-4) and abs(expected) > 1e-5
    assert not jnp.abs(mmd(x, y, lambda x, y: kernel(x, y).astype(dtype)) / expected - 1) < 0.001


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_square_distances_of_half_precision(dtype):
    """Those of the same numbers in float32, in float32: squares beyond 65504 are finite, small ones not 0."""
    x, y = (jnp.asarray(z, dtype) for z in ([[0.0, 1.0], [400.0, 3.0]], [[0.0, 1.01], [0.0, 1.0]]))
    found = divergences.squared_distances(x, y)
    differences = np.asarray(x, np.float64)[:, None] - np.asarray(y, np.float64)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, (differences**2).sum(axis=-1), rtol=1e-5, atol=1e-6)


def test_mmd_squared_says_what_does_not_fit():
    kernel, x = divergences.gaussian_kernel([1.0]), jnp.zeros((4, 2))
    for y in (jnp.zeros((4, 3)), jnp.zeros((0, 2)), jnp.zeros(4)):
        with pytest.raises(ValueError, match=r"x and y must be \[num >= 1, dim\] with the same dim; got \(4, 2\) and "):
            divergences.mmd_squared(x, y, kernel)
    with pytest.raises(ValueError, match="chunk_size must be at least 1; got 0"):
        divergences.mmd_squared(x, x, kernel, chunk_size=0)


def test_mmd_squared_has_a_gradient_in_blocks():
    """That of the whole, which is that of finite differences; 0 at equal samples."""
    kernel = divergences.gaussian_kernel([1.0])
    with jax.enable_x64(True):
        whole, blocked = (
            jax.jit(jax.grad(lambda x, size=size: divergences.mmd_squared(x, Y, kernel, chunk_size=size)))(X)
            for size in (100, 2)
        )
        np.testing.assert_allclose(whole, blocked, rtol=1e-10)
        step = np.zeros_like(X)
        step[3, 1] = 1e-5
        value = jax.jit(lambda x: divergences.mmd_squared(x, Y, kernel))
        up, down = (value(X + sign * step) for sign in (1, -1))
        assert float(whole[3, 1]) == pytest.approx(float(up - down) / 2e-5, rel=1e-5)
        equal = jax.jit(jax.grad(value))(jnp.asarray(Y))
        np.testing.assert_allclose(equal, 0, atol=1e-12)


@pytest.mark.slow
def test_unbiased_mmd_squared_has_mean_zero_between_equal_laws():
    """1000 pairs of samples of one law: the mean is 0 within 4 standard errors (false alarms: 1e-4); the biased one's
    is (k(x, x) - E k(x, x')) (1/n + 1/m), which the same bound refuses."""
    kernel = divergences.gaussian_kernel([1.0])
    x, y = jnp.asarray(RANDOM.normal(size=(1000, 10, 2))), jnp.asarray(RANDOM.normal(size=(1000, 8, 2)))
    unbiased, biased = (
        np.asarray(jax.vmap(lambda x, y, f=flag: divergences.mmd_squared(x, y, kernel, is_unbiased=f))(x, y))
        for flag in (True, False)
    )
    error = unbiased.std() / np.sqrt(1000)
    assert abs(unbiased.mean()) < 4 * error
    expected = (1 - 1 / 3) * (1 / 10 + 1 / 8)  # E k of two standard normals in the plane is 1 / (1 + 2)
    assert abs(biased.mean() - expected) < 4 * biased.std() / np.sqrt(1000)
    assert biased.mean() > 4 * error
    with pytest.raises(ValueError, match="is_unbiased needs two points"):
        divergences.mmd_squared(x[0, :1], y[0], kernel, is_unbiased=True)
