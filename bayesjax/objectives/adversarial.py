"""Losses of two-player games for one example, as functions of logits so that they stay exact where D saturates.

    min_G max_D  V = E_x log D(x) + E_z log(1 - D(G(z))),    D(x) = sigmoid(logit(x))

This is the minimax game of Goodfellow et al., "Generative adversarial nets", NIPS 2014. Its generator loss
log(1 - D(G(z))) saturates, because its gradient vanishes when D is confident. The non-saturating loss -log D(G(z)) has
the same fixed point and is preferred in practice. `GAMES` contains the games with these two generator losses, and games
with other losses. In a `PairedGame` both losses depend on a real and a generated example. A game with optimisers as
kernels is a GAN. With samplers it is a Bayesian GAN, in which minus the loss of N examples takes the place of the log
likelihood. The losses take logits of any shape and return values of the same shape. Read `semi_supervised.py` next,
which extends them to K classes, or `regularisation.py` for more regularisers.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from bayesjax import checks
from bayesjax.types import Array, PRNGKey


def log_prob_real(logit: Array) -> Array:
    """Log probability log D(x) = -softplus(-logit) that an example is real.

    Args:
      logit: logits of D, of any shape.

    Returns:
      Log probabilities in nats, of the same shape.
    """
    return -jax.nn.softplus(-logit)


def log_prob_fake(logit: Array) -> Array:
    """Log probability log(1 - D(x)) = -softplus(logit) that an example is generated.

    Args:
      logit: logits of D, of any shape.

    Returns:
      Log probabilities in nats, of the same shape.
    """
    return -jax.nn.softplus(logit)


def minimax_value(real_logit: Array, fake_logit: Array) -> Array:
    """Value of the minimax game for one real example x and one generated example G(z).

        V = log D(x) + log(1 - D(G(z)))

    Let p be the density of real and q that of generated examples. The best discriminator is D = p / (p + q), and the
    expectation of V is then -ln 4 + 2 JS(p, q).

    Args:
      real_logit: logits of real examples, of any shape.
      fake_logit: logits of generated examples, of the same shape.

    Returns:
      Values in nats, of the same shape.
    """
    return log_prob_real(real_logit) + log_prob_fake(fake_logit)


def discriminator_loss(real_logit: Array, fake_logit: Array) -> Array:
    """Discriminator loss -log D(x) - log(1 - D(G(z))), the binary cross-entropy of real against generated examples.

    Args:
      real_logit: logits of real examples x, of any shape.
      fake_logit: logits of generated examples G(z), of the same shape.

    Returns:
      Losses in nats, of the same shape.
    """
    return -minimax_value(real_logit, fake_logit)


def saturating_generator_loss(fake_logit: Array) -> Array:
    """Generator loss log(1 - D(G(z))), the term of the minimax value that depends on G.

    Args:
      fake_logit: logits of generated examples G(z), of any shape.

    Returns:
      Losses in nats, of the same shape.
    """
    return log_prob_fake(fake_logit)


def non_saturating_generator_loss(fake_logit: Array) -> Array:
    """Generator loss -log D(G(z)).

    Args:
      fake_logit: logits of generated examples G(z), of any shape.

    Returns:
      Losses in nats, of the same shape.
    """
    return -log_prob_real(fake_logit)


def relativistic_loss(output: Array, other_output: Array) -> Array:
    """Loss -log sigmoid(output - other_output), which is small if `output` is the larger of the two.

    Args:
      output: outputs of D for examples that it should prefer, of any shape.
      other_output: outputs of D for the other examples of the pairs, of the same shape.

    Returns:
      Losses in nats, of the same shape.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([output, other_output])
    return -log_prob_real(output - other_output)


class PairedGame(NamedTuple):
    """The losses of a two-player game for a pair of a real and a generated example, each to be minimised.

    Both losses take the outputs D(x) and D(G(z)), in this order, and act elementwise on arrays of equal shape.
    `Game.paired` gives any `Game` this form, so that a training loop can treat all games in the same way.

    Attributes:
      discriminator_loss: loss of the discriminator, `(real_output, fake_output) -> losses`.
      generator_loss: loss of the generator, with the same arguments.
    """

    discriminator_loss: Callable[[Array, Array], Array]
    generator_loss: Callable[[Array, Array], Array]


