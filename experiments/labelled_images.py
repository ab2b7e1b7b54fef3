"""Labelled images for a generator: as networks see them, and a judge of what is made, where one is wanted.

What `gan.py`, `infogan.py` and `acgan.py` share. Networks see pixels in (-1, 1); the judge (`judge.py`) sees them in
[0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, evaluation
from bayesjax.types import Array, ArrayLike, Params, PRNGKey
from experiments import common, gan_players, judge

NO_JUDGE = "none"
AT_A_TIME = 500  # images in a pass through a discriminator


class Subject(NamedTuple):
    """Images, their classes, and who judges others.

    Attributes:
      train, test: the splits, inputs in (-1, 1).
      num_classes: of the labels.
      jury: judges images, or None.
    """

    train: data.Split
    test: data.Split
    num_classes: int
    jury: "Jury | None"


@dataclass(frozen=True)
class Jury:
    """A judge, and what it read in the test images.

    Attributes:
      by: of `judge.load_judge`.
      test: what it sees in the test images.
      real: what it says of training images: the row that no generator need surpass.
    """

    by: judge.Judge
    test: judge.Reading
    real: dict[str, dict]

    def read(self, images: np.ndarray) -> judge.Reading:
        """What the judge sees in images in (-1, 1)."""
        return self.by.read((images + 1) / 2)

    def judged(self, reading: judge.Reading) -> dict[str, dict]:
        """FCD and the like of images against the test images."""
        return judge.judged(self.by, self.test, reading)


def load(config: Any) -> Subject:
    """The images of --dataset, and the judge of --judge.

    Args:
      config: with `dataset`, `data_dir`, `judge` and `num_judged`.

    Raises:
      ValueError: if these are no images, or have no labels, or the judge is of images of another shape.
    """
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    common.require(
        len(dataset.input_shape) == 3 and dataset.num_classes > 1,
        f"--dataset {config.dataset} must hold images [height, width, channels] with labels of two classes or more; "
        f"got {dataset.input_shape} and {dataset.num_classes} classes",
    )
    jury = None
    if config.judge != NO_JUDGE:
        by = judge.load_judge(config.judge or config.dataset, data_dir=config.data_dir or None)
        common.require(
            by.input_shape == dataset.input_shape,
            f"--judge {config.judge} judges images of {by.input_shape}; --dataset {config.dataset} has "
            f"{dataset.input_shape}",
        )
        test = by.read(dataset.test.inputs)
        seen = np.random.default_rng(0).permutation(len(dataset.train))[: config.num_judged]
        jury = Jury(by, test, judge.judged(by, test, dataset.train.inputs[seen]))
    train, test = (data.Split(2 * split.inputs - 1, split.labels) for split in (dataset.train, dataset.test))
    return Subject(train, test, dataset.num_classes, jury)


def make_of_each(
    make: Callable[[Params, PRNGKey, Array], Array], draws: Params, rng_key: PRNGKey, num: int, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images, as many of each class as of any other and of each draw as of any other (to within one).

    Args:
      make: `(params, rng_key, classes [n]) -> images [n, ...]`.
      draws: generators, params with a leading axis.
      rng_key: consumed.
      num: of images.
      num_classes: made in turn, by one draw after the other: each draw goes on where the one before it stops, so that
        however few images are a draw's, as many are of each class as of any other (to within one).

    Returns:
      Images `[num, ...]` and their classes `[num]`.
    """
    chosen = gan_players.spread_evenly(jax.tree.leaves(draws)[0].shape[0], num)
    shares = (num - np.arange(len(chosen)) - 1) // len(chosen) + 1  # draws take turns
    first = np.cumsum(shares) - shares
    images = gan_players.generate(
        lambda of, key, share: make(of[0], key, (of[1] + jnp.arange(share)) % num_classes),
        (jax.tree.map(lambda leaf: leaf[chosen], draws), first), rng_key, num,
    )  # fmt: skip
    turn, draw = np.divmod(np.arange(num), len(chosen))
    return images, (first[draw] + turn) % num_classes


def most_probable(logits: Callable[[Params, Array], Array], draws: Params) -> Callable[[ArrayLike], np.ndarray]:
    """Who says of images `[num, ...]` which class is most probable, `[num]`, by the mean over discriminators.

    Images are seen AT_A_TIME in an order of no meaning: norms of the batch see neighbours of all classes.

    Args:
      logits: `(params, images [n, ...]) -> [n, num_classes]`.
      draws: discriminators, params with a leading axis.
    """

    def probabilities(params: Params, x: Array) -> Array:
        return jax.nn.softmax(logits(params, x))

    def classes(images: ArrayLike) -> np.ndarray:
        order = np.random.default_rng(0).permutation(len(images))
        shuffled = np.asarray(images, np.float32)[order]
        means = evaluation.predict_mean(probabilities, draws, shuffled, chunk_size=AT_A_TIME, draw_chunk_size=1)
        found = np.zeros(len(order), int)
        found[order] = np.asarray(means).argmax(axis=-1)
        return found

    return classes


if __name__ == "__main__":
    common.not_a_command("acgan", "gan", "infogan")
