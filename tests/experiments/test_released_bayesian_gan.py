"""The objectives of the Bayesian GAN's released program, written out as loops in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.shared import released_bayesian_gan as released

RANDOM = np.random.default_rng(0)
NUM_GENERATORS, N, K = 3, 5, 4


def draw(*shape):
    return RANDOM.normal(scale=2, size=shape).astype(np.float32)


def log_real(logits):
    total = np.exp(logits.astype(np.float64)).sum(axis=-1)
    return np.log(total / (1 + total))


def log_fake(logits):
    return -np.log(1 + np.exp(logits.astype(np.float64)).sum(axis=-1))


def pool(losses):
    return np.log(np.sum(np.exp(losses)))


@pytest.mark.parametrize("labelled", [True, False])
def test_discriminator_loss(labelled):
    """log sum_j exp(CE(labels) + J * real + fake_j): J-fold real images, and the worst generator counts most."""
    real, fake = draw(N, K), draw(NUM_GENERATORS, N, K)
    label = -np.abs(draw(2)) if labelled else None
    cross_entropy = -label.astype(np.float64).mean() if labelled else 0
    each = [cross_entropy - NUM_GENERATORS * log_real(real).mean() - log_fake(fake[j]).mean() for j in range(3)]
    actual = released.discriminator_loss(jnp.asarray(real), jnp.asarray(fake), None if label is None else label)
    assert actual == pytest.approx(pool(each), rel=1e-5)
    assert actual != pytest.approx(sum(each), rel=1e-2)
    assert actual != pytest.approx(pool([e + (NUM_GENERATORS - 1) * log_real(real).mean() for e in each]), rel=1e-2)


def test_generator_loss():
    """log sum_k exp(-mean log P_k(real | fake) + mean Huber(feature difference)), differences on both sides of 1."""
    logits, real, fake = draw(2, N, K), draw(2, N, 6), draw(2, N, 6)
    difference = np.abs(fake.astype(np.float64) - real)
    assert (difference < 1).any()
    assert (difference > 1).any()
    huber = np.where(difference < 1, difference**2 / 2, difference - 0.5)
    each = [-log_real(logits[k]).mean() + huber[k].mean() for k in range(2)]
    actual = released.generator_loss(*map(jnp.asarray, (logits, real, fake)))
    assert actual == pytest.approx(pool(each), rel=1e-5)
    squared = [-log_real(logits[k]).mean() + (difference[k] ** 2 / 2).mean() for k in range(2)]
    assert actual != pytest.approx(pool(squared), rel=1e-2)


SETTINGS = {"num_data": 50000, "prior_scale": 2.0, "friction": 0.01, "learning_rate": 2e-4}


def test_prior_is_a_mean_per_tensor():
    """With no noise: sum over tensors of mean((w / sd)^2), over N; the Gaussian prior's half sum is another number."""
    params = {"kernel": jnp.asarray(draw(4, 3)), "bias": jnp.asarray(draw(3))}
    actual = released.prior_and_noise(params, jax.random.key(0), **{**SETTINGS, "friction": 0.0})
    squares = [np.asarray(leaf, np.float64) ** 2 / 4 for leaf in params.values()]
    assert actual == pytest.approx(sum(s.mean() for s in squares) / 50000, rel=1e-5)
    assert actual != pytest.approx(sum(s.sum() for s in squares) / 2 / 50000, rel=1e-1)


def test_the_noise_is_far_too_small_to_sample():
    """The noise in the gradient has sd sqrt(2 alpha eta) / N = 4e-8: an effective temperature of 4e-13 at lr 0.005.

    Within 4 standard errors over 100000 weights (false alarms: 6.3e-5); the sd that temperature 1 needs is refused.
    """
    gradient = jax.grad(released.prior_and_noise)(jnp.zeros(100000), jax.random.key(1), **SETTINGS)
    sd = np.asarray(gradient, np.float64).std()

    def agrees(expected):
        return abs(sd / expected - 1) < 4 / np.sqrt(2 * 100000)

    assert agrees(np.sqrt(2 * 0.01 * 2e-4) / 50000)
    rate, momentum_friction = 0.005, 0.5
    needed = np.sqrt(2 * momentum_friction * rate / 50000)
    assert not agrees(needed / rate)
    assert (rate * sd / needed) ** 2 == pytest.approx(4e-13, rel=0.02)