class Game(NamedTuple):
    """The losses of a two-player game for one example, each to be minimised.

    The discriminator's loss is `real_loss(D(x)) + fake_loss(D(G(z)))`. The generator's is `generator_loss(D(G(z)))`.
    D is a logit, or the output of a critic if the game defines no probabilities. The losses act elementwise on arrays.

    Attributes:
      real_loss: loss of the discriminator at a real example.
      fake_loss: loss of the discriminator at a generated example.
      generator_loss: loss of the generator at a generated example.
    """

    real_loss: Callable[[Array], Array]
    fake_loss: Callable[[Array], Array]
    generator_loss: Callable[[Array], Array]

    def discriminator_loss(self, real_output: Array, fake_output: Array) -> Array:
        """Loss of the discriminator from its outputs for a real and a generated example, elementwise for arrays.

        Raises:
          AssertionError: if the shapes differ.
        """
        chex.assert_equal_shape([real_output, fake_output])
        return self.real_loss(real_output) + self.fake_loss(fake_output)

    def paired(self) -> PairedGame:
        """The same game as a `PairedGame`, whose generator loss ignores the output for the real example."""
        return PairedGame(self.discriminator_loss, lambda real_output, fake_output: self.generator_loss(fake_output))


def least_squares(fake_target: float = 0.0, real_target: float = 1.0, generator_target: float = 1.0) -> Game:
    """The least-squares game, with a discriminator output D.

        real_loss = 1/2 (D - b)^2,    fake_loss = 1/2 (D - a)^2,    generator_loss = 1/2 (D - c)^2

    For b - c = 1 and b - a = 2 the game minimises Pearson's chi^2 divergence. Source: Mao et al., "Least squares
    generative adversarial networks", ICCV 2017, which also has the default targets.

    Args:
      fake_target: a, the discriminator's target for generated examples.
      real_target: b, the discriminator's target for real examples.
      generator_target: c, the generator's target for generated examples.
    """

    def squared_error(target: float) -> Callable[[Array], Array]:
        return lambda output: 0.5 * (output - target) ** 2

    return Game(squared_error(real_target), squared_error(fake_target), squared_error(generator_target))


def smooth_labels(game: Game, target: float = 0.9) -> Game:
    """Adds one-sided label smoothing to a game.

        real_loss <- target * real_loss + (1 - target) * fake_loss

    Let p be the density of real and q that of generated examples. For a game with probabilities, and for least squares
    with targets 0 and 1, the best D is then `target` p / (p + q). D is never certain that an example is real. The
    smoothed Wasserstein loss has no lower bound. Labels of generated examples are not smoothed, because that would
    reward the generator for samples far from the data. Source: Salimans et al., "Improved techniques for training
    GANs", NIPS 2016, section 3.4.

    Args:
      game: the game to smooth.
      target: probability of the label "real" for a real example, in (0, 1].

    Returns:
      The game with the new `real_loss`; the other losses are unchanged.

    Raises:
      ValueError: if `target` is outside (0, 1].
    """
    if not 0 < target <= 1:
        raise ValueError(f"target must lie in (0, 1]; got {target}")
    return game._replace(
        real_loss=lambda output: target * game.real_loss(output) + (1 - target) * game.fake_loss(output)
    )


