"""Arrays in, arrays out: what draws predict, how good it is, how far samples are from data, how well chains mix."""

from bayesjax.evaluation import calibration, likelihood, segmentation, uncertainty
from bayesjax.evaluation.diagnostics import effective_sample_size, r_hat, split_chains
from bayesjax.evaluation.predictive import Estimate, error_rate, mean_estimate, negative_log_likelihood, predict
from bayesjax.evaluation.projected_divergence import ProjectedDivergence, kernel_density

__all__ = [
    "Estimate",
    "ProjectedDivergence",
    "calibration",
    "effective_sample_size",
    "error_rate",
    "kernel_density",
    "likelihood",
    "mean_estimate",
    "negative_log_likelihood",
    "predict",
    "r_hat",
    "segmentation",
    "split_chains",
    "uncertainty",
]
