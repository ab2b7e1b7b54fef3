"""Flax Linen modules: pure functions `apply({"params": params}, x)` of their parameters."""

import importlib
from typing import Any

from bayesjax.models import dcgan, initializers
from bayesjax.models.convolution import Conv, ConvTranspose
from bayesjax.models.latent import latent_noise
from bayesjax.models.mlp import MLP

__all__ = ["MLP", "Conv", "ConvTranspose", "dcgan", "initializers", "latent_noise", "vae"]


def __getattr__(name: str) -> Any:
    if name == "vae":  # on first use: distrax takes seconds to load
        return importlib.import_module("bayesjax.models.vae")
    raise AttributeError(f"module 'bayesjax.models' has no attribute {name!r}")
