"""Data: named data sets as arrays, and minibatches as a function of the step."""

from bayesjax.data.batches import Binarised, Minibatches, independent_minibatches, numbered, of_each, permuted
from bayesjax.data.dataset import Dataset, DataUnavailable, Split, UnknownDataset, load
from bayesjax.data.files import read_npy, read_npz
from bayesjax.data.labelled import labelled_subset
from bayesjax.data.regression import Regression, load_regression
from bayesjax.data.text import Text, load_text, windows
from bayesjax.data.transformations import moved, randomly_moved
from bayesjax.data.unpaired import Unpaired, has_domains, load_unpaired

__all__ = [
    "Binarised",
    "DataUnavailable",
    "Dataset",
    "Minibatches",
    "Regression",
    "Split",
    "Text",
    "UnknownDataset",
    "Unpaired",
    "has_domains",
    "independent_minibatches",
    "labelled_subset",
    "load",
    "load_regression",
    "load_text",
    "load_unpaired",
    "moved",
    "numbered",
    "of_each",
    "permuted",
    "randomly_moved",
    "read_npy",
    "read_npz",
    "windows",
]
