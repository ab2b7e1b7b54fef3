"""Moved images: against the exact turn, shift and scale of pixels; random movements stay within their bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from bayesjax import data

IMAGE = np.random.default_rng(0).uniform(size=(7, 9, 2)).astype(np.float32)
SQUARE = IMAGE[:, :7]


@pytest.fixture(scope="module")
def moved():
    return jax.jit(data.transform_image)


def test_exact_cases(moved):
    """Nothing; a quarter turn counter-clockwise; a shift down and to the left, the edge going on."""
    np.testing.assert_allclose(moved(IMAGE, 0.0, 0.0, jnp.zeros(2)), IMAGE, atol=1e-6)
    np.testing.assert_allclose(moved(SQUARE, jnp.pi / 2, 0.0, jnp.zeros(2)), np.rot90(SQUARE), atol=1e-4)
    shifted = np.pad(IMAGE, ((1, 0), (0, 2), (0, 0)), mode="edge")[:-1, 2:]
    np.testing.assert_allclose(moved(IMAGE, 0.0, 0.0, jnp.array([1.0, -2.0])), shifted, atol=1e-5)


def test_all_at_once_is_scipy_s(moved):
    """A turn, a scale and a shift are one matrix; that of the inverse turn gives another image."""
    angle, log_scale, shift = 0.3, 0.2, np.array([0.7, -1.1])

    def expected(angle):
        cos, sin = np.cos(angle), np.sin(angle)
        back = np.exp(-log_scale) * np.array([[cos, sin], [-sin, cos]])
        offset = np.array([3, 4]) - back @ (np.array([3, 4]) + shift)
        of_channel = [ndimage.affine_transform(IMAGE[..., c], back, offset, order=1, mode="nearest") for c in (0, 1)]
        return np.stack(of_channel, axis=-1)

    found = moved(IMAGE, angle, log_scale, shift)
    np.testing.assert_allclose(found, expected(angle), atol=1e-5)
    assert np.abs(found - expected(-angle)).max() > 0.1


def test_random_movements():
    """None if no movement is allowed; a shift alone moves the mass by at most that share of the side, both ways.

    A turn or a scale alone leaves the centre where it is, and the corners not. Of 200 draws the largest shift is above
    0.9 of its bound, and their mean within 0.23 of it, but for false alarms below 1e-7.
    """
    keys, dot = jax.random.split(jax.random.key(0), 200), np.zeros((21, 11, 1), np.float32)
    dot[10, 5] = 1
    still = data.randomly_transform_image(keys[0], dot, max_angle=0.0, max_log_scale=0.0, max_shift=0.0)
    np.testing.assert_allclose(still, dot, atol=1e-6)
    only = jax.jit(
        jax.vmap(lambda key: data.randomly_transform_image(key, dot, max_angle=0.0, max_log_scale=0.0, max_shift=0.2))
    )
    found = np.asarray(only(keys))[..., 0]
    np.testing.assert_allclose(found.sum(axis=(1, 2)), 1, atol=1e-5)
    for axis, side in ((1, 11), (2, 21)):
        shares = ((found.sum(axis=axis) * np.arange(side)).sum(axis=1) - side // 2) / (0.2 * side)
        assert 0.9 < np.abs(shares).max() <= 1 + 1e-4 and abs(shares.mean()) < 0.23
    for only in ({"max_angle": 0.35}, {"max_log_scale": 0.2}):
        none = {"max_angle": 0.0, "max_log_scale": 0.0, "max_shift": 0.0}
        image = data.randomly_transform_image(keys[0], IMAGE, **{**none, **only})
        np.testing.assert_allclose(image[3, 4], IMAGE[3, 4], atol=1e-5)
        assert np.abs(image - IMAGE).max() > 0.1
    with pytest.raises(ValueError, match=r"max_shift must be non-negative and finite; got -0.1"):
        data.randomly_transform_image(keys[0], IMAGE, max_shift=-0.1)
