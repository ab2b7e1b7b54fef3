"""What a posterior is unsure of, and why: the noise in the data (aleatoric) or the weights (epistemic).

    classification    H(E_s p_s) = E_s H(p_s) + I(y; w)                       predictive = expected + mutual information
                      Var y      = E_s p_s (1 - p_s) + Var_s p_s              of each class's indicator
    regression        Var y      = E_s sigma_s^2 + Var_s f_s

on predictions `[num_draws, num, ...]` of any posterior's draws (`predictive.predict`); the first part is aleatoric, the
second epistemic, which vanishes as data come in. Two functions measure how useful an uncertainty is: to rank errors
(`auroc`) and to abstain (`selective_risk`). Float64 NumPy throughout; entropies are in nats. Rows that are not
distributions, NaN and shapes that differ from the documented ones are refused with ValueError.

Sources: Depeweg et al., "Decomposition of uncertainty in Bayesian deep learning", ICML 2018; Kwon et al., "Uncertainty
quantification using Bayesian neural networks in classification", 2020; Kendall & Gal, NeurIPS 2017, equation 9.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from bayesjax.evaluation import inputs
from bayesjax.evaluation.predictive import Estimate
from bayesjax.types import ArrayLike


class VarianceDecomposition(NamedTuple):
    """The variance of a prediction in its two parts; their sum is the predictive variance.

    Attributes:
      aleatoric: the mean over the draws of the variance that each predicts.
      epistemic: the variance over the draws of what each predicts.
    """

    aleatoric: np.ndarray
    epistemic: np.ndarray

    @property
    def total(self) -> np.ndarray:
        """The predictive variance."""
        return self.aleatoric + self.epistemic


def entropy(probabilities: ArrayLike) -> np.ndarray:
    """-sum_k p_k log p_k in nats, `[..., num_classes]` to `[...]`; a class of probability 0 adds 0."""
    return _entropy(inputs.probabilities(probabilities, axes="[..., num_classes]"))


def predictive_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Entropy of the averaged prediction, `[num_draws, ..., num_classes]` to `[...]`: all uncertainty."""
    return _entropy(_of_draws(probabilities).mean(axis=0))


def expected_entropy(probabilities: ArrayLike) -> np.ndarray:
    """Average entropy of the draws' predictions, as `predictive_entropy`: the aleatoric part."""
    return _entropy(_of_draws(probabilities)).mean(axis=0)


def mutual_information(probabilities: ArrayLike) -> np.ndarray:
    """Predictive less expected entropy, I(y; w), as `predictive_entropy`: the epistemic part ("BALD").

    Computed as the mean divergence of the draws from their average, which cannot be negative.
    """
    values = _of_draws(probabilities)
    return special.rel_entr(values, values.mean(axis=0)).sum(axis=-1).mean(axis=0)


def decompose_class_variance(probabilities: ArrayLike) -> VarianceDecomposition:
    """The variance of every class's indicator.

    Args:
      probabilities: `[num_draws, ..., num_classes]`.

    Returns:
      Parts `[..., num_classes]`; summed over the classes they are the split of the covariance's trace.
    """
    values = _of_draws(probabilities)
    return VarianceDecomposition((values * (1 - values)).mean(axis=0), values.var(axis=0))


def decompose_gaussian_variance(means: ArrayLike, variances: ArrayLike | float) -> VarianceDecomposition:
    """The variance of a Gaussian prediction.

    Args:
      means: `[num_draws, ...]`.
      variances: the variances of the noise; a number, or `[num_draws, ...]`, where an axis may have length 1.

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
    """The log density log 1/S sum_s N(y; mean_s, scale_s^2), of targets under a posterior's draws.

    Args:
      targets: `[num]`.
      means: `[num_draws, num]`.
      scales: standard deviations of the noise; a number, or `[num_draws, num]`, where an axis may have length 1.

    Returns:
      `[num]`, nats.

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
    """Quantiles of 1/S sum_s N(mean_s, scale_s^2), by bisection of its distribution function.

    Args:
      levels: in (0, 1), e.g. (0.25, 0.5, 0.75).
      means: `[num_draws, num]`.
      scales: standard deviations of the noise; a number, or `[num_draws, num]`, where an axis may have length 1.

    Returns:
      `[len(levels), num]`, to 1e-12 of the spread.

    Raises:
      ValueError: if a shape is wrong, a number is not finite, a level is not in (0, 1), or a scale is not positive.
    """
    wanted = inputs.numbers(levels, "levels", "[num_levels]")[:, None]
    if not ((wanted > 0) & (wanted < 1)).all():
        raise ValueError(f"levels must lie in (0, 1); got {tuple(levels)}")
    means, scales = _gaussians(means, scales)
    # Each component has its quantile between these, and so has the mixture.
    each = means + scales * special.ndtri(wanted)[:, None]
    low, high = each.min(axis=1), each.max(axis=1)
    for _ in range(60):
        middle = (low + high) / 2
        below = special.ndtr((middle[:, None] - means) / scales).mean(axis=1) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def auroc(scores: ArrayLike, positive: ArrayLike) -> Estimate:
    """The probability that a positive scores above a negative (ties count half), with DeLong's standard error.

    For out-of-distribution detection, `positive` marks what is outside; for finding errors, what is wrong.

    Args:
      scores: `[num]`, e.g. entropies; they may be infinite.
      positive: booleans `[num]`.

    Raises:
      ValueError: if a shape is wrong, a score is NaN, or all or none are positive.
    """
    scores = inputs.numbers(scores, "scores", "[num]", allow_infinite=True)
    positive = inputs.booleans(positive, "positive")
    inputs.same_shape(scores=scores, positive=positive)
    if positive.all() or not positive.any():
        raise ValueError(f"positive must hold for some but not all; got {positive.sum()} of {len(positive)}")
    ranks = stats.rankdata(scores)
    num_positive, num_negative = int(positive.sum()), int((~positive).sum())
    above = (ranks[positive] - stats.rankdata(scores[positive])) / num_negative  # of negatives, by each positive
    below = 1 - (ranks[~positive] - stats.rankdata(scores[~positive])) / num_positive
    variance = sum(parts.var(ddof=1) / len(parts) if len(parts) > 1 else np.nan for parts in (above, below))
    return Estimate(float(above.mean()), float(np.sqrt(variance)))


def selective_risk(losses: ArrayLike, uncertainty: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """What is lost on the predictions one keeps, if the most uncertain are refused.

    Args:
      losses: `[num]`, e.g. 1 where the prediction is wrong.
      uncertainty: `[num]`; it may be infinite. Ties are kept or refused together, by their average.

    Returns:
      Coverage `[num]`, 1/num to 1, and the mean loss of that part; its mean over coverages is "AURC".

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


def _of_draws(probabilities: ArrayLike) -> np.ndarray:
    return inputs.probabilities(probabilities, axes="[num_draws, ..., num_classes]")


def _entropy(probabilities: np.ndarray) -> np.ndarray:
    return special.entr(probabilities).sum(axis=-1)


def _gaussians(means: ArrayLike, scales: ArrayLike | float) -> tuple[np.ndarray, np.ndarray]:
    means = inputs.numbers(means, "means", "[num_draws, num]")
    scales = inputs.broadcast_to_means(scales, "scales", means, "[num_draws, num]")
    if not (scales > 0).all():
        raise ValueError(f"scales must be positive; the least is {scales.min()}")
    return means, scales
