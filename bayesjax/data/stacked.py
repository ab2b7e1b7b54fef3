"""Stacks of grey images: the channels of an image are random images of another set, as in stacked MNIST.

    stacked/mnist       60 000 + 10 000 images of 28 x 28 with three digits as channels, of 1000 classes
    stacked/NAME        stacks of the images of any grey data set NAME with labels, such as digits or an .npz file

The class of a stack is the number whose digits are the classes of its channels, the first channel first. With ten
classes and three channels, 5 1 2 has the class 512. If the digits are equally frequent, all classes of stacks are
equally probable. The number of classes among generated images then measures mode collapse; see
`evaluation.label_coverage`. Source: Metz, Poole, Pfau & Sohl-Dickstein, "Unrolled generative adversarial networks",
ICLR 2017. Read `dataset.py` next, which loads the sets.
"""

import numpy as np

NUM_CHANNELS = 3
NUM_TRAIN, NUM_TEST = 60_000, 10_000


def stack_images(
    images: np.ndarray, labels: np.ndarray, num: int, num_classes: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws stacks of three images, independently and with replacement, with a random generator of NumPy.

    Args:
      images: grey images `[num_images, height, width, 1]`.
      labels: their classes `[num_images]`, integers in 0 .. num_classes - 1.
      num: number of stacks.
      num_classes: number of classes of the grey images.
      seed: random seed of the choice.

    Returns:
      The stacks, `[num, height, width, 3]` of the type of the images, and their classes, int32 `[num]` in
      0 .. num_classes^3 - 1.
    """
    chosen = np.random.RandomState(seed).randint(len(images), size=(num, NUM_CHANNELS))
    stacks = np.empty((num, *images.shape[1:3], NUM_CHANNELS), images.dtype)
    for channel in range(NUM_CHANNELS):  # one at a time, because MNIST's stacks take 0.6 GB
        stacks[..., channel] = images[chosen[:, channel], ..., 0]
    place_values = num_classes ** np.arange(NUM_CHANNELS)[::-1]
    return stacks, (labels[chosen] @ place_values).astype(np.int32)
