"""Data: named data sets as arrays, and minibatches as a function of the step."""

from bayesjax.data.batches import Binarised, Minibatches, permuted
from bayesjax.data.dataset import Dataset, DataUnavailable, Split, UnknownDataset, load
from bayesjax.data.labelled import labelled_subset

__all__ = [
    "Binarised",
    "DataUnavailable",
    "Dataset",
    "Minibatches",
    "Split",
    "UnknownDataset",
    "labelled_subset",
    "load",
    "permuted",
]
