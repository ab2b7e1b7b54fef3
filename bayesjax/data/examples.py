"""Data sets of other libraries as arrays: anything with a length and examples by number, if it fits in memory.

    data.from_examples(datasets.load_dataset("mnist", split="train"), inputs="image", labels="label")   Hugging Face
    data.from_examples(torchvision.datasets.MNIST("folder"), inputs=0, labels=1)                         PyTorch

An example is a dict or a tuple. Its input may be an image of PIL, an array or a tensor. Read `batches.py` next.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from bayesjax.data import files
from bayesjax.data.arrays import checked_labels, normalise_images
from bayesjax.data.dataset import Split


class Examples(Protocol):
    """A sequence of examples, such as a map-style data set of PyTorch or a split of Hugging Face."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """One example, a dict or a tuple."""
        ...


def from_examples(
    examples: Examples | Sequence[Any],
    *,
    inputs: str | int,
    labels: str | int | None = None,
    num_classes: int | None = None,
    channels_first: bool = False,
    max_bytes: int = files.MAX_BYTES,
) -> Split:
    """Reads all examples of a data set into arrays.

    Args:
      examples: has `len` and gives example i as `examples[i]`, a dict or a tuple.
      inputs: key or position of the input of an example: an image of PIL, an array or a tensor.
      labels: key or position of the class, an integer; None without labels.
      num_classes: number of classes; None means the largest label plus 1.
      channels_first: whether images are [channels, height, width], as the transformations of torchvision return them.
      max_bytes: limit in bytes on the size of the inputs as they are stored.

    Returns:
      A split, with float32 inputs, images in [0, 1] with the channels last, and int32 labels.

    Raises:
      ValueError: if there is no example, an example lacks the input or the label, inputs differ in shape, values are
        out of range, labels are not classes, or the inputs exceed `max_bytes`.
    """
    from tqdm import tqdm

    num = len(examples)
    if not num:
        raise ValueError("examples must have at least one example; got none")
    array, classes = None, np.zeros(num if labels is not None else 0, np.int64)
    for i in tqdm(range(num), desc="reading examples", leave=False, mininterval=1, delay=2):
        example = examples[i]
        x = _entry(example, inputs, i, "inputs")
        if getattr(x, "mode", None) == "P":  # an image of PIL with a palette
            x = x.convert("RGB")
        x = np.asarray(x)
        x = np.moveaxis(x, 0, -1) if channels_first and x.ndim == 3 else x
        if array is None:
            if num * x.nbytes > max_bytes:
                raise ValueError(
                    f"{num} inputs of shape {x.shape} take {num * x.nbytes} bytes; max_bytes is {max_bytes}"
                )
            array = np.empty((num, *x.shape), x.dtype)
        if x.shape != array.shape[1:]:
            raise ValueError(
                f"inputs must all have one shape; the first has {array.shape[1:]}, number {i} has {x.shape}"
            )
        if x.dtype != array.dtype:
            array = array.astype(np.result_type(array, x))
        array[i] = x
        if labels is not None:
            label = np.asarray(_entry(example, labels, i, "labels"))
            if label.ndim or label.dtype.kind not in "iu":
                raise ValueError(f"labels must be integers; example {i} has {label.dtype} of shape {label.shape}")
            classes[i] = label
    assert array is not None
    (converted,) = normalise_images({"inputs": array if array.ndim > 1 else array[:, None]})
    if labels is None:
        return Split(converted)
    num_classes = num_classes or int(classes.max()) + 1
    return Split(converted, checked_labels(classes, num, num_classes, "labels"))


def _entry(example: Any, key: str | int, index: int, name: str) -> Any:
    try:
        return example[key]
    except (KeyError, IndexError, TypeError):
        has = ", ".join(map(str, example)) if isinstance(example, dict) else f"{type(example).__name__} of examples"
        raise ValueError(
            f"{name} must be a key or position of an example; example {index} has no {key!r}: {has}"
        ) from None