MINIMAX = Game(lambda logit: -log_prob_real(logit), lambda logit: -log_prob_fake(logit), saturating_generator_loss)
"""The minimax game of Goodfellow et al. (2014)."""
NON_SATURATING = MINIMAX._replace(generator_loss=non_saturating_generator_loss)
"""The game of Goodfellow et al. (2014) with the non-saturating generator loss."""
WASSERSTEIN = Game(lambda output: -output, lambda output: output, lambda output: -output)
"""The game of Arjovsky, Chintala & Bottou, "Wasserstein GAN", ICML 2017. Minus the discriminator's loss is a lower
bound of the Wasserstein distance if the critic has Lipschitz constant 1. `gradient_penalty` and spectral normalisation
enforce this constant, and `kernels.clip_weights` enforces a different one."""
HINGE = Game(lambda output: jax.nn.relu(1 - output), lambda output: jax.nn.relu(1 + output), lambda output: -output)
"""The hinge game. Sources: Lim & Ye, "Geometric GAN", 2017; Miyato et al., "Spectral normalization for GANs", 2018."""
GAMES = {
    "minimax": MINIMAX,
    "non_saturating": NON_SATURATING,
    "least_squares": least_squares(),
    "wasserstein": WASSERSTEIN,
    "hinge": HINGE,
}
RELATIVISTIC = PairedGame(relativistic_loss, lambda real, fake: relativistic_loss(fake, real))
"""The relativistic pairing game, in which D(x) - D(G(z)) is the logit that x is the real one of the pair.

    discriminator_loss = softplus(-(D(x) - D(G(z)))),    generator_loss = softplus(-(D(G(z)) - D(x)))

A constant that is added to D changes neither loss. With gamma (R1 + R2) added to the discriminator's loss, the game is
R3GAN, which converges locally. Sources: Jolicoeur-Martineau, "The relativistic discriminator", ICLR 2019; Huang,
Gokaslan, Kuleshov & Tompkin, "The GAN is dead; long live the GAN! A modern GAN baseline", NeurIPS 2024."""


def gradient_penalty(critic: Callable[[Array], Array], x: Array, target: float = 1.0) -> Array:
    """Gradient penalty (|grad_x critic(x)| - target)^2 at one example, with the Euclidean norm.

    For the Wasserstein game, x is a random point between a real and a generated example (`interpolate`), and the
    penalty has weight 10. Source: Gulrajani et al., "Improved training of Wasserstein GANs", NIPS 2017.

    Args:
      critic: `x -> scalar`, for one example.
      x: one example, an array of any shape.
      target: desired norm of the gradient.

    Returns:
      A scalar.

    Raises:
      ValueError: if the critic does not return a scalar.
    """
    return (_norm(_gradient(critic, x)) - target) ** 2


def r1_penalty(critic: Callable[[Array], Array], real: Array) -> Array:
    """R1 penalty 1/2 |grad_x critic(x)|^2 at one real example x, to be multiplied by a weight, gamma in the paper.

    Source: Mescheder, Geiger & Nowozin, "Which training methods for GANs do actually converge?", ICML 2018.

    Args:
      critic: `x -> scalar`, for one example.
      real: one real example, an array of any shape.

    Returns:
      A scalar.

    Raises:
      ValueError: if the critic does not return a scalar.
    """
    return 0.5 * jnp.sum(_gradient(critic, real) ** 2)


def r2_penalty(critic: Callable[[Array], Array], fake: Array) -> Array:
    """R2 penalty 1/2 |grad_x critic(x)|^2 at one generated example x, which has the form of the R1 penalty.

    Source: Mescheder, Geiger & Nowozin, "Which training methods for GANs do actually converge?", ICML 2018.

    Args:
      critic: `x -> scalar`, for one example.
      fake: one generated example, an array of any shape. It is a constant in the loss of the discriminator.

    Returns:
      A scalar.

    Raises:
      ValueError: if the critic does not return a scalar.
    """
    return r1_penalty(critic, fake)


def interpolate(rng_key: PRNGKey, real: Array, fake: Array) -> Array:
    """Draws a point uniformly from the line segment between a real and a generated example.

        x = fake + u (real - fake),    u ~ U(0, 1)

    Args:
      rng_key: consumed.
      real: one real example, an array of any shape.
      fake: one generated example of the same shape.

    Returns:
      The point x, of the same shape.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([real, fake])
    return fake + jax.random.uniform(rng_key) * (real - fake)


def _gradient(critic: Callable[[Array], Array], x: Array) -> Array:
    return jax.grad(checks.scalar_valued(critic, "critic"))(x)


def _norm(x: Array) -> Array:
    """The Euclidean norm, with gradient 0 instead of NaN at 0."""
    square = jnp.sum(x**2)
    is_zero = square == 0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))
