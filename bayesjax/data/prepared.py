"""Image data sets of TensorFlow Datasets that have been prepared on this machine, decoded into arrays.

Nothing is downloaded. TensorFlow itself is not needed, because the examples are read by random access from
ArrayRecord files. Read `dataset.py` next: `load` is the function to call.
"""

import difflib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from bayesjax.data.errors import DataUnavailable, UnknownDataset


def load_builder(name: str, data_dir: str | None, other_names: Sequence[str] = ()) -> Any:
    """Returns the builder of the image data set `name` of TensorFlow Datasets, which is prepared in `data_dir`.

    Args:
      name: name of the data set, with a configuration and a version if it has them.
      data_dir: folder of the prepared data sets. None means the folder named by the environment variable
        `TFDS_DATA_DIR`, or else the default folder of TensorFlow Datasets.
      other_names: names of data sets from elsewhere, which the error message may suggest.

    Raises:
      UnknownDataset: if there is no data set of that name.
      DataUnavailable: if the data set is not prepared.
      ValueError: if its examples are not images.
    """
    import tensorflow_datasets as tfds

    known = [*other_names, *tfds.list_builders(with_community_datasets=False)]
    try:
        if name.partition("/")[0].partition(":")[0] not in known:
            raise ValueError(name)
        builder: Any = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError):  # AssertionError if the version does not exist
        if os.path.isdir(name):
            raise UnknownDataset(f"unknown data set {name!r}: write {name + '/'!r} for the folder of images") from None
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = (
            f"the nearest names are {', '.join(near)}"
            if near
            else "try digits, mnist, a path ending in .npz, or a folder ending in /"
        )
        raise UnknownDataset(f"unknown data set {name!r}: {hint}") from None
    if not builder.data_path.exists():
        raise DataUnavailable(
            f"data set {name!r} is not prepared in {builder.data_dir}: set TFDS_DATA_DIR (or --data-dir) to a folder "
            f"that contains it, or prepare it on a machine with a network: tfds build {name} --file_format=array_record"
        )
    features = builder.info.features
    if features is None or "image" not in features:
        raise ValueError(f"data set {name!r} must have the feature image; it has {list(features or ())}")
    return builder


def data_source(builder: Any, name: str, split: str) -> Any:
    """Returns one split of a prepared data set as a sequence of examples with random access.

    Args:
      builder: the result of `load_builder`.
      name: name of the data set, used only in the error message.
      split: "train" or "test".

    Raises:
      DataUnavailable: if the format in which the data set is stored has no random access.
    """
    try:
        return builder.as_data_source(split=split)
    except NotImplementedError as error:
        raise DataUnavailable(
            f"data set {name!r} in {builder.data_dir} is stored without random access: prepare it with "
            f"tfds build {name} --file_format=array_record ({str(error).splitlines()[0]})"
        ) from None


def decode(source: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Decodes all images and labels of a split. It shows a progress bar, because MNIST takes half a minute.

    Args:
      source: the result of `data_source`.
      name: name of the split, used in the progress bar and in the error message.

    Returns:
      The images `[num, ...]`, with the type that is stored, and the labels, int32 `[num]`, or `[0]` without labels.

    Raises:
      ValueError: if the images differ in shape.
    """
    from tqdm import tqdm

    images, labels = None, []
    for i, example in enumerate(tqdm(source, desc=f"decoding {name}", leave=False, mininterval=1, delay=2)):
        if images is None:
            images = np.empty((len(source), *example["image"].shape), example["image"].dtype)
        if example["image"].shape != images.shape[1:]:
            raise ValueError(
                f"{name}: images must all have one shape; the first has {images.shape[1:]}, number {i} has "
                f"{example['image'].shape}"
            )
        images[i] = example["image"]
        if "label" in example:
            labels.append(example["label"])
    return np.zeros((0,)) if images is None else images, np.array(labels, np.int32)
