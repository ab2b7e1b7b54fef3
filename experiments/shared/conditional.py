"""Generators of labelled images with an input that chooses the class: flags, balanced samples, and classification."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import evaluation
from bayesjax.types import Array, ArrayLike, Params, PRNGKey
from experiments.harness import Column, Count, NonEmpty, Range
from experiments.shared import games

Norm = Literal["group", "batch", "none"]
JUDGE_COLUMNS = [Column("FCD"), Column("IS"), Column("precision", digits=3), Column("recall", digits=3)]
CHUNK_SIZE = 500  # images in a pass through a discriminator


@dataclass(frozen=True)
class ConditionalConfig(games.PairConfig):
    """Flags of the networks, by the guidelines of DCGAN, and of the judge of their images."""

    dataset: str = "digits"
    """Labelled images: digits, an image set of TensorFlow Datasets, or an .npz file."""
    judge: str = ""
    """Data set whose judge evaluates the images; empty: that of --dataset; none: no evaluation."""
    num_judged: Annotated[int, Range(least=12)] = 10_000
    """Number of generated images that are evaluated."""
    latent_dim: Count = 62
    """Dimension of the generator's noise, uniform on (-1, 1)."""
    generator_features: Annotated[tuple[Count, ...], NonEmpty] = (32, 16)
    """Channels of the generator's layers, from the noise to the image."""
    generator_hidden: tuple[Count, ...] = ()
    """Units of the dense layers before the generator's convolutions."""
    discriminator_features: Annotated[tuple[Count, ...], NonEmpty] = (16, 32)
    """Channels of the discriminator's layers, from the image on."""
    discriminator_hidden: tuple[Count, ...] = (128,)
    """Units of the dense layers after the discriminator's convolutions."""
    kernel_size: Count = 4
    """Height and width of the convolutions, in pixels."""
    norm: Norm = "batch"
    """Normalisation in the generator; batch uses the statistics of the current batch."""
    discriminator_norm: Norm = "group"
    """Normalisation in the discriminator and its second head; with batch, outputs depend on the rest of the batch."""


def generate_balanced(
    make: Callable[[Params, PRNGKey, Array], Array], draws: Params, rng_key: PRNGKey, num: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images, equally many of each class and of each draw, to within one.

    Args:
      make: `(params, rng_key, classes [n]) -> images [n, ...]`.
      draws: generators, params with a leading axis.
      rng_key: consumed.
      num: number of images.
      num_classes: number of classes. They alternate, and each draw continues with the class after the last one of the
        draw before it, so that the classes are balanced however few images a draw makes.

    Returns:
      Images `[num, ...]` and their classes `[num]`.
    """
    chosen = evaluation.evenly_spaced(jax.tree.leaves(draws)[0].shape[0], num)
    shares = (num - np.arange(len(chosen)) - 1) // len(chosen) + 1  # the draws are interleaved
    first = np.cumsum(shares) - shares
    images = evaluation.sample_mixture(
        lambda params, key, share: make(params[0], key, (params[1] + jnp.arange(share)) % num_classes),
        (jax.tree.map(lambda leaf: leaf[chosen], draws), first), rng_key, num,
    )  # fmt: skip
    turn, draw = np.divmod(np.arange(num), len(chosen))
    return images, (first[draw] + turn) % num_classes


def classifier(logits: Callable[[Params, Array], Array], draws: Params) -> Callable[[ArrayLike], np.ndarray]:
    """The function that returns the most probable class of images `[num, ...]`, by the mean over discriminators.

    The order of the images is random, because batch normalisation requires chunks with images of all classes.

    Args:
      logits: `(params, images [n, ...]) -> [n, num_classes]`.
      draws: discriminators, params with a leading axis.
    """

    def probabilities(params: Params, x: Array) -> Array:
        return jax.nn.softmax(logits(params, x))

    def classify(images: ArrayLike) -> np.ndarray:
        order = np.random.default_rng(0).permutation(len(images))
        shuffled = np.asarray(images, np.float32)[order]
        means = evaluation.predict_mean(probabilities, draws, shuffled, chunk_size=CHUNK_SIZE, draw_chunk_size=1)
        classes = np.zeros(len(order), int)
        classes[order] = np.asarray(means).argmax(axis=-1)
        return classes

    return classify
