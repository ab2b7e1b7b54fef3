"""SGD steps for `weights.py` in eager PyTorch, with plain layers and those of bayesian-torch and BLiTZ."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from benchmarks.weights import LEARNING_RATE, NUM_CLASSES, NUM_DATA, NUM_PIXELS, POSTERIOR_WIDTHS, SAMPLER_WIDTHS, SCALE

RHO = float(np.log(np.expm1(SCALE)))
FIXED = -25.0  # rho of weights whose standard deviation is negligible in float32


def plain(widths: tuple[int, ...]) -> Any:
    """A network of plain linear layers and ReLUs."""
    sizes = (NUM_PIXELS, *widths, NUM_CLASSES)
    layers = [layer for a, b in itertools.pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def bayesian_layers(library: str, rho: float = RHO) -> list[Any]:
    """Blundell's network, built from the layers of a library."""
    sizes = (NUM_PIXELS, *POSTERIOR_WIDTHS, NUM_CLASSES)
    pairs = list(itertools.pairwise(sizes))
    if library == "bayesian-torch":
        from bayesian_torch.layers import LinearReparameterization  # pyright: ignore[reportMissingImports]

        return [LinearReparameterization(a, b, posterior_rho_init=rho) for a, b in pairs]
    from blitz.modules import BayesianLinear  # pyright: ignore[reportMissingImports]

    mixture: Any = {"prior_sigma_1": 1.0, "prior_sigma_2": float(np.exp(-6)), "prior_pi": 0.5}
    return [BayesianLinear(a, b, posterior_rho_init=rho, **mixture) for a, b in pairs]


def forward(layers: list[Any], x: Any) -> tuple[Any, Any]:
    """Returns the logits, and the divergence as the library computes it."""
    divergence = 0.0
    for i, layer in enumerate(layers):
        out = layer(x)
        if isinstance(out, tuple):
            x, kl = out
        else:
            x, kl = out, layer.log_variational_posterior - layer.log_prior
        divergence = divergence + kl
        x = torch.relu(x) if i + 1 < len(layers) else x
    return x, divergence


def steps(library: str, examples: tuple[np.ndarray, np.ndarray], num_normals: int) -> dict[str, Callable[[], Any]]:
    """Returns the training step of each row, by its name."""
    x, y = map(torch.tensor, examples)
    if library == "torch":
        with_prior, deterministic = plain(SAMPLER_WIDTHS), plain(POSTERIOR_WIDTHS)
        momentum = torch.optim.SGD(with_prior.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=1 / NUM_DATA)
        sgd = torch.optim.SGD(deterministic.parameters(), LEARNING_RATE)
        return {
            "torch SGD with momentum": lambda: _step(momentum, lambda: nn.functional.cross_entropy(with_prior(x), y)),
            "torch deterministic": lambda: _step(sgd, lambda: nn.functional.cross_entropy(deterministic(x), y)),
            f"torch, {num_normals / 1e6:g} M normals": lambda: torch.randn(num_normals),
        }
    layers = nn.ModuleList(bayesian_layers(library))
    optimizer = torch.optim.SGD(layers.parameters(), LEARNING_RATE)

    def loss() -> Any:
        logits, divergence = forward(list(layers), x)
        return nn.functional.cross_entropy(logits, y) + divergence / NUM_DATA

    prior = "a Gaussian" if library == "bayesian-torch" else "a mixture"
    return {f"{library} KL to {prior}": lambda: _step(optimizer, loss)}


def _step(optimizer: Any, loss: Callable[[], Any]) -> None:
    optimizer.zero_grad()
    loss().backward()
    optimizer.step()


def _filled(library: str, weights: list[dict], rho: float) -> list[Any]:
    """Returns the network with bayesjax's weights as means and one value of rho for all weights."""
    layers = bayesian_layers(library)
    for layer, values in zip(layers, weights, strict=True):
        for name, parameter in layer.named_parameters():
            value = rho if "rho" in name else values["kernel" if "weight" in name else "bias"].T
            parameter.data.copy_(torch.tensor(np.array(value)))
    return layers


def logits(library: str, weights: list[dict], x: np.ndarray) -> np.ndarray:
    """The logits `[num, 10]` of a library's network with deterministic weights."""
    return forward(_filled(library, weights, FIXED), torch.tensor(x))[0].detach().numpy()


def divergence(weights: list[dict], scale: float) -> float:
    """The divergence of bayesian-torch as a sum over all weights; the library averages it over each tensor."""
    total = 0.0
    for layer in _filled("bayesian-torch", weights, float(np.log(np.expm1(scale)))):
        sigma = nn.functional.softplus
        of_weights = layer.kl_div(
            layer.mu_weight, sigma(layer.rho_weight), layer.prior_weight_mu, layer.prior_weight_sigma
        )
        of_biases = layer.kl_div(layer.mu_bias, sigma(layer.rho_bias), layer.prior_bias_mu, layer.prior_bias_sigma)
        total += (of_weights * layer.mu_weight.numel() + of_biases * layer.mu_bias.numel()).item()
    return total
