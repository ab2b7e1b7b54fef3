"""Sequences of examples as arrays: dicts and tuples, images of PIL, arrays with the channels first, and errors."""

import numpy as np
import pytest
from PIL import Image

from bayesjax import data


class Pairs:
    """A map-style data set of tuples, as PyTorch has them."""

    def __init__(self, inputs, labels):
        self.pairs = list(zip(inputs, labels, strict=True))

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]


PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)


def test_dicts_of_images():
    """Hugging Face gives dicts with images of PIL."""
    examples = [{"image": Image.fromarray(x), "label": i % 3} for i, x in enumerate(PIXELS)]
    split = data.from_examples(examples, inputs="image", labels="label")
    np.testing.assert_array_equal(split.inputs[..., 0], PIXELS.astype(np.float32) / 255)
    assert split.labels.tolist() == [0, 1, 2, 0, 1, 2] and split.labels.dtype == np.int32


def test_tuples_with_the_channels_first():
    """torchvision's ToTensor gives floats [channels, height, width]."""
    images = np.random.default_rng(1).random((6, 3, 4, 5), np.float32)
    split = data.from_examples(Pairs(images, range(6)), inputs=0, labels=1, channels_first=True)
    np.testing.assert_array_equal(split.inputs, np.moveaxis(images, 1, -1))
    vectors = data.from_examples(Pairs(images.reshape(6, -1), range(6)), inputs=0)
    assert vectors.inputs.shape == (6, 60) and vectors.labels.size == 0


def test_types_widen_and_palettes_are_colours():
    """An example of a wider type is not rounded to the type of the first, and palette images have their colours."""
    mixed = data.from_examples([(np.array([1, 2]),), (np.array([0.5, 2.5]),)], inputs=0)
    np.testing.assert_array_equal(mixed.inputs, [[1, 2], [0.5, 2.5]])
    with pytest.raises(ValueError, match="must hold uint8 images or floats"):
        data.from_examples([(PIXELS[0],), (PIXELS[0].astype(int) + 300,)], inputs=0)
    palette = Image.fromarray(np.zeros((4, 4), np.uint8), mode="P")
    palette.putpalette([255, 255, 255] * 256)
    assert (data.from_examples([(palette,), (palette,)], inputs=0).inputs == 1).all()


ERRORS = {
    "must have at least one example; got none": ([], {}),
    "inputs must be a key or position of an example; example 0 has no 0: image, label": (
        [{"image": PIXELS[0], "label": 0}], {},
    ),
    "labels must be a key or position of an example; example 0 has no 1": ([(PIXELS[0],)], {"labels": 1}),
    "inputs must all have one shape; the first has .4, 5., number 1 has .2, 5.": (
        Pairs([PIXELS[0], PIXELS[0, :2]], [0, 1]), {},
    ),
    "labels must be integers; example 0 has float64": (Pairs(PIXELS, np.arange(6) / 2), {"labels": 1}),
    "labels must lie in 0 .. 1, the classes; got 0 .. 5": (Pairs(PIXELS, range(6)), {"labels": 1, "num_classes": 2}),
    "6 inputs of shape .4, 5. take 120 bytes; max_bytes is 100": (Pairs(PIXELS, range(6)), {"max_bytes": 100}),
}  # fmt: skip


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    """One line that says what came and what was expected."""
    examples, options = ERRORS[message]
    with pytest.raises(ValueError, match=message) as error:
        data.from_examples(examples, inputs=0, **options)
    assert "\n" not in str(error.value)
