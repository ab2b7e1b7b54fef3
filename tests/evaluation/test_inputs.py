"""What evaluation refuses: a table of (call, message) over all functions that take probabilities, labels or numbers."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import evaluation
from bayesjax.evaluation import agreement, calibration, fidelity, health, inputs, segmentation, uncertainty

PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])  # as many points as classes
LABELS = np.array([0, 2, 1])
MEANS, SCALES, TARGETS = np.zeros((4, 3)), np.ones((4, 3)), np.zeros(3)

OF_LABELS = [
    evaluation.error_rate,
    evaluation.negative_log_likelihood,
    calibration.reliability,
    calibration.expected_calibration_error,
    calibration.adaptive_calibration_error,
    calibration.brier_score,
]
OF_ROWS = [
    *[lambda p, f=f: f(p, LABELS) for f in OF_LABELS],
    *[
        call
        for f in (agreement.agreement, agreement.total_variation, agreement.kl_from_reference)
        for call in (lambda p, f=f: f(p, PROBABILITIES), lambda p, f=f: f(PROBABILITIES, p))
    ],
    lambda p: agreement.calibration_error(p, PROBABILITIES),
    lambda p: agreement.save_reference("unwritten", p),
    lambda p: fidelity.inception_score(p, num_splits=1),
    uncertainty.entropy,
    *[
        lambda p, f=f: f(np.stack([p, p]))
        for f in (
            uncertainty.predictive_entropy,
            uncertainty.expected_entropy,
            uncertainty.mutual_information,
            uncertainty.decompose_class_variance,
        )
    ],
]


@pytest.mark.parametrize("call", OF_ROWS)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.log(PROBABILITIES), "within 0.01; got a value of -2.3: logits need a softmax"),
        (10 * PROBABILITIES, "must be non-negative and sum to 1 .* got a row of sum 10: logits need a softmax"),
        (PROBABILITIES * [[1], [1], [0.98]], "got a row of sum 0.98"),
        (PROBABILITIES - np.array([0.3, -0.3, 0]), "got a value of -0.2"),
        (np.where(PROBABILITIES == 0.1, np.nan, PROBABILITIES), "got [24] rows with NaN"),
        (np.ones((3, 1)), "at least two classes; got shape"),
        (PROBABILITIES[:, :0], "not empty; got shape"),
        (PROBABILITIES.astype(str), "must be real numbers; got <U"),
        (PROBABILITIES.astype(complex), "must be real numbers; got complex128"),
    ],
)
def test_rows_that_are_no_distributions(call, rows, message):
    """Logits, log probabilities, unnormalised rows, NaN, one class, strings: each function refuses each of them."""
    with pytest.raises(ValueError, match=message):
        call(rows)


@pytest.mark.parametrize("measure", OF_LABELS)
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:, None], r"labels \[num\]; got \(3, 3\) and \(3, 1\)"),
        (LABELS[:2], r"labels \[num\]; got \(3, 3\) and \(2,\)"),
        (np.int64(0), r"got \(3, 3\) and \(\)"),
        (np.eye(3, dtype=int)[LABELS], r"\(3, 3\) and \(3, 3\): use labels.argmax\(axis=-1\) if they are one-hot"),
        (LABELS - 1, r"labels must be integers in 0 \.\. 2; got -1 \.\. -1"),
        (LABELS + 1, r"labels must be integers in 0 \.\. 2; got 3 \.\. 3"),
        (LABELS.astype(float), r"labels must be integers in 0 \.\. 2; got float64"),
        (LABELS > 0, r"labels must be integers in 0 \.\. 2; got bool"),
        (LABELS.astype(str), r"labels must be integers in 0 \.\. 2; got <U21"),
    ],
)
def test_labels_that_are_none(measure, labels, message):
    """A column, too few, one-hot, -1, 1..K, floats, booleans, strings: each function refuses each of them."""
    with pytest.raises(ValueError, match=message):
        measure(PROBABILITIES, labels)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
@pytest.mark.parametrize("num_classes", [2, 1000])
def test_a_softmax_of_any_type_passes(dtype, num_classes):
    """Rounded to 8 bits, rows sum to 1 within 0.006; so does their average over draws, and all integer types pass."""
    logits = 3 * jax.random.normal(jax.random.key(0), (2, 50, num_classes)).astype(dtype)
    probabilities = jax.nn.softmax(logits)
    assert inputs.probabilities(probabilities, axes="[num_draws, num, num_classes]").dtype == np.float64
    for labels in (jnp.zeros(50, jnp.int32), np.zeros(50, np.uint8), [0] * 50):
        assert 0 <= evaluation.error_rate(probabilities.mean(axis=0), labels).value <= 1


COLUMN = TARGETS[:, None]
SAME = "must have one shape; got"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: agreement.agreement(PROBABILITIES, PROBABILITIES[:2]), SAME),
        (
            lambda: agreement.wasserstein_distance(MEANS, MEANS[:, :1]),
            r"same test points; got shapes \(4, 3\) and \(4, 1\)",
        ),
        (lambda: agreement.wasserstein_distance(TARGETS, MEANS), r"draws must be \[num_draws, num\]"),
        (
            lambda: agreement.wasserstein_distance(MEANS, MEANS[:0]),
            r"reference must be .* not empty; got shape \(0, 3\)",
        ),
        (lambda: agreement.wasserstein_distance(np.nan * MEANS, MEANS), "draws must be finite; got 12 of 12"),
        (lambda: calibration.coverage(COLUMN, TARGETS, TARGETS), r"targets must be \[num\]"),
        (lambda: calibration.coverage(TARGETS, TARGETS[:1], TARGETS), f"targets and low and high {SAME}"),
        (lambda: calibration.coverage(TARGETS * np.nan, TARGETS, TARGETS), "targets must not be NaN; got 3 of 3"),
        (lambda: calibration.coverage(TARGETS, TARGETS + 1, TARGETS), "low must not exceed high; got 3 of 3"),
        (lambda: calibration.bin_confidences(TARGETS, COLUMN, 5), r"correct must be \[num\]"),
        (lambda: calibration.bin_confidences(TARGETS, TARGETS[:1], 5), SAME),
        (lambda: calibration.reliability(PROBABILITIES, LABELS, num_bins=0), "num_bins must be .*at least 1"),
        (lambda: evaluation.mean_over_points(COLUMN), r"values must be \[num\] and not empty; got shape \(3, 1\)"),
        (lambda: evaluation.mean_estimate([]), r"repeats must be \[num\] and not empty; got shape \(0,\)"),
        (lambda: evaluation.mean_estimate([[1.0], [1.0, 2.0]]), "repeats must be one array; got"),
        (lambda: uncertainty.predictive_entropy(PROBABILITIES[0]), r"must be \[num_draws, \.\.\., num_classes\]"),
        (
            lambda: uncertainty.decompose_gaussian_variance(MEANS, SCALES[0]),
            r"variances must be a number, or .*shape \(3,\)",
        ),
        (lambda: uncertainty.decompose_gaussian_variance(MEANS, -1), "variances must not be negative; the least is -1"),
        (lambda: uncertainty.decompose_gaussian_variance(MEANS * np.nan, 1), "means must be finite"),
        (
            lambda: uncertainty.decompose_gaussian_variance(TARGETS, COLUMN),
            r"variances .* like the means, \(3,\).*got shape \(3",
        ),
        (lambda: uncertainty.mixture_log_density(COLUMN, MEANS, SCALES), r"targets must be \[num\]"),
        (lambda: uncertainty.mixture_log_density(TARGETS[:1], MEANS, SCALES), r"got \(4, 3\) and \(1,\)"),
        (lambda: uncertainty.mixture_log_density(TARGETS, TARGETS, 1.0), r"means must be \[num_draws, num\]"),
        (lambda: uncertainty.mixture_log_density(TARGETS, MEANS, SCALES[:2]), "scales must be a number, or"),
        (lambda: uncertainty.mixture_log_density(TARGETS, MEANS, SCALES[0]), "scales must be a number, or"),
        (lambda: uncertainty.mixture_log_density(TARGETS, MEANS, 0.0), "scales must be positive; the least is 0"),
        (lambda: uncertainty.mixture_log_density(TARGETS, MEANS, np.nan), "scales must be finite"),
        (lambda: uncertainty.mixture_log_density(TARGETS * np.nan, MEANS, 1.0), "targets must be finite"),
        (lambda: uncertainty.mixture_quantiles([0.5], MEANS * np.nan, 1.0), "means must be finite"),
        (lambda: uncertainty.mixture_quantiles([1.0], MEANS, 1.0), r"levels must lie in \(0, 1\)"),
        (lambda: uncertainty.mixture_quantiles(0.5, MEANS, 1.0), r"levels must be \[num_levels\]"),
        (lambda: uncertainty.auroc([1.0, 2.0], [True, True]), "hold for some but not all; got 2 of 2"),
        (lambda: uncertainty.auroc([1.0, 2.0], [True]), SAME),
        (lambda: uncertainty.auroc([[1.0], [2.0]], [True, False]), r"scores must be \[num\]"),
        (lambda: uncertainty.auroc([1.0, np.nan], [True, False]), "scores must not be NaN; got 1 of 2"),
        (lambda: uncertainty.auroc([1.0, 2.0, 3.0], LABELS), r"positive must be booleans, or 0 and 1; got 0 \.\. 2"),
        (lambda: uncertainty.selective_risk([0.0], [0.0, 1.0]), SAME),
        (lambda: uncertainty.selective_risk(TARGETS, COLUMN), r"uncertainty must be \[num\]"),
        (lambda: uncertainty.selective_risk([0.0, np.nan], [0.0, 1.0]), "losses must not be NaN"),
        (lambda: uncertainty.selective_risk([0.0, 1.0], [0.0, np.nan]), "uncertainty must not be NaN"),
        (lambda: health.diversity(MEANS * np.nan, MEANS), "real must be finite"),
        (lambda: health.diversity(MEANS, TARGETS), r"fake must be \[num, dim\]"),
        (lambda: segmentation.confusion_matrix([0], [0, 1], 2), SAME),
        (
            lambda: segmentation.confusion_matrix([0, 2], [0, 1], 2),
            r"predicted must be integers in 0 \.\. 1; got 2 \.\. 2",
        ),
        (
            lambda: segmentation.confusion_matrix([0, 1], [0, 2], 2),
            r"labels must be integers in 0 \.\. 1; got 2 \.\. 2",
        ),
        (lambda: segmentation.confusion_matrix([0, 1], [0, -1], 2, void=255), r"0 \.\. 1 or void, 255; got -1 \.\. -1"),
        (lambda: segmentation.confusion_matrix([0.0, 1.0], [0, 1], 2), "predicted must be integers .* got float64"),
        (lambda: segmentation.confusion_matrix([0], [0], 2, void=1), r"void must not be a class, 0 \.\. 1; got 1"),
        (lambda: segmentation.accuracy(np.zeros((2, 2))), "not all 0; got shape"),
        (lambda: segmentation.accuracy(np.ones((2, 3))), r"got shape \(2, 3\)"),
        (lambda: segmentation.boundaries([0, 1]), r"labels must be integers \[\.\.\., height, width\]; got int64 of"),
        (lambda: evaluation.predict(lambda p, x: x, {"a": jnp.zeros(2)}, np.zeros((0, 1))), r"x must be .*\(0, 1\)"),
        (lambda: evaluation.predict(lambda p, x: x, {"a": jnp.zeros(2)}, 1.0), r"x must be .*shape \(\)"),
        (lambda: evaluation.predict(lambda p, x: x, {}, np.zeros((2, 1))), "draws must have one leading axis"),
        (lambda: evaluation.predict(lambda p, x: x, jnp.zeros(()), np.zeros((2, 1))), "got a scalar"),
        (lambda: evaluation.predict(lambda p, x: x, jnp.zeros(0), np.zeros((2, 1))), "draws must not be empty"),
        (lambda: evaluation.predict(lambda p, x: x, jnp.zeros(2), np.zeros((2, 1)), chunk_size=0), "chunk_size must"),
        (lambda: evaluation.predict(lambda p, x: x.sum(), jnp.zeros(2), np.zeros((2, 1))), r"apply must return \[2, "),
    ],
)
def test_refused(call, message):
    """Shapes that would broadcast, NaN that would be counted as something, values out of range."""
    with pytest.raises(ValueError, match=message) as raised:
        call()
    assert len(str(raised.value).splitlines()) == 1


def test_documented_shapes_pass():
    """Scales of all, of each draw, of each point, of each; infinite scores; a void label of any kind."""
    for scales in (1.0, [[1.0]], SCALES[:1], SCALES[:, :1], SCALES, jnp.float32(1)):
        assert uncertainty.mixture_log_density(TARGETS, MEANS, scales).shape == (3,)
    assert uncertainty.auroc([-np.inf, np.inf], [0, 1]).value == 1
    assert calibration.coverage(TARGETS, TARGETS - np.inf, TARGETS + np.inf).value == 1
    for void in (2, 255, -1):
        np.testing.assert_array_equal(
            segmentation.confusion_matrix([0, 1, 1], [0, 0, void], 2, void=void), [[1, 1], [0, 0]]
        )


def test_the_same_impossible_event_costs_the_same_everywhere():
    """-log 0 is infinite in the negative log likelihood as in the KL divergence, with no standard error."""
    p = np.array([[1.0, 0.0], [0.5, 0.5]])
    for estimate in (
        evaluation.negative_log_likelihood(p, np.array([1, 1])),
        agreement.kl_from_reference(p, p[:, ::-1]),
    ):
        assert estimate.value == np.inf and np.isnan(estimate.stderr)
    tiny = np.array([[1.0, 1e-300]])
    assert evaluation.negative_log_likelihood(tiny, np.array([1])).value == pytest.approx(300 * np.log(10))


def test_messages_name_the_file(tmp_path):
    """A reference file is checked as an argument is, by its path."""
    path = tmp_path / "wide.csv"
    np.savetxt(path, 2 * PROBABILITIES, delimiter=",")
    with pytest.raises(ValueError, match=re.escape(f"{path} must be non-negative and sum to 1")):
        agreement.load_reference(path)
