"""ACGAN: a class-conditional generator, and a discriminator that also classifies images.

    L_S = E log P(real | x) + E log P(fake | G(z, c))        L_C = E log P(c | x) + E log P(c | G(z, c))
    D maximises L_S + L_C,  G maximises L_C - L_S

L_S is the log likelihood of the source of an image, real or fake, and L_C that of its class c. The discriminator has
two heads: a logit for real against fake, and logits of the classes. Any `adversarial.Game` can replace L_S; the default
is the non-saturating game. Source: Odena, Olah & Shlens, "Conditional image synthesis with auxiliary classifier GANs",
ICML 2017. Read `adversarial.py` next for the games.
"""

from bayesjax.objectives.adversarial import NON_SATURATING, Game
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood
from bayesjax.types import Array


def discriminator_loss(
    real: tuple[Array, Array], real_label: Array, fake: tuple[Array, Array], fake_label: Array,
    *, game: Game = NON_SATURATING, weight: float = 1.0,
) -> Array:  # fmt: skip
    """Discriminator loss -(L_S + weight L_C) of one real and one generated example.

    L_S is minus the discriminator loss of `game`, by default the log likelihood of the sources, real and fake. L_C is
    the log likelihood of the classes.

    Args:
      real: outputs of D for the real example: a scalar logit, and logits of the classes `[num_classes]`.
      real_label: class of the real example, an integer in [0, num_classes).
      fake: outputs of D for the generated example, in the same form.
      fake_label: class for which the example was generated, an integer in [0, num_classes). Labels are not checked. A
        label outside of the range has log probability 0.
      game: losses of the head for real against fake.
      weight: weight of the classification loss.

    Returns:
      A scalar, in nats if the game has probabilities.
    """
    source_loss = game.discriminator_loss(real[0], fake[0])
    class_log_prob = categorical_log_likelihood(real[1], real_label) + categorical_log_likelihood(fake[1], fake_label)
    return source_loss - weight * class_log_prob


def generator_loss(
    fake: tuple[Array, Array], fake_label: Array, *, game: Game = NON_SATURATING, weight: float = 1.0
) -> Array:
    """Generator loss L_S - weight L_C of one generated example.

    L_S is the generator loss of `game`, and L_C is the log likelihood of the class.

    Args:
      fake: outputs of D for the generated example: a scalar logit, and logits of the classes `[num_classes]`.
      fake_label: class for which the example was generated, an integer in [0, num_classes).
      game: losses of the head for real against fake.
      weight: weight of the classification loss.

    Returns:
      A scalar, in nats if the game has probabilities.
    """
    return game.generator_loss(fake[0]) - weight * categorical_log_likelihood(fake[1], fake_label)
