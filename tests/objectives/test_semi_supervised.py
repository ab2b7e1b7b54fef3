"""K classes and "fake" in K logits: against the K + 1 softmax written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.objectives import adversarial, semi_supervised
from bayesjax.objectives.semi_supervised import class_probabilities, log_prob_fake, log_prob_label, log_prob_real

LOGITS = np.random.default_rng(0).normal(scale=3, size=(6, 4)).astype(np.float32)
LABELS = np.array([0, 3, 1, 2, 2, 0])


def softmax_with_fake(logits):
    """P(fake), P(1), ..., P(K): softmax of (0, m_1, .., m_K), in float64."""
    weights = np.exp(np.concatenate([np.zeros((len(logits), 1)), logits.astype(np.float64)], axis=1))
    return weights / weights.sum(axis=1, keepdims=True)


def test_against_the_softmax_of_one_more_class():
    """P(fake), P(real) and both readings of P(label) are those of the (K + 1)-softmax; swapped they are not."""
    probabilities = softmax_with_fake(LOGITS)
    fake, classes = probabilities[:, 0], probabilities[:, 1:]
    own = classes[np.arange(6), LABELS]
    np.testing.assert_allclose(log_prob_fake(LOGITS), np.log(fake), rtol=1e-5)
    np.testing.assert_allclose(log_prob_real(LOGITS), np.log(1 - fake), rtol=1e-5)
    assert not np.allclose(log_prob_fake(LOGITS), np.log(1 - fake), rtol=1e-2)
    conditional = log_prob_label(LOGITS, LABELS)
    joint = log_prob_label(LOGITS, LABELS, reading="joint")
    np.testing.assert_allclose(conditional, np.log(own / classes.sum(axis=1)), rtol=1e-5)
    np.testing.assert_allclose(joint, np.log(own), rtol=1e-5)
    np.testing.assert_allclose(class_probabilities(LOGITS), classes / classes.sum(axis=1, keepdims=True), rtol=1e-5)


def test_joint_is_conditional_times_real():
    """log P(y) = log P(y | real) + log P(real), and the two readings differ."""
    conditional = log_prob_label(LOGITS, LABELS)
    joint = log_prob_label(LOGITS, LABELS, reading="joint")
    np.testing.assert_allclose(joint, conditional + log_prob_real(LOGITS), rtol=1e-5, atol=1e-6)
    assert (joint < conditional).all()


def test_probabilities_sum_to_one():
    """P(real) + P(fake) = 1, and the joint reading sums to P(real) over the labels."""
    np.testing.assert_allclose(np.exp(log_prob_real(LOGITS)) + np.exp(log_prob_fake(LOGITS)), 1, rtol=1e-6)
    joint = [np.exp(log_prob_label(LOGITS, np.full(6, label), "joint")) for label in range(4)]
    np.testing.assert_allclose(sum(joint), np.exp(log_prob_real(LOGITS)), rtol=1e-5)


def test_one_class_is_the_plain_gan():
    """K = 1 equals `adversarial` on the one logit."""
    logit = LOGITS[:, 0]
    np.testing.assert_allclose(log_prob_real(logit[:, None]), adversarial.log_prob_real(logit), rtol=1e-6)
    np.testing.assert_allclose(log_prob_fake(logit[:, None]), adversarial.log_prob_fake(logit), rtol=1e-6)


EXTREME = np.array([[1e4, 1e4], [1e4, -1e4], [-1e4, 1e4], [-1e4, -1e4], [0, 1e4], [0, -1e4]], np.float32)


def every_function(logits):
    """The sum of all five quantities."""
    label = jnp.zeros(logits.shape[:-1], jnp.int32)
    return (
        log_prob_real(logits).sum()
        + log_prob_fake(logits).sum()
        + log_prob_label(logits, label).sum()
        + log_prob_label(logits, label, "joint").sum()
        + class_probabilities(logits)[..., 0].sum()
    )


def test_extreme_logits():
    """Logits of +-1e4: finite values and gradients, and the right limits; log(S / (1 + S)) as written is not finite."""
    value, gradient = jax.value_and_grad(every_function)(EXTREME)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_allclose(log_prob_real(EXTREME), [0, 0, 0, np.log(2) - 1e4, 0, -np.log(2)], rtol=1e-6)
    np.testing.assert_allclose(log_prob_fake(EXTREME), [-1e4, -1e4, -1e4, 0, -1e4, -np.log(2)], rtol=1e-4)
    total = jnp.exp(jnp.asarray(EXTREME)).sum(axis=-1)
    assert not jnp.isfinite(jnp.log(total / (1 + total))).all()


@pytest.mark.parametrize("reading", ["conditional", "joint"])
@pytest.mark.parametrize("label", [-1, 4, 7])
def test_a_label_out_of_range_gives_nan(label, reading):
    """Neither clamped nor wrapped: NaN for that example, and for no other."""
    labels = LABELS.copy()
    labels[2] = label
    assert np.isnan(log_prob_label(LOGITS, labels, reading)).tolist() == [i == 2 for i in range(6)]


def test_wrong_arguments():
    """An unknown reading, a label of another shape, a label that is no integer."""
    with pytest.raises(ValueError, match="reading must be 'conditional' or 'joint'; got 'both'"):
        log_prob_label(LOGITS, LABELS, "both")
    with pytest.raises(ValueError, match=r"label must have the shape.*\(6,\); got \(5,\)"):
        log_prob_label(LOGITS, LABELS[:5])
    with pytest.raises(ValueError, match=r"label must have the shape.*\(6,\); got \(\)"):
        semi_supervised.log_prob_label(jnp.asarray(LOGITS), 1)
    with pytest.raises(AssertionError):
        log_prob_label(LOGITS, LABELS.astype(np.float32))
    with pytest.raises(AssertionError):
        semi_supervised.feature_matching(np.zeros(3), np.ones(3))


def test_any_leading_axes():
    """`[..., K]`: more axes, or none but the classes, give the same numbers."""
    np.testing.assert_allclose(log_prob_real(LOGITS.reshape(2, 3, 4)).ravel(), log_prob_real(LOGITS), rtol=1e-6)
    one = semi_supervised.log_prob_label(jnp.asarray(LOGITS[1]), jnp.asarray(LABELS[1]))
    np.testing.assert_allclose(one, log_prob_label(LOGITS, LABELS)[1], rtol=1e-6)


def test_feature_matching():
    """The mean over features of the squared difference of means; equal means of unequal batches match."""
    real, fake = np.array([[1.0, 2.0], [3.0, 6.0]]), np.array([[2.0, 1.0], [2.0, 1.0], [5.0, 1.0]])
    assert semi_supervised.feature_matching(real, fake) == pytest.approx((1.0**2 + 3.0**2) / 2)
    assert semi_supervised.feature_matching(real, real[::-1]) == 0
    assert semi_supervised.feature_matching(real, real.mean(axis=0, keepdims=True)) == 0
