"""ACGAN: a discriminator that says besides what class an image is of, and a generator told which to make.

    L_S = E log P(real | x) + E log P(fake | G(z, c))        L_C = E log P(c | x) + E log P(c | G(z, c))
    D maximises L_S + L_C,  G maximises L_C - L_S

Two heads: a logit for real against fake, and logits of the classes. The generator's -L_S is here the loss of any
`adversarial.Game`, the non-saturating log P(real | G(z, c)) unless told otherwise. Source: Odena, Olah & Shlens,
"Conditional image synthesis with auxiliary classifier GANs", ICML 2017.
"""

from bayesjax.objectives.adversarial import NON_SATURATING, Game
from bayesjax.objectives.heteroscedastic import categorical_log_likelihood
from bayesjax.types import Array


def discriminator_loss(
    real: tuple[Array, Array], real_label: Array, fake: tuple[Array, Array], fake_label: Array,
    *, game: Game = NON_SATURATING, weight: float = 1.0,
) -> Array:  # fmt: skip
    """-(L_S + weight L_C) of one real and one fake example.

    Args:
      real, fake: what D says: a logit, and logits of the classes `[num_classes]`.
      real_label, fake_label: integers in [0, num_classes), which is not checked: one outside counts as read with
        certainty. The fake's is the one it was made for.
      game: the two losses of the first head.
      weight: of the second.
    """
    of_source = game.discriminator_loss(real[0], fake[0])
    of_class = categorical_log_likelihood(real[1], real_label) + categorical_log_likelihood(fake[1], fake_label)
    return of_source - weight * of_class


def generator_loss(
    fake: tuple[Array, Array], fake_label: Array, *, game: Game = NON_SATURATING, weight: float = 1.0
) -> Array:
    """The generator's loss at one of its images, as `discriminator_loss`."""
    return game.generator_loss(fake[0]) - weight * categorical_log_likelihood(fake[1], fake_label)
