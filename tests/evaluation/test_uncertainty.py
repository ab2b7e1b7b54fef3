"""Uncertainty: identities that hold exactly, values by hand, quantiles and ranks against SciPy and scikit-learn."""

import numpy as np
from scipy import stats
from sklearn import metrics

from bayesjax.evaluation import uncertainty

RANDOM = np.random.default_rng(0)
PROBABILITIES = RANDOM.dirichlet(np.ones(4) / 3, size=(7, 50))  # 7 draws, 50 points, 4 classes


def test_predictive_entropy_is_expected_entropy_and_mutual_information():
    parts = uncertainty.expected_entropy(PROBABILITIES) + uncertainty.mutual_information(PROBABILITIES)
    np.testing.assert_allclose(uncertainty.predictive_entropy(PROBABILITIES), parts, rtol=1e-12)
    assert (uncertainty.mutual_information(PROBABILITIES) > 0).all()


def test_agreement_has_no_mutual_information_and_disagreement_nothing_else():
    same = np.tile([0.3, 0.7], (5, 1, 1))
    np.testing.assert_allclose(uncertainty.mutual_information(same), 0, atol=1e-16)
    np.testing.assert_allclose(uncertainty.expected_entropy(same), -0.3 * np.log(0.3) - 0.7 * np.log(0.7))
    opposed = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    np.testing.assert_allclose(uncertainty.mutual_information(opposed), np.log(2))
    np.testing.assert_allclose(uncertainty.expected_entropy(opposed), 0)


def test_class_variances_add_up_to_that_of_the_average():
    average = PROBABILITIES.mean(axis=0)
    split = uncertainty.decompose_class_variance(PROBABILITIES)
    np.testing.assert_allclose(split.total, average * (1 - average), rtol=1e-12)


def test_gaussian_variances_are_those_of_the_mixture():
    means, variances = RANDOM.normal(size=(6, 3)), RANDOM.gamma(2, size=(6, 3))
    split = uncertainty.decompose_gaussian_variance(means, variances)
    second = (variances + means**2).mean(axis=0)
    np.testing.assert_allclose(split.total, second - means.mean(axis=0) ** 2, rtol=1e-12)
    np.testing.assert_allclose(uncertainty.decompose_gaussian_variance(means, 2.0).aleatoric, 2)


def test_mixture_density_and_quantiles():
    means, scales, targets = RANDOM.normal(size=(5, 4)), RANDOM.gamma(1, size=(5, 4)), RANDOM.normal(size=4)
    density = stats.norm.pdf(targets, means, scales).mean(axis=0)
    np.testing.assert_allclose(uncertainty.mixture_log_density(targets, means, scales), np.log(density), rtol=1e-12)
    assert np.isfinite(uncertainty.mixture_log_density([1e4], [[0.0]], [[1.0]])).all()
    levels = (0.01, 0.25, 0.5, 0.9)
    quantiles = uncertainty.mixture_quantiles(levels, means, scales)
    np.testing.assert_allclose(
        stats.norm.cdf(quantiles[:, None], means, scales).mean(axis=1), np.tile(np.array(levels)[:, None], 4), rtol=1e-9
    )
    one = uncertainty.mixture_quantiles([0.25], [[1.0]], 2.0)
    np.testing.assert_allclose(one, stats.norm.ppf(0.25, 1, 2))


def test_auroc_is_scikit_learn_s_and_its_error_covers():
    """2 standard errors cover the exact value in 95.4 % of 1000 sets; 92.5 to 98 % is 4.4 errors of that wide."""
    scores, positive = RANDOM.integers(0, 9, 200), RANDOM.random(200) < 0.3
    np.testing.assert_allclose(uncertainty.auroc(scores, positive).value, metrics.roc_auc_score(positive, scores))
    exact, positive = stats.norm.cdf(1 / np.sqrt(2)), np.arange(150) < 50
    found = [uncertainty.auroc(RANDOM.normal(size=150) + positive, positive) for _ in range(1000)]
    covered = np.mean([abs(one.value - exact) < 2 * one.stderr for one in found])
    assert 0.925 < covered < 0.98
    too_small = np.mean([abs(one.value - exact) < one.stderr for one in found])
    assert not 0.925 < too_small < 0.98
    # By hand, with unbiased variances: positives score above 1 and 1/2 of the negatives, negatives below 1/2 and 1.
    by_hand = uncertainty.auroc([3.0, 1, 2, 0], [True, True, False, False])
    np.testing.assert_allclose(by_hand, (0.75, np.sqrt(0.125 / 2 + 0.125 / 2)))


def test_selective_risk():
    coverage, risk = uncertainty.selective_risk([0, 1, 0, 1], [0.1, 0.9, 0.2, 0.8])
    np.testing.assert_allclose(coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(risk, [0, 0, 1 / 3, 0.5])
    np.testing.assert_allclose(uncertainty.selective_risk([0, 1, 0, 1], [5] * 4)[1], 0.5)
