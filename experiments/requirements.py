"""Checks of an experiment's flags, and the one line with which a command ends on bad input (exit code 2)."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments import devices


def fail(message: str) -> NoReturn:
    """One clear line on standard error, exit code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(devices.BAD_INPUT)


def not_a_command(*commands: str) -> NoReturn:
    """What a module of `experiments` that is no experiment does when it is run: one line, exit code 2.

    Args:
      commands: the experiments that use the module.
    """
    those = " or ".join(f"python -m experiments.{name}" for name in commands)
    every = "python -m experiments lists every experiment"
    fail(f"experiments.{Path(sys.argv[0]).stem} is not a command; {f'run {those}; ' if those else ''}{every}")


def require(condition: bool, message: str) -> None:
    """Raises ValueError with `message` unless the condition holds; `Experiment` turns that into one line."""
    if not condition:
        raise ValueError(message)


def require_positive(config: Any, *names: str) -> None:
    """Raises ValueError for the first of these settings that is not positive."""
    for name in names:
        value = getattr(config, name)
        require(value > 0, f"--{name.replace('_', '-')} must be positive; got {value}")


def require_all_positive(config: Any, *names: str) -> None:
    """Raises ValueError for the first of these lists that is empty or holds a number that is not positive."""
    for name in names:
        values = getattr(config, name)
        require(
            len(values) > 0 and min(values) > 0, f"--{name.replace('_', '-')} must be positive numbers; got {values}"
        )


def require_at_least(config: Any, least: int, *names: str) -> None:
    """Raises ValueError for the first of these settings that is less than that."""
    for name in names:
        value = getattr(config, name)
        require(value >= least, f"--{name.replace('_', '-')} must be at least {least}; got {value}")


def require_choice(config: Any, name: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless this setting is one of the choices."""
    given = getattr(config, name)
    require(given in choices, f"--{name.replace('_', '-')} must be {' or '.join(choices)}; got {given!r}")


def require_names(config: Any, name: str, choices: Sequence[str]) -> None:
    """Raises ValueError unless this setting names one of the choices or several, each once."""
    given, flag = getattr(config, name), f"--{name.replace('_', '-')}"
    for value in given:
        require(value in choices, f"{flag} must be among {', '.join(choices)}; got {value!r}")
    require(len(set(given)) == len(given) > 0, f"{flag} must name one or several, each once; got {given}")


if __name__ == "__main__":
    not_a_command()
