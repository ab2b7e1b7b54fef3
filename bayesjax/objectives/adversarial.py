"""Two-player objectives of one example, written on logits so that they stay exact where D saturates.

With D(x) = sigmoid(logit), the minimax game of Goodfellow et al. ("Generative adversarial nets", NIPS 2014) is

    min_G max_D  V = E_x log D(x) + E_z log(1 - D(G(z)))

Its generator loss log(1 - D(G(z))) has no gradient left once D is sure (it saturates); the non-saturating loss
-log D(G(z)) has the same fixed point and is what is trained in practice. `GAMES` has these two and the others that
differ in the two losses alone; a `Game` with optimisers for kernels is a GAN, with samplers a Bayesian GAN, in which
minus the loss of N examples stands for the log likelihood. All functions take logits of any shape and return values of
that shape, to be minimised. `semi_supervised.py` extends them to K classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from bayesjax import checks
from bayesjax.types import Array, PRNGKey


def log_prob_real(logit: Array) -> Array:
    """Log D(x) = -softplus(-logit)."""
    return -jax.nn.softplus(-logit)


def log_prob_fake(logit: Array) -> Array:
    """log(1 - D(x)) = -softplus(logit)."""
    return -jax.nn.softplus(logit)


def minimax_value(real_logit: Array, fake_logit: Array) -> Array:
    """V of one real and one fake example; at D = p/(p + q) its expectation is -ln 4 + 2 JS(p, q)."""
    return log_prob_real(real_logit) + log_prob_fake(fake_logit)


def discriminator_loss(real_logit: Array, fake_logit: Array) -> Array:
    """-V: binary cross-entropy of real against fake."""
    return -minimax_value(real_logit, fake_logit)


def saturating_generator_loss(fake_logit: Array) -> Array:
    """log(1 - D(G(z))), the generator's part of the minimax value."""
    return log_prob_fake(fake_logit)


def non_saturating_generator_loss(fake_logit: Array) -> Array:
    """-log D(G(z))."""
    return -log_prob_real(fake_logit)


class Game(NamedTuple):
    """The two losses of a game, of one example each, to be minimised.

    The discriminator's loss is `real_loss(D(x)) + fake_loss(D(G(z)))`, the generator's is `generator_loss(D(G(z)))`. D
    is a logit, or the critic's output where the game has no probabilities.

    Attributes:
      real_loss: of the discriminator at a real example.
      fake_loss: of the discriminator at a fake.
      generator_loss: of the generator at its fake.
    """

    real_loss: Callable[[Array], Array]
    fake_loss: Callable[[Array], Array]
    generator_loss: Callable[[Array], Array]

    def discriminator_loss(self, real_output: Array, fake_output: Array) -> Array:
        """The discriminator's loss."""
        return self.real_loss(real_output) + self.fake_loss(fake_output)


def least_squares(fake_target: float = 0.0, real_target: float = 1.0, generator_target: float = 1.0) -> Game:
    """Real 1/2 (D - b)^2, fake 1/2 (D - a)^2, generator 1/2 (D - c)^2; for b - c = 1, b - a = 2 Pearson's chi^2.

    Source: Mao et al., "Least squares generative adversarial networks", ICCV 2017; defaults a = 0, b = c = 1.
    """

    def distance(target: float) -> Callable[[Array], Array]:
        return lambda output: 0.5 * (output - target) ** 2

    return Game(distance(real_target), distance(fake_target), distance(generator_target))


def smooth_labels(game: Game, target: float = 0.9) -> Game:
    """The game with one-sided label smoothing: a real example counts as real by `target`, as fake by the rest.

    Of a game of probabilities, or of least squares with targets 0 and 1, the best D is then `target` p / (p + q), never
    sure of a real example. A critic has no best: Wasserstein's smoothed loss has no lower bound. Fakes are not
    smoothed: that would tell the generator that where q is all there is, it does well (Salimans et al., "Improved
    techniques for training GANs", NIPS 2016, section 3.4).

    Raises:
      ValueError: if `target` is outside (0, 1].
    """
    if not 0 < target <= 1:
        raise ValueError(f"target must lie in (0, 1]; got {target}")
    return game._replace(
        real_loss=lambda output: target * game.real_loss(output) + (1 - target) * game.fake_loss(output)
    )


MINIMAX = Game(lambda logit: -log_prob_real(logit), lambda logit: -log_prob_fake(logit), saturating_generator_loss)
"""Goodfellow et al. (2014), the generator's loss as in the game's value."""
NON_SATURATING = MINIMAX._replace(generator_loss=non_saturating_generator_loss)
"""Goodfellow et al. (2014), as trained."""
WASSERSTEIN = Game(lambda output: -output, lambda output: output, lambda output: -output)
"""Arjovsky, Chintala & Bottou, "Wasserstein GAN", ICML 2017: a lower bound of the distance if the critic has Lipschitz
constant 1, which `gradient_penalty` or a spectral norm see to; `kernels.clip_weights` sees to some constant."""
HINGE = Game(lambda output: jax.nn.relu(1 - output), lambda output: jax.nn.relu(1 + output), lambda output: -output)
"""Lim & Ye, "Geometric GAN", 2017; Miyato et al., "Spectral normalization for GANs", ICLR 2018."""
GAMES = {
    "minimax": MINIMAX,
    "non_saturating": NON_SATURATING,
    "least_squares": least_squares(),
    "wasserstein": WASSERSTEIN,
    "hinge": HINGE,
}


def gradient_penalty(critic: Callable[[Array], Array], x: Array, target: float = 1.0) -> Array:
    """(|grad_x critic(x)| - target)^2 at one example: 1-Lipschitz by reward, not by construction.

    For the Wasserstein game x is a point between a real and a fake example (`interpolate`), and the penalty counts ten
    times (Gulrajani et al., "Improved training of Wasserstein GANs", NIPS 2017).

    Args:
      critic: `x -> scalar`, of one example.
      x: one example.
      target: the norm that is wanted.

    Raises:
      ValueError: if the critic returns an array with axes.
    """
    return (_norm(_gradient(critic, x)) - target) ** 2


def r1_penalty(critic: Callable[[Array], Array], real: Array) -> Array:
    """1/2 |grad_x critic(x)|^2 at one real example, to be counted gamma times.

    Source: Mescheder, Geiger & Nowozin, "Which training methods for GANs do actually converge?", ICML 2018.

    Raises:
      ValueError: if the critic returns an array with axes.
    """
    return 0.5 * jnp.sum(_gradient(critic, real) ** 2)


def interpolate(rng_key: PRNGKey, real: Array, fake: Array) -> Array:
    """A point drawn uniformly from the line between two examples."""
    chex.assert_equal_shape([real, fake])
    return fake + jax.random.uniform(rng_key) * (real - fake)


def _gradient(critic: Callable[[Array], Array], x: Array) -> Array:
    return jax.grad(checks.scalar_valued(critic, "critic"))(x)


def _norm(x: Array) -> Array:
    """The Euclidean norm, with gradient 0 (not NaN) at 0."""
    square = jnp.sum(x**2)
    is_zero = square == 0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, square)))
