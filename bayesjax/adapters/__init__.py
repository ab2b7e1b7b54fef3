"""Modules of Flax NNX and Equinox, and models of NumPyro, as pure functions of their parameters."""

from bayesjax.adapters.modules import InitApply, Split, init_apply, split
from bayesjax.adapters.numpyro_model import NumPyroModel, numpyro_model

__all__ = ["InitApply", "NumPyroModel", "Split", "init_apply", "numpyro_model", "split"]
