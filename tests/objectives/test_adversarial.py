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


def softplus(x):
    return np.log1p(np.exp(x))


BY_HAND = {
    "minimax": (lambda r: softplus(-r), softplus, lambda f: -softplus(f)),
    "non_saturating": (lambda r: softplus(-r), softplus, lambda f: softplus(-f)),
    "least_squares": (lambda r: (r - 1) ** 2 / 2, lambda f: f**2 / 2, lambda f: (f - 1) ** 2 / 2),
    "wasserstein": (lambda r: -r, lambda f: f, lambda f: -f),
    "hinge": (lambda r: np.maximum(0, 1 - r), lambda f: np.maximum(0, 1 + f), lambda f: -f),
}


@pytest.mark.parametrize("name", adversarial.GAMES)
def test_games(name):
    """The losses written out, per example; their gradients by central differences; real and fake do not commute."""
    game, by_hand = adversarial.GAMES[name], BY_HAND[name]
    with jax.enable_x64(True):
        x = jnp.asarray(LOGIT, jnp.float64) + 0.1  # off the hinge's corners
        for part, expected in zip(game, by_hand, strict=True):
            np.testing.assert_allclose(part(x), expected(np.asarray(x)), rtol=1e-6, atol=1e-12)
            gradient = jax.grad(lambda x, part=part: part(x).sum())(x)
            np.testing.assert_allclose(gradient, (part(x + 1e-5) - part(x - 1e-5)) / 2e-5, rtol=1e-6, atol=1e-9)
        both = game.discriminator_loss(x, x[::-1])
        np.testing.assert_allclose(both, by_hand[0](np.asarray(x)) + by_hand[1](np.asarray(x)[::-1]), rtol=1e-6)
        assert not np.allclose(both, game.discriminator_loss(x[::-1], x), rtol=1e-2)


@pytest.mark.parametrize("name", adversarial.GAMES)
def test_games_at_extreme_logits(name):
    """+-1e4: finite values and gradients."""
    for part in adversarial.GAMES[name]:
        values, gradients = jax.vmap(jax.value_and_grad(part))(jnp.array([1e4, -1e4]))
        assert jnp.isfinite(values).all() and jnp.isfinite(gradients).all()


def test_the_best_discriminator_of_least_squares():
    """D* = (b p + a q) / (p + q), and with b - c = 1, b - a = 2 the generator's value is Pearson's chi^2 / 2."""
    p, q = np.random.default_rng(0).dirichlet(np.ones(7), 2)
    a, b, c = -1.0, 1.0, 0.0
    game = adversarial.least_squares(a, b, c)
    best = (b * p + a * q) / (p + q)

    def loss(output):
        return jnp.sum(p * game.real_loss(output) + q * game.fake_loss(output))

    np.testing.assert_allclose(jax.grad(loss)(jnp.asarray(best)), 0, atol=1e-7)
    of_generator = np.sum(
        (p + q) * np.asarray(game.generator_loss(best))
    )  # the real half does not depend on the generator
    assert of_generator == pytest.approx(0.5 * np.sum((2 * q - (p + q)) ** 2 / (p + q)), rel=1e-6)


def test_one_sided_smoothing():
    """The best D is t p / (p + q), and 0 where there are only fakes; t = 1 is the game itself."""
    p, q, t = np.array([0.6, 0.4, 0.0]), np.array([0.2, 0.3, 0.5]), 0.9
    game = adversarial.smooth_labels(adversarial.NON_SATURATING, t)
    with jax.enable_x64(True):
        best = jnp.log(t * p / (p + q - t * p))
        gradient = jax.grad(lambda m: jnp.sum(p * game.real_loss(m) + q * game.fake_loss(m)))(jnp.maximum(best, -50.0))
        np.testing.assert_allclose(gradient, 0, atol=1e-12)
    whole = adversarial.smooth_labels(adversarial.NON_SATURATING, 1.0)
    np.testing.assert_array_equal(whole.real_loss(LOGIT), adversarial.NON_SATURATING.real_loss(LOGIT))
    with pytest.raises(ValueError, match=r"target must lie in \(0, 1\]; got 1.1"):
        adversarial.smooth_labels(game, 1.1)


def test_gradient_penalties():
    """The penalties of D(x) = w . x + x . A x / 2 are exact, finite where they are 0, and differentiable in w."""
    random = np.random.default_rng(0)
    w, a, x = random.normal(size=3), random.normal(size=(3, 3)), random.normal(size=3)
    a = a + a.T

    def critic(x, w=w):
        return w @ x + 0.5 * x @ a @ x

    norm = np.linalg.norm(w + a @ x)
    assert float(adversarial.gradient_penalty(critic, x)) == pytest.approx((norm - 1) ** 2, rel=1e-5)
    assert float(adversarial.gradient_penalty(critic, x, target=0.0)) == pytest.approx(norm**2, rel=1e-5)
    assert float(adversarial.r1_penalty(critic, x)) == pytest.approx(norm**2 / 2, rel=1e-5)
    through = jax.grad(lambda w: adversarial.gradient_penalty(lambda x: critic(x, w), x))(jnp.asarray(w))
    np.testing.assert_allclose(through, 2 * (norm - 1) * (w + a @ x) / norm, rtol=1e-4)
    flat = jax.value_and_grad(lambda w: adversarial.gradient_penalty(lambda x: w @ x, x))(jnp.zeros(3))
    assert float(flat[0]) == 1 and jnp.isfinite(flat[1]).all()


def test_between():
    """On the line, uniform: mean 1/2 and variance 1/12 of the share within 4 standard errors; one share per example."""
    keys = jax.random.split(jax.random.key(0), 10_000)
    real, fake = jnp.array([3.0, 1.0]), jnp.array([1.0, 2.0])
    points = jax.vmap(adversarial.interpolate, in_axes=(0, None, None))(keys, real, fake)
    share = np.asarray((points - fake) / (real - fake))
    np.testing.assert_allclose(share[:, 0], share[:, 1], atol=1e-5)
    assert abs(share[:, 0].mean() - 0.5) < 4 * np.sqrt(1 / 12 / 10_000)
    assert abs(share[:, 0].var() - 1 / 12) < 4 * np.sqrt(1 / 180 / 10_000)
    with pytest.raises(AssertionError):
        adversarial.interpolate(keys[0], real, fake[:1])
