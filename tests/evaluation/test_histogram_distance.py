"""Total variation of histograms: values by hand, the rate of false alarms, the power, and the standard error."""

import numpy as np
import pytest

from bayesjax.evaluation import histogram_total_variation

NUM_CHAINS, NUM_DRAWS, NUM_REPEATS = 16, 100, 200


def chains(rng, num, shift=0.0, correlation=0.9):
    """Stationary autoregressive chains with the law N(shift, 1), `[num, NUM_DRAWS]`."""
    values = rng.normal(size=(num, NUM_DRAWS))
    for t in range(1, NUM_DRAWS):
        values[:, t] = correlation * values[:, t - 1] + np.sqrt(1 - correlation**2) * values[:, t]
    return values + shift


def test_values_by_hand():
    """Half of the reference lies below its median, and all draws of the other law do; so on both axes."""
    reference = np.tile([0.0, 1.0], (4, 3))
    ours = np.zeros((2, 6))
    distance = histogram_total_variation(ours, reference, num_bins=2)
    assert distance.value == 0.5 and distance.stderr == distance.floor == distance.upper_floor == 0
    both = histogram_total_variation(np.stack([ours, ours], -1), np.stack([reference, reference], -1), num_bins=2)
    assert both.value == 0.5  # the reference has draws in two of four bins
    crossed = np.stack([reference[:2], 1 - reference[:2]], -1)
    assert histogram_total_variation(crossed, np.stack([reference, reference], -1), num_bins=2).value == 1
    assert histogram_total_variation(crossed[..., 1], reference, num_bins=2).value == 0


def test_false_alarms_and_power():
    """Equal laws exceed the upper floor in 5 % of cases: at most 22 of 200, which happens by chance in 1 of 2000 runs.

    A shift of half a standard deviation is found in at least 180. A floor from halves of single draws, which ignores
    autocorrelation, raises at least 150 false alarms.
    """
    rng, alarms, found, wrong = np.random.default_rng(0), 0, 0, 0
    for _ in range(NUM_REPEATS):
        reference, equal, shifted = chains(rng, 2 * NUM_CHAINS), chains(rng, NUM_CHAINS), chains(rng, NUM_CHAINS, 0.5)
        distance = histogram_total_variation(equal, reference, num_bins=10)
        alarms += distance.value > distance.upper_floor
        found += histogram_total_variation(shifted, reference, num_bins=10).value > distance.upper_floor
        mixed = rng.permutation(reference.ravel()).reshape(reference.shape)
        wrong += distance.value > histogram_total_variation(equal, mixed, num_bins=10).upper_floor
    assert alarms <= 22 and found >= 180 and wrong >= 150


def test_the_standard_error():
    """It is the deviation over repetitions, to 25 %, which is 5 standard errors of that deviation."""
    rng = np.random.default_rng(1)
    distances = [
        histogram_total_variation(chains(rng, NUM_CHAINS, 0.8), chains(rng, 2 * NUM_CHAINS), num_bins=10, num_splits=20)
        for _ in range(NUM_REPEATS)
    ]
    deviation = np.std([distance.value for distance in distances])
    assert np.mean([distance.stderr for distance in distances]) == pytest.approx(deviation, rel=0.25)


@pytest.mark.parametrize(
    ("ours", "reference", "options", "words"),
    [
        (
            np.zeros((2, 5)),
            np.zeros((3, 5)),
            {},
            r"reference twice as many such chains; got shapes \(2, 5\) and \(3, 5",
        ),
        (np.zeros((1, 5)), np.zeros((2, 5)), {}, r"n >= 2, num_draws"),
        (np.zeros((2, 5, 2)), np.zeros((4, 5)), {}, r"got shapes \(2, 5, 2\) and \(4, 5\)"),
        (np.full((2, 5), np.nan), np.zeros((4, 5)), {}, "chains must be finite"),
        (np.zeros((2, 5)), np.full((4, 5), np.inf), {}, "reference must be finite"),
        (np.zeros((2, 5)), np.zeros((4, 5)), {"num_bins": 1}, "must be at least 2; got 1 and 200"),
    ],
)
def test_errors(ours, reference, options, words):
    """Wrong shapes and numbers are refused."""
    with pytest.raises(ValueError, match=words):
        histogram_total_variation(ours, reference, **options)
