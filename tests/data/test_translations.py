"""Translations of grey images that are known."""

import numpy as np
import pytest

from bayesjax.data.translations import INK, PAPER, TRANSLATIONS, outline

GREY = np.random.default_rng(0).random((3, 5, 5, 1)).astype(np.float32)


@pytest.mark.parametrize("name", ["inverted", "coloured"])
def test_grey_values_return(name):
    """The inverse restores the grey values of images that the translation has changed."""
    translation = TRANSLATIONS[name]
    images = translation.translate(GREY)
    assert images.shape[-1] == translation.num_channels
    assert not np.allclose(images.mean(axis=-1), GREY[..., 0], atol=0.1)
    np.testing.assert_allclose(translation.invert(images), GREY, atol=1e-5)


def test_colours_of_black_and_white():
    """The values 0 and 1 become PAPER and INK; colours off the line have the grey value of the nearest one."""
    coloured = TRANSLATIONS["coloured"]
    np.testing.assert_allclose(coloured.translate(np.array([[[[0.0]], [[1.0]]]]))[0, :, 0], [PAPER, INK])
    across = np.cross(INK - PAPER, [1.0, 0, 0])  # orthogonal to the line
    np.testing.assert_allclose(coloured.invert(((PAPER + INK) / 2 + 0.1 * across)[None]), [[0.5]], atol=1e-6)


def test_outline():
    """A dot has a ring around it, and a flat image has no outline."""
    dot = np.zeros((1, 5, 5, 1), np.float32)
    dot[0, 2, 2] = 1
    ring = outline(dot)
    assert ring.sum() == 8 and ring[0, 2, 2] == 0 and outline(np.ones_like(dot)).sum() == 0
    assert TRANSLATIONS["edges"].invert is None
