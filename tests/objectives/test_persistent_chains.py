"""Exact tests of persistent contrastive divergence: gradients, samples, resumption, and Langevin steps with it.

Expectations over chains are exact (`enumerated_chain.py`), and the bugs of public code are planted.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import data, kernels, posteriors, training
from bayesjax.models import boltzmann as models
from bayesjax.objectives import boltzmann
from bayesjax.types import Carried, Kernel
from tests.kernels.enumerated_machine import gibbs_matrix, law, machine, parameters, states
from tests.objectives.enumerated_chain import (
    KEY,
    LAW_KERNEL,
    H,
    Law,
    V,
    close,
    exact_gradient,
    example_batch,
    flat_gradient,
    free_energy,
    gradient_rows,
    index_of,
    k_step_law,
    mean_free_energy,
    one_hot,
    slow_parameters,
)
from tests.parameters import some

pytestmark = pytest.mark.usefixtures("compile_once", "double")


def divided_by_rows(params, x, chains):
    """scikit-learn's `BernoulliRBM`: both phases are sums over their samples, divided by the rows of the batch."""
    values = [jax.vmap(mean_free_energy, (None, 0))(params, p).sum() for p in (x, chains)]
    return (values[0] - values[1]) / len(x), {}


@pytest.mark.parametrize("num_rows", some([5, 2, 1], 2))
def test_chains_of_the_law_give_the_exact_gradient(num_rows):
    """With any number of chains, also on a last short batch; sums over chains divided by rows are refused."""
    params, x = parameters(V, H), example_batch()[:num_rows]
    chains = jnp.tile(law(machine(V, H), params, V), (3, 1))
    loss = boltzmann.persistent_contrastive_divergence(mean_free_energy, LAW_KERNEL)
    expected = exact_gradient(params, x)
    close(flat_gradient(loss, params, KEY, Carried(one_hot(x), Law(chains))), expected)
    assert np.abs(flat_gradient(divided_by_rows, params, one_hot(x), chains) - expected).max() > 1e-2


def test_values_and_carry_of_the_persistent_loss():
    """The loss is the difference of the two means of aux, and the carry is the state after k steps."""
    params, x, chains = parameters(V, H), example_batch(), one_hot(states(V)[:2])
    loss = boltzmann.persistent_contrastive_divergence(mean_free_energy, LAW_KERNEL, num_steps=3)
    value, aux = loss(params, KEY, Carried(one_hot(x), Law(chains)))
    close(aux["carry"].position, chains @ k_step_law(params, 3))
    close(aux["data"], jax.vmap(free_energy, (None, 0))(params, x).mean())
    close(aux["model"], jax.vmap(mean_free_energy, (None, 0))(params, aux["carry"].position).mean())
    close(value, aux["data"] - aux["model"])


@pytest.mark.slow
def test_chains_keep_their_values_beside_data_of_another_type():
    """Integers as data do not round the real numbers of the chains; an earlier version cast the chains to integers."""
    functions, params = machine(2, H, visible_units="gaussian"), parameters(2, H, visible_units="gaussian")
    chains = kernels.particles(kernels.block_gibbs(functions.hidden, functions.visible), 3)
    loss = boltzmann.persistent_contrastive_divergence(functions.free_energy, chains)
    start = chains.init(jnp.ones((3, 2)), KEY)
    _, aux = loss(params, KEY, Carried(jnp.array([[0, 1], [1, 1]], jnp.uint8), start))
    v = aux["carry"].position
    close(aux["model"], jax.vmap(functions.free_energy, (None, 0))(params, v).mean())
    rounded = jnp.asarray(v, jnp.int32).astype(float)
    assert abs(aux["model"] - jax.vmap(functions.free_energy, (None, 0))(params, rounded).mean()) > 1e-2


@pytest.mark.slow
def test_the_positive_phase_can_be_replaced():
    """Its mean takes the place of that of F(x), with a key for every example; the chains keep F(v)."""
    params, x, chains = parameters(V, H), example_batch(), one_hot(states(V)[:2])

    def positive(params, rng_key, p):
        return 3 * mean_free_energy(params, p) + jax.random.normal(rng_key)

    loss = boltzmann.persistent_contrastive_divergence(mean_free_energy, LAW_KERNEL, positive=positive)
    plain = boltzmann.persistent_contrastive_divergence(mean_free_energy, LAW_KERNEL)
    batch = Carried(one_hot(x), Law(chains))
    rows = gradient_rows(params)
    difference = flat_gradient(loss, params, KEY, batch) - flat_gradient(plain, params, KEY, batch)
    close(difference, 2 * rows[index_of(x)].mean(axis=0))
    _, (aux, expected) = zip(*(each(params, KEY, batch) for each in (loss, plain)), strict=True)
    close(aux["model"], expected["model"])

    def noise_alone(params, rng_key, p):
        return jnp.sum(p) * 0 + jax.random.normal(rng_key)

    def mean_noise(num):
        loss = boltzmann.persistent_contrastive_divergence(mean_free_energy, LAW_KERNEL, positive=noise_alone)
        return loss(params, KEY, Carried(jnp.tile(one_hot(x[:1]), (num, 1)), Law(chains)))[1]["data"]

    assert abs(mean_noise(10_000)) < 0.05  # 5 standard errors, a false alarm in 1.7e6; one key for all has sd 1


