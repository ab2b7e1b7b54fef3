"""Labelled images in (-1, 1) for a GAN, and the classifier (the judge) that compares generated images with them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from bayesjax import data
from experiments.harness import require
from experiments.shared import judge


@dataclass(frozen=True)
class Images:
    """Labelled images in (-1, 1), and the judge that compares other images with the test images."""

    train: data.Split
    test: data.Split
    num_classes: int
    classifier: judge.Judge | None
    test_reading: Any  # features and probabilities of the test images
    training_report: dict[str, dict]  # report on training images: the level that a generator can reach

    def report(self, images: np.ndarray) -> tuple[judge.Reading, dict[str, dict]]:
        """Returns the judge's features and probabilities of images in (-1, 1), and its report on them."""
        assert self.classifier is not None
        reading = self.classifier.read((images + 1) / 2)
        return reading, judge.report(self.test_reading, reading)


def load(config: Any, num_validation: int = 0) -> Images:
    """Loads --dataset, with its last `num_validation` training images as test images if any, and the --judge."""
    dataset = data.load(config.dataset, data_dir=config.data_dir or None).hold_out(num_validation)
    require(
        len(dataset.input_shape) == 3 and dataset.num_classes > 1,
        f"--dataset {config.dataset} must hold images [height, width, channels] with labels of two classes or more; "
        f"got {dataset.input_shape} and {dataset.num_classes} classes",
    )
    train, test = (data.Split(2 * split.inputs - 1, split.labels) for split in (dataset.train, dataset.test))
    if config.judge == "none":
        return Images(train, test, dataset.num_classes, None, None, {})
    classifier = judge.load(config.judge or config.dataset, data_dir=config.data_dir or None)
    require(
        classifier.input_shape == dataset.input_shape,
        f"--judge {config.judge} reads images of {classifier.input_shape}; --dataset {config.dataset} has "
        f"{dataset.input_shape}",
    )
    reading = classifier.read(dataset.test.inputs)
    chosen = np.random.default_rng(0).permutation(len(dataset.train))[: config.num_judged]
    report = judge.report(reading, classifier.read(dataset.train.inputs[chosen]))
    return Images(train, test, dataset.num_classes, classifier, reading, report)
