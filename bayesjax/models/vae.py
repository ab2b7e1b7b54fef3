"""The two networks of a variational auto-encoder, as conditional distributions.

    encode: x -> q(z | x) = N(mean(x), diag variance(x))
    decode: z -> p(x | z) = Bernoulli(sigmoid(logits(z)))  or  N(mean(z), diag variance(z))  or  N(mean(z), variance)
    prior:       p(z) = N(0, I)

Networks that mirror each other: multi-layer perceptrons, of which 784-500-20-500-784 with tanh is the classic for
MNIST, or DCGAN's stacks of strided convolutions. Source: Kingma & Welling, "Auto-encoding variational Bayes", ICLR
2014, appendix C; one learned variance for all pixels is the "sigma-VAE" of Rybkin, Daniilidis & Levine, ICML 2021.
`objectives/elbo.py` is what trains them:

    model = vae.VAE(latent_dim=20, data_shape=(28, 28, 1))
    encode, decode = vae.conditionals(model)
    loss = objectives.batch_mean(objectives.elbo.negative_elbo(encode, decode, model.prior()))
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp

from bayesjax.models import dcgan
from bayesjax.models.initializers import Initializer, fan_in_normal
from bayesjax.models.mlp import MLP
from bayesjax.types import Array, Conditional, Params

LIKELIHOODS = ("bernoulli", "gaussian", "gaussian_shared")
ARCHITECTURES = ("mlp", "convolutional")


class VAE(nn.Module):
    """Encoder and decoder; both take any leading axes.

    Attributes:
      latent_dim: length of z.
      data_shape: shape of one example x, e.g. (784,) or (28, 28, 1).
      hidden: widths of the encoder's hidden layers, or channels of its convolutions, each of stride 2; the decoder's
        are the same backwards.
      activation: of the hidden layers of a perceptron; `nn.tanh` as in the paper, or `nn.relu`.
      likelihood: "bernoulli"; "gaussian", with a mean and a variance for each pixel from z; "gaussian_shared", with a
        mean for each pixel and one learned variance.
      mean_activation: of a Gaussian's mean; `nn.sigmoid` keeps it between 0 and 1, as the paper has it for Frey faces.
        Without it grey images begin with a mean of 0 at every z, and z comes to say how bright all of them are.
      min_scale: least standard deviation of a Gaussian p(x | z). Without it the likelihood of a pixel that is the same
        in all data has no upper bound. The default is that of rounding to 8 bits, 1/(256 sqrt 12).
      kernel_init: Flax initialiser.
      architecture: "mlp"; "convolutional", for data of shape (height, width, channels), with kernels of 5 x 5, leaky
        ReLU in the encoder and ReLU in the decoder, without normalisation.
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
        """Layers."""
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
        """q(z | x): `x [..., *data_shape]` to a distribution of `[latent_dim]`."""
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
        """p(x | z): `z [..., latent_dim]` to a distribution of `data_shape`."""
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
        """p(z) = N(0, I)."""
        return distrax.Independent(distrax.Normal(jnp.zeros(self.latent_dim), jnp.ones(self.latent_dim)), 1)

    def __call__(self, x: Array) -> distrax.Distribution:
        """p(x | z) at the mean of q(z | x): the reconstruction."""
        return self.decode(self.encode(x).mean())

    def _scale(self, log_variance: Array) -> Array:
        return jnp.sqrt(self.min_scale**2 + jnp.exp(log_variance))


def conditionals(model: VAE) -> tuple[Conditional, Conditional]:
    """`encode(params, x)` and `decode(params, z)` as functions of the parameters, which the objectives ask for."""

    def encode(params: Params, x: Array) -> Any:
        return model.apply({"params": params}, x, method="encode")

    def decode(params: Params, z: Array) -> Any:
        return model.apply({"params": params}, z, method="decode")

    return encode, decode


def set_output_bias(model: VAE, params: Params, bias: Array) -> Params:
    """Parameters whose decoder begins at `bias`, shaped like the data: that of logits, or of a Gaussian's means.

    From the data's mean, z need not say what all the data have in common, and they come to fill the prior.
    Source: the code of Burda, Grosse & Salakhutdinov, ICLR 2016.

    Raises:
      ValueError: if the model is no perceptron, or the bias has another shape.
    """
    if model.architecture != "mlp" or bias.shape != tuple(model.data_shape):
        raise ValueError(
            f"the bias must be of a perceptron's outputs {tuple(model.data_shape)}; got {bias.shape} for architecture "
            f"{model.architecture}"
        )
    last = f"layers_{len(model.hidden)}"
    layer = params["decoder"][last]
    layer = {**layer, "bias": layer["bias"].at[: bias.size].set(jnp.ravel(bias))}  # the variances' biases come after
    return {**params, "decoder": {**params["decoder"], last: layer}}


class Bernoulli(distrax.Bernoulli):
    """distrax's, with log p(x) = x l - log(1 + e^l) = (x - 1/2) l - |l|/2 - log(1 + e^-|l|) of logits l, x in [0, 1].

    distrax sums two terms with a softplus each: three times the work, in what is the dearest part of a step beside the
    matrix products.
    """

    def log_prob(self, value: Array) -> Array:
        """Log probability, finite at any finite logit."""
        logits, size = self.logits, jnp.abs(self.logits)
        return (value - 0.5) * logits - 0.5 * size - jnp.log1p(jnp.exp(-size))


class Pixels(distrax.Independent):
    """`distrax.Independent`, of a distribution whose parameters all have the shape `[..., *event_shape]`.

    Its density is computed along one axis: XLA's CPU compiler vectorises a loop over 784 numbers and not one over
    (28, 28, 1), which takes five times as long.
    """

    def log_prob(self, value: Array) -> Array:
        """Of values `[..., *event_shape]`."""
        ndim = len(self.event_shape)

        def flat(array: Array) -> Array:
            return array.reshape(*array.shape[: array.ndim - ndim], -1)

        return jax.tree.map(flat, self.distribution).log_prob(flat(value)).sum(axis=-1)
