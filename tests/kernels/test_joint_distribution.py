"""Tests of samplers on the joint law of weights and data: simulation-based calibration, coverage, Geweke's test.

The model is the last layer of a network with fixed features, w ~ N(0, I), y ~ N(phi w, NOISE^2). If w comes from the
prior and y from w, then w is itself a draw of p(w | y): among NUM_DRAWS independent draws of a right sampler its rank
is uniform, and one more step of an exact kernel, or one more draw of y, leaves the law of (w, y) as it is. Nothing but
the model is known to these tests, no posterior mean and no gradient. Sources: Talts et al., "Validating Bayesian
inference algorithms with simulation-based calibration", 2018; Geweke, "Getting it right", 2004, in the form with
independent chains of Gandy & Scott, "Unit testing for MCMC", 2020.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from bayesjax import kernels, posteriors

NUM_DATA, DIM, NOISE = 20, 4, 0.5
NUM_REPLICATES, NUM_DRAWS, NUM_BURNIN = 1000, 99, 200
LEAST_P = 1e-4  # of every comparison
FEATURES = np.tanh(np.random.default_rng(0).normal(size=(NUM_DATA, 3)) @ np.random.default_rng(1).normal(size=(3, DIM)))
FEATURES[:, 3] *= 0.3  # a weight that the data say less about

pytestmark = pytest.mark.usefixtures("compile_once")


def log_likelihood(params, rng_key, example):
    """log N(y; phi w, NOISE^2), without its constant."""
    del rng_key
    feature, y = example
    return -0.5 * jnp.square((y - feature @ params) / NOISE)


def density(num_data=NUM_DATA, prior_scale=1.0):
    """The log posterior; another number of data or prior than the model's is a fault."""
    return posteriors.log_posterior(log_likelihood, posteriors.gaussian(prior_scale), num_data)


def data_of(rng_key, weights):
    """One draw of y."""
    return FEATURES.astype(np.float32) @ weights + NOISE * jax.random.normal(rng_key, (NUM_DATA,))


