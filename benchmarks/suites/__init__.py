"""Suites of `benchmarks.run`, one in each file: what is measured on the device at hand, on which axes."""
