"""Flax Linen modules: pure functions `apply({"params": params}, x)` of their parameters."""

from bayesjax.models import dcgan
from bayesjax.models.convolution import Conv, ConvTranspose
from bayesjax.models.mlp import MLP

__all__ = ["MLP", "Conv", "ConvTranspose", "dcgan"]
