"""The networks, the losses and the reading of codes of `infogan.py`: functions of weights and arrays.

    G: noise and code to an image      D, Q: an image to a logit and what Q says of the code, two heads on one trunk

D and Q are one player: it minimises the discriminator's loss minus lambda I_Q at the generator's images; the generator
minimises its own loss minus lambda I_Q. Lambda is one number for the categorical code and one for the continuous ones.
With an invariance weight D and Q also have the information to maximise that the categories of a real image and of the
same image, moved a little, have in common.
The code as a classifier of images that nobody labelled: an image has the categorical code that Q finds most probable,
a code the class that most training images with this code have.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bayesjax import data, models
from bayesjax.models import dcgan
from bayesjax.objectives import adversarial, infogan
from bayesjax.types import Array, ArrayLike, CodeHead, Density, Given, Params, PRNGKey
from experiments import gan_players

VARIANCE = 1 / 3  # of a continuous code, uniform on (-1, 1)


class Networks(NamedTuple):
    """Both players as pure functions of their weights.

    Attributes:
      init: `rng_key -> {player: params}`.
      make: `(generator's params, noise [n, latent_dim], code of n) -> images [n, ...]`.
      say: `(discriminator's params, images [n, ...]) -> (logits [n], CodeHead of n)`.
    """

    init: Callable[[PRNGKey], dict[str, Params]]
    make: Callable[[Params, Array, infogan.Code], Array]
    say: Callable[[Params, Array], tuple[Array, CodeHead]]


def networks(config: Any, shape: tuple[int, ...]) -> Networks:
    """The networks of a configuration, for images of a shape, in (-1, 1)."""
    num_classes = (config.num_codes,)
    generator: Any = dcgan.Generator(
        shape, config.generator_features, config.norm, config.kernel_size, hidden=config.generator_hidden
    )
    trunk = dcgan.Discriminator(
        shape, 1, config.discriminator_features, config.discriminator_norm, config.kernel_size,
        hidden=config.discriminator_hidden,
    )  # fmt: skip
    discriminator: Any = models.infogan.CodeDiscriminator(
        trunk, num_classes, config.num_continuous, config.code_hidden, config.discriminator_norm, config.fixed_scale
    )
    num_inputs = config.latent_dim + config.num_codes + config.num_continuous

    init = gan_players.initial(generator, discriminator, num_inputs, shape)

    def make(params: Params, noise: Array, code: infogan.Code) -> Array:
        return generator.apply(
            {"params": params}, jnp.concatenate([noise, infogan.to_generator_input(code, num_classes)], -1)
        )

    def say(params: Params, x: Array) -> tuple[Array, CodeHead]:
        logit, head = discriminator.apply({"params": params}, x)
        return logit, head

    return Networks(init, make, say)


def draw(config: Any, rng_key: PRNGKey, num: int) -> tuple[Array, infogan.Code]:
    """Noise and codes from their priors, of `num` images: `infogan.sample_code` in one draw, which compiles sooner."""
    drawn = models.latent_noise(rng_key, num, config.latent_dim + 1 + config.num_continuous, "uniform")
    noise, share, numbers = jnp.split(drawn, [config.latent_dim, config.latent_dim + 1], axis=1)
    categorical = jnp.floor(config.num_codes * (share + 1) / 2).astype(int)
    return noise, infogan.Code(jnp.minimum(categorical, config.num_codes - 1), numbers)


def losses(config: Any, net: Networks) -> dict[str, Density]:
    """Of both players, means per example; beside them what Q has read: nats, and R^2 of the continuous codes.

    The information that moved images share is of a batch and no mean: times N, for a sampler, it has a batch's bias.
    """
    game = adversarial.NON_SATURATING

    def read(head: CodeHead, code: infogan.Code) -> tuple[Array, dict[str, Array]]:
        of_categorical, of_continuous = jax.vmap(infogan.log_prob)(head, code)
        nats = of_categorical.mean() + infogan.entropy((config.num_codes,), 0)
        nats_of_continuous = of_continuous.mean() + infogan.entropy((), config.num_continuous)
        explained = 1 - jnp.mean((head.mean - code.continuous) ** 2) / VARIANCE if config.num_continuous else 0.0
        said = {"information": nats, "explained": jnp.asarray(explained)}
        return config.information_weight * nats + config.continuous_weight * nats_of_continuous, said

    def shared_by_moved(params: Params, rng_key: PRNGKey, images: Array, head: CodeHead) -> Array:
        """Nats that the categories of images and of the same images, moved, have in common."""
        moved = jax.vmap(data.randomly_transform_image)(jax.random.split(rng_key, len(images)), images)
        return infogan.invariant_information(head.logits[0], net.say(params, moved)[1].logits[0])

    def discriminator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        noise, code = draw(config, rng_key, len(given.data))
        fake = net.make(given.others["generator"], noise, code)
        (of_real, of_data), (of_fake, head) = net.say(params, given.data), net.say(params, fake)
        information, said = read(head, code)
        value = game.discriminator_loss(of_real, of_fake).mean() - information
        if config.invariance_weight:
            key = jax.random.fold_in(rng_key, 1)  # not of a split: without the weight a game is what it was
            shared = shared_by_moved(params, key, given.data, of_data)
            value -= config.invariance_weight * shared
            said["invariant"] = shared
        return value, {"real": of_real.mean(), "fake": of_fake.mean(), **said}

    def generator(params: Params, rng_key: PRNGKey, given: Given) -> tuple[Array, dict]:
        noise, code = draw(config, rng_key, config.batch_size)
        of_fake, head = net.say(given.others["discriminator"], net.make(params, noise, code))
        information, said = read(head, code)
        return game.generator_loss(of_fake).mean() - information, said

    return {"discriminator": discriminator, "generator": generator}


def assignment(codes: np.ndarray, labels: np.ndarray, num_codes: int, num_classes: int) -> np.ndarray:
    """The class that most images with a code have, for each code, `[num_codes]`; -1 for a code that no image has.

    Args:
      codes, labels: of the images, integers `[num]`.
      num_codes, num_classes: how many there are.
    """
    counts = np.zeros((num_codes, num_classes), int)
    np.add.at(counts, (codes, labels), 1)
    return np.where(counts.any(axis=1), counts.argmax(axis=1), -1)


def traversals(config: Any, net: Networks, params: Params, rng_key: PRNGKey, values: ArrayLike) -> np.ndarray:
    """Images with one noise: a row for each categorical code; across, each continuous code in turn takes the values,
    the others being 0, `[num_codes, num_continuous, num_values, ...]`.

    They are made in one batch with images of the prior: a norm of the batch would else take what they share from them.
    """
    values = np.asarray(values, np.float32)
    numbers = np.zeros((config.num_codes, config.num_continuous, len(values), config.num_continuous), np.float32)
    for i in range(config.num_continuous):
        numbers[:, i, :, i] = values
    shape = numbers.shape[:-1]
    num = math.prod(shape)
    categorical = np.broadcast_to(np.arange(config.num_codes)[:, None, None], shape).reshape(num, 1)
    code = infogan.Code(jnp.asarray(categorical), jnp.asarray(numbers.reshape(num, config.num_continuous)))
    others_key, noise_key = jax.random.split(rng_key)
    noise = jnp.broadcast_to(models.latent_noise(noise_key, 1, config.latent_dim, "uniform"), (num, config.latent_dim))
    both = jax.tree.map(
        lambda mine, other: jnp.concatenate([mine, other]), (noise, code), draw(config, others_key, 10 * num)
    )
    images = np.asarray(jax.jit(net.make)(params, *both))[:num]
    return images.reshape(*shape, *images.shape[1:])


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("infogan")
