"""Every public function draws normal noise with `noise.normal`, unless a kernel has another `noise` argument."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from bayesjax import kernels, posteriors, tree

ZEROS = jnp.zeros(5000)


@pytest.mark.parametrize(
    "draw",
    [
        lambda key: tree.normal_like(key, ZEROS),
        lambda key: posteriors.sample_gaussian(key, ZEROS),
        lambda key: posteriors.mean_field(1.0).sample(posteriors.mean_field(1.0).init(ZEROS), key),
        lambda key: posteriors.mean_field(1.0).perturb(posteriors.mean_field(1.0).init(ZEROS), key).noise,
        *[
            lambda key, kernel=kernel: kernel.step(key, kernel.init(ZEROS, key), None)[0].position
            for kernel in (
                kernels.sgld(lambda w, rng_key, batch: jnp.sum(0 * w), step_size=0.5),
                kernels.sghmc(lambda w, rng_key, batch: jnp.sum(0 * w), step_size=0.5),
                kernels.sgnht(lambda w, rng_key, batch: jnp.sum(0 * w), step_size=0.5),
                kernels.hmc(lambda w, rng_key, batch: jnp.sum(0 * w), step_size=1.0, num_integration_steps=1),
            )
        ],
    ],
    ids=["normal_like", "sample_gaussian", "sample", "perturb", "sgld", "sghmc", "sgnht", "hmc"],
)
def test_public_functions_draw_the_default_law(draw):
    """Standardised, 5000 numbers of each are of N(0, 1) at a false-alarm rate of 1e-4, and nearly all differ.

    HMC's momentum shows in the position after a flat step. Power: the 16-bit law has at most 188 values.
    """
    z = np.asarray(jax.jit(draw)(jax.random.key(3)), np.float64)
    assert len(np.unique(z)) > 4900
    assert scipy.stats.kstest(z / np.sqrt(np.mean(z**2)), "norm").pvalue > 1e-4


@pytest.mark.parametrize("make", [kernels.sgld, kernels.sghmc, kernels.sgnht])
def test_sg_mcmc_kernels_offer_the_sixteen_bit_law(make):
    """By name, for the injected noise: from rest, the position moves by at most 188 values; other names are refused."""

    def flat(w, rng_key, batch):
        return jnp.sum(0 * w)

    start = make(flat, step_size=0.5).init(ZEROS, jax.random.key(0))
    start = start._replace(momentum=ZEROS) if hasattr(start, "momentum") else start
    normal, default, coarse = (
        make(flat, step_size=0.5, **named).step(jax.random.key(1), start, None)[0].position
        for named in ({"noise": "normal"}, {}, {"noise": "sixteen_bit"})
    )
    np.testing.assert_array_equal(normal, default)
    assert len(np.unique(coarse)) <= 188
    assert len(np.unique(normal)) > 4900
    with pytest.raises(ValueError, match="noise must be one of normal, sixteen_bit; got 'exact'"):
        make(flat, step_size=0.5, noise="exact")
