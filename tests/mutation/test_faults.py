"""The list of planted faults fits the source; what the faults' tests do to them, `python -m tests.mutation` shows."""

import ast

import pytest

from tests.mutation.faults import ROOT, load, plant

FAULTS = load()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_can_be_planted_and_its_tests_exist(fault):
    planted = plant(fault, (ROOT / fault.file).read_text())
    ast.parse(planted)
    for test in fault.tests:
        path, _, name = test.partition("::")
        assert (ROOT / path).is_file(), f"there is no {path}"
        assert not name or f"def {name.partition('[')[0]}(" in (ROOT / path).read_text(), f"there is no test {test}"


def test_names_are_unique():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)


def test_a_text_that_is_not_there_is_refused():
    fault = FAULTS[0]._replace(old="no such text")
    with pytest.raises(ValueError, match="its text occurs 0 times"):
        plant(fault, (ROOT / fault.file).read_text())
