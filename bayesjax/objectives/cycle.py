"""CycleGAN: two translations, X to Y by G and Y to X by F, that undo one another.

    min_{G, F} max_{D_X, D_Y}  V(G, D_Y) + V(F, D_X) + lambda ( E_x |F(G(x)) - x|_1 + E_y |G(F(y)) - y|_1 )
                               + lambda identity ( E_y |G(y) - y|_1 + E_x |F(x) - x|_1 )

with least squares for V, lambda = 10, identity = 0.5 where colours are to stay. (There V is (D - 1)^2 for the
generators, twice `adversarial.least_squares`: with that, lambda = 5 is the paper's.) Norms are means over pixels, as in
the authors' program. Discriminators see images from a pool of former fakes, so that they do not forget them. Source:
Zhu, Park, Isola & Efros, "Unpaired image-to-image translation using cycle-consistent adversarial networks", ICCV 2017;
the pool: Shrivastava et al., "Learning from simulated and unsupervised images", CVPR 2017.
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
    """|backward(forward(x)) - x|_1, a mean over the pixels of one example or of several."""
    return mean_absolute_error(backward(forward(x)), x)


def identity_loss(forward: Translate, y: Array) -> Array:
    """|forward(y) - y|_1 of an image that is in the target's domain already, a mean over its pixels."""
    return mean_absolute_error(forward(y), y)


def mean_absolute_error(a: Array, b: Array) -> Array:
    """The mean absolute difference."""
    chex.assert_equal_shape([a, b])
    return jnp.abs(a - b).mean()


class ImagePool(NamedTuple):
    """Former fakes.

    Attributes:
      images: `[size, ...]`.
      num: int32 scalar, how many there are.
    """

    images: Array
    num: Array


def empty_pool(size: int, shape: tuple[int, ...]) -> ImagePool:
    """A pool without images.

    Raises:
      ValueError: if it has no room.
    """
    checks.count(size=size)
    return ImagePool(jnp.zeros((size, *shape)), jnp.zeros((), jnp.int32))


def exchange(rng_key: PRNGKey, pool: ImagePool, fakes: Array) -> tuple[ImagePool, Array]:
    """Puts fakes into the pool; what comes out is for the discriminator.

    While there is room each fake is kept and also comes out. Then, with probability 1/2, it takes the place of a former
    one, drawn at random, which comes out instead; or it comes out itself and is not kept.

    Args:
      rng_key: of the choices.
      pool: the pool.
      fakes: `[n, ...]`, taken one after another.
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
