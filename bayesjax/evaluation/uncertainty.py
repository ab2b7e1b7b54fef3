"""Predictive uncertainty, divided into noise of the data (aleatoric) and uncertainty of the weights (epistemic).

    classification    H(E_s p_s) = E_s H(p_s) + I(y; w)             predictive entropy = expected + mutual information
                      Var y      = E_s p_s (1 - p_s) + Var_s p_s    of each class's indicator
    regression        Var y      = E_s sigma_s^2 + Var_s f_s

The inputs are predictions `[num_draws, num, ...]` of posterior draws (`predictive.predict`): class probabilities p_s,
or means f_s and noise variances sigma_s^2 of draw s. H is the entropy, I the mutual information, and E_s and Var_s are
over draws. The first term is the aleatoric part. The second is the epistemic part, which vanishes as the number of data
grows. Two functions measure the usefulness of an uncertainty: `auroc` for ranking errors and `selective_risk` for
abstaining. All functions compute in float64 with NumPy, and entropies are in nats. Rows that are not distributions,
NaN, and shapes other than the documented ones raise a ValueError.

Sources: Depeweg et al., "Decomposition of uncertainty in Bayesian deep learning", ICML 2018; Kwon et al., "Uncertainty
quantification using Bayesian neural networks in classification", 2020; Kendall & Gal, NeurIPS 2017, equation 9. Read
`experiments/uncertainty.py` next.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from bayesjax.evaluation import inputs
from bayesjax.evaluation.predictive import Estimate
from bayesjax.types import ArrayLike


class VarianceDecomposition(NamedTuple):
    """A predictive variance as the sum of two parts.

    Attributes:
      aleatoric: mean over draws of the predicted variance, `[...]`, in squared units of the target.
      epistemic: variance over draws of the predicted mean, `[...]`, in squared units of the target.
    """

    aleatoric: np.ndarray
    epistemic: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """The predictive variance, the sum of both parts."""
        return self.aleatoric + self.epistemic


def entropy(probabilities: ArrayLike) -> np.ndarray:
    """Entropy of categorical distributions, -sum_k p_k log p_k in nats.

    Args:
      probabilities: `[..., num_classes]`. A class of probability 0 contributes 0.

    Returns:
      `[...]`.

    Raises:
      ValueError: if the shape is wrong or a row is not a distribution.
    """
    return _entropy(inputs.probabilities(probabilities, axes="[..., num_classes]"))


def predictive_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Entropy of the averaged prediction in nats, the total uncertainty H(E_s p_s).

    Args:
      probabilities: class probabilities of each draw, `[num_draws, ..., num_classes]`.

    Returns:
      `[...]`.

    Raises:
      ValueError: if the shape is wrong or a row is not a distribution.
    """
    return _entropy(_check_draws(probabilities).mean(axis=0))


