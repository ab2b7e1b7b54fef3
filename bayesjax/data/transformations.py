"""Data augmentation: small rotations, scalings and shifts of an image, as pure functions.

    transform_image(image, angle, log_scale, shift)      a given rotation, scaling and shift
    randomly_transform_image(rng_key, image, ...)        random amounts

A pixel of the result at position x' is interpolated bilinearly at x = c + exp(-log_scale) R(-angle) (x' - c - shift).
Here c is the centre of the image, and R(-angle) is the rotation by -angle. Read `objectives/infogan.py` next, whose
`invariant_information` compares an image with a transformed copy.
"""

import chex
import jax
import jax.numpy as jnp

from bayesjax import checks
from bayesjax.types import Array, ArrayLike, PRNGKey


def transform_image(image: Array, angle: ArrayLike, log_scale: ArrayLike, shift: ArrayLike) -> Array:
    """Rotates an image about its centre, scales it, and then shifts it.

    Pixels beyond the edge of the image have the value of the nearest pixel at the edge.

    Args:
      image: `[height, width, channels]`.
      angle: rotation in radians, counter-clockwise as displayed.
      log_scale: logarithm of the magnification.
      shift: (down, right) in pixels, `[2]`.

    Returns:
      `[height, width, channels]`.

    Raises:
      AssertionError: if the image does not have three axes.
    """
    chex.assert_rank(image, 3)
    height, width, _ = image.shape
    centre = (jnp.array([height, width]) - 1) / 2
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    inverse = jnp.exp(-jnp.asarray(log_scale)) * jnp.array([[cos, sin], [-sin, cos]])
    places = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"))
    offset = places - (centre + jnp.asarray(shift))[:, None, None]
    rows, columns = jnp.tensordot(inverse, offset, 1) + centre[:, None, None]

    def interpolate(channel: Array) -> Array:
        return jax.scipy.ndimage.map_coordinates(channel, [rows, columns], 1, "nearest")

    return jax.vmap(interpolate, in_axes=-1, out_axes=-1)(image)


def randomly_transform_image(
    rng_key: PRNGKey, image: Array, *, max_angle: float = 0.35, max_log_scale: float = 0.2, max_shift: float = 0.07
) -> Array:
    """Rotates, scales and shifts an image by random amounts, each uniform between minus and plus its maximum.

    The default maxima are 20 degrees, a factor of 1.2 and 2 of 28 pixels, about the variation of handwritten digits.

    Args:
      rng_key: consumed.
      image: `[height, width, channels]`.
      max_angle: largest rotation in radians.
      max_log_scale: largest logarithm of the magnification.
      max_shift: largest shift along each axis, as a fraction of the image's side.

    Returns:
      `[height, width, channels]`.

    Raises:
      ValueError: if a maximum is negative or not finite.
    """
    checks.non_negative(max_angle=max_angle, max_log_scale=max_log_scale, max_shift=max_shift)
    angle, log_scale, *shift = jax.random.uniform(rng_key, (4,), minval=-1.0, maxval=1.0)
    pixels = max_shift * jnp.stack(shift) * jnp.array(image.shape[:2])
    return transform_image(image, max_angle * angle, max_log_scale * log_scale, pixels)