def tempered(num):
    """Parallel tempering whose batch is the parameters of the target."""

    def minus_free_energy(v, rng_key, params):
        return -free_energy(params, v)

    def ladder(params):
        base = models.independent_units(params, jnp.full(V, 0.5))
        return jax.vmap(lambda t: models.interpolate(base, params, t))(jnp.linspace(0.0, 1.0, num))

    kernel = kernels.parallel_tempering(
        kernels.block_gibbs(machine(V, H).hidden, machine(V, H).visible), minus_free_energy, num
    )
    return Kernel(kernel.init, lambda rng_key, state, params: kernel.step(rng_key, state, ladder(params)))


@pytest.mark.slow
def test_samples_are_read_from_the_state_and_the_info():
    """`samples` can select the target's position of a ladder, or replace draws by means of p(v | h)."""
    params, x = parameters(V, H), example_batch()
    kernel = tempered(4)
    start = kernel.init(states(V)[:4], KEY)
    loss = boltzmann.persistent_contrastive_divergence(
        free_energy, kernel, num_steps=2, samples=lambda state, info: state.position[-1:]
    )
    with jax.debug_key_reuse(True):
        _, aux = jax.jit(loss)(params, KEY, Carried(x, start))
    energies = jax.vmap(free_energy, (None, 0))(params, aux["carry"].position)
    close(aux["model"], energies[-1])
    assert aux["carry"].step == 2 and abs(energies.mean() - energies[-1]) > 1e-2

    chains = kernels.particles(kernels.block_gibbs(machine(V, H).hidden, machine(V, H).visible), 3)

    def means(state, info):
        return jax.vmap(lambda h: machine(V, H).visible(params, h).mean())(info.other)

    loss = boltzmann.persistent_contrastive_divergence(free_energy, chains, samples=means)
    _, aux = loss(params, KEY, Carried(x, chains.init(states(V)[:3], KEY)))
    assert set(np.unique(aux["carry"].position)) <= {0.0, 1.0}
    _, run_key = jax.random.split(KEY)
    _, info = chains.step(jax.random.fold_in(run_key, 0), chains.init(states(V)[:3], KEY), params)
    close(aux["model"], jax.vmap(free_energy, (None, 0))(params, means(None, info)).mean())


def test_chains_of_hidden_units_give_the_visible_units_between_two_of_their_states():
    """The free energies are those of v, with v ~ p(v | h), and the chains carry the next h ~ p(h | v)."""
    functions, params, h = machine(V, H), parameters(V, H), states(H)[:3]
    chains = kernels.particles(kernels.block_gibbs(functions.visible, functions.hidden), 3)
    loss = boltzmann.persistent_contrastive_divergence(free_energy, chains, samples=lambda state, info: info.other)
    _, aux = loss(params, KEY, Carried(example_batch(), chains.init(h, KEY)))
    step_key = jax.random.fold_in(jax.random.split(KEY)[1], 0)
    state, info = chains.step(step_key, chains.init(h, KEY), params)
    assert info.other.shape == (3, V) and state.position.shape == (3, H)
    close(aux["carry"].position, state.position)
    close(aux["model"], jax.vmap(free_energy, (None, 0))(params, info.other).mean())


def learner(num_chains=3):
    chains = kernels.particles(kernels.block_gibbs(machine(V, H).hidden, machine(V, H).visible), num_chains)
    loss = boltzmann.persistent_contrastive_divergence(free_energy, chains, num_steps=2)
    start = chains.init(states(V)[:num_chains], KEY)
    return kernels.carrying(kernels.optimize(loss, optax.sgd(0.01, momentum=0.9)), start)


