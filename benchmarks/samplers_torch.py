"""The targets of `samplers_problem.py` in PyTorch, and the samplers SGHMC and SGLD of the library `posteriors`."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import posteriors  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]

from benchmarks.samplers_checks import chen
from benchmarks.samplers_problem import NOISE


def tensors(params: Any) -> list[Any]:
    """Returns Flax's layers as a list of tensors: kernel (not transposed) and bias of each layer."""
    layers = [params[name] for name in sorted(params)]
    return [torch.tensor(np.array(layer[part])) for layer in layers for part in ("kernel", "bias")]


def log_posterior(weights: list[Any], batch: dict[str, Any], num_data: int) -> Any:
    """The log posterior of `samplers_problem.density` on a minibatch."""
    log_prior, h = 0.0, batch["x"]
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        log_prior = log_prior + log_normal(kernel, 1 / math.sqrt(kernel.shape[0])) + log_normal(bias, 1.0)
        h = torch.addmm(bias, h if kernel is weights[0] else torch.tanh(h), kernel)
    return log_prior + num_data * (-0.5 * ((batch["y"] - h[:, 0]) / NOISE) ** 2).mean()


def log_normal(w: Any, scale: float) -> Any:
    """The log density of N(0, scale^2) at a tensor, summed over its elements."""
    return -0.5 * (w**2).sum() / scale**2 - w.numel() * (math.log(scale) + 0.5 * math.log(2 * math.pi))


def gradient(params: Any, batch: dict[str, np.ndarray], num_data: int) -> list[np.ndarray]:
    """The gradient of the log posterior, one array for each kernel and bias."""
    weights = [tensor.requires_grad_() for tensor in tensors(params)]
    value = log_posterior(weights, {name: torch.tensor(array) for name, array in batch.items()}, num_data)
    return [g.numpy() for g in torch.autograd.grad(value, weights)]


def named(weights: list[Any]) -> dict[str, Any]:
    """Returns the tensors by name, as `posteriors` requires."""
    return {str(at): tensor for at, tensor in enumerate(weights)}


def unnamed(weights: Any) -> list[Any]:
    """Returns the list of tensors from which `named` made a dict."""
    return [weights[str(at)] for at in range(len(weights.keys()))]


class Sampler:
    """A transform of `posteriors` and its state, which is updated in place."""

    def __init__(self, transform: Any, weights: list[Any]):
        self.transform, self.state = transform, transform.init(named(weights))

    def steps(self, batches: dict[str, np.ndarray], num: int) -> None:
        """Takes `num` steps through the batches in turn."""
        arrays = {name: torch.tensor(array) for name, array in batches.items()}
        for at in range(num):
            batch = {name: array[at % len(array)] for name, array in arrays.items()}
            self.state, _ = self.transform.update(self.state, batch, inplace=True)
        if not all(torch.isfinite(tensor).all() for tensor in unnamed(self.state.params)):
            raise FloatingPointError("the state of posteriors is not finite")

    def mean_squares(self, num: int) -> np.ndarray:
        """The mean square of each coordinate over the last three quarters of the steps."""
        total, warm_up = torch.zeros_like(unnamed(self.state.params)[0]), num // 4
        for at in range(num):
            self.state, _ = self.transform.update(self.state, None, inplace=True)
            if at >= warm_up:
                total += unnamed(self.state.params)[0] ** 2
        return (total / (num - warm_up)).numpy().astype(np.float64)


def samplers(
    density: Callable, weights: Callable[[], list[Any]], sghmc_step: float, sgld_step: float
) -> dict[str, Sampler]:
    """SGHMC and SGLD at bayesjax's step sizes; `density(weights, batch)` returns a value and an auxiliary tensor."""
    step_size, friction = chen(sghmc_step)
    return {
        "sghmc": Sampler(posteriors.sgmcmc.sghmc.build(density, lr=step_size, alpha=friction), weights()),
        "sgld": Sampler(posteriors.sgmcmc.sgld.build(density, lr=sgld_step), weights()),
    }


def network_samplers(params: Any, num_data: int, sghmc_step: float, sgld_step: float) -> dict[str, Sampler]:
    """The samplers of the network's weights."""

    def density(weights: Any, batch: dict[str, Any]) -> tuple[Any, Any]:
        return log_posterior(unnamed(weights), batch, num_data), torch.tensor([])

    return samplers(density, lambda: tensors(params), sghmc_step, sgld_step)


def gaussian_samplers(dim: int, sghmc_step: float, sgld_step: float) -> dict[str, Sampler]:
    """The samplers of N(0, I), started from a draw of it."""
    torch.manual_seed(0)
    return samplers(
        lambda weights, batch: (-0.5 * (unnamed(weights)[0] ** 2).sum(), torch.tensor([])),
        lambda: [torch.randn(dim)],
        sghmc_step,
        sgld_step,
    )
