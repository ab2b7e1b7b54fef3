"""The variational auto-encoder of `vae.py` in ordinary PyTorch and in pythae: networks and training steps."""

import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]
from torch.utils.data import DataLoader, TensorDataset  # pyright: ignore[reportMissingImports]

from benchmarks.vae import LEARNING_RATE


class TorchVAE(nn.Module):
    """A Bernoulli decoder and a Gaussian encoder of one tanh layer each.

    Args:
      params: the initial weights as Flax parameters, {"encoder", "decoder"}.
    """

    def __init__(self, params: dict):
        super().__init__()
        layers = [params[network][f"layers_{i}"] for network in ("encoder", "decoder") for i in (0, 1)]
        self.hidden, self.moments, self.decoder_hidden, self.logits = (linear(layer) for layer in layers)

    def forward(self, x: Any, noise: Any = None) -> Any:
        """The negative ELBO, a mean over the batch; `noise` is drawn if none is given."""
        mean, log_variance = self.encode(x)
        noise = torch.randn_like(mean) if noise is None else noise
        logits = self.decode(mean + torch.exp(0.5 * log_variance) * noise)
        divergence = -0.5 * torch.sum(1 + log_variance - mean**2 - torch.exp(log_variance))
        return (functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") + divergence) / len(x)

    def encode(self, x: Any) -> tuple[Any, Any]:
        """Mean and log variance of q(z | x), `[batch, latent_dim]` each."""
        mean, log_variance = torch.chunk(self.moments(torch.tanh(self.hidden(x))), 2, dim=-1)
        return mean, log_variance

    def decode(self, z: Any) -> Any:
        """Logits of the pixels, `[batch, 784]`."""
        return self.logits(torch.tanh(self.decoder_hidden(z)))

    def gradient(self, x: np.ndarray, noise: np.ndarray) -> tuple[float, dict]:
        """Loss and gradient, in Flax's names and layout."""
        self.zero_grad()
        loss = self(torch.tensor(x), torch.tensor(noise))
        loss.backward()
        layers: Any = list(self.children())
        first, second, third, fourth = (
            {"kernel": layer.weight.grad.numpy().T, "bias": layer.bias.grad.numpy()} for layer in layers
        )
        return loss.item(), {
            "encoder": {"layers_0": first, "layers_1": second},
            "decoder": {"layers_0": third, "layers_1": fourth},
        }


def linear(layer: dict) -> nn.Linear:
    """Converts a Flax dense layer to a PyTorch layer."""
    kernel, bias = (torch.tensor(np.asarray(layer[name])) for name in ("kernel", "bias"))
    module = nn.Linear(kernel.shape[0], kernel.shape[1])
    module.weight.data, module.bias.data = kernel.T.contiguous(), bias
    return module


def indexed(images: Any, batch_size: int) -> Iterator[Any]:
    """Yields shuffled whole batches of a tensor in memory, without end."""
    while True:
        for index in torch.randperm(len(images)).split(batch_size)[: len(images) // batch_size]:
            yield images[index]


def loaded(images: Any, batch_size: int) -> Iterator[Any]:
    """Yields shuffled whole batches of a tensor from a `DataLoader`, without end."""
    while True:
        for (batch,) in DataLoader(TensorDataset(images), batch_size, shuffle=True, drop_last=True):
            yield batch


def training_steps(
    params: dict,
    images: np.ndarray,
    batch_size: int,
    num_steps: int,
    source: Callable[[Any, int], Iterator[Any]] = indexed,
    compile: bool = False,
    **adam: Any,
) -> Callable[[], None]:
    """Returns a function that takes the given number of Adam steps on batches that are binarised anew."""
    model = TorchVAE(params)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, **adam)
    loss_of: Any = torch.compile(model) if compile else model
    batches = source(torch.tensor(images), batch_size)

    def run() -> None:
        for _ in range(num_steps):
            optimizer.zero_grad()
            loss = loss_of(torch.bernoulli(next(batches)))
            loss.backward()
            optimizer.step()
        if not torch.isfinite(loss):
            raise FloatingPointError("the PyTorch loss is not finite")

    run()
    return run


def repeated(products: Callable, x: np.ndarray, weights: list[Any], num_steps: int) -> Callable[[], None]:
    """Returns a function that calls `vae.products` on tensors the given number of times."""
    images, tensors = torch.tensor(x), [torch.tensor(np.asarray(matrix)) for matrix in weights]

    def run() -> None:
        for _ in range(num_steps):
            products(images, tensors, torch.concatenate)

    run()
    return run


def pythae_model(params: dict, num_pixels: int, latent_dim: int) -> Any:
    """The VAE of pythae on the networks of `TorchVAE`."""
    from pythae.models import VAE, VAEConfig  # pyright: ignore[reportMissingImports]
    from pythae.models.base.base_utils import ModelOutput  # pyright: ignore[reportMissingImports]
    from pythae.models.nn import BaseDecoder, BaseEncoder  # pyright: ignore[reportMissingImports]

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.networks = TorchVAE(params)

        def forward(self, x: Any) -> Any:
            mean, log_variance = self.networks.encode(x)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.networks = TorchVAE(params)

        def forward(self, z: Any) -> Any:
            return ModelOutput(reconstruction=torch.sigmoid(self.networks.decode(z)))

    config = VAEConfig(input_dim=(num_pixels,), latent_dim=latent_dim, reconstruction_loss="bce")
    return VAE(config, encoder=Encoder(), decoder=Decoder())


def pythae_loss(params: dict, x: np.ndarray, noise: np.ndarray) -> float:
    """The loss of pythae for a batch with the given noise."""
    model = pythae_model(params, x.shape[1], noise.shape[1])
    model._sample_gauss = lambda mean, scale: (mean + torch.tensor(noise) * scale, None)
    return model({"data": torch.tensor(x)}).loss.item()


def pythae_steps(params: dict, images: np.ndarray, batch_size: int, num_steps: int, latent_dim: int) -> Callable:
    """Returns a function that runs pythae's training loop over the given number of batches, without binarisation."""
    from pythae.data.datasets import BaseDataset  # pyright: ignore[reportMissingImports]
    from pythae.trainers import BaseTrainer, BaseTrainerConfig  # pyright: ignore[reportMissingImports]

    part = torch.tensor(images[: num_steps * batch_size])
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, per_device_train_batch_size=batch_size, learning_rate=LEARNING_RATE, num_epochs=1
        )
        model = pythae_model(params, images.shape[1], latent_dim)
        trainer = BaseTrainer(model, BaseDataset(part, torch.zeros(len(part))), training_config=config)
        trainer.prepare_training()

    def run() -> None:
        trainer.train_step(epoch=1)

    run()
    return run


def pythae_nll(params: dict, x: np.ndarray, num_samples: int, latent_dim: int) -> Callable[[], float]:
    """Returns a function that estimates the mean NLL of the images by pythae's importance sampling."""
    model, images = pythae_model(params, x.shape[1], latent_dim), torch.tensor(x)

    @torch.no_grad()
    def run() -> float:
        return -float(model.get_nll(images, n_samples=num_samples))  # despite its name it returns log p(x)

    run()
    return run