SAMPLERS = {  # the kernel, and how many steps between draws: they correlate by at most 0.3, which ranks hardly see
    "hmc": (functools.partial(kernels.hmc, step_size=0.1, num_integration_steps=10), 4),
    "nuts": (functools.partial(kernels.nuts, step_size=0.15, max_num_doublings=5), 3),
    "sghmc": (functools.partial(kernels.sghmc, step_size=0.003, friction=0.1), 60),
    "sgnht": (functools.partial(kernels.sgnht, step_size=0.003, friction=0.1), 60),
    "sgld": (functools.partial(kernels.sgld, step_size=0.0005), 1500),
}
FAULTS = {
    "N/n left out, n = N/2": ("hmc", {"num_data": NUM_DATA // 2}),
    "prior counted twice": ("hmc", {"prior_scale": 0.5**0.5}),
}


@functools.cache
def ranks(name, fault=""):
    """Ranks of w and of its log-likelihood among the draws, `[NUM_REPLICATES, DIM + 1]`, each in 0 .. NUM_DRAWS."""
    make, thinning = SAMPLERS[name]
    kernel = make(density(**FAULTS[fault][1]) if fault else density())

    def replicate(rng_key):
        weights_key, data_key, start_key, init_key, run_key = jax.random.split(rng_key, 5)
        weights = jax.random.normal(weights_key, (DIM,))
        batch = (jnp.asarray(FEATURES, jnp.float32), data_of(data_key, weights))
        state = kernel.init(jax.random.normal(start_key, (DIM,)), init_key)

        def advance(state, step):
            return kernel.step(jax.random.fold_in(run_key, step), state, batch)[0], None

        def draw(state, index):
            state, _ = jax.lax.scan(advance, state, NUM_BURNIN + index * thinning + jnp.arange(thinning))
            return state, looked_at(state.position, batch)

        state, _ = jax.lax.scan(advance, state, jnp.arange(NUM_BURNIN))
        _, draws = jax.lax.scan(draw, state, jnp.arange(NUM_DRAWS))
        return jnp.sum(draws < looked_at(weights, batch), axis=0)

    return np.asarray(jax.jit(jax.vmap(replicate))(jax.random.split(jax.random.key(5), NUM_REPLICATES)))


def looked_at(weights, batch):
    """The weights, and the log-likelihood: it sees what no single weight shows."""
    fit = jax.vmap(lambda example: log_likelihood(weights, None, example))(batch)
    return jnp.append(weights, fit.sum())


def p_values(found):
    """p-values of the chi-squared test of each column's ranks in twenty bins."""
    counts = [np.bincount(column * 20 // (NUM_DRAWS + 1), minlength=20) for column in found.T]
    return np.array([stats.chisquare(each).pvalue for each in counts])


def covered(found):
    """p-values of the number of central 50 % and 90 % intervals that contain the truth, of the two-sided binomial."""
    inside = {0.5: (25, 74), 0.9: (5, 94)}
    return np.array(
        [
            stats.binomtest(int(((column >= low) & (column <= high)).sum()), len(column), level).pvalue
            for level, (low, high) in inside.items()
            for column in found.T
        ]
    )


RIGHT = ["hmc", *(pytest.param(name, marks=pytest.mark.slow) for name in ("nuts", "sghmc", "sgnht", "sgld"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", RIGHT)
def test_ranks_are_uniform_and_intervals_cover(name):
    """False alarms: 15 comparisons at 1e-4, 0.15 % for each sampler, of the inexact ones a little more: they have a
    bias of their step, and draws that correlate (simulated for SGLD: 1.2e-4)."""
    assert (p_values(ranks(name)) > LEAST_P).all()
    assert (covered(ranks(name)) > LEAST_P).all()


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=[] if fault.startswith("N/n") else pytest.mark.slow) for fault in FAULTS]
)
def test_planted_faults_have_other_ranks(fault):
    """Power: N/n left out of half a batch, or the prior counted twice, is refused by the ranks; the first by its
    intervals too."""
    found = ranks(FAULTS[fault][0], fault)
    assert (p_values(found) < LEAST_P).any()
    if fault.startswith("N/n"):
        assert (covered(found) < LEAST_P).any()


def joint(kernel, num_sweeps=4, num_chains=20_000):
    """(w, y) after so many turns of `y | w` and a step of the kernel, from independent starts in the joint law."""

    def chain(rng_key):
        weights_key, start_key, sweeps_key = jax.random.split(rng_key, 3)

        def sweep(state, rng_key):
            data_key, step_key = jax.random.split(rng_key)
            batch = (jnp.asarray(FEATURES, jnp.float32), data_of(data_key, state.position))
            return kernel.step(step_key, state, batch)[0], batch[1]

        state = kernel.init(jax.random.normal(weights_key, (DIM,)), start_key)
        state, y = jax.lax.scan(sweep, state, jax.random.split(sweeps_key, num_sweeps))
        return state.position, y[-1]

    weights, y = jax.jit(jax.vmap(chain))(jax.random.split(jax.random.key(6), num_chains))
    return np.asarray(weights, np.float64), np.asarray(y, np.float64)


def p_values_of_joint(weights, y):
    """Kolmogorov and Smirnov's: weights against N(0, 1), the first y against its law, residuals' chi-squared."""
    residual = np.square((y - weights @ FEATURES.T) / NOISE).sum(axis=1)
    first = y[:, 0] / np.sqrt(FEATURES[0] @ FEATURES[0] + NOISE**2)
    of_normals = [stats.kstest(column, "norm").pvalue for column in (*weights.T, first)]
    return np.array([*of_normals, stats.kstest(residual, stats.chi2(NUM_DATA).cdf).pvalue])


EXACT = ["hmc", pytest.param("nuts", marks=pytest.mark.slow)]  # the others are so in the limit of small steps


@pytest.mark.parametrize("name", EXACT)
def test_a_step_keeps_the_joint_law(name):
    """False alarms: 6 comparisons at 1e-4 for each sampler. Power: the faults above, and SGLD's large step."""
    assert (p_values_of_joint(*joint(SAMPLERS[name][0](density()))) > LEAST_P).all()
    if name == "hmc":
        for fault, arguments in FAULTS.values():
            assert (p_values_of_joint(*joint(SAMPLERS[fault][0](density(**arguments)))) < LEAST_P).any()
        assert (p_values_of_joint(*joint(kernels.sgld(density(), step_size=0.01))) < LEAST_P).any()
