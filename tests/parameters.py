"""Parameters of which `make test` runs a part, because compiling each of them takes seconds."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def some(values: Iterable[Any], *quick: Any, ids: Callable[[Any], str] | None = None) -> list[Any]:
    """The values, of which all but those in `quick` are marked slow.

    Args:
      values: parameters of a test.
      quick: the ones that `make test` runs; at least one.
      ids: names of the values by which `quick` calls them.
    """
    values = list(values)
    names = [ids(value) if ids else value for value in values]
    assert quick and set(quick) <= set(names), f"expected some of {names}; got {quick}"
    return [
        value if name in quick else pytest.param(value, marks=pytest.mark.slow)
        for name, value in zip(names, values, strict=True)
    ]
