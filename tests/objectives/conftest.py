"""Fixtures of the tests of objectives."""

import jax
import pytest


@pytest.fixture
def double():
    """Enumeration is held to 1e-11, which needs float64."""
    with jax.enable_x64(True):
        yield
