"""The two-player objectives against closed forms, and the game's value at the best discriminator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import divergences
from bayesjax.objectives import adversarial

LOGIT = np.linspace(-6, 6, 13).astype(np.float32)
ONE_LOGIT = {
    "log_prob_real": np.log,
    "log_prob_fake": lambda d: np.log1p(-d),
    "saturating_generator_loss": lambda d: np.log1p(-d),
    "non_saturating_generator_loss": lambda d: -np.log(d),
}


@pytest.mark.parametrize("name", ONE_LOGIT)
def test_closed_form(name):
    """Written with D = sigmoid(logit) in float64; D for 1 - D is refused."""
    d = 1 / (1 + np.exp(-LOGIT.astype(np.float64)))
    actual = getattr(adversarial, name)(LOGIT)
    assert actual.shape == LOGIT.shape
    np.testing.assert_allclose(actual, ONE_LOGIT[name](d), rtol=1e-5)
    assert not np.allclose(actual, ONE_LOGIT[name](1 - d), rtol=1e-2)


def test_two_logits():
    """V = log D(x) + log(1 - D(G(z))), and the discriminator's loss is -V; real and fake do not commute."""
    real, fake = LOGIT, LOGIT[::-1] + 1
    d, f = (1 / (1 + np.exp(-x.astype(np.float64))) for x in (real, fake))
    np.testing.assert_allclose(adversarial.minimax_value(real, fake), np.log(d) + np.log1p(-f), rtol=1e-5)
    np.testing.assert_allclose(adversarial.discriminator_loss(real, fake), -np.log(d) - np.log1p(-f), rtol=1e-5)
    assert not np.allclose(adversarial.discriminator_loss(fake, real), -np.log(d) - np.log1p(-f), rtol=1e-2)


def test_extreme_logits():
    """+-1e4: finite values and gradients with the right limits; log(sigmoid) as written is -inf there."""
    extreme = jnp.array([1e4, -1e4])
    for name in ONE_LOGIT:
        values, gradients = jax.vmap(jax.value_and_grad(getattr(adversarial, name)))(extreme)
        assert jnp.isfinite(values).all()
        assert jnp.isfinite(gradients).all()
    assert adversarial.log_prob_real(extreme).tolist() == [0, -1e4]
    assert adversarial.log_prob_fake(extreme).tolist() == [-1e4, 0]
    assert not jnp.isfinite(jnp.log(jax.nn.sigmoid(extreme))).all()


def test_the_generator_learns_where_the_discriminator_is_sure():
    """At D(G(z)) = 4.5e-5 the saturating loss has lost its gradient, the non-saturating one has not; both point up."""
    saturating, non_saturating = (
        jax.grad(loss)(-10.0)
        for loss in (adversarial.saturating_generator_loss, adversarial.non_saturating_generator_loss)
    )
    assert -1e-4 < saturating < 0
    assert non_saturating == pytest.approx(-1, abs=1e-4)


def test_value_at_the_best_discriminator():
    """On a discrete toy, D = p / (p + q) gives E V = -ln 4 + 2 JS(p, q) to 1e-6, and no other D gives more."""
    p, q = np.random.default_rng(0).dirichlet(np.ones(7), 2)
    with jax.enable_x64(True):

        def value(logit):
            return jnp.sum(p * adversarial.log_prob_real(logit)) + jnp.sum(q * adversarial.log_prob_fake(logit))

        best = jnp.log(p) - jnp.log(q)
        expected = -np.log(4) + 2 * divergences.js_categorical(jnp.asarray(p), jnp.asarray(q))
        assert value(best) == pytest.approx(float(expected), abs=1e-6)
        assert value(-best) != pytest.approx(float(expected), abs=1e-2)
        for direction in np.random.default_rng(1).normal(size=(5, 7)):
            assert value(best + 0.1 * direction) < value(best)
        # V of pairs, averaged over the product of p and q, is the same expectation.
        pairs = adversarial.minimax_value(best[:, None], best[None, :])
        assert (p[:, None] * q[None, :] * pairs).sum() == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("name", ONE_LOGIT)
def test_gradients_against_finite_differences(name):
    """Central differences in float64, 1e-6; the opposite sign is refused."""
    function = getattr(adversarial, name)
    with jax.enable_x64(True):
        logit = jnp.asarray(LOGIT, jnp.float64)
        gradient = jax.grad(lambda x: function(x).sum())(logit)
        assert gradient.dtype == jnp.float64
        difference = (function(logit + 1e-5) - function(logit - 1e-5)) / 2e-5
    np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-9)
    assert not np.allclose(gradient, -difference, rtol=1e-2)
