"""Every number that was published with the first form of the results files still stands in them, to the last digit."""

import json
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = json.loads(Path(__file__).with_name("published_numbers.json").read_text())


def numbers(value):
    """All numbers in nested lists and dicts."""
    if isinstance(value, bool | str | None):
        return []
    if isinstance(value, dict | list):
        return [each for item in (value.values() if isinstance(value, dict) else value) for each in numbers(item)]
    return [value]


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_are_kept(name):
    """The numbers of the rows include all published numbers, each as often as it was published."""
    rows = json.loads((ROOT / "experiments" / "results" / name).read_text())["rows"]
    assert not Counter(PUBLISHED[name]) - Counter(numbers(rows))


def test_a_changed_number_is_noticed():
    """A number that differs in its last digit is missing."""
    assert Counter([0.1, 2.0]) - Counter(numbers([{"value": 0.1000000001, "keys": [2.0]}])) == Counter([0.1])
