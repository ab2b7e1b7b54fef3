"""bayesjax: Bayesian deep learning and deep generative models as pure functions in JAX.

A method combines a scalar function of a parameter pytree (`objectives`, `posteriors`) with an optimiser or a sampler
(`kernels`). `training.run` runs every method, and `evaluation` evaluates the resulting draws of the parameters, which
are stacked along a leading axis. Subpackages are imported on first use.
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "adapters",
    "axes",
    "data",
    "distributions",
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
