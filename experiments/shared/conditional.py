"""Class-conditional generators of images: flags, class-balanced samples, and classification by discriminators."""

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
CHUNK_SIZE = 500  # number of images that a discriminator evaluates at once


@dataclass(frozen=True)
class ConditionalConfig(games.PairConfig):
    """Flags of the DCGAN networks, and of the classifier (the judge) that evaluates generated images."""

    dataset: str = "digits"
    """Labelled images: `digits`, the name of a TensorFlow Datasets image set, or the path of an .npz file."""
    judge: str = ""
    """Data set on which the judge, the classifier that evaluates generated images, was trained. If empty, it is that of
    --dataset; `none` skips the evaluation."""
    num_judged: Annotated[int, Range(least=12)] = 10_000
    """Number of generated images that are evaluated, at least 12."""
    latent_dim: Count = 62
    """Dimension of the generator's noise, uniform on (-1, 1)."""
    generator_features: Annotated[tuple[Count, ...], NonEmpty] = (32, 16)
    """Numbers of channels of the generator's layers, in order from the noise to the image."""
    generator_hidden: tuple[Count, ...] = ()
    """Numbers of units of the dense layers before the generator's convolutions."""
    discriminator_features: Annotated[tuple[Count, ...], NonEmpty] = (16, 32)
    """Numbers of channels of the discriminator's layers, in order from the image to the logits."""
    discriminator_hidden: tuple[Count, ...] = (128,)
    """Numbers of units of the dense layers after the discriminator's convolutions."""
    kernel_size: Count = 4
    """Height and width of the convolution kernels, in pixels."""
    norm: Norm = "batch"
    """Normalisation in the generator; batch uses the statistics of the current batch."""
    discriminator_norm: Norm = "group"
    """Normalisation in the discriminator and its class or code head. With batch normalisation, the output for an image
    depends on the other images of its minibatch."""


def generate_balanced(
    make: Callable[[Params, PRNGKey, Array], Array], draws: Params, rng_key: PRNGKey, num: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Generates images whose numbers per class, and per draw of the generator, differ by at most one.

    Args:
      make: `(params, rng_key, classes [n]) -> images [n, ...]`.
      draws: parameters of the generators, leaves `[num_draws, ...]`.
      rng_key: random key.
      num: number of images.
      num_classes: number of classes. A draw's images take the classes in turn. Each draw continues with the class after
        the last class of the draw before it, which balances the classes even if a draw makes few images.

    Returns:
      Images `[num, ...]` and their classes `[num]`.
    """
    chosen = evaluation.evenly_spaced(jax.tree.leaves(draws)[0].shape[0], num)
    shares = (num - np.arange(len(chosen)) - 1) // len(chosen) + 1  # the images of all draws are interleaved
    first = np.cumsum(shares) - shares
    images = evaluation.sample_mixture(
        lambda params, key, share: make(params[0], key, (params[1] + jnp.arange(share)) % num_classes),
        (jax.tree.map(lambda leaf: leaf[chosen], draws), first), rng_key, num,
    )  # fmt: skip
    turn, draw = np.divmod(np.arange(num), len(chosen))
    return images, (first[draw] + turn) % num_classes


def classifier(logits: Callable[[Params, Array], Array], draws: Params) -> Callable[[ArrayLike], np.ndarray]:
    """Returns the function `images [num, ...] -> classes [num]`, by the mean probabilities of the discriminators.

    It evaluates the images in random order, because batch normalisation requires chunks with images of all classes.

    Args:
      logits: `(params, images [n, ...]) -> [n, num_classes]`.
      draws: parameters of the discriminators, leaves `[num_draws, ...]`.
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
