"""experiments.uncertainty: the measures of posteriors whose predictions are known."""

import numpy as np
import pytest
from scipy import special

from bayesjax.data import known_noise
from experiments.uncertainty import METHODS, judge_classification, judge_regression


def test_the_true_regression_has_no_error():
    """Draws that all equal the truth have no epistemic variance, the true noise, and a band of 90 % coverage."""
    test = METHODS["heteroscedastic"].sample(np.random.default_rng(0), 2000)
    x = test.x[:, 0]
    mean, scale = known_noise.regression_mean(x), known_noise.noise_scale(x)
    outputs = np.stack([mean, 2 * np.log(scale), np.zeros_like(x)], axis=-1)[None].repeat(3, axis=0)
    measures = judge_regression("heteroscedastic", outputs, test)
    assert measures["epistemic variance"] == pytest.approx(0, abs=1e-12)
    assert measures["aleatoric variance"] == pytest.approx((scale**2).mean())
    assert measures["error of the noise %"] == pytest.approx(0, abs=1e-6)
    assert measures["coverage of the 90 % band %"] == pytest.approx(90, abs=4 * 100 * np.sqrt(0.09 / 2000))
    # the shared log variance, the last output, is that of the homoscedastic network
    assert judge_regression("homoscedastic", outputs, test)["aleatoric variance"] == pytest.approx(1)


def test_noisy_logits_are_integrated():
    """The quadrature over the logits' noise agrees with a million draws of it, within 5 standard errors."""
    test = METHODS["noisy_logits"].sample(np.random.default_rng(0), 1)
    outputs = np.array([[[0.3, 1.2, -0.5, 0.4, 0.0]]])
    rng = np.random.default_rng(1)
    logits = outputs[0, 0, :2] + np.exp(0.5 * outputs[0, 0, 2:4]) * rng.normal(size=(10**6, 2))
    probabilities = special.softmax(logits, axis=1)[:, test.y[0]]
    loss = judge_classification("noisy_logits", outputs, test)["NLL (nats)"]
    assert abs(np.exp(-loss) - probabilities.mean()) < 5 * probabilities.std() / 1000
    assert judge_classification("softmax", outputs, test)["NLL (nats)"] != pytest.approx(loss, abs=0.01)
