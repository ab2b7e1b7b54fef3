"""A classifier whose features measure how close generated images are to real ones.

    judge = Judge("mnist-ac5f99cb", (28, 28, 1), network, params)       a trained `models.classifier.Classifier`
    real, fake = judge.read(test_images), judge.read(samples)
    report = generation_report(real.features, fake.features, fake.probabilities)

The features are the last hidden layer of a small classifier that is trained on the data set in question. Distances of
such features can be compared only with distances of the same judge, whose name should contain the hash of its weights.
`pack` and `unpack` write and read the weights. `experiments/shared/judge.py` trains judges; read `generation.py` next
for the measures and their sources.
"""

import dataclasses
import functools
import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import tree
from bayesjax.data import files
from bayesjax.models.classifier import Classifier
from bayesjax.types import ArrayLike

CHUNK_SIZE = 500
"""Number of images in a pass through the network."""
LEVELS = 255
"""Images are rounded to multiples of 1 / LEVELS, as if they had been saved in eight bits."""


class Reading(NamedTuple):
    """A judge's outputs for images.

    Attributes:
      features: float32 `[num, num_features]`.
      probabilities: float32 `[num, num_classes]`.
    """

    features: np.ndarray
    probabilities: np.ndarray


@functools.partial(jax.jit, static_argnums=0)
def _read(network: Classifier, params: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    features, logits = cast(Any, network.apply({"params": params}, jnp.round(LEVELS * x) / LEVELS))
    return features, jax.nn.softmax(logits)


@dataclass(frozen=True)
class Judge:
    """A trained classifier of images.

    Attributes:
      name: the data set's name and the first digits of the hash of the weights.
      sha256: hash of the file of weights.
      input_shape: (height, width, channels) of an image.
      network: the Flax module.
      params: its weights.
    """

    name: str
    sha256: str
    input_shape: tuple[int, ...]
    network: Classifier
    params: Any = dataclasses.field(repr=False)

    def read(self, images: ArrayLike) -> Reading:
        """Computes features and probabilities of images, which are first rounded to 256 levels like saved images.

        Args:
          images: `[num, height, width, channels]` in [0, 1].

        Returns:
          The features `[num, num_features]` and the class probabilities `[num, num_classes]`.

        Raises:
          ValueError: if there are no images, their shape is not `input_shape`, or they lie outside [0, 1].
        """
        x = np.asarray(images, np.float32)
        if x.shape[1:] != self.input_shape or not len(x):
            raise ValueError(f"images for the judge {self.name} must be [num, {self.input_shape}]; got {x.shape}")
        if not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
            raise ValueError(f"images must lie in [0, 1]; got {x.min()} .. {x.max()}")
        num, size = len(x), min(CHUNK_SIZE, len(x))
        x = np.concatenate([x, x[: -num % size]])  # chunks of equal shape are compiled once
        chunks = [_read(self.network, self.params, x[start : start + size]) for start in range(0, len(x), size)]
        return Reading(*(np.concatenate(each)[:num] for each in zip(*chunks, strict=True)))

    def features(self, images: jax.Array) -> jax.Array:
        """The features of images without rounding, a differentiable function that can be compiled with others.

        Args:
          images: `[..., height, width, channels]` in [0, 1].

        Returns:
          `[..., num_features]`.
        """
        return cast(Any, self.network.apply({"params": self.params}, images))[0]

    def classes(self, images: ArrayLike) -> np.ndarray:
        """Returns the most probable class of each image, `[num]`. Arguments and errors are those of `read`."""
        return self.read(images).probabilities.argmax(axis=-1)


def normalise_features(network: Classifier, params: Any, images: np.ndarray) -> Any:
    """Rescales the parameters of a classifier so that its features have average variance 1.

    Distances are then in units of the features' standard deviation, and the cubic kernel of the kernel distance is
    neither flat nor dominated by its highest power. The probabilities do not change: a positive factor commutes with
    the ReLU, and the kernel of the output layer is multiplied by its inverse.

    Args:
      network: the classifier.
      params: its parameters, with the hidden layer `Dense_0` and the output layer `Dense_1`.
      images: `[num, height, width, channels]` in [0, 1], over which the variance is taken.

    Returns:
      Parameters of the same structure.
    """
    features = np.concatenate([_read(network, params, x)[0] for x in np.array_split(images, 1 + len(images) // 1000)])
    scale = float(np.sqrt(features.var(axis=0).mean()))
    hidden, output = params["Dense_0"], params["Dense_1"]
    hidden = {name: leaf / scale for name, leaf in hidden.items()}
    return {**params, "Dense_0": hidden, "Dense_1": {**output, "kernel": output["kernel"] * scale}}


def pack(params: Any) -> bytes:
    """Returns the contents of a file of weights: an .npz of float16 arrays whose bytes depend only on the weights."""
    arrays: Any = {path: np.asarray(leaf, np.float16) for path, leaf in tree.leaves_by_path(params).items()}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def unpack(
    packed: bytes, name: str, input_shape: tuple[int, ...], make_network: Callable[[int], Classifier]
) -> Judge:  # fmt: skip
    """Returns the judge whose weights `pack` has written.

    Args:
      packed: the contents of the file.
      name: name of the data set.
      input_shape: (height, width, channels) of an image.
      make_network: `num_classes -> network`, which makes the Flax module of the classifier.

    Raises:
      ValueError: if `packed` is not a readable .npz file.
    """
    params: dict = {}
    for path, leaf in files.read_npz(f"the judge of {name}", packed).items():
        layer, last = path.split("/")
        params.setdefault(layer, {})[last] = jnp.asarray(leaf, jnp.float32)
    digest = hashlib.sha256(packed).hexdigest()
    network = make_network(len(params["Dense_1"]["bias"]))
    return Judge(f"{Path(name).stem}-{digest[:8]}", digest, input_shape, network, params)
