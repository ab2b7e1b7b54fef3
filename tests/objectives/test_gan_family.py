"""Objectives of the GAN family: InfoGAN's bound, ACGAN, cycles and their pool, moment matching."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

from bayesjax import divergences
from bayesjax.objectives import adversarial, auxiliary_classifier, cycle, infogan, moment_matching
from bayesjax.types import CodeHead

RANDOM = np.random.default_rng(0)


# ---- InfoGAN


def test_infogan_log_prob():
    """Softmax of each categorical code and scipy's normal density of the continuous ones."""
    code = infogan.Code(jnp.array([2, 0]), jnp.array([0.3, -0.9]))
    logits = [RANDOM.normal(size=4), RANDOM.normal(size=3)]
    mean, log_scale = RANDOM.normal(size=(2, 2))
    head = CodeHead([jnp.asarray(m, jnp.float32) for m in logits], jnp.asarray(mean), jnp.asarray(log_scale))
    categorical, continuous = infogan.log_prob(head, code)
    expected = scipy.special.log_softmax(logits[0])[2] + scipy.special.log_softmax(logits[1])[0]
    assert float(categorical) == pytest.approx(expected, rel=1e-5)
    expected = scipy.stats.norm(mean, np.exp(log_scale)).logpdf(code.continuous).sum()
    assert float(continuous) == pytest.approx(expected, rel=1e-5)
    entropy = np.log(4) + np.log(3) + 2 * np.log(2)
    assert infogan.entropy([4, 3], 2) == pytest.approx(entropy)
    assert float(infogan.information_bound(head, code)) == pytest.approx(
        float(categorical + continuous) + entropy, rel=1e-5
    )


def test_infogan_s_bound_is_one():
    """On a channel whose information is known (a class read with errors): I_Q <= I, equal at the true posterior, 0 for
    a Q that ignores the image; without H(c) the bound would be negative."""
    channel = RANDOM.dirichlet(np.ones(5), 4)  # p(x | c), c uniform on 4
    joint = channel / 4
    information = np.sum(joint * np.log(joint / (joint.sum(axis=1, keepdims=True) * joint.sum(axis=0))))
    posterior = joint / joint.sum(axis=0)

    def bound(q):
        """E I_Q with q [c, x]."""
        none = jnp.zeros(0)
        return sum(
            joint[c, x]
            * float(
                infogan.information_bound(
                    CodeHead([jnp.log(jnp.asarray(q[:, x]))], none, none), infogan.Code(jnp.array([c]), none)
                )
            )
            for c, x in itertools.product(range(4), range(5))
        )

    assert bound(posterior) == pytest.approx(information, rel=1e-4)
    assert bound(np.full((4, 5), 0.25)) == pytest.approx(0, abs=1e-6)
    assert bound(RANDOM.dirichlet(np.ones(4), 5).T) < information


