"""Bayes by Backprop on a curve: the law of the data, and predictions in the units of the targets."""

import jax
import numpy as np
import pytest

from experiments import bayes_by_backprop_regression as experiment
from experiments.harness import Run

pytestmark = pytest.mark.usefixtures("compile_once")


def test_the_noise_also_enters_the_sines():
    """At x = 0 the derivative with respect to e is 1 + 0.6 pi + 1.2 pi, so that the noise there is 6.65 times e."""
    random = np.random.default_rng(0)
    y = experiment.curve(random, np.zeros(100_000), 1e-4)
    assert y.std() == pytest.approx(1e-4 * (1 + 1.8 * np.pi), rel=0.02)
    x = np.array([0.25, 0.5])
    np.testing.assert_allclose(experiment.curve(random, x, 0.0), x + np.array([0.3, 0.0]), atol=1e-12)


@pytest.mark.slow
def test_predictions_have_the_units_of_the_targets(tmp_path):
    """Only the posterior's draws differ; shifted and stretched targets shift and stretch the predictions."""
    config = experiment.Config(num_steps=2, hidden=(4,), out=str(tmp_path / "run"))
    x = np.linspace(0, 1, 20)
    keys = jax.random.split(jax.random.key(0), 3)
    with Run("bayes_by_backprop_regression", config, one_device=True) as run:
        means, noise = experiment.fit(run, "point", x, np.sin(x))(keys, x)
        assert means.shape == (3, 20) and np.ptp(means, axis=0).max() == 0
        draws, _ = experiment.fit(run, "posterior", x, np.sin(x))(keys, x)
        assert np.ptp(draws, axis=0).min() > 0
    config = experiment.Config(num_steps=2, hidden=(4,), out=str(tmp_path / "stretched"))
    with Run("bayes_by_backprop_regression", config, one_device=True) as run:
        stretched, wider = experiment.fit(run, "point", x, 5 + 10 * np.sin(x))(keys, x)
    np.testing.assert_allclose(stretched, 5 + 10 * means, rtol=1e-4)
    assert wider == pytest.approx(10 * noise, rel=1e-5)
