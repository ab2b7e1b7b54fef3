"""Convolutions of doubled and halved images in one step, against their two steps; constants, phases, errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import quick_jit

from bayesjax.models import resampling, sngan
from bayesjax.models.convolution import convolve

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(2, 6, 8, 3)).astype(np.float32)
KERNELS = {size: RANDOM.normal(size=(size, size, 3, 4)).astype(np.float32) for size in (1, 3, 5)}
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)

TWO_STEPS = {
    "convolve_upsampled": lambda x, kernel: convolve(sngan.upsample(x), kernel),
    "convolve_pooled": lambda x, kernel: sngan.mean_pool(convolve(x, kernel)),
    "convolve_smooth_upsampled": lambda x, kernel: convolve(resampling.smooth_upsample(x), kernel),
    "convolve_smooth_pooled": lambda x, kernel: resampling.smooth_pool(convolve(x, kernel)),
}


@pytest.mark.parametrize("name", TWO_STEPS)
def test_one_step_is_two(name):
    """For kernels of 1, 3 and 5 pixels; smooth ones away from the edges. A shift by a pixel is refused."""

    def both(x, kernels):
        return [(getattr(resampling, name)(x, kernel), TWO_STEPS[name](x, kernel)) for kernel in kernels]

    for size, (one, two) in zip(KERNELS, quick_jit(both)(X, list(KERNELS.values())), strict=True):
        assert one.shape == two.shape == ((2, 12, 16, 4) if "up" in name else (2, 3, 4, 4))
        margin = 0 if "smooth" not in name else ((size + 1) // 2 if "up" in name else 1)
        inside = slice(margin, -margin or None)
        close(one[:, inside, inside], two[:, inside, inside])
        assert not np.allclose(np.roll(one, 1, axis=1)[:, inside, inside], two[:, inside, inside], atol=0.1)


def test_smooth_doubling_is_bilinear():
    """Along a ramp the doubled image is the ramp between the pixels' centres; constants stay at the edges, too."""
    ramp = np.broadcast_to(np.arange(6, dtype=np.float32)[None, :, None, None], (1, 6, 4, 1))
    both = quick_jit(lambda x: (resampling.smooth_upsample(x), resampling.smooth_pool(x)))
    np.testing.assert_allclose(both(ramp)[0][0, 1:-1, 0, 0], np.arange(1, 11) / 2 - 0.25, rtol=1e-6)
    for constant, size in zip(both(np.ones_like(ramp)), ((12, 8), (3, 2)), strict=True):
        np.testing.assert_array_equal(constant, np.ones((1, *size, 1)))


def test_smooth_halving_is_the_transpose_of_doubling():
    """<up(x), y> = 4 <x, down(y)> for images that are 0 near the edges, where the filters meet no padding."""
    small, large = (np.zeros((1, size, size, 1), np.float32) for size in (6, 12))
    small[:, 2:-2, 2:-2] = RANDOM.normal(size=(1, 2, 2, 1))
    large[:, 3:-3, 3:-3] = RANDOM.normal(size=(1, 6, 6, 1))
    doubled, halved = quick_jit(lambda x, y: (resampling.smooth_upsample(x), resampling.smooth_pool(y)))(small, large)
    close(np.sum(doubled * large), 4 * np.sum(small * halved))


@pytest.mark.parametrize("name", TWO_STEPS)
def test_even_kernels_are_refused(name):
    """ValueError naming the kernel's shape."""
    with pytest.raises(ValueError, match=r"kernel must be \[k, k, in, out\] with odd k; got \(4, 4, 3, 4\)"):
        jax.eval_shape(getattr(resampling, name), X, jnp.zeros((4, 4, 3, 4)))
