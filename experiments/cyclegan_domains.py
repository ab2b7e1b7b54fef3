"""The two domains of `cyclegan.py`: translations of digits whose truth is known, or images without truth.

    inverted    x to 1 - x
    coloured    the grey value between two colours, paper and ink
    edges       the outline: the largest value of the 3 x 3 pixels around less the value itself

Training images are dealt to X and Y at random, each to one of them, so that no image of X has its partner among those
of Y. Of test images both are there. `grey` undoes a translation pixel by pixel where that can be done, so that the
judge of the digits can read what was made; outlines have a judge of their own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from bayesjax import data
from experiments import common, judge

PAPER = np.array([0.10, 0.15, 0.45], np.float32)
INK = np.array([1.00, 0.75, 0.20], np.float32)


class Task(NamedTuple):
    """A translation of grey images `[num, height, width, 1]` in [0, 1].

    Attributes:
      translate: of a grey image, the image in Y.
      grey: what undoes it; None if no function of a pixel does.
      num_channels: of the images of both domains; grey ones are repeated.
    """

    translate: Callable[[np.ndarray], np.ndarray]
    grey: Callable[[np.ndarray], np.ndarray] | None
    num_channels: int


def coloured(grey: np.ndarray) -> np.ndarray:
    """Grey images between PAPER and INK."""
    return PAPER + grey * (INK - PAPER)


def uncoloured(images: np.ndarray) -> np.ndarray:
    """The grey value whose colour is nearest."""
    way = INK - PAPER
    return np.clip(((images - PAPER) @ way / (way @ way))[..., None], 0, 1)


def outlines(grey: np.ndarray) -> np.ndarray:
    """The largest value around a pixel less its own."""
    return ndimage.grey_dilation(grey, size=(1, 3, 3, 1), mode="nearest") - grey


TASKS = {
    "inverted": Task(lambda grey: 1 - grey, lambda images: 1 - images, 1),
    "coloured": Task(coloured, uncoloured, 3),
    "edges": Task(outlines, None, 1),
}


class Truth(NamedTuple):
    """What is known of test images.

    Attributes:
      x, y: the same images in both domains, `[num, ...]` in [0, 1].
      labels: `[num]`.
      read_x, read_y: of images of a domain, the classes that a judge reads in them, `[num]`.
    """

    x: np.ndarray
    y: np.ndarray
    labels: np.ndarray
    read_x: Callable[[np.ndarray], np.ndarray]
    read_y: Callable[[np.ndarray], np.ndarray]


class Subject(NamedTuple):
    """What is to be translated.

    Attributes:
      x, y: training images of either domain, in (-1, 1).
      x_test, y_test: others.
      truth: None where there is none.
    """

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    truth: Truth | None


def subject(run: common.Experiment) -> Subject:
    """Loads both domains, and the judges where the truth is known."""
    config = run.config
    if config.dataset.startswith("cycle_gan/") or data.is_unpaired_file(config.dataset):
        found = data.load_unpaired(config.dataset, config.image_size, data_dir=config.data_dir or None)
        common.require(not config.num_validation, "--num-validation is of data sets whose truth is known")
        return Subject(*(2 * images - 1 for images in found), truth=None)
    return _with_truth(run)


def _with_truth(run: common.Experiment) -> Subject:
    config, task = run.config, TASKS[run.config.task]
    dataset = data.load(config.dataset, data_dir=config.data_dir or None)
    judge.require_labelled_images(dataset)
    height, width, channels = dataset.input_shape
    common.require(channels == 1, f"--dataset {config.dataset} must have grey images; got {channels} channels")
    size = config.image_size or max(height, width)
    common.require(
        size >= max(height, width) and (size - height) % 2 == (size - width) % 2 == 0,
        f"--image-size must be 0, or at least {max(height, width)} and leave two equal edges of {height} x {width}; "
        f"got {config.image_size}",
    )
    rows, columns = (size - height) // 2, (size - width) // 2
    held = config.num_validation
    common.require(
        0 <= held <= len(dataset.train) // 2,
        f"--num-validation must lie in 0 .. {len(dataset.train) // 2}, half of the training images; got {held}",
    )
    train, test = dataset.train, dataset.test
    if held:
        test = data.Split(train.inputs[-held:], train.labels[-held:])
        train = data.Split(train.inputs[:-held], train.labels[:-held])

    def padded(grey: np.ndarray) -> np.ndarray:
        return np.pad(grey, ((0, 0), (rows, rows), (columns, columns), (0, 0)))

    def in_x(grey: np.ndarray) -> np.ndarray:
        return np.repeat(padded(grey), task.num_channels, axis=-1)

    def in_y(grey: np.ndarray) -> np.ndarray:
        return task.translate(padded(grey))

    of_digits = judge.load_judge(config.dataset, data_dir=config.data_dir or None)

    def read(grey: np.ndarray) -> np.ndarray:
        cut = grey[:, rows : size - rows, columns : size - columns]
        return of_digits.probabilities(np.clip(cut, 0, 1)).argmax(axis=1)

    grey = task.grey
    read_y = _reader_of(run, in_y, train, dataset.num_classes) if grey is None else lambda images: read(grey(images))
    order = np.random.default_rng(config.seed).permutation(len(train))
    first, second = np.array_split(train.inputs[order], 2)
    chosen = slice(config.num_judged)
    x, y = in_x(test.inputs[chosen]), in_y(test.inputs[chosen])
    truth = Truth(x, y, test.labels[chosen], lambda images: read(images.mean(axis=-1, keepdims=True)), read_y)
    return Subject(2 * in_x(first) - 1, 2 * in_y(second) - 1, 2 * x - 1, 2 * y - 1, truth)


def _reader_of(
    run: common.Experiment, in_y: Callable, train: data.Split, num_classes: int
) -> Callable[[np.ndarray], np.ndarray]:
    """The classes that a judge reads in images of Y, trained on such images, once."""
    images, recipe = data.Split(in_y(train.inputs), train.labels), judge.Recipe()
    params: Any = judge.train(images, num_classes, recipe, stage=run.stage("judge"))
    its_judge = judge.unpack(
        judge.pack(params), f"{run.config.dataset}-{run.config.task}", in_y(train.inputs[:1]).shape[1:], recipe
    )
    return lambda seen: its_judge.probabilities(np.clip(seen, 0, 1)).argmax(axis=1)


if __name__ == "__main__":
    common.not_a_command("cyclegan")
