"""The cost of bayesjax compared with that of other libraries.

`python -m benchmarks.NAME` prints a table and writes benchmarks/results/NAME.json. A *row* is a timed function and its
line of the table. A *bar* is a target that was set before measuring, usually for the ratio of two rows.
"""
