"""Persistent contrastive divergence of `boltzmann.py` in PyTorch without autograd: buffers and updates in place."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from benchmarks.boltzmann import LEARNING_RATE, OFFSET_RATE


class TorchRBM:
    """A Bernoulli RBM, plain or centred, and its persistent chains of hidden units.

    Args:
      params: parameters of `models.boltzmann.RBM`; the machine is centred if they have offsets.
      num_chains: number of chains, which start at 0; it is also the batch size.
    """

    def __init__(self, params: dict, num_chains: int):
        self.tensors = {name: torch.tensor(np.asarray(value)) for name, value in params.items()}
        self.is_centred = "visible_offset" in params
        sizes = self.tensors["kernel"].shape
        self.h = torch.zeros(num_chains, sizes[1])
        self.v, self.x, self.visible_mean, self.visible_noise = (torch.empty(num_chains, sizes[0]) for _ in range(4))
        self.at_data, self.at_chains, self.hidden_noise = (torch.empty(num_chains, sizes[1]) for _ in range(3))

    def step(self, x: Any) -> None:
        """One step of PCD-1 on images `[num_chains, V]`: v ~ p(v | h), h ~ p(h | v), and the update."""
        kernel, bias = self.tensors["kernel"], self.tensors["visible_bias"]
        if self.is_centred:
            self.h.sub_(self.tensors["hidden_offset"])
        torch.addmm(bias, self.h, kernel.T, out=self.visible_mean).sigmoid_()
        draw(self.visible_mean, self.visible_noise, self.v)
        statistics = self._statistics(x)
        draw(self.at_chains, self.hidden_noise, self.h)
        self.update(*statistics)

    def statistics(self, x: np.ndarray, v: np.ndarray) -> tuple[Any, Any, Any, Any]:
        """`_statistics` for given images `x` and chains `v`, as arrays."""
        self.v.copy_(torch.tensor(v))
        return self._statistics(torch.tensor(x))

    def _statistics(self, x: Any) -> tuple[Any, Any, Any, Any]:
        """Returns images, chains, p(h = 1 | images) and p(h = 1 | chains).

        For a centred machine the visible offset is subtracted from images and chains. The returned tensors are buffers
        that the next step overwrites, except the images of a plain machine.
        """
        kernel, bias, v = self.tensors["kernel"], self.tensors["hidden_bias"], self.v
        if self.is_centred:
            offset = self.tensors["visible_offset"]
            x, v = torch.sub(x, offset, out=self.x), v.sub_(offset)
        torch.addmm(bias, x, kernel, out=self.at_data).sigmoid_()
        torch.addmm(bias, v, kernel, out=self.at_chains).sigmoid_()
        return x, v, self.at_data, self.at_chains

    def update(self, x: Any, v: Any, at_data: Any, at_chains: Any) -> None:
        """Ascends the gradient E_data - E_chains of the log likelihood, from the results of `statistics`.

        A centred machine also moves its offsets, and changes its biases so that this does not change its distribution.
        The offsets of v and h cancel in the gradients of the biases.
        """
        kernel, rate = self.tensors["kernel"], LEARNING_RATE / len(x)
        image_sum, hidden_sum = x.sum(0), at_data.sum(0)
        self.tensors["visible_bias"].add_(image_sum - v.sum(0), alpha=rate)
        self.tensors["hidden_bias"].add_(hidden_sum - at_chains.sum(0), alpha=rate)
        if not self.is_centred:
            kernel.addmm_(x.T, at_data, alpha=rate)
            kernel.addmm_(v.T, at_chains, alpha=-rate)
            return
        hidden_offset = self.tensors["hidden_offset"]
        kernel.addmm_(x.T, at_data.sub_(hidden_offset), alpha=rate)
        kernel.addmm_(v.T, at_chains.sub_(hidden_offset), alpha=-rate)
        visible_change = image_sum * (OFFSET_RATE / len(x))
        hidden_change = (hidden_sum / len(x) - hidden_offset) * OFFSET_RATE
        self.tensors["visible_offset"].add_(visible_change)
        hidden_offset.add_(hidden_change)
        self.tensors["hidden_bias"].addmv_(kernel.T, visible_change)
        self.tensors["visible_bias"].addmv_(kernel, hidden_change)

    def parameters(self) -> dict[str, np.ndarray]:
        """The parameters under bayesjax's names."""
        return {name: value.numpy() for name, value in self.tensors.items()}


def draw(probability: Any, noise: Any, out: Any) -> None:
    """Writes Bernoulli draws into `out`. With this comparison a step is 10 % faster than with `torch.bernoulli`."""
    torch.lt(noise.uniform_(), probability, out=out)


def indexed(images: Any, batch_size: int) -> Iterator[Any]:
    """Yields shuffled whole batches of a tensor in memory, without end."""
    while True:
        for index in torch.randperm(len(images)).split(batch_size)[: len(images) // batch_size]:
            yield images[index]


def training_steps(machine: TorchRBM, images: np.ndarray, batch_size: int) -> Callable[[], None]:
    """Returns a function that takes one step on each whole batch of the images."""
    batches, num_steps = indexed(torch.tensor(images), batch_size), len(images) // batch_size

    @torch.no_grad()
    def run() -> None:
        for _ in range(num_steps):
            machine.step(next(batches))
        if not torch.isfinite(machine.tensors["kernel"]).all():
            raise FloatingPointError("the PyTorch weights are not finite")

    run()
    return run


def products(machine: TorchRBM, x: np.ndarray, num_steps: int) -> Callable[[], None]:
    """Returns a function that computes only the five matrix products of a step, the given number of times."""
    kernel, images = machine.tensors["kernel"].clone(), torch.tensor(x)
    v, at_data, at_chains = (torch.empty_like(each) for each in (machine.v, machine.at_data, machine.at_chains))
    gradient = torch.zeros_like(kernel)

    @torch.no_grad()
    def run() -> None:
        for _ in range(num_steps):
            torch.mm(images, kernel, out=at_data)
            torch.mm(at_data, kernel.T, out=v)
            torch.mm(v, kernel, out=at_chains)
            torch.mm(images.T, at_data, out=gradient)
            torch.mm(v.T, at_chains, out=gradient)

    run()
    return run
