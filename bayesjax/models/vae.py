"""Encoder and decoder of a variational auto-encoder, as conditional distributions.

    encode: x -> q(z | x) = N(mean(x), diag variance(x))
    decode: z -> p(x | z) = Bernoulli(sigmoid(logits(z)))  or  N(mean(z), diag variance(z))  or  N(mean(z), variance)
    prior:       p(z) = N(0, I)

The two networks mirror each other. They are multi-layer perceptrons, such as 784-500-20-500-784 with tanh for MNIST, or
DCGAN's strided convolutions. Sources: Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014, appendix C;
Rybkin, Daniilidis & Levine, "Simple and effective VAE training with calibrated decoders", ICML 2021 (one learned
variance for all pixels). They are trained with `objectives/elbo.py`:

    model = vae.VAE(latent_dim=20, data_shape=(28, 28, 1))
    encode, decode = vae.conditionals(model)
    loss = objectives.batch_mean(objectives.elbo.negative_elbo(encode, decode, model.prior()))

Read `objectives/elbo.py` next.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax.models import dcgan
from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.models.mlp import MLP
from bayesjax.models.requires_distrax import distrax
from bayesjax.types import Array, Conditional, Params

LIKELIHOODS = ("bernoulli", "gaussian", "gaussian_shared")
ARCHITECTURES = ("mlp", "convolutional")


class VAE(nn.Module):
    """Variational auto-encoder, whose methods `encode` and `decode` accept any leading axes.

    Attributes:
      latent_dim: length of z.
      data_shape: shape of one example x, such as (784,) or (28, 28, 1).
      hidden: widths of the encoder's hidden layers, or numbers of channels of its convolutions of stride 2. The decoder
        has them in reverse order.
      activation: activation of the hidden layers of a perceptron; `nn.tanh` as in the paper, or `nn.relu`.
      likelihood: "bernoulli"; "gaussian", whose mean and variance of each pixel depend on z; or "gaussian_shared", with
        a mean for each pixel and one learned variance.
      mean_activation: activation of the mean of a Gaussian. `nn.sigmoid` keeps it between 0 and 1, as in the paper for
        Frey faces. Without it the initial mean is 0 for all z, and z encodes the common brightness of the images.
      min_scale: smallest standard deviation of a Gaussian p(x | z). Without it, pixels that are constant in the data
        have an unbounded likelihood. The default is that of rounding to 8 bits, 1/(256 sqrt 12).
      kernel_init: initialiser of kernels.
      architecture: "mlp", or "convolutional" for data of shape (height, width, channels). The latter has 5 x 5 kernels,
        leaky ReLU in the encoder, ReLU in the decoder, and no normalisation.
    """

    latent_dim: int
    data_shape: Sequence[int]
    hidden: Sequence[int] = (500,)
    activation: Callable[[Array], Array] = nn.tanh
    likelihood: str = "bernoulli"
    mean_activation: Callable[[Array], Array] = lambda x: x
    min_scale: float = 1 / (256 * math.sqrt(12))
    kernel_init: Initializer = fan_in_normal()
    architecture: str = "mlp"

    def setup(self) -> None:
        """Creates the layers.

        Raises:
          ValueError: if an attribute has an invalid value.
        """
        if self.likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood must be one of {', '.join(LIKELIHOODS)}; got {self.likelihood!r}")
        if min(self.latent_dim, *self.data_shape) < 1:
            raise ValueError(
                f"latent_dim and data_shape must be positive; got {self.latent_dim} and {tuple(self.data_shape)}"
            )
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}; got {self.architecture!r}")
        num_moments, backwards = 2 if self.likelihood == "gaussian" else 1, tuple(reversed(self.hidden))
        if self.architecture == "mlp":
            num_outputs = num_moments * math.prod(self.data_shape)
            self.encoder = MLP((*self.hidden, 2 * self.latent_dim), self.activation, self.kernel_init)
            self.decoder = MLP((*backwards, num_outputs), self.activation, self.kernel_init)
        else:
            shape, init = tuple(self.data_shape), {"kernel_init": self.kernel_init, "norm": "none"}
            self.encoder = dcgan.Discriminator(shape, 2 * self.latent_dim, self.hidden, **init)
            shape = *shape[:-1], num_moments * shape[-1]
            self.decoder = dcgan.Generator(shape, backwards, output=lambda x: x, **init)
        if self.likelihood == "gaussian_shared":
            self.log_variance = self.param("log_variance", nn.initializers.zeros, ())

    def encode(self, x: Array) -> distrax.Distribution:
        """The encoder q(z | x): `x [..., *data_shape]` to a distribution over `[latent_dim]`.

        Raises:
          ValueError: if `x` has the wrong shape.
        """
        ndim = len(self.data_shape)
        if x.shape[x.ndim - ndim :] != tuple(self.data_shape):
            raise ValueError(f"x must be [..., {', '.join(map(str, self.data_shape))}]; got {x.shape}")
        leading = x.shape[: x.ndim - ndim]
        if self.architecture == "mlp":
            moments = self.encoder(x.reshape(*leading, -1))
        else:
            moments = self.encoder(x.reshape(-1, *self.data_shape)).reshape(*leading, -1)
        mean, log_variance = jnp.split(moments, 2, axis=-1)
        return distrax.Independent(distrax.Normal(mean, jnp.exp(log_variance / 2)), 1)

    def decode(self, z: Array) -> distrax.Distribution:
        """The decoder p(x | z): `z [..., latent_dim]` to a distribution over `data_shape`."""
        shape = *z.shape[:-1], *self.data_shape
        outputs = self.decoder(z) if self.architecture == "mlp" else self.decoder(z.reshape(-1, self.latent_dim))
        if self.likelihood == "bernoulli":
            pixels = Bernoulli(outputs.reshape(shape))
        elif self.likelihood == "gaussian":
            mean, log_variance = jnp.split(outputs, 2, axis=-1)
            mean = self.mean_activation(mean.reshape(shape))
            pixels = distrax.Normal(mean, self._scale(log_variance.reshape(shape)))
        else:
            scale = jnp.broadcast_to(self._scale(self.log_variance), shape)
            pixels = distrax.Normal(self.mean_activation(outputs.reshape(shape)), scale)
        return Pixels(pixels, len(self.data_shape))

    def prior(self) -> distrax.Distribution:
        """The prior p(z) = N(0, I)."""
        return distrax.Independent(distrax.Normal(jnp.zeros(self.latent_dim), jnp.ones(self.latent_dim)), 1)

    def __call__(self, x: Array) -> distrax.Distribution:
        """The reconstruction p(x | z), with the mean of q(z | x) as z."""
        return self.decode(self.encode(x).mean())

    def _scale(self, log_variance: Array) -> Array:
        return jnp.sqrt(self.min_scale**2 + jnp.exp(log_variance))


def conditionals(model: VAE) -> tuple[Conditional, Conditional]:
    """Returns the encoder and the decoder as functions of the parameters, for the losses of `objectives.elbo`.

    Args:
      model: the module.

    Returns:
      `encode(params, x) -> q(z | x)` and `decode(params, z) -> p(x | z)`.
    """

    def encode(params: Params, x: Array) -> Any:
        return model.apply({"params": params}, x, method="encode")

    def decode(params: Params, z: Array) -> Any:
        return model.apply({"params": params}, z, method="decode")

    return encode, decode


def set_output_bias(model: VAE, params: Params, bias: Array) -> Params:
    """Sets the bias of the decoder's outputs, for example to the logits of the mean image.

    If the decoder outputs the mean of the data at z = 0, z need not encode what all examples have in common. Source:
    the program of Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.

    Args:
      model: the module, with architecture "mlp".
      params: its parameters.
      bias: bias of the logits, or of the means of a Gaussian, of the shape of the data.

    Returns:
      Parameters with the new bias.

    Raises:
      ValueError: if the architecture is not "mlp", or the bias does not have the shape of the data.
    """
    if model.architecture != "mlp" or bias.shape != tuple(model.data_shape):
        raise ValueError(
            f"bias must have the shape {tuple(model.data_shape)} of the outputs, and architecture be 'mlp'; got "
            f"{bias.shape} and {model.architecture!r}"
        )
    last = f"layers_{len(model.hidden)}"
    layer = params["decoder"][last]
    layer = {
        **layer,
        "bias": layer["bias"].at[: bias.size].set(jnp.ravel(bias)),
    }  # the biases of the variances follow and are unchanged
    return {**params, "decoder": {**params["decoder"], last: layer}}


class Bernoulli(distrax.Bernoulli):
    """Bernoulli distribution with a faster log probability than distrax's, for x in [0, 1].

        log p(x) = x l - log(1 + e^l) = (x - 1/2) l - |l|/2 - log(1 + e^-|l|),    l: logits

    distrax evaluates two softplus functions, which takes three times as long. The log probability is the most expensive
    part of a training step after the matrix products.
    """

    def log_prob(self, value: Array) -> Array:
        """Log probability in nats, finite for any finite logits."""
        logits, size = self.logits, jnp.abs(self.logits)
        return (value - 0.5) * logits - 0.5 * size - jnp.log1p(jnp.exp(-size))


class Pixels(distrax.Independent):
    """`distrax.Independent` for a distribution whose parameters all have the shape `[..., *event_shape]`.

    The density is computed along one flat axis. XLA's CPU compiler vectorises a loop over 784 numbers, but not one over
    (28, 28, 1), which takes five times as long.
    """

    def log_prob(self, value: Array) -> Array:
        """Log density in nats, from values `[..., *event_shape]` to `[...]`."""
        ndim = len(self.event_shape)

        def flat(array: Array) -> Array:
            return array.reshape(*array.shape[: array.ndim - ndim], -1)

        return jax.tree.map(flat, self.distribution).log_prob(flat(value)).sum(axis=-1)
