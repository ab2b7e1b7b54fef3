"""Networks as Flax Linen modules, for which `apply({"params": params}, x)` is a pure function of the parameters."""

import importlib
from typing import Any

from bayesjax.models import (
    cyclegan,
    dcgan,
    equalised,
    infogan,
    initializers,
    noisy_mlp,
    progressive,
    resampling,
    segnet,
    sngan,
    spectral_norm,
    stylegan,
    stylegan2,
)
from bayesjax.models.autoencoder import AutoEncoder
from bayesjax.models.convolution import Conv, ConvTranspose
from bayesjax.models.fast_convolution import Fast, conv_general_dilated, fast
from bayesjax.models.latent import latent_arc, latent_noise
from bayesjax.models.lenet import LeNet
from bayesjax.models.mlp import MLP
from bayesjax.models.recurrent import LSTM, Carry, LanguageModel
from bayesjax.models.segnet import SegNet
from bayesjax.models.spectral_norm import spectrally_normalised
from bayesjax.models.weight_noise import flipout, local_reparameterisation

__all__ = [
    "LSTM",
    "MLP",
    "AutoEncoder",
    "Carry",
    "Conv",
    "ConvTranspose",
    "Fast",
    "LanguageModel",
    "LeNet",
    "SegNet",
    "boltzmann",
    "conv_general_dilated",
    "cyclegan",
    "dcgan",
    "deep_boltzmann",
    "equalised",
    "fast",
    "flipout",
    "flows",
    "infogan",
    "initializers",
    "latent_arc",
    "latent_noise",
    "local_reparameterisation",
    "noisy_mlp",
    "progressive",
    "resampling",
    "segnet",
    "sngan",
    "spectral_norm",
    "spectrally_normalised",
    "stylegan",
    "stylegan2",
    "vae",
]


def __getattr__(name: str) -> Any:
    if name in (
        "boltzmann",
        "deep_boltzmann",
        "flows",
        "vae",
    ):  # loaded on first use, because importing distrax takes seconds
        return importlib.import_module(f"bayesjax.models.{name}")
    raise AttributeError(f"module 'bayesjax.models' has no attribute {name!r}")
