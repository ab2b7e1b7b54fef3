"""Inversion of a generator: the latent input whose image is closest to a given image.

    min over w of d(G(w), x)

w is any input of the generator: noise, a style of StyleGAN, or the styles of all its layers (often called w+, which
represents images of any kind but leaves the distribution of styles). d is a distance of pixels or of features. The
minimum is local, so start from the mean style, or from the best of several draws. Sources: Zhu, Kraehenbuehl,
Shechtman & Efros, "Generative visual manipulation on the natural image manifold", ECCV 2016; Karras et al., "Analyzing
and improving the image quality of StyleGAN", CVPR 2020, section 5. Read `models/stylegan.py` next for the styles.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import checks, kernels
from bayesjax.types import Array, PRNGKey, PyTree


class Inversion(NamedTuple):
    """Result of `invert_generator`.

    Attributes:
      latent: the latent input after the last step.
      distances: distances before each step, `[num_steps]`.
    """

    latent: PyTree
    distances: Array


def invert_generator(
    generate: Callable[[PyTree], Array],
    distance: Callable[[Array, Array], Array],
    image: Array,
    start: PyTree,
    optimizer: Any,
    *,
    num_steps: int,
) -> Inversion:
    """Finds the latent input of one image by gradient descent.

    The function is pure and should be called under `jit`. Use `vmap` for a batch of images.

    Args:
      generate: `latent -> image`, deterministic, such as
        `lambda w: synthesis.apply(variables, repeat_style(w[None], num_layers))[0]`.
      distance: `(generated, image) -> scalar`, such as the mean squared difference of pixels or of features.
      image: the given image `[h, w, c]`.
      start: first latent input, a pytree of arrays.
      optimizer: Optax optimiser, such as `optax.adam(0.05)`.
      num_steps: number of steps.

    Returns:
      The latent input after the last step, and the distance before each step.

    Raises:
      ValueError: if the distance is not a scalar.
    """

    distance = checks.scalar_valued(distance, "distance")

    def loss(latent: PyTree, rng_key: PRNGKey, batch: Array) -> Array:
        del rng_key
        return distance(generate(latent), batch)

    kernel, rng_key = kernels.optimize(loss, optimizer), jax.random.key(0)  # the loss does not use the key

    def step(state: Any, _: None) -> tuple[Any, Array]:
        state, info = kernel.step(rng_key, state, image)
        return state, info.loss

    state, distances = jax.lax.scan(step, kernel.init(start, rng_key), length=num_steps)
    return Inversion(state.position, jnp.asarray(distances))
