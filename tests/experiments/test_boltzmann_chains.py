"""The chains of the Boltzmann machines' experiments, on a Gaussian machine with two modes of known probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import training
from bayesjax.models import boltzmann
from experiments.shared.boltzmann import gibbs_chains, tempered_chains

NUM, NUM_REPLICAS, NUM_STEPS = 200, 8, 150
MACHINE = boltzmann.machine(boltzmann.RBM(6, 1, "gaussian", is_centred=True))
PARAMS = {  # v is N(-3, I) given h = 0, and N(3, I) given h = 1; by symmetry p(h = 1) = 1/2
    "kernel": jnp.full((6, 1), 6.0),
    "visible_bias": jnp.zeros(6),
    "hidden_bias": jnp.zeros(1),
    "log_variance": jnp.zeros(6),
    "visible_offset": jnp.zeros(6),
    "hidden_offset": jnp.full(1, 0.5),
}


@pytest.mark.parametrize("is_tempered", [True, False])
def test_tempered_chains_reach_the_other_mode(is_tempered):
    """All chains start at h = 0. Half of the tempered ones end in the other mode, and none of block Gibbs sampling.

    The last positions of the ladders are independent, so the share has the standard error 0.035; four of them give a
    false alarm in 6e-5 of all seeds. Gibbs sampling fails the same check.
    """
    start = np.random.default_rng(0).normal(-3.0, size=(NUM, 6)).astype(np.float32)
    chains = gibbs_chains(MACHINE, NUM)
    if is_tempered:
        chains = tempered_chains(MACHINE, NUM, NUM_REPLICAS, np.zeros(6, np.float32))
        start = np.repeat(start[:, None], NUM_REPLICAS, axis=1)
    state = chains.kernel.init(jnp.asarray(start), jax.random.key(0))
    state, _ = training.run(jax.random.key(1), chains.kernel, state, PARAMS, num_steps=NUM_STEPS, keep=lambda state: ())
    v = np.asarray(chains.read(state.position))
    assert v.shape == (NUM, 6)
    share = np.mean(v.mean(axis=1) > 0)
    if is_tempered:
        assert abs(share - 0.5) < 4 * 0.5 / np.sqrt(NUM), share
        assert abs(np.abs(v.mean(axis=1)).mean() - 3.0) < 0.15, "the target's level is read"
    else:
        assert share == 0.0
