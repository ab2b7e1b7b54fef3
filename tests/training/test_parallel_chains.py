"""Chains of a Boltzmann machine, whose batch is its parameters, give the draws of one device on several devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import kernels, tree
from bayesjax.models import boltzmann
from bayesjax.training.parallel import spread
from tests.training.test_parallel import assert_same, steps

pytestmark = pytest.mark.usefixtures("compile_once")


def boltzmann_chains(name):
    """Eight chains of a small RBM by a kernel whose batch is its parameters, or those of a ladder of three machines."""
    functions = boltzmann.machine(boltzmann.RBM(6, 4))
    params = {
        "kernel": jnp.linspace(-2.0, 2.0, 24).reshape(6, 4), "visible_bias": jnp.zeros(6), "hidden_bias": jnp.zeros(4)
    }  # fmt: skip
    kernel, position = kernels.block_gibbs(functions.hidden, functions.visible), jnp.zeros((8, 6))
    if name == "parallel_tempering":

        def minus_free_energy(v, rng_key, params):
            return -functions.free_energy(params, v)

        kernel, position = kernels.parallel_tempering(kernel, minus_free_energy, 3), jnp.zeros((8, 3, 6))
        params = tree.stack([jax.tree.map(lambda leaf, t=t: t * leaf, params) for t in (0.0, 0.5, 1.0)])
    return kernels.particles(kernel, 8), position, params


@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("block_gibbs", "shard_map"),
        ("parallel_tempering", "shard_map"),
        pytest.param("block_gibbs", "pmap", marks=pytest.mark.slow),
        pytest.param("parallel_tempering", "pmap", marks=pytest.mark.slow),
    ],
)
def test_chains_of_a_boltzmann_machine_are_those_of_one_device(name, transform):
    """Draws are equal bit for bit on four devices, and no two chains are alike; infos are equal to rounding."""
    kernel, position, params = boltzmann_chains(name)
    expected = steps(kernel, position, params)
    actual = steps(spread(kernel, particle=4, transform=transform), position, params)
    assert_same(actual[0], expected[0], 0.0)
    assert_same(actual[1], expected[1])
    history = expected[1].other if name == "block_gibbs" else expected[1].inner.other
    assert len(np.unique(np.moveaxis(np.asarray(history), 1, 0).reshape(8, -1), axis=0)) == 8
