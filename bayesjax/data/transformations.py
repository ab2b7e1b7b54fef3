"""Small transformations of images that leave what they show as it is, as pure functions of a key.

transform_image(image, angle, log_scale, shift)      one image, turned, scaled and shifted by bilinear interpolation
randomly_transform_image(rng_key, image, ...)        likewise, by random amounts
"""

import chex
import jax
import jax.numpy as jnp

from bayesjax import checks
from bayesjax.types import Array, ArrayLike, PRNGKey


def transform_image(image: Array, angle: ArrayLike, log_scale: ArrayLike, shift: ArrayLike) -> Array:
    """An image turned about its centre, scaled, and then shifted; beyond the border its edge goes on.

    Args:
      image: `[height, width, channels]`.
      angle: in radians, counter-clockwise as the image is seen.
      log_scale: the image grows by exp(log_scale).
      shift: (down, right) in pixels, `[2]`.

    Returns:
      `[height, width, channels]`.
    """
    chex.assert_rank(image, 3)
    height, width, _ = image.shape
    centre = (jnp.array([height, width]) - 1) / 2
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    # From where a pixel lands back to its own place.
    back = jnp.exp(-jnp.asarray(log_scale)) * jnp.array([[cos, sin], [-sin, cos]])
    places = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"))
    offset = places - (centre + jnp.asarray(shift))[:, None, None]
    rows, columns = jnp.tensordot(back, offset, 1) + centre[:, None, None]
    of_channel = lambda channel: jax.scipy.ndimage.map_coordinates(channel, [rows, columns], 1, "nearest")  # noqa: E731
    return jax.vmap(of_channel, in_axes=-1, out_axes=-1)(image)


def randomly_transform_image(
    rng_key: PRNGKey, image: Array, *, max_angle: float = 0.35, max_log_scale: float = 0.2, max_shift: float = 0.07
) -> Array:
    """An image moved by amounts that are uniform between minus and plus their largest.

    The defaults, 20 degrees, a fifth and two of 28 pixels, are about how much handwriting of one digit varies.

    Args:
      rng_key: consumed.
      image: `[height, width, channels]`.
      max_angle: in radians.
      max_log_scale: of the logarithm of the scale.
      max_shift: as a share of the side along each axis.

    Returns:
      `[height, width, channels]`.

    Raises:
      ValueError: if an amount is negative or not finite.
    """
    checks.non_negative(max_angle=max_angle, max_log_scale=max_log_scale, max_shift=max_shift)
    angle, log_scale, *shift = jax.random.uniform(rng_key, (4,), minval=-1.0, maxval=1.0)
    pixels = max_shift * jnp.stack(shift) * jnp.array(image.shape[:2])
    return transform_image(image, max_angle * angle, max_log_scale * log_scale, pixels)
