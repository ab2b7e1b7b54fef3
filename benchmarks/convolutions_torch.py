"""The 28-pixel DCGAN of `convolutions.py` in eager PyTorch: networks, loss, optimiser and steps.

There are two paddings. "same" has unequal sides as in Flax, and is used to compare gradients. "even" has two pixels on
each side, as PyTorch users write it, and is used for the timing, because it needs no separate padding or cropping.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

from benchmarks.convolutions import BATCH_SIZE, LATENT_DIM, LEARNING_RATE

BETAS, SLOPE = (0.5, 0.999), 0.2
SIZES = (4, 7, 14, 28)


class TorchGAN:
    """Generator 100-128-64-32-1 and discriminator 1-32-64-128, kernels 5 x 5, stride 2, no normalisation.

    Args:
      params: {"generator", "discriminator"} of Flax arrays, the weights to begin with.
      images: real images `[batch, 28, 28, 1]`.
      padding: "same" or "even".
      channels_last: the memory format of images and kernels.
    """

    def __init__(self, params: dict, images: np.ndarray, padding: str = "even", channels_last: bool = False):
        self.even = padding == "even"
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.images = self._tensor(images.transpose(0, 3, 1, 2))
        self.weights, self.optimizers = {}, {}
        for player, tree in params.items():
            self.weights[player] = [self._weight(player, name, tree[name]) for name in layer_names(player)]
            flat = [tensor for layer in self.weights[player] for tensor in layer]
            for tensor in flat:
                tensor.requires_grad_()
            self.optimizers[player] = torch.optim.Adam(flat, LEARNING_RATE, BETAS)

    def _tensor(self, array: Any) -> Any:
        tensor = torch.tensor(np.ascontiguousarray(array))
        return tensor.contiguous(memory_format=self.format) if tensor.ndim == 4 else tensor

    def _weight(self, player: str, name: str, layer: dict) -> list[Any]:
        kernel, bias = np.asarray(layer["kernel"]), np.asarray(layer["bias"])
        if name.startswith("ConvTranspose"):  # Flax does not flip the kernel, PyTorch does
            kernel = kernel[::-1, ::-1].transpose(2, 3, 0, 1)
        elif kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        else:  # PyTorch flattens and reshapes images in channels-first order
            kernel = _channels_first(kernel, axis=1 if player == "generator" else 0).T
            bias = _channels_first(bias, axis=0) if player == "generator" else bias
        return [self._tensor(kernel), self._tensor(bias)]

    def generate(self, z: Any) -> Any:
        """Images `[batch, 1, 28, 28]` from noise `[batch, 100]`."""
        (kernel, bias), *layers = self.weights["generator"]
        x = functional.relu(functional.linear(z, kernel, bias)).view(-1, 128, 4, 4)
        x = x.contiguous(memory_format=self.format)
        for at, (kernel, bias) in enumerate(layers):
            size = SIZES[at + 1]
            if self.even:
                x = functional.conv_transpose2d(x, kernel, bias, 2, 2, size - 2 * x.shape[-1] + 1)
            else:
                x = functional.conv_transpose2d(x, kernel, bias, 2, 1)[..., :size, :size]
            x = functional.relu(x) if at + 1 < len(layers) else torch.tanh(x)
        return x

    def judge(self, x: Any) -> Any:
        """Logits `[batch]`."""
        *layers, (kernel, bias) = self.weights["discriminator"]
        for layer_kernel, layer_bias in layers:
            if not self.even:
                total = (-(-x.shape[-1] // 2) - 1) * 2 + 5 - x.shape[-1]
                x = functional.pad(x, (total // 2, total - total // 2) * 2)
            x = functional.conv2d(x, layer_kernel, layer_bias, 2, 2 if self.even else 0)
            x = functional.leaky_relu(x, SLOPE)
        return functional.linear(x.reshape(x.shape[0], -1), kernel, bias)[:, 0]

    def loss(self, player: str, z: Any) -> Any:
        """The non-saturating loss, a mean over the batch. The discriminator gets real and fake images in one batch."""
        if player == "generator":
            return functional.softplus(-self.judge(self.generate(z))).mean()
        with torch.no_grad():
            fakes = self.generate(z)
        logits = self.judge(torch.cat([self.images, fakes]))
        return (functional.softplus(-logits[: len(fakes)]) + functional.softplus(logits[len(fakes) :])).mean()

    def gradient(self, player: str, z: np.ndarray) -> list[np.ndarray]:
        """Gradients of the weights and biases, layer by layer, in PyTorch's layout."""
        flat = [tensor for layer in self.weights[player] for tensor in layer]
        return [g.numpy() for g in torch.autograd.grad(self.loss(player, torch.tensor(z)), flat)]

    def steps(self, player: str, num: int) -> Callable[[], None]:
        """Returns a function that takes the given number of Adam steps of a player."""
        other = "discriminator" if player == "generator" else "generator"

        def run() -> None:
            for layer in self.weights[other]:  # the other player needs no gradients
                for tensor in layer:
                    tensor.requires_grad_(False)
            for _ in range(num):
                loss = self.loss(player, 2 * torch.rand(BATCH_SIZE, LATENT_DIM) - 1)
                self.optimizers[player].zero_grad()
                loss.backward()
                self.optimizers[player].step()
            for layer in self.weights[other]:
                for tensor in layer:
                    tensor.requires_grad_()

        return run


def layer_names(player: str) -> list[str]:
    """Flax's names of a player's layers, from input to output."""
    if player == "generator":
        return ["Dense_0", "ConvTranspose_0", "ConvTranspose_1", "ConvTranspose_2"]
    return ["convolutions_0", "convolutions_1", "convolutions_2", "logits"]


def _channels_first(array: np.ndarray, axis: int) -> np.ndarray:
    """Reorders an axis of 4 x 4 x 128 features to 128 x 4 x 4."""
    shape = array.shape
    folded = array.reshape(*shape[:axis], 4, 4, 128, *shape[axis + 1 :])
    return np.moveaxis(folded, axis + 2, axis).reshape(shape)
