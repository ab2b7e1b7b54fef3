"""The planted faults: read from `faults.toml`, checked against the source, planted in its text."""

import tomllib
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LIST = Path(__file__).with_name("faults.toml")


class Fault(NamedTuple):
    """A wrong variant of the library.

    Attributes:
      name: unique; the module and what is wrong in it.
      file: the source file, relative to the repository.
      old: text that occurs in it exactly once.
      new: the text that takes its place.
      tests: test files or pytest node ids, relative to the repository, at least one of which must fail.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def load() -> list[Fault]:
    """All faults of the list that are to be planted, in its order."""
    entries = tomllib.loads(LIST.read_text())["fault"]
    return [Fault(**{**entry, "tests": tuple(entry["tests"])}) for entry in entries]


def plant(fault: Fault, source: str) -> str:
    """The source with the fault in it.

    Raises:
      ValueError: if the text to be replaced does not occur exactly once, or the fault changes nothing.
    """
    if (count := source.count(fault.old)) != 1:
        raise ValueError(
            f"fault {fault.name!r}: its text occurs {count} times in {fault.file}, not once: {fault.old!r}"
        )
    if fault.new == fault.old:
        raise ValueError(f"{fault.name}: old and new must differ")
    return source.replace(fault.old, fault.new)
