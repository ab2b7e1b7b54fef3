"""Errors of data sets that cannot be loaded.

Read `dataset.py` next, which raises them.
"""


class UnknownDataset(ValueError):
    """There is no data set of that name; the message lists similar names."""


class DataUnavailable(RuntimeError):
    """The data set exists but is not on this machine; the message names the variable to set or the command to run."""
