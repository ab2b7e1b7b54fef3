"""Flax Linen modules: pure functions `apply({"params": params}, x)` of their parameters."""

from bayesjax.models import dcgan, initializers
from bayesjax.models.convolution import Conv, ConvTranspose
from bayesjax.models.latent import latent_noise
from bayesjax.models.mlp import MLP

__all__ = ["MLP", "Conv", "ConvTranspose", "dcgan", "initializers", "latent_noise"]
