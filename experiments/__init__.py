"""The experiments. `python -m experiments` lists them; each has a file with its networks, losses and results."""

import sys
from typing import Any


def _explain_interrupt(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    """Prints one line when Ctrl-C arrives outside a run, for example while JAX is imported."""
    if issubclass(kind, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _explain_interrupt
