"""The number of matrix products of a step of PCD-1, counted in the compiled program."""

import pytest

from benchmarks.boltzmann import num_products


@pytest.mark.parametrize(
    "expected, options",
    [(5, {}), (5, {"is_centred": True}), pytest.param(6, {"carries_hidden": False}, marks=pytest.mark.slow)],
)
def test_chains_of_hidden_units_save_a_product(expected, options):
    """p(h | v) and the free energy of v share one; with images and chains in one product a centred step had seven."""
    assert num_products(**options) == pytest.approx(expected, abs=0.1)