def expected_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Mean entropy of the predictions of the draws in nats, the aleatoric part E_s H(p_s).

    Arguments, result and errors are those of `predictive_entropy`.
    """
    return _entropy(_check_draws(probabilities)).mean(axis=0)


def mutual_information(probabilities: ArrayLike) -> np.ndarray:
    """Mutual information I(y; w) of the label and the weights in nats, the epistemic part ("BALD").

        I(y; w) = H(E_s p_s) - E_s H(p_s) = E_s KL(p_s || E_s p_s)

    It is computed in the second form, which cannot be negative. Arguments, result and errors are those of
    `predictive_entropy`. Source: Houlsby et al., "Bayesian active learning for classification and preference learning",
    2011.
    """
    values = _check_draws(probabilities)
    return special.rel_entr(values, values.mean(axis=0)).sum(axis=-1).mean(axis=0)


def decompose_class_variance(probabilities: ArrayLike) -> VarianceDecomposition:
    """Aleatoric and epistemic parts of the variance of each class's indicator.

        Var [y = k] = E_s p_sk (1 - p_sk) + Var_s p_sk

    Args:
      probabilities: class probabilities of each draw, `[num_draws, ..., num_classes]`.

    Returns:
      Parts `[..., num_classes]`. Summed over the classes, they are the parts of the covariance's trace.

    Raises:
      ValueError: if the shape is wrong or a row is not a distribution.
    """
    values = _check_draws(probabilities)
    return VarianceDecomposition((values * (1 - values)).mean(axis=0), values.var(axis=0))


def decompose_gaussian_variance(means: ArrayLike, variances: ArrayLike | float) -> VarianceDecomposition:
    """Aleatoric and epistemic parts of the variance of a Gaussian prediction.

        Var y = E_s sigma_s^2 + Var_s f_s

    Args:
      means: predicted means f_s, `[num_draws, ...]`.
      variances: variances sigma_s^2 of the noise; a number, or `[num_draws, ...]`, where an axis may have length 1.

    Returns:
      Parts `[...]`.

    Raises:
      ValueError: if a shape is wrong, a number is not finite, or a variance is negative.
    """
    means = inputs.numbers(means, "means", "[num_draws, ...]")
    variances = inputs.broadcast_to_means(variances, "variances", means, "[num_draws, ...]")
    if (variances < 0).any():
        raise ValueError(f"variances must not be negative; the least is {variances.min()}")
    return VarianceDecomposition(variances.mean(axis=0), means.var(axis=0))


def mixture_log_density(targets: ArrayLike, means: ArrayLike, scales: ArrayLike | float) -> np.ndarray:
    """Log density of targets under the mixture of the Gaussian predictions that posterior draws make.

        log p(y) = log 1/S sum_s N(y; mean_s, scale_s^2)

    Args:
      targets: `[num]`.
      means: predicted means, `[num_draws, num]`.
      scales: standard deviations of the noise; a number, or `[num_draws, num]`, where an axis may have length 1.

    Returns:
      Log densities in nats, `[num]`.

    Raises:
      ValueError: if a shape is wrong, a number is not finite, or a scale is not positive.
    """
    means, scales = _gaussians(means, scales)
    targets = inputs.numbers(targets, "targets", "[num]")
    if targets.shape != means.shape[1:]:
        raise ValueError(f"means must be [num_draws, num] and targets [num]; got {means.shape} and {targets.shape}")
    exponents = -0.5 * ((targets - means) / scales) ** 2 - np.log(scales)
    return special.logsumexp(exponents, axis=0) - np.log(len(means)) - 0.5 * np.log(2 * np.pi)


def mixture_quantiles(levels: Sequence[float], means: ArrayLike, scales: ArrayLike | float) -> np.ndarray:
    """Quantiles of the mixture 1/S sum_s N(mean_s, scale_s^2), by bisection of its distribution function.

    Args:
      levels: levels between 0 and 1, such as (0.25, 0.5, 0.75).
      means: predicted means, `[num_draws, num]`.
      scales: standard deviations of the noise; a number, or `[num_draws, num]`, where an axis may have length 1.

    Returns:
      `[len(levels), num]`, in units of the target, with an error of at most 1e-12 of the spread.

    Raises:
      ValueError: if a shape is wrong, a number is not finite, a level is not in (0, 1), or a scale is not positive.
    """
    level = inputs.numbers(levels, "levels", "[num_levels]")[:, None]
    if not ((level > 0) & (level < 1)).all():
        raise ValueError(f"levels must lie in (0, 1); got {tuple(levels)}")
    means, scales = _gaussians(means, scales)
    # The quantile of the mixture lies between the smallest and the largest quantile of its components.
    quantiles = means + scales * special.ndtri(level)[:, None]
    low, high = quantiles.min(axis=1), quantiles.max(axis=1)
    for _ in range(60):
        middle = (low + high) / 2
        below = special.ndtr((middle[:, None] - means) / scales).mean(axis=1) < level
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def auroc(scores: ArrayLike, positive: ArrayLike) -> Estimate:
    """Area under the ROC curve, with DeLong's standard error.

        AUROC = P(score of a positive > score of a negative) + P(equal) / 2

    For out-of-distribution detection, `positive` marks the out-of-distribution inputs. For error detection, it marks
    the wrong predictions. Source of the standard error: DeLong, DeLong & Clarke-Pearson, "Comparing the areas under two
    or more correlated receiver operating characteristic curves", 1988.

    Args:
      scores: `[num]`, such as entropies; they may be infinite.
      positive: booleans `[num]`.

    Returns:
      The area, between 0 and 1, and its standard error, which is NaN if there is only one positive or one negative.

    Raises:
      ValueError: if a shape is wrong, a score is NaN, or all or none are positive.
    """
    from scipy import stats  # takes a second to import

    scores = inputs.numbers(scores, "scores", "[num]", allow_infinite=True)
    positive = inputs.booleans(positive, "positive")
    inputs.same_shape(scores=scores, positive=positive)
    if positive.all() or not positive.any():
        raise ValueError(f"positive must hold for some but not all; got {positive.sum()} of {len(positive)}")
    ranks = stats.rankdata(scores)
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    above = (ranks[positive] - stats.rankdata(scores[positive])) / num_negative  # negatives below each positive
    below = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / num_positive
    variance = sum(parts.var(ddof=1) / len(parts) if len(parts) > 1 else np.nan for parts in (above, below))
    return Estimate(float(above.mean()), float(np.sqrt(variance)))


def selective_risk(losses: ArrayLike, uncertainty: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Mean loss of the least uncertain predictions, as a function of the fraction that is kept.

    Source: Geifman, Uziel & El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR 2019.

    Args:
      losses: loss of each prediction, `[num]`, such as 1 for a wrong one and 0 for a correct one.
      uncertainty: uncertainty of each prediction, `[num]`; it may be infinite. Predictions of equal uncertainty enter
        with their mean loss.

    Returns:
      Coverages `[num]`, from 1/num to 1, and the mean loss at each. The mean over coverages is known as AURC.

    Raises:
      ValueError: if a shape is wrong or a number is NaN.
    """
    losses, uncertainty = (
        inputs.numbers(values, name, "[num]", allow_infinite=True)
        for values, name in ((losses, "losses"), (uncertainty, "uncertainty"))
    )
    inputs.same_shape(losses=losses, uncertainty=uncertainty)
    _, group, sizes = np.unique(uncertainty, return_inverse=True, return_counts=True)
    expected = (np.bincount(group, losses) / sizes)[np.sort(group)]
    kept = np.arange(1, len(losses) + 1)
    return kept / len(losses), np.cumsum(expected) / kept


def _check_draws(probabilities: ArrayLike) -> np.ndarray:
    return inputs.probabilities(probabilities, axes="[num_draws, ..., num_classes]")


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    return special.entr(probabilities).sum(axis=-1)


def _gaussians(means: ArrayLike, scales: ArrayLike | float) -> tuple[np.ndarray, np.ndarray]:
    means = inputs.numbers(means, "means", "[num_draws, num]")
    scales = inputs.broadcast_to_means(scales, "scales", means, "[num_draws, num]")
    if not (scales > 0).all():
        raise ValueError(f"scales must be positive; the least is {scales.min()}")
    return means, scales
