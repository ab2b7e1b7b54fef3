"""Two-player objectives of one example, written on logits so that they stay exact where D saturates.

With D(x) = sigmoid(logit), the minimax game of Goodfellow et al. ("Generative adversarial nets", NIPS 2014) is

    min_G max_D  V = E_x log D(x) + E_z log(1 - D(G(z)))

Its generator loss log(1 - D(G(z))) has no gradient left once D is sure (it saturates); the non-saturating loss
-log D(G(z)) has the same fixed point and is what is trained in practice. All functions take logits of any shape and
return values of that shape, to be minimised. `semi_supervised.py` extends them to K classes.
"""

import jax

from bayesjax.types import Array


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
