"""Data sets by name as arrays, and minibatches as a function of the step."""

from bayesjax.data import densities, known_noise, translations
from bayesjax.data.batches import (
    Binarised,
    Minibatches,
    independent_minibatches,
    number_batches,
    permute_index,
    stacked_minibatches,
)
from bayesjax.data.dataset import Dataset, Split, from_frame, load
from bayesjax.data.errors import DataUnavailable, UnknownDataset
from bayesjax.data.examples import from_examples
from bayesjax.data.files import read_npy, read_npz
from bayesjax.data.labelled import labelled_subset
from bayesjax.data.regression import RegressionDataset, StandardisedSplit, load_regression, regression_from_frame
from bayesjax.data.segmentation import SegmentationDataset, SegmentationSplit, load_segmentation
from bayesjax.data.streams import Stream, StreamError, stream
from bayesjax.data.text import TextDataset, load_text, text_windows
from bayesjax.data.transformations import randomly_transform_image, transform_image
from bayesjax.data.unpaired import UnpairedDataset, is_unpaired_file, load_unpaired

__all__ = [
    "Binarised",
    "DataUnavailable",
    "Dataset",
    "Minibatches",
    "RegressionDataset",
    "SegmentationDataset",
    "SegmentationSplit",
    "Split",
    "StandardisedSplit",
    "Stream",
    "StreamError",
    "TextDataset",
    "UnknownDataset",
    "UnpairedDataset",
    "densities",
    "from_examples",
    "from_frame",
    "independent_minibatches",
    "is_unpaired_file",
    "known_noise",
    "labelled_subset",
    "load",
    "load_regression",
    "load_segmentation",
    "load_text",
    "load_unpaired",
    "number_batches",
    "permute_index",
    "randomly_transform_image",
    "read_npy",
    "read_npz",
    "regression_from_frame",
    "stacked_minibatches",
    "stream",
    "text_windows",
    "transform_image",
    "translations",
]
