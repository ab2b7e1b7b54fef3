"""bayesjax: Bayesian deep learning and deep generative models as pure functions in JAX.

Every method is a scalar function of a parameter pytree (`objectives`, `posteriors`) plus a way to move the parameters
(`kernels`). One loop runs all of them (`training.run`), and their results are evaluated as stacked draws
(`evaluation`). Subpackages load on first use.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "axes",
    "data",
    "divergences",
    "evaluation",
    "kernels",
    "models",
    "noise",
    "objectives",
    "plots",
    "posteriors",
    "training",
    "tree",
    "types",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"bayesjax.{name}")
    raise AttributeError(f"module 'bayesjax' has no attribute {name!r}")
