"""Known translations of grey images, for evaluating image translation without pairs.

    inverted   y = 1 - x
    coloured   y = PAPER + x (INK - PAPER), a line between two colours
    edges      y = the largest value of the 3 x 3 pixels around a pixel, minus its own value

Images are float32 `[num, height, width, channels]` in [0, 1]. Read `experiments/cyclegan.py` next.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

PAPER = np.array([0.10, 0.15, 0.45], np.float32)
"""Colour of the value 0: red, green and blue in [0, 1]."""
INK = np.array([1.00, 0.75, 0.20], np.float32)
"""Colour of the value 1."""


class Translation(NamedTuple):
    """A translation of grey images `[num, height, width, 1]` in [0, 1].

    Attributes:
      translate: maps grey images to their translations, `[num, height, width, num_channels]`.
      invert: maps translations to grey images; None if the translation mixes neighbouring pixels.
      num_channels: number of channels of the translations.
    """

    translate: Callable[[np.ndarray], np.ndarray]
    invert: Callable[[np.ndarray], np.ndarray] | None
    num_channels: int


def colour(grey: np.ndarray) -> np.ndarray:
    """Returns colours `[..., 3]` of grey values `[..., 1]`, on the line from PAPER to INK."""
    return PAPER + grey * (INK - PAPER)


def uncolour(images: np.ndarray) -> np.ndarray:
    """Returns the grey values `[..., 1]` whose colours (`colour`) are nearest to the given colours `[..., 3]`."""
    direction = INK - PAPER
    return np.clip(((images - PAPER) @ direction / (direction @ direction))[..., None], 0, 1)


def outline(grey: np.ndarray) -> np.ndarray:
    """Returns the largest value of the 3 x 3 pixels around each pixel, minus its own value.

    Args:
      grey: images `[num, height, width, channels]`; the result has the same shape.
    """
    from scipy import ndimage

    return ndimage.grey_dilation(grey, size=(1, 3, 3, 1), mode="nearest") - grey


TRANSLATIONS = {
    "inverted": Translation(lambda grey: 1 - grey, lambda images: 1 - images, 1),
    "coloured": Translation(colour, uncolour, 3),
    "edges": Translation(outline, None, 1),
}
"""The three translations that the module describes, by name."""
