"""Common parts of all experiments: flags, a run folder, devices, results and tables.

    cli.py          `RunConfig`, the types that validate flags, and `parse`
    run.py          `Run`: the run folder, checkpoints, finished parts, results; `read_run`
    launch.py       devices and processes of a run
    provenance.py   command, commit, versions and device of a result
    report.py       `Column` and `Table`: from the rows of results files to Markdown

Experiments import the names in `__all__` from this package. Read `run.py` next.
"""

from experiments.harness import cli
from experiments.harness.cli import Count, Natural, NonEmpty, NonNegative, Positive, Range, RunConfig, require
from experiments.harness.report import Column, Table
from experiments.harness.run import Run, read_run, row

__all__ = [
    "Column", "Count", "Natural", "NonEmpty", "NonNegative", "Positive", "Range", "Run",
    "RunConfig", "Table", "cli", "read_run", "require", "row",
]  # fmt: skip
