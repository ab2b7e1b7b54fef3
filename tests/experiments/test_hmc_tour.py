"""The tour of HMC: the formula of leapfrog's energy error."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels
from experiments import hmc_tour

pytestmark = pytest.mark.usefixtures("compile_once")


def test_the_energy_error_of_leapfrog_is_that_of_the_formula():
    """d/2 sin^2(L theta) (chi - 1/chi)^2, against the mean over 20 000 draws of N(0, I), within 4 standard errors."""
    for step_size, num_leaps in ((0.9, 5), (1.3, 3)):

        def error(position, momentum, step_size=step_size, num_leaps=num_leaps):
            points = kernels.trajectory(
                lambda x: -0.5 * jnp.sum(x**2), position, momentum,
                step_size=step_size, num_integration_steps=num_leaps,
            )  # fmt: skip
            energies = 0.5 * (points.position**2 + points.momentum**2).sum(axis=-1)
            return energies[-1] - energies[0]

        found = np.asarray(jax.jit(jax.vmap(error))(*jax.random.normal(jax.random.key(0), (2, 20_000, 3))), float)
        expected = hmc_tour.mean_energy_error(step_size, 3, num_leaps)
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(20_000)
        assert expected > 8 * found.std() / np.sqrt(20_000)  # so that a wrong formula shows
