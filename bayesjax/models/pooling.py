"""Max-pooling over 2 x 2 blocks and unpooling by pooling indices, without gathers or scatters.

    pool(x)[i, j] = max of block (i, j),    index(x)[i, j] = position of the maximum in its block
    unpool(y, index)[block (i, j)] = y[i, j] at the position index[i, j], and 0 elsewhere

The gradient of XLA's max-pooling is a scatter, which is slow. The layout is `[..., height, width, channels]`. Odd
heights and widths are padded with -inf. Source of unpooling: Badrinarayanan, Kendall & Cipolla, "SegNet: a deep
convolutional encoder-decoder architecture for image segmentation", PAMI 2017, section 3. Read `segnet.py` next, which
uses the pooling indices.
"""

import jax
import jax.numpy as jnp

from bayesjax.types import Array


def max_pool(x: Array) -> Array:
    """Maximum of each 2 x 2 block, `[..., h, w, c]` to `[..., ceil(h / 2), ceil(w / 2), c]`.

    The gradient of a block is passed to its first maximum.
    """
    return _max_of_blocks(_blocks(x))


@jax.custom_jvp
def _max_of_blocks(blocks: Array) -> Array:
    return blocks.max(axis=-2)


@_max_of_blocks.defjvp
def _max_of_blocks_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    # JAX's rule divides by the number of elements that equal the maximum. XLA may compute the elements again with other
    # roundings, so that none equals the maximum, and 0 / 0 is NaN. An argmax always selects one element.
    (blocks,), (tangent,) = primals, tangents
    is_first_maximum = jax.nn.one_hot(blocks.argmax(axis=-2), 4, axis=-2, dtype=bool)
    return blocks.max(axis=-2), jnp.where(is_first_maximum, tangent, 0).sum(axis=-2)


def max_pool_with_indices(x: Array) -> tuple[Array, Array]:
    """Maximum of each 2 x 2 block, and the pooling indices, which are the positions of the maxima in their blocks.

    Args:
      x: images `[..., h, w, c]`.

    Returns:
      Maxima and indices, each `[..., ceil(h / 2), ceil(w / 2), c]`. Indices are integers 0 .. 3, row by row.
    """
    blocks = _blocks(x)
    return blocks.max(axis=-2), blocks.argmax(axis=-2)


def max_unpool(y: Array, indices: Array, size: tuple[int, int]) -> Array:
    """Expands each value to a 2 x 2 block with the value at its pooling index and 0 at the other three positions.

    Args:
      y: values `[..., h, w, c]`.
      indices: pooling indices from `max_pool_with_indices`, `[..., h, w, c]`.
      size: (height, width) of the result, at most (2 h, 2 w).

    Returns:
      Images `[..., *size, c]`.
    """
    blocks = y[..., None, :] * jax.nn.one_hot(indices, 4, axis=-2, dtype=y.dtype)
    *batch, height, width, _, channels = blocks.shape
    blocks = blocks.reshape(*batch, height, width, 2, 2, channels)
    image = jnp.moveaxis(blocks, -3, -4).reshape(*batch, 2 * height, 2 * width, channels)
    return image[..., : size[0], : size[1], :]


def _blocks(x: Array) -> Array:
    """The 2 x 2 blocks of x, `[..., ceil(h / 2), ceil(w / 2), 4, c]`."""
    *batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        pads = [(0, 0)] * len(batch) + [(0, height % 2), (0, width % 2), (0, 0)]
        x = jnp.pad(x, pads, constant_values=-jnp.inf)
    blocks = x.reshape(*batch, -(-height // 2), 2, -(-width // 2), 2, channels)
    return jnp.moveaxis(blocks, -3, -4).reshape(*blocks.shape[: len(batch) + 1], blocks.shape[-3], 4, channels)
