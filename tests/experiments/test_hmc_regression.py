"""HMC on regression sets: the measures of its chains."""

import numpy as np
import pytest
import scipy.stats

from bayesjax.data.regression import StandardisedSplit
from experiments import hmc_regression

pytestmark = pytest.mark.usefixtures("compile_once")


def test_measures_of_two_splits():
    """Independent normal draws: R-hat near 1 and many effective draws; a shifted chain is noticed in its split only.

    The log-likelihood is the log density of the mixture of all draws, in the units of the targets.
    """
    random = np.random.default_rng(0)
    draws = 0.1 * random.normal(size=(200, 2, 4, 4))
    draws[..., -1] += 2.0  # the log precision of the noise
    draws[:, 1, 0] += 1.0
    y, scale = random.normal(size=(2, 3)), np.array([2.0, 3.0])
    empty = np.empty((2, 0))
    splits = StandardisedSplit(
        **{field: empty for field in StandardisedSplit._fields} | {"y_test": y, "target_scale": scale}
    )
    measures = hmc_regression.evaluate(splits, draws.astype(np.float32))
    assert measures["largest R-hat"][0] < 1.02 and measures["largest R-hat"][1] > 1.4
    assert measures["least bulk ESS"][0] > 400 > measures["least bulk ESS"][1]
    for split in range(2):
        flat = draws[:, split].reshape(-1, 4)
        means, noise = flat[:, :3], np.exp(-0.5 * flat[:, 3:])
        rmse = scale[split] * np.sqrt(np.mean((y[split] - means.mean(axis=0)) ** 2))
        density = np.log(scipy.stats.norm.pdf(y[split], means, noise).mean(axis=0)) - np.log(scale[split])
        assert measures["RMSE"][split] == pytest.approx(rmse, rel=1e-4)
        assert measures["log-likelihood"][split] == pytest.approx(density.mean(), rel=1e-4)
