"""Pooling over 2 x 2 blocks, and its undoing, without gathers or scatters: XLA's own max-pool gradient is a scatter.

    pool(x)[i, j] = max of the block,   where(x) = 1 at the first place of the block that has it,
    unpool(y, where(x))[block] = y[i, j] where(x)

Layout `[..., height, width, channels]`; heights and widths are even, or are filled up with what no maximum is.
Source of unpooling by remembered places: Badrinarayanan, Kendall & Cipolla, "SegNet", PAMI 2017, section 3.
"""

import jax
import jax.numpy as jnp

from bayesjax.types import Array


def max_pool(x: Array) -> Array:
    """`[..., h, w, c]` to `[..., ceil(h / 2), ceil(w / 2), c]`: the maximum of each block."""
    return _blocks(x).max(axis=-2)


def max_pool_with_indices(x: Array) -> tuple[Array, Array]:
    """`max_pool`, and where in its block each maximum was: integers 0 .. 3, row by row, shaped like the maxima."""
    blocks = _blocks(x)
    return blocks.max(axis=-2), blocks.argmax(axis=-2)


def max_unpool(y: Array, places: Array, size: tuple[int, int]) -> Array:
    """Each number in its remembered place of its block, 0 in the other three.

    Args:
      y: `[..., h, w, c]`, any number of channels that fits the places.
      places: as `max_pool_with_indices` gave them.
      size: (height, width) of the result, at most (2 h, 2 w).
    """
    blocks = y[..., None, :] * jax.nn.one_hot(places, 4, axis=-2, dtype=y.dtype)
    *batch, height, width, _, channels = blocks.shape
    blocks = blocks.reshape(*batch, height, width, 2, 2, channels)
    image = jnp.moveaxis(blocks, -3, -4).reshape(*batch, 2 * height, 2 * width, channels)
    return image[..., : size[0], : size[1], :]


def _blocks(x: Array) -> Array:
    """`[..., h / 2, w / 2, 4, c]`."""
    *batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        pads = [(0, 0)] * len(batch) + [(0, height % 2), (0, width % 2), (0, 0)]
        x = jnp.pad(x, pads, constant_values=-jnp.inf)
    blocks = x.reshape(*batch, -(-height // 2), 2, -(-width // 2), 2, channels)
    return jnp.moveaxis(blocks, -3, -4).reshape(*blocks.shape[: len(batch) + 1], blocks.shape[-3], 4, channels)