def test_invariant_information():
    """By hand of a joint table; ln K if pairs agree and all are used, 0 if all are of one category or pairs are of
    different images; the same whichever comes first."""
    one, other = RANDOM.normal(size=(2, 6, 3))
    p, q = scipy.special.softmax(one, 1), scipy.special.softmax(other, 1)
    joint = np.mean([(np.outer(a, b) + np.outer(b, a)) / 2 for a, b in zip(p, q, strict=True)], axis=0)
    expected = np.sum(joint * np.log(joint / np.outer(joint.sum(1), joint.sum(0))))
    of = jax.jit(infogan.invariant_information)
    assert float(of(one, other)) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert float(of(other, one)) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    sure = 200 * np.eye(3)[[0, 1, 2, 0, 1, 2]]
    assert float(of(sure, sure)) == pytest.approx(np.log(3), rel=1e-5)
    assert float(of(sure[:1].repeat(6, 0), sure[:1].repeat(6, 0))) == pytest.approx(0, abs=1e-6)
    one, other = 200 * np.eye(3)[np.arange(9) // 3], 200 * np.eye(3)[np.arange(9) % 3]  # unrelated
    assert float(of(one, other)) == pytest.approx(0, abs=1e-6)
    gradient = jax.grad(infogan.invariant_information)(sure, sure)
    assert np.isfinite(gradient).all()


def test_infogan_codes():
    """Every class with its share and numbers uniform on (-1, 1), not normal, within 4 standard errors."""
    codes = jax.vmap(lambda key: infogan.sample_code(key, [3, 2], 2))(jax.random.split(jax.random.key(0), 6000))
    for i, num in enumerate([3, 2]):
        shares = np.bincount(np.asarray(codes.categorical[:, i]), minlength=num) / 6000
        assert (abs(shares - 1 / num) < 4 * np.sqrt((1 - 1 / num) / num / 6000)).all()
    numbers = np.asarray(codes.continuous)
    assert abs(numbers).max() < 1
    assert (abs(numbers.mean(axis=0)) < 4 * np.sqrt(1 / 3 / 6000)).all()
    assert (abs(numbers.var(axis=0) - 1 / 3) < 4 * np.sqrt(4 / 45 / 6000)).all()
    inputs = infogan.to_generator_input(infogan.Code(jnp.array([2, 0]), jnp.array([0.5, -0.5])), [3, 2])
    assert inputs.tolist() == [0, 0, 1, 1, 0, 0.5, -0.5]
    assert infogan.to_generator_input(codes, [3, 2]).shape == (6000, 7)


# ---- ACGAN


def test_auxiliary_classifier():
    """Both losses by hand; the generator's is 0 where it fools and is classified; its label's class, not another."""
    real, fake = (jnp.array(0.7), jnp.array([1.0, -0.5, 0.2])), (jnp.array(-0.4), jnp.array([0.3, 2.0, 0.1]))
    of_source = np.log1p(np.exp(-0.7)) + np.log1p(np.exp(-0.4))
    of_class = scipy.special.log_softmax(real[1])[0] + scipy.special.log_softmax(fake[1])[1]
    found = auxiliary_classifier.discriminator_loss(real, jnp.array(0), fake, jnp.array(1), weight=2.0)
    assert float(found) == pytest.approx(of_source - 2 * of_class, rel=1e-5)
    found = auxiliary_classifier.generator_loss(fake, jnp.array(1))
    assert float(found) == pytest.approx(np.log1p(np.exp(0.4)) - scipy.special.log_softmax(fake[1])[1], rel=1e-5)
    assert float(auxiliary_classifier.generator_loss(fake, jnp.array(0))) > float(found) + 1
    hinge = auxiliary_classifier.generator_loss(fake, jnp.array(1), game=adversarial.HINGE, weight=0.0)
    assert float(hinge) == pytest.approx(0.4)
    sure = jnp.array(50.0), jnp.array([0.0, 100.0, 0.0])
    assert float(auxiliary_classifier.generator_loss(sure, jnp.array(1))) == pytest.approx(0, abs=1e-6)


# ---- CycleGAN


def test_cycles():
    """0 for translations that undo one another, the mean over pixels of what is left for others."""
    x = jnp.asarray(RANDOM.normal(size=(4, 4, 3)), jnp.float32)
    assert float(cycle.cycle_loss(lambda x: -x, lambda y: -y, x)) == 0
    assert float(cycle.cycle_loss(lambda x: 2 * x, lambda y: y, x)) == pytest.approx(float(jnp.abs(x).mean()))
    assert float(cycle.identity_loss(lambda x: x + 0.25, x)) == pytest.approx(0.25, rel=1e-5)
    with pytest.raises(AssertionError):
        cycle.mean_absolute_error(x, x[:2])


def test_image_pool():
    """Fakes come out themselves while there is room, then half of them; the others are former ones and are kept, once
    each, within 4 standard errors of a half; the pool holds only fakes that went in, and all of its places are
    exchanged. No key is used twice."""
    pool = cycle.empty_pool(5, (1,))
    exchange = jax.jit(cycle.exchange)
    given = jnp.arange(1.0, 1001.0)[:, None]
    with jax.debug_key_reuse(True):
        pool, first = exchange(jax.random.key(0), pool, given[:5])
    np.testing.assert_array_equal(first, given[:5])
    np.testing.assert_array_equal(pool.images, given[:5])
    pool, out = exchange(jax.random.key(1), pool, given[5:])
    same = np.asarray(out == given[5:])[:, 0]
    assert abs(same.mean() - 0.5) < 4 * np.sqrt(0.25 / 995)
    everything = np.concatenate([np.asarray(first), np.asarray(out)])[:, 0]
    held = np.asarray(pool.images)[:, 0]
    assert set(held) <= set(np.asarray(given)[:, 0]) and len(set(held)) == 5
    assert held.min() > 5  # a place that is drawn keeps its first fake through 995 others with probability 1e-45
    former = np.asarray(out)[~same, 0]
    assert len(set(former)) == len(former)  # who leaves the pool does not come back
    assert (former < np.asarray(given[5:])[~same, 0]).all()
    assert set(everything) | set(held) == set(np.asarray(given)[:, 0])  # none is lost
    with pytest.raises(ValueError, match="size must be at least 1; got 0"):
        cycle.empty_pool(0, (1,))


# ---- moment matching


def test_moment_matching():
    """The root of MMD^2 with the authors' scales; its gradient is MMD^2's over twice the root, finite at 0."""
    real, fake = jnp.asarray(RANDOM.uniform(size=(2, 30, 20)), jnp.float32)
    kernel = lambda x, y: sum(  # noqa: E731
        jnp.exp(-jnp.sum((x[:, None] - y) ** 2, axis=-1) / (2 * variance)) for variance in (2, 5, 10, 20, 40, 80)
    )
    mmd = functools.partial(divergences.mmd_squared, kernel=kernel)
    squared = float(jax.jit(mmd)(real, fake))
    root = jax.jit(jax.value_and_grad(lambda y: moment_matching.moment_matching_loss(real, y)))
    value, gradient = root(fake)
    assert float(value) == pytest.approx(np.sqrt(squared), rel=1e-3)
    of_squared = jax.jit(jax.grad(lambda y: mmd(real, y)))(fake)
    np.testing.assert_allclose(gradient, of_squared / (2 * value), rtol=1e-3, atol=1e-8)
    assert jnp.isfinite(root(real)[1]).all()
    unbiased = jax.jit(functools.partial(moment_matching.moment_matching_loss, is_unbiased=True))(real, fake)
    expected = jax.jit(functools.partial(mmd, is_unbiased=True))(real, fake)
    assert float(unbiased) == pytest.approx(float(expected), abs=1e-6)


def test_moment_matching_moves_samples_to_the_data():
    """300 steps of Adam on the samples themselves bring mean and spread to those of the data."""
    random = np.random.default_rng(1)
    real = jnp.asarray(2 + 0.5 * random.normal(size=(200, 2)), jnp.float32)
    kernel = divergences.gaussian_kernel([0.5, 2.0, 8.0])
    adam = optax.adam(optax.cosine_decay_schedule(0.1, 300))

    def step(carry, _):
        fake, state = carry
        gradient = jax.grad(lambda y: moment_matching.moment_matching_loss(real, y, kernel))(fake)
        updates, state = adam.update(gradient, state)
        return (fake + updates, state), None

    start = jnp.asarray(random.normal(size=(100, 2)), jnp.float32)
    (fake, _), _ = jax.jit(lambda y: jax.lax.scan(step, (y, adam.init(y)), None, 300))(start)
    np.testing.assert_allclose(fake.mean(axis=0), real.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(fake.std(axis=0), real.std(axis=0), atol=0.15)
