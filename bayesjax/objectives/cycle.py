"""CycleGAN: unpaired translation between image domains X and Y by generators G: X to Y and F: Y to X.

    min_{G, F} max_{D_X, D_Y}  V(G, D_Y) + V(F, D_X) + lambda ( E_x |F(G(x)) - x|_1 + E_y |G(F(y)) - y|_1 )
                               + lambda identity ( E_y |G(y) - y|_1 + E_x |F(x) - x|_1 )

The cycle terms make G and F approximate inverses of each other. D_X and D_Y are discriminators. V is the value of the
least-squares game, lambda = 10, and identity = 0.5 where colours should be preserved. The paper's generator loss
(D - 1)^2 is twice that of `adversarial.least_squares`, so its lambda corresponds to 5 here. Norms are means over
pixels, as in the authors' program. The discriminators are trained on a pool of earlier generated images, so that they
still recognise them. Sources: Zhu, Park, Isola & Efros, "Unpaired image-to-image translation using cycle-consistent
adversarial networks", ICCV 2017; Shrivastava et al., "Learning from simulated and unsupervised images through
adversarial training", CVPR 2017 (the pool). Read `experiments/cyclegan.py` next.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from bayesjax import checks
from bayesjax.types import Array, PRNGKey

Translate = Callable[[Array], Array]


def cycle_loss(forward: Translate, backward: Translate, x: Array) -> Array:
    """Cycle-consistency loss |backward(forward(x)) - x|_1, averaged over the pixels and channels of the images.

    Args:
      forward: translates images to the other domain.
      backward: translates images of the other domain back.
      x: one image `[height, width, channels]`, or a batch of images with a leading axis.

    Returns:
      A scalar.

    Raises:
      AssertionError: if `backward(forward(x))` does not have the shape of `x`.
    """
    return mean_absolute_error(backward(forward(x)), x)


def identity_loss(forward: Translate, y: Array) -> Array:
    """Identity loss |forward(y) - y|_1 of an image of the target domain, averaged over its pixels and channels.

    Args:
      forward: translates an image to the target domain.
      y: one image of the target domain, `[height, width, channels]`.

    Returns:
      A scalar.

    Raises:
      AssertionError: if `forward(y)` does not have the shape of `y`.
    """
    return mean_absolute_error(forward(y), y)


def mean_absolute_error(a: Array, b: Array) -> Array:
    """Mean absolute difference of two arrays of equal shape, a scalar.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([a, b])
    return jnp.abs(a - b).mean()


class ImagePool(NamedTuple):
    """A pool of earlier generated images.

    Attributes:
      images: array `[size, ...]`, in which the first `num` images are valid.
      num: number of images in the pool, an int32 scalar.
    """

    images: Array
    num: Array


def empty_pool(size: int, shape: tuple[int, ...]) -> ImagePool:
    """Returns a pool without images.

    Args:
      size: capacity in images, at least 1.
      shape: shape of one image.

    Raises:
      ValueError: if `size` is not positive.
    """
    checks.count(size=size)
    return ImagePool(jnp.zeros((size, *shape)), jnp.zeros((), jnp.int32))


def exchange(rng_key: PRNGKey, pool: ImagePool, fakes: Array) -> tuple[ImagePool, Array]:
    """Adds generated images to the pool and returns images for the discriminator.

    While the pool is not full, each image is added and also returned. When the pool is full, a generated image replaces
    a random image of the pool with probability 1/2, and the replaced image is returned. Otherwise the generated image
    is returned and the pool stays unchanged.

    Args:
      rng_key: consumed.
      pool: the pool.
      fakes: generated images `[n, ...]`, processed in order.

    Returns:
      The new pool, and images `[n, ...]` for the discriminator.

    Raises:
      AssertionError: if the generated images do not have the shape of the images in the pool.
    """
    chex.assert_equal_shape_suffix([pool.images, fakes], fakes.ndim - 1)
    size = len(pool.images)

    def one(pool: ImagePool, keyed: tuple[PRNGKey, Array]) -> tuple[ImagePool, Array]:
        key, fake = keyed
        place_key, coin_key = jax.random.split(key)
        is_full = pool.num == size
        place = jnp.where(is_full, jax.random.randint(place_key, (), 0, size), pool.num)
        is_kept = ~is_full | jax.random.bernoulli(coin_key)
        former = pool.images[place]
        images = pool.images.at[place].set(jnp.where(is_kept, fake, former))
        out = jnp.where(is_full & is_kept, former, fake)
        return ImagePool(images, jnp.minimum(pool.num + 1, size)), out

    return jax.lax.scan(one, pool, (jax.random.split(rng_key, len(fakes)), fakes))
