"""The networks and the losses of `gan.py`: three architectures, seven losses, all functions of the players' weights."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bayesjax import models
from bayesjax.models import dcgan
from bayesjax.objectives import adversarial
from bayesjax.types import Array, Density, Given, Params, PRNGKey
from experiments import gan_players

NORMS = dcgan.NORMS
ACTIVATIONS = {"leaky_relu": functools.partial(jax.nn.leaky_relu, negative_slope=0.2), "tanh": jnp.tanh}


class Variant(NamedTuple):
    """A loss of the table.

    Attributes:
      game: the two losses.
      is_clipped: whether the critic's weights are bounded.
      is_normalised: whether its kernels are divided by their spectral norms.
      between: whether the gradient is penalised between data and fakes.
      at_data: whether it is at data.
    """

    game: adversarial.Game
    is_clipped: bool = False
    is_normalised: bool = False
    between: bool = False
    at_data: bool = False


VARIANTS = {
    "minimax": Variant(adversarial.MINIMAX),
    "non_saturating": Variant(adversarial.NON_SATURATING),
    "r1": Variant(adversarial.NON_SATURATING, at_data=True),
    "least_squares": Variant(adversarial.least_squares()),
    "wasserstein": Variant(adversarial.WASSERSTEIN, is_clipped=True),
    "wasserstein_gp": Variant(adversarial.WASSERSTEIN, between=True),
    "hinge": Variant(adversarial.HINGE, is_normalised=True),
}
CRITICS = tuple(
    name for name, variant in VARIANTS.items() if variant.game in (adversarial.WASSERSTEIN, adversarial.HINGE)
)
"""Losses whose discriminators say no probability: labels cannot be smoothed."""


class Networks(NamedTuple):
    """Both players as pure functions of their weights.

    Attributes:
      init: `rng_key -> {player: params}`.
      decode: `(generator's params, noise [num, latent_dim]) -> examples [num, ...]`.
      make: `(generator's params, rng_key, num) -> examples [num, ...]`, of noise of its own.
      rate: `(discriminator's params, examples [n, ...]) -> [n]`, a logit or a critic's number.
    """

    init: Callable[[PRNGKey], dict[str, Params]]
    decode: Callable[[Params, Array], Array]
    make: Callable[[Params, PRNGKey, int], Array]
    rate: Callable[[Params, Array], Array]


def networks(config: Any, variant: Variant, shape: tuple[int, ...]) -> Networks:
    """The architecture, for examples of a shape; images lie in (-1, 1)."""
    norm = "none" if variant.is_normalised else config.norm
    if config.architecture == "mlp":
        he_normal, activation = models.initializers.fan_in_normal(math.sqrt(2)), ACTIVATIONS[config.activation]
        of_critic = ACTIVATIONS["leaky_relu"] if variant.is_normalised else activation
        generator: Any = models.MLP((*config.hidden, math.prod(shape)), activation, he_normal)
        discriminator: Any = models.MLP((*config.hidden, 1), of_critic, he_normal)
    elif config.architecture == "dcgan":
        generator = dcgan.Generator(shape, config.generator_features, config.norm)
        kernel_init = models.initializers.fan_in_normal(math.sqrt(2)) if norm == "none" else dcgan.DCGAN_INIT
        discriminator = dcgan.Discriminator(
            shape, 1, config.discriminator_features, norm, kernel_size=5, kernel_init=kernel_init
        )
    else:
        generator = models.sngan.Generator(shape, config.width, config.num_doublings, config.norm)
        num_downsamplings = max(config.num_doublings - 1, 1)
        discriminator = models.sngan.Discriminator(shape, 1, config.width, num_downsamplings, num_downsamplings + 2)
    is_flat, is_image = config.architecture == "mlp", len(shape) == 3
    flat = (math.prod(shape),) if is_flat else shape

    init = gan_players.initial(generator, discriminator, config.latent_dim, flat)

    def decode(params: Params, noise: Array) -> Array:
        made = generator.apply({"params": params}, noise).reshape(len(noise), *shape)
        return jnp.tanh(made) if is_flat and is_image else made

    def make(params: Params, rng_key: PRNGKey, num: int) -> Array:
        return decode(params, models.latent_noise(rng_key, num, config.latent_dim, "normal"))

    apply = models.spectrally_normalised(discriminator.apply) if variant.is_normalised else discriminator.apply

    def rate(params: Params, x: Array) -> Array:
        if variant.is_clipped:  # for samplers; Adam's weights are inside, those on the bound have half their gradient
            params = jax.tree.map(lambda w: jnp.clip(w, -config.clip, config.clip), params)
        return apply({"params": params}, x.reshape(-1, *flat))[:, 0]

    return Networks(init, decode, make, rate)


def walk(rng_key: PRNGKey, num: int, latent_dim: int) -> Array:
    """Noises from one draw to another, `[num, latent_dim]`, along an arc: each is as probable as a draw, which those on
    the straight line between two are not."""
    one, other = models.latent_noise(rng_key, 2, latent_dim, "normal")
    angle = jnp.linspace(0, jnp.pi / 2, num)[:, None]
    return jnp.cos(angle) * one + jnp.sin(angle) * other


def losses(config: Any, variant: Variant, net: Networks) -> dict[str, Density]:
    """Of both players, means per example."""
    game = variant.game
    if config.real_target < 1:
        game = adversarial.smooth_labels(game, config.real_target)

    def discriminator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        fake_key, line_key = jax.random.split(rng_key)
        real = given.data
        fake = net.make(given.others["generator"], fake_key, len(real))
        of_real, of_fake = net.rate(params, real), net.rate(params, fake)
        value = game.discriminator_loss(of_real, of_fake).mean()
        critic = lambda x: net.rate(params, x[None])[0]  # noqa: E731
        if variant.between:
            points = jax.vmap(adversarial.interpolate)(jax.random.split(line_key, len(real)), real, fake)
            value += config.penalty * jax.vmap(functools.partial(adversarial.gradient_penalty, critic))(points).mean()
        if variant.at_data:
            value += config.r1_penalty * jax.vmap(functools.partial(adversarial.r1_penalty, critic))(real).mean()
        return value, {"real": of_real.mean(), "fake": of_fake.mean()}

    def generator(params: Params, rng_key: PRNGKey, given: Given) -> Array:
        fake = net.make(params, rng_key, config.batch_size)
        return game.generator_loss(net.rate(given.others["discriminator"], fake)).mean()

    return {"discriminator": discriminator, "generator": generator}


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("gan")
