"""Kernels that use a key twice, planted on purpose: the check of `test_contract.py` refuses each of them."""

import jax
import jax.numpy as jnp
import pytest

from bayesjax import tree
from bayesjax.types import Kernel
from tests.kernels.test_contract import BATCH, PlantedState, check_keys, logdensity, position


def reuse_by_splitting(rng_key, state, batch):
    """blackjax 1.7.1's sghmc: noise from the key, then a split of the same key."""
    noise = jax.random.normal(rng_key, (3,))
    return PlantedState({**state.position, "w": state.position["w"] + noise}), jax.random.split(rng_key)


def reuse_by_noise_like_a_tree(rng_key, state, batch):
    """The density's key used for the noise too."""
    logdensity(state.position, rng_key, batch)
    noise = tree.normal_like(rng_key, state.position)
    return PlantedState(jax.tree.map(jnp.add, state.position, noise)), jnp.zeros(())


@pytest.mark.parametrize("step", [reuse_by_splitting, reuse_by_noise_like_a_tree])
def test_key_reuse_is_caught(step):
    """Power: a kernel that reuses its key raises KeyReuseError under the same check."""
    kernel = Kernel(lambda position, rng_key: PlantedState(position), step)
    with pytest.raises(jax.errors.KeyReuseError):
        check_keys(kernel, position(), BATCH)