@pytest.mark.slow
def test_an_interrupted_run_resumes_its_chains(tmp_path):
    """Stopped after a chunk and resumed, parameters, momentum, chains and metrics are those of the unbroken run.

    A continuation from other chains ends elsewhere.
    """
    kernel = learner()
    state = kernel.init(slow_parameters(), KEY)
    batches = data.Minibatches(jax.random.key(3), np.asarray(states(V)), 4)

    def run(stop=None, state=state, **options):
        def callback(step, state):
            if step == stop:
                raise KeyboardInterrupt
            return {"chain": float(state.carry.position.sum())}

        return training.run(
            jax.random.key(2), kernel, state, batches, num_steps=16, chunk_size=4, callback=callback, **options
        )

    unbroken = run()
    with pytest.raises(KeyboardInterrupt):
        run(stop=12, checkpointer=training.Checkpointer(tmp_path, interval=0.0))
    resumed = run(checkpointer=training.Checkpointer(tmp_path, interval=0.0))
    assert resumed[1].steps < 16 and resumed[1].metrics == unbroken[1].metrics
    for a, b in zip(jax.tree.leaves(resumed[0]), jax.tree.leaves(unbroken[0]), strict=True):
        assert a.dtype == b.dtype and np.asarray(a).tobytes() == np.asarray(b).tobytes()
    assert np.abs(unbroken[0].carry.position - state.carry.position).max() > 0
    moved = unbroken[0].carry
    anew = run(state=unbroken[0]._replace(carry=moved._replace(position=1 - moved.position)))[0]
    goes_on = run(state=unbroken[0])[0]
    assert np.abs(anew.position["kernel"] - goes_on.position["kernel"]).max() > 1e-3


# Posterior of the parameters


NUM_DATA, NUM_POSITIVE = 20, 14


def pair_free_energy(params, v):
    """One visible and one hidden unit without a hidden bias: F(v) = -b v - log(1 + e^(w v))."""
    return machine(1, 1).free_energy(pair_parameters(params), v)


def pair_parameters(params):
    return {
        "kernel": params["w"].reshape(1, 1),
        "visible_bias": params["b"].reshape(1),
        "hidden_bias": jnp.zeros(1, params["w"].dtype),
    }


def grid_moments(num_data):
    """Means and variances of (b, w) under exp(log prior - num_data * mean loss), on a grid."""
    b, w = np.meshgrid(np.linspace(-6, 6, 401), np.linspace(-6, 6, 401), indexing="ij")
    odds = b + np.logaddexp(0, w) - np.log(2)  # logit of p(v = 1)
    share = NUM_POSITIVE / NUM_DATA
    log_density = num_data * (share * odds - np.logaddexp(0, odds)) - 0.5 * (b**2 + w**2)
    p = np.exp(log_density - log_density.max())
    p /= p.sum()
    means = [np.sum(p * value) for value in (b, w)]
    return np.array([*means, *(np.sum(p * (value - mean) ** 2) for value, mean in zip((b, w), means, strict=True))])


@pytest.mark.slow
def test_langevin_with_persistent_chains_samples_the_posterior(compile_fully):
    """Moments of (b, w) of 2048 SGLD particles, each with its own chain of distributions, against a grid.

    Means are within 4.5 standard errors and variances within 4.5 standard errors and 3 % for the bias of the step size.
    False alarms: 4 comparisons at 6.8e-6, 2.7e-5 in all. The gradient of the
    mean loss beside the noise of the whole posterior (GRBM), whose target is exp(-loss), and half the data are refused.
    """
    num = 2048

    def free_energy(params, p):
        return p @ jax.vmap(pair_free_energy, (None, 0))(params, states(1))

    def step_of_pair(rng_key, state, params):
        moved = Law(state.position @ gibbs_matrix(machine(1, 1), pair_parameters(params), 1, 1))
        return moved, moved

    with jax.enable_x64(False):
        loss = boltzmann.persistent_contrastive_divergence(free_energy, LAW_KERNEL._replace(step=step_of_pair))
        x = jax.nn.one_hot(jnp.int32(jnp.arange(NUM_DATA) < NUM_POSITIVE), 2)

        @jax.jit
        def sample(num_data):
            logdensity = posteriors.from_loss(loss, posteriors.gaussian(1.0), num_data)
            kernel = kernels.carrying(kernels.sgld(logdensity, step_size=0.006), Law(jnp.full((1, 2), 0.5)))
            kernel = kernels.particles(kernel, num)
            position = dict(zip("bw", jax.random.normal(jax.random.key(5), (2, num)), strict=True))

            def step(state, index):
                return kernel.step(jax.random.fold_in(KEY, index), state, x)[0], None

            state, _ = jax.lax.scan(step, kernel.init(position, KEY), jnp.arange(400))
            return state.position

        draws = {num_data: np.stack([sample(float(num_data))[name] for name in "bw"]) for num_data in (NUM_DATA, 10, 1)}

    def deviation(draws):
        expected = grid_moments(NUM_DATA)
        mean_error = (draws.mean(axis=1) - expected[:2]) / np.sqrt(expected[2:] / num)
        spread = np.sqrt(np.mean((draws - draws.mean(axis=1, keepdims=True)) ** 4, axis=1) - expected[2:] ** 2)
        excess = np.maximum(np.abs(draws.var(axis=1) - expected[2:]) - 0.03 * expected[2:], 0)
        return max(np.abs(mean_error).max(), (excess / spread * np.sqrt(num)).max())

    assert deviation(draws[NUM_DATA]) < 4.5
    assert deviation(draws[1]) > 4.5 and deviation(draws[10]) > 4.5
