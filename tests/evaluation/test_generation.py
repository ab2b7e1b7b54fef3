"""The report on generated samples, measure by measure, and the extrapolation of the Fréchet distance."""

import numpy as np
import pytest

from bayesjax.evaluation import extrapolated_frechet_distance, fidelity, generation, generation_report

RANDOM = np.random.default_rng(0)
REAL, FAKE = RANDOM.normal(size=(60, 3)), RANDOM.normal(0.2, 1.1, size=(40, 3))
PROBABILITIES = RANDOM.dirichlet(np.ones(4), 40)


def test_each_measure_is_that_of_fidelity():
    """Subsets of half the smaller set, the given seed; precision and recall of the first samples alone."""
    report = generation_report(REAL, FAKE, PROBABILITIES, max_precision_recall=30, seed=3)
    assert report.frechet_distance == fidelity.frechet_distance(REAL, FAKE)
    assert report.extrapolated == extrapolated_frechet_distance(REAL, FAKE, seed=3)
    assert report.kernel_distance == fidelity.kernel_distance(REAL, FAKE, subset_size=20, num_subsets=25, seed=3)
    assert report.inception_score == fidelity.inception_score(PROBABILITIES)
    assert report.precision_recall == fidelity.precision_recall(REAL[:30], FAKE[:30])
    assert generation_report(REAL, FAKE, PROBABILITIES, seed=3).precision_recall.num_fake == 40


def test_extrapolation_by_hand():
    """2 FD(n) less the mean over the two random halves; the seed decides the halves."""
    found = extrapolated_frechet_distance(REAL, FAKE, seed=1)
    order = np.random.default_rng(1).permutation(40)
    halves = [fidelity.frechet_distance(REAL, FAKE[part]).value for part in (order[:20], order[20:])]
    assert found.full == fidelity.frechet_distance(REAL, FAKE).value
    assert found.half == pytest.approx(np.mean(halves), rel=1e-12) and found.half > found.full
    assert found.value == pytest.approx(2 * found.full - found.half, rel=1e-12)
    assert found[3:] == (60, 40)
    assert extrapolated_frechet_distance(REAL, FAKE, seed=2).half != found.half


@pytest.mark.parametrize(
    ("real", "fake", "probabilities"),
    [(REAL[:11], FAKE, PROBABILITIES), (REAL, FAKE[:11], PROBABILITIES[:11]), (REAL, FAKE, PROBABILITIES[:39])],
)
def test_too_few_samples(real, fake, probabilities):
    with pytest.raises(ValueError, match=r"at least 12 samples each, and fake_probabilities as many as fake; got \d+"):
        generation_report(real, fake, probabilities)
    smallest = generation.MIN_SAMPLES
    generation_report(REAL[:smallest], FAKE[:smallest], PROBABILITIES[:smallest])
