"""The cost of bayesjax beside other libraries.

`python -m benchmarks.NAME` prints a table and writes benchmarks/results/NAME.json. A *row* is a timed
function and its line of the table. A *bar* is the required value of a ratio of two rows.
"""
