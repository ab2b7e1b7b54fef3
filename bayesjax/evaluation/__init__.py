"""Evaluation: predictions of posterior draws, their calibration and uncertainty, sample quality, chain diagnostics."""

import importlib
from typing import Any

from bayesjax.evaluation import (
    agreement,
    annealing,
    calibration,
    fidelity,
    health,
    likelihood,
    segmentation,
    uncertainty,
)
from bayesjax.evaluation.diagnostics import (
    chains_first,
    configurational_temperature,
    cross_chain_correlation,
    e_bfmi,
    effective_sample_size,
    kinetic_temperature,
    monte_carlo_standard_error,
    r_hat,
    split_chains,
    split_r_hat,
)
from bayesjax.evaluation.game_dynamics import convergence_factor, game_jacobian
from bayesjax.evaluation.generation import GenerationReport, extrapolated_frechet_distance, generation_report
from bayesjax.evaluation.histogram_distance import HistogramDistance, histogram_total_variation
from bayesjax.evaluation.inference_data import to_inference_data
from bayesjax.evaluation.inversion import Inversion, invert_generator
from bayesjax.evaluation.label_coverage import LabelCoverage, label_coverage
from bayesjax.evaluation.latent_space import PerceptualPathLength, perceptual_path_length, style_influence
from bayesjax.evaluation.mixture import evenly_spaced, mix_chains, sample_mixture
from bayesjax.evaluation.pareto_smoothing import (
    SmoothedWeights,
    VariationalCheck,
    VariationalFamily,
    check_variational_fit,
    k_hat_threshold,
    pareto_smooth,
)
from bayesjax.evaluation.predictive import (
    Estimate,
    error_rate,
    mean_estimate,
    mean_over_points,
    negative_log_likelihood,
    predict,
    predict_mean,
)
from bayesjax.evaluation.projected_divergence import ProjectedDivergence, kernel_density
from bayesjax.evaluation.two_sample import TwoSampleTest, median_distance, mmd_test
from bayesjax.evaluation.variational_calibration import SymmetryTest, calibration_probabilities, symmetry_test

__all__ = [
    "Estimate",
    "GenerationReport",
    "HistogramDistance",
    "Inversion",
    "LabelCoverage",
    "PerceptualPathLength",
    "ProjectedDivergence",
    "SmoothedWeights",
    "SymmetryTest",
    "TwoSampleTest",
    "VariationalCheck",
    "VariationalFamily",
    "agreement",
    "annealing",
    "calibration",
    "calibration_probabilities",
    "chains_first",
    "check_variational_fit",
    "configurational_temperature",
    "convergence_factor",
    "cross_chain_correlation",
    "e_bfmi",
    "effective_sample_size",
    "error_rate",
    "evenly_spaced",
    "extrapolated_frechet_distance",
    "fidelity",
    "game_jacobian",
    "generation_report",
    "health",
    "histogram_total_variation",
    "invert_generator",
    "k_hat_threshold",
    "kernel_density",
    "kinetic_temperature",
    "label_coverage",
    "likelihood",
    "mean_estimate",
    "mean_over_points",
    "median_distance",
    "mix_chains",
    "mmd_test",
    "monte_carlo_standard_error",
    "negative_log_likelihood",
    "pareto_smooth",
    "partition_function",
    "partition_function_curve",
    "perceptual_path_length",
    "predict",
    "predict_mean",
    "r_hat",
    "sample_mixture",
    "segmentation",
    "split_chains",
    "split_r_hat",
    "style_influence",
    "symmetry_test",
    "to_inference_data",
    "uncertainty",
]


def __getattr__(name: str) -> Any:
    if name in ("partition_function", "partition_function_curve"):  # they import distrax, which takes seconds
        return importlib.import_module(f"bayesjax.evaluation.{name}")
    raise AttributeError(f"module 'bayesjax.evaluation' has no attribute {name!r}")
