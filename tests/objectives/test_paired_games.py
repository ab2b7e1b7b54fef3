"""Games of pairs: the relativistic losses by hand, and the rates of R1 and R3GAN on the Dirac-GAN in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import evaluation, kernels
from bayesjax.objectives import adversarial

LOGIT = np.linspace(-6, 6, 13)
RELATIVISTIC = adversarial.RELATIVISTIC
GAMMA, ETA = 0.3, 0.2


def test_relativistic_losses():
    """Both by hand in float64; real and fake do not commute; a constant added to D changes nothing."""
    real, fake = LOGIT, LOGIT[::-1] / 2 + 1
    with jax.enable_x64(True):
        discriminator, generator = (np.asarray(loss(real, fake)) for loss in RELATIVISTIC)
        np.testing.assert_allclose(discriminator, np.log1p(np.exp(fake - real)), rtol=1e-12)
        np.testing.assert_allclose(generator, np.log1p(np.exp(real - fake)), rtol=1e-12)
        assert not np.allclose(discriminator, generator, rtol=1e-2)
        for loss in RELATIVISTIC:
            np.testing.assert_allclose(loss(real + 5, fake + 5), loss(real, fake), rtol=1e-10)
            gradients = jax.grad(lambda r, f, loss=loss: loss(r, f).sum(), (0, 1))(real, fake)
            for gradient, (right, left) in zip(
                gradients, (((1e-5, 0), (-1e-5, 0)), ((0, 1e-5), (0, -1e-5))), strict=True
            ):
                difference = (loss(real + right[0], fake + right[1]) - loss(real + left[0], fake + left[1])) / 2e-5
                np.testing.assert_allclose(gradient, difference, rtol=1e-6, atol=1e-9)


def test_relativistic_losses_at_extreme_outputs():
    """+-1e4: finite values and gradients."""
    for loss in RELATIVISTIC:
        out = jax.vmap(jax.value_and_grad(loss, (0, 1)))(jnp.array([1e4, -1e4]), jnp.array([-1e4, 1e4]))
        assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(out))


@pytest.mark.parametrize("name", adversarial.GAMES)
def test_every_game_as_a_game_of_pairs(name):
    """The discriminator's loss is that of the game, and the generator's does not depend on the real output."""
    game = adversarial.GAMES[name]
    pairs = game.paired()
    np.testing.assert_array_equal(pairs.discriminator_loss(LOGIT, LOGIT + 1), game.discriminator_loss(LOGIT, LOGIT + 1))
    np.testing.assert_array_equal(pairs.generator_loss(LOGIT, LOGIT + 1), game.generator_loss(LOGIT + 1))


def test_outputs_of_two_shapes_are_refused():
    """Outputs `[n]` and `[n, 1]` would be compared in all n^2 pairs."""
    outputs = jnp.arange(3.0)
    for loss in (*RELATIVISTIC, *adversarial.HINGE.paired()[:1]):
        with pytest.raises(AssertionError):
            loss(outputs, outputs[:, None])


def dirac_gan(game, penalties):
    """The Dirac-GAN: data at 0, samples at x, D(t) = y t, with GAMMA times the penalties of D at the data and at x."""

    def discriminator(y, rng_key, given):
        x = given.others["x"]
        critic = lambda t: y * t  # noqa: E731
        terms = [GAMMA * penalty(critic, point) for penalty, point in zip(penalties, (0.0 * x, x), strict=False)]
        return game.discriminator_loss(critic(0.0 * x), critic(x)) + sum(terms)

    def generator(x, rng_key, given):
        y = given.others["y"]
        return game.generator_loss(0.0 * y, y * x)

    return {"x": generator, "y": discriminator}


R1, R2 = adversarial.r1_penalty, adversarial.r2_penalty
NON_SATURATING = adversarial.NON_SATURATING.paired()
DIRAC = {  # game, penalties, the real part of the eigenvalues times 2, which is the trace of the Jacobian
    "non-saturating": (NON_SATURATING, (), 0.0),
    "relativistic": (RELATIVISTIC, (), 0.0),
    "R1": (NON_SATURATING, (R1,), GAMMA),
    "R3GAN": (RELATIVISTIC, (R1, R2), 2 * GAMMA),
}


@pytest.mark.parametrize("name", DIRAC)
def test_dirac_gan(name):
    """The Jacobian of the gradients is [[0, -1/2], [1/2, t]], with the trace t = gamma for R1 and 2 gamma for R3GAN.

    Its eigenvalues are t / 2 +- sqrt(t^2 / 4 - 1/4) (Mescheder et al., 2018, lemma 4.1 and corollary). Steps of
    alternating descent multiply (x, y) by the matrix of this Jacobian. Without a penalty they circle; R3GAN without R2,
    or a penalty without its factor 1/2, has another trace.
    """
    game, penalties, trace = DIRAC[name]
    losses = dirac_gan(game, penalties)
    kernel = kernels.alternate(**{player: kernels.optimize(loss, optax.sgd(ETA)) for player, loss in losses.items()})
    with jax.enable_x64(True):
        jacobian = evaluation.game_jacobian(losses, {"x": jnp.zeros(()), "y": jnp.zeros(())}, jax.random.key(0))
        state = kernel.init({"x": jnp.array(1e-9), "y": jnp.array(-3e-9)}, jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), 50)
        step = lambda state, key: (kernel.step(key, state, jnp.zeros(1))[0], None)  # noqa: E731
        state = jax.jit(lambda state: jax.lax.scan(step, state, keys)[0])(state)
    np.testing.assert_allclose(jacobian, [[0, -0.5], [0.5, trace]], atol=1e-12)
    root = np.emath.sqrt(trace**2 / 4 - 1 / 4)
    eigenvalues = np.sort_complex(np.linalg.eigvals(jacobian))
    np.testing.assert_allclose(eigenvalues, np.sort_complex([trace / 2 - root, trace / 2 + root]), atol=1e-12)
    sweep = np.array([[1, 0], [-ETA / 2, 1 - ETA * trace]]) @ np.array([[1, ETA / 2], [0, 1]])  # x moves first
    expected = np.linalg.matrix_power(sweep, 50) @ np.array([1e-9, -3e-9])
    np.testing.assert_allclose([state.position["x"], state.position["y"]], expected, rtol=1e-6)
    factor = evaluation.convergence_factor(jacobian, "alternating", ETA)
    assert factor == pytest.approx(np.sqrt(1 - ETA * trace), rel=1e-9)  # the determinant is the squared modulus
    assert len({trace for *_, trace in DIRAC.values()}) == 3


def test_r2_is_r1_at_the_sample():
    """The penalty of D(x) = w . x + x . A x / 2 in closed form; no gradient reaches the other player."""
    w, a, x = jnp.array([1.0, -2.0]), jnp.array([[2.0, 0.5], [0.5, 1.0]]), jnp.array([0.3, 0.7])
    found = R2(lambda x: w @ x + 0.5 * x @ a @ x, x)
    assert float(found) == pytest.approx(0.5 * np.sum(np.asarray(w + a @ x) ** 2), rel=1e-6)
