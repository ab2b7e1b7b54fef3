"""The StyleGAN2 of `stylegan.py` in eager PyTorch: networks, losses, optimiser and steps, in channels-first layout."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.stylegan import BATCH_SIZE, BETAS, DEPTH, FEATURES, LATENT_DIM, LEARNING_RATE, networks

SLOPE, RATE, GROUP_SIZE = 0.2, 0.01, 4
FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
FILTER = FILTER[:, None] * FILTER


def tensors(tree: Any) -> dict[str, Any]:
    """The leaves of Flax parameters by path, as tensors in channels-first layout."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    result = {}
    for path, leaf in leaves:
        name, array = jax.tree_util.keystr(path, simple=True, separator="/"), np.asarray(leaf)
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif array.ndim == 3:
            array = array.transpose(2, 0, 1)
        elif name == "dense/kernel":  # PyTorch flattens images in channels-first order
            array = array.reshape(4, 4, FEATURES[0], -1).transpose(2, 0, 1, 3).reshape(array.shape)
        result[name] = torch.tensor(np.ascontiguousarray(array))
    return result


class TorchGAN:
    """Generator and discriminator of StyleGAN2 at 32 pixels.

    Args:
      params: {"generator", "discriminator"} of Flax arrays, the weights to begin with.
      images: real images `[batch, 32, 32, 1]`.
      form: "scaled" for scaled inputs and outputs of one convolution, "grouped" for a kernel for each image.
    """

    def __init__(self, params: dict, images: np.ndarray, form: str):
        self.images = torch.tensor(images.transpose(0, 3, 1, 2).copy())
        self.is_grouped = form == "grouped"
        self.weights = {player: tensors(tree) for player, tree in params.items()}
        self.noise_sizes = networks()[0].synthesis.noise_sizes
        self.optimizers = {
            player: torch.optim.Adam(list(flat.values()), LEARNING_RATE, BETAS) for player, flat in self.weights.items()
        }

    def generate(self, z: Any, noise: list[Any]) -> Any:
        """Images `[batch, 1, 32, 32]` from z `[batch, latent_dim]` and noise `[batch, h, w]` of all layers."""
        weights = self.weights["generator"]
        w = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for layer in range(DEPTH):
            kernel, bias = (weights[f"mapping/EqualisedDense_{layer}/{name}"] for name in ("kernel", "bias"))
            scale = RATE * math.sqrt(2 / len(kernel))
            w = functional.leaky_relu(torch.addmm(bias * RATE, w, kernel * scale), SLOPE)
        constant = weights["synthesis/constant"]
        x, image = constant.expand(len(z), *constant.shape), None
        for layer, drawn in enumerate(noise):
            name = f"synthesis/layers_{layer}"
            x = self.modulated(x, w, f"{name}/ModulatedConv_0", doubles=layer % 2 == 1)
            x = x + weights[f"{name}/noise_strength"] * drawn[:, None]
            x = math.sqrt(2) * functional.leaky_relu(x, SLOPE)
            if layer % 2 == 0:
                part = self.modulated(x, w, f"synthesis/to_image_{layer // 2}", demodulates=False)
                image = part if image is None else part + functional.interpolate(image, None, 2, "bilinear", False)
        return image

    def modulated(self, x: Any, w: Any, name: str, doubles: bool = False, demodulates: bool = True) -> Any:
        """The modulated convolution of a layer, with its bias."""
        weights = self.weights["generator"]
        style, bias = weights[f"{name}/style/kernel"], weights[f"{name}/bias"]
        scale = torch.addmm(weights[f"{name}/style/bias"], w, style / math.sqrt(len(style)))
        kernel = weights[f"{name}/kernel"]
        kernel = kernel / math.sqrt(kernel[0].numel())
        if self.is_grouped:
            batch, channels, height, width = x.shape
            kernel = kernel * scale[:, None, :, None, None]
            if demodulates:
                kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
            x = x.reshape(1, batch * channels, height, width)
            x = doubled(x, kernel, batch) if doubles else convolved(x, kernel, batch)
            x = x.reshape(batch, -1, *x.shape[2:])
        else:
            x = x * scale[:, :, None, None]
            x = doubled(x, kernel[None], 1) if doubles else convolved(x, kernel[None], 1)
            if demodulates:
                norm = scale.square() @ kernel.square().sum((2, 3)).T
                x = x * torch.rsqrt(norm + 1e-8)[:, :, None, None]
        return x + bias[:, None, None]

    def judge(self, x: Any) -> Any:
        """Logits `[batch]`."""
        weights = self.weights["discriminator"]

        def layer(name: str, x: Any, stride: int = 1, gain: float = math.sqrt(2)) -> Any:
            kernel, bias = weights[f"{name}/kernel"], weights.get(f"{name}/bias")
            padding = kernel.shape[-1] // 2 if stride == 1 else 0
            x = functional.conv2d(x, kernel * (gain / math.sqrt(kernel[0].numel())), bias, stride, padding)
            return x if bias is None else functional.leaky_relu(x, SLOPE)

        x = layer("from_image", x)
        for level in range(len(FEATURES) - 1, 0, -1):
            branch = layer(f"convolutions_{level}", x)
            branch = layer(f"halvings_{level - 1}", filtered(branch, 2), stride=2)
            ones = torch.ones(1, 1, *x.shape[2:])
            pooled = filtered(x, 1, stride=2) / filtered(ones, 1, stride=2)
            x = (branch + layer(f"shortcuts_{level - 1}", pooled, gain=1.0)) / math.sqrt(2)
        groups = x.reshape(GROUP_SIZE, -1, *x.shape[1:])
        deviation = torch.sqrt(groups.var(0, unbiased=False) + 1e-8).mean((1, 2, 3))
        statistic = deviation.repeat(GROUP_SIZE)[:, None, None, None].expand(-1, 1, *x.shape[2:])
        x = layer("convolutions_0", torch.cat([x, statistic], 1)).flatten(1)
        kernel, last = weights["dense/kernel"], weights["logits/kernel"]
        x = torch.addmm(weights["dense/bias"], x, kernel * math.sqrt(2 / len(kernel)))
        x = functional.leaky_relu(x, SLOPE)
        return torch.addmm(weights["logits/bias"], x, last / math.sqrt(len(last)))[:, 0]

    def loss(self, player: str, z: Any, noise: list[Any]) -> Any:
        """The non-saturating loss, a mean over the batch.

        Real and fake images are separate batches, so that the minibatch statistic does not mix them.
        """
        if player == "generator":
            return functional.softplus(-self.judge(self.generate(z, noise))).mean()
        with torch.no_grad():
            fakes = self.generate(z, noise)
        real, fake = self.judge(self.images), self.judge(fakes)
        return (functional.softplus(-real) + functional.softplus(fake)).mean()

    def gradient(self, player: str, z: np.ndarray, noise: list[np.ndarray]) -> dict[str, np.ndarray]:
        """Gradients by the path of each weight, in PyTorch's layout."""
        self._differentiate(player)
        flat = self.weights[player]
        loss = self.loss(player, torch.tensor(z), [torch.tensor(each) for each in noise])
        return dict(zip(flat, (g.numpy() for g in torch.autograd.grad(loss, list(flat.values()))), strict=True))

    def steps(self, player: str, num: int) -> Callable[[], None]:
        """Returns a function that takes the given number of Adam steps of a player."""

        def run() -> None:
            self._differentiate(player)
            for _ in range(num):
                noise = [torch.randn(BATCH_SIZE, *size) for size in self.noise_sizes]
                loss = self.loss(player, torch.randn(BATCH_SIZE, LATENT_DIM), noise)
                self.optimizers[player].zero_grad()
                loss.backward()
                self.optimizers[player].step()

        return run

    def _differentiate(self, player: str) -> None:
        """Makes only this player's weights require gradients."""
        for name, flat in self.weights.items():
            for tensor in flat.values():
                tensor.requires_grad_(name == player)


def convolved(x: Any, kernels: Any, groups: int) -> Any:
    """Convolution with kernels `[groups, out, in, k, k]`."""
    return functional.conv2d(x, kernels.flatten(0, 1), None, 1, kernels.shape[-1] // 2, 1, groups)


def doubled(x: Any, kernels: Any, groups: int) -> Any:
    """Transposed convolution of stride 2 with kernels `[groups, out, in, 3, 3]`, followed by the filter."""
    flipped = kernels.flip(3, 4).transpose(1, 2).flatten(0, 1)
    return 4 * filtered(functional.conv_transpose2d(x, flipped, None, 2, 0, 0, groups), 1)


def filtered(x: Any, padding: int, stride: int = 1) -> Any:
    """The filter [1, 3, 3, 1] / 8 on both axes, by a convolution with one channel a group."""
    channels = x.shape[1]
    return functional.conv2d(x, FILTER.expand(channels, 1, 4, 4), None, stride, padding, 1, channels)
