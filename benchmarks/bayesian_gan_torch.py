"""The synthetic Bayesian GAN in eager PyTorch, for comparison: one `linear` per generator, or all batched.

It computes the conditionals of `posteriors/bayesian_gan.py` (pool = "sum") and the update of `kernels/sghmc.py`, as
`benchmarks/bayesian_gan.py` does with bayesjax. The constants below are the settings of both programs.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

HIDDEN, LATENT_DIM, BATCH_SIZE, SLOPE = 1000, 10, 64, 0.2
LEARNING_RATE, FRICTION, PRIOR_SCALE = 1e-3, 0.5, 10.0


class TorchGame:
    """The game in eager PyTorch. Parameters and velocities are lists of tensors, which are updated in place.

    Args:
      position: initial parameters, as returned by `bayesian_gan.initial_position`.
      inputs: data `[num, dim]`.
      temperature: temperature T of the posterior; 0 for no noise.
      batched: whether one `baddbmm` computes a layer of all generators, instead of one `linear` for each generator.
    """

    def __init__(self, position: dict, inputs: np.ndarray, temperature: float, batched: bool):
        import torch  # pyright: ignore[reportMissingImports]

        self.torch, self.batched, self.temperature = torch, batched, temperature
        self.inputs, self.num_data = torch.tensor(inputs), len(inputs)
        generators = layers(position["generator"])
        self.num_generators = len(generators[0])
        if batched:
            self.generator = [torch.tensor(leaf if leaf.ndim == 3 else leaf[:, None]) for leaf in generators]
        else:
            self.generator = [torch.tensor(leaf[j].T) for j in range(self.num_generators) for leaf in generators]
        self.discriminator = [torch.tensor(leaf[0].T) for leaf in layers(position["discriminator"])]
        for parameter in (*self.generator, *self.discriminator):
            parameter.requires_grad_()
        self.velocity = {
            name: [torch.zeros_like(parameter) for parameter in getattr(self, name)]
            for name in ("generator", "discriminator")
        }

    def fakes(self, noise: Any) -> Any:
        """Images `[num_generators * n, dim]` from noise `[num_generators, n, latent_dim]`."""
        functional = self.torch.nn.functional
        if self.batched:
            w1, b1, w2, b2 = self.generator
            hidden = functional.leaky_relu(self.torch.baddbmm(b1, noise, w1), SLOPE)
            return self.torch.baddbmm(b2, hidden, w2).flatten(0, 1)
        images = []
        for j, noise_of_one in enumerate(noise):
            w1, b1, w2, b2 = self.generator[4 * j : 4 * j + 4]
            hidden = functional.leaky_relu(functional.linear(noise_of_one, w1, b1), SLOPE)
            images.append(functional.linear(hidden, w2, b2))
        return self.torch.cat(images)

    def logits(self, parameters: list, images: Any) -> Any:
        """The discriminator's logits, `[n]`."""
        functional = self.torch.nn.functional
        w1, b1, w2, b2 = parameters
        hidden = functional.leaky_relu(functional.linear(images, w1, b1), SLOPE)
        return functional.linear(hidden, w2, b2)[:, 0]

    def discriminator_gradient(self, real: Any, noise: Any) -> list:
        """The gradient of the discriminator's log conditional."""
        softplus, weight = self.torch.nn.functional.softplus, self.num_data * self.num_generators
        with self.torch.no_grad():
            fakes = self.fakes(noise)
        logits = self.logits(self.discriminator, self.torch.cat([real, fakes]))
        likelihood = -weight * (softplus(-logits[: len(real)]).mean() + softplus(logits[len(real) :]).mean())
        return self._with_prior(likelihood, self.discriminator)

    def generator_gradient(self, noise: Any) -> list:
        """The gradients of the generators' log conditionals, computed together from their sum."""
        logits = self.logits([parameter.detach() for parameter in self.discriminator], self.fakes(noise))
        weight = self.num_data * self.num_generators
        return self._with_prior(-weight * self.torch.nn.functional.softplus(-logits).mean(), self.generator)

    def _with_prior(self, likelihood: Any, parameters: list) -> list:
        gradient = list(self.torch.autograd.grad(likelihood, parameters))
        with self.torch.no_grad():
            self.torch._foreach_add_(gradient, parameters, alpha=-1 / PRIOR_SCALE**2)
        return gradient

    def move(self, name: str, gradient: list) -> None:
        """Moves one player in place by the SGHMC update of `kernels/sghmc.py`."""
        torch, parameters, velocity = self.torch, getattr(self, name), self.velocity[name]
        step_size = LEARNING_RATE / self.num_data
        with torch.no_grad():
            torch._foreach_mul_(velocity, 1 - FRICTION)
            torch._foreach_add_(velocity, gradient, alpha=step_size)
            torch._foreach_add_(parameters, velocity)
            if self.temperature:
                sd = math.sqrt(2 * FRICTION * self.temperature * step_size)
                noise = [torch.randn_like(parameter) for parameter in parameters]
                torch._foreach_add_(parameters, noise, alpha=sd / 2)
                torch._foreach_add_(velocity, noise, alpha=sd * (1 - FRICTION / 2) / (1 - FRICTION))

    def sweep(self) -> None:
        """One sweep: the discriminator, then the generators, on new data and noise."""
        torch, shape = self.torch, (self.num_generators, BATCH_SIZE, LATENT_DIM)
        real = self.inputs[torch.randint(self.num_data, (BATCH_SIZE,))]
        self.move("discriminator", self.discriminator_gradient(real, torch.rand(shape) * 2 - 1))
        self.move("generator", self.generator_gradient(torch.rand(shape) * 2 - 1))

    def stacked(self, name: str, tensors: list) -> list[np.ndarray]:
        """Returns a gradient or velocity as stacked arrays in the order of `layers`."""
        arrays = [tensor.numpy() for tensor in tensors]
        if name == "discriminator":
            return [array.T[None] for array in arrays]
        if self.batched:
            return [array if i % 2 == 0 else array[:, 0] for i, array in enumerate(arrays)]
        return [np.stack([array.T for array in arrays[i::4]]) for i in range(4)]


def layers(params: dict) -> list[np.ndarray]:
    """Returns the kernels and biases of a stacked two-layer network, in the order kernel, bias, kernel, bias."""
    return [np.asarray(params[layer][leaf]) for layer in ("layers_0", "layers_1") for leaf in ("kernel", "bias")]


def torch_sweeps(ported: TorchGame, num_sweeps: int) -> Callable[[], None]:
    """Returns a function that runs `num_sweeps` sweeps and raises FloatingPointError if the state is not finite."""

    def measure() -> None:
        for _ in range(num_sweeps):
            ported.sweep()
        if not all(bool(parameter.isfinite().all()) for parameter in ported.generator):
            raise FloatingPointError("the PyTorch state is not finite")

    return measure
