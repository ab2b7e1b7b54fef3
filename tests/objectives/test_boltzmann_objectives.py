"""Exact tests of contrastive divergence, the exact likelihood and the pseudo-likelihood, on machines of a few units.

Expectations over chains are exact (`enumerated_chain.py`). Tests with draws state their false-alarm rates. Wrong
variants, some of which public code has shipped, are planted and must be refused.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from bayesjax import kernels, objectives, training
from bayesjax.evaluation import partition_function
from bayesjax.models import boltzmann as models
from bayesjax.objectives import boltzmann
from bayesjax.types import Carried
from tests.kernels.enumerated_machine import law, machine, parameters, states
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
    log_z_of,
    mean_free_energy,
    one_hot,
    slow_parameters,
)
from tests.parameters import some

pytestmark = pytest.mark.usefixtures("compile_once", "double")


# Contrastive divergence


def divergence_gradient(num_steps, params, x):
    """The expected gradient of CD-k on one example, from the library."""
    objective = boltzmann.contrastive_divergence(mean_free_energy, LAW_KERNEL, num_steps=num_steps)
    return flat_gradient(objective, params, KEY, one_hot(x))


@pytest.mark.slow
def test_the_expected_gradient_of_contrastive_divergence():
    """E_data - E_{k steps} from the enumerated transition matrix; one step more or fewer is refused."""
    params = slow_parameters()
    rows = np.asarray(gradient_rows(params))
    for num_steps in (1, 2, 4):
        found = divergence_gradient(num_steps, params, states(V)[5])
        close(found, rows[5] - k_step_law(params, num_steps)[5] @ rows)
        for wrong in (num_steps - 1, num_steps + 1):
            assert np.abs(found - (rows[5] - k_step_law(params, wrong)[5] @ rows)).max() > 1e-2


def test_contrastive_divergence_tends_to_the_exact_gradient():
    """The bias falls with k to below 1e-10; that of CD-1 is more than 0.1."""
    params, x = slow_parameters(), states(V)[5]
    rows = np.asarray(gradient_rows(params))
    exact = rows[5] - np.asarray(law(machine(V, H), params, V)) @ rows
    errors = [np.abs(divergence_gradient(k, params, x) - exact).max() for k in (1, 4, 16, 256)]
    assert errors[0] > 0.1 and (np.diff(errors) < 0).all() and errors[-1] < 1e-10


def through_everything(monkeypatch):
    """Plants gradients through the chain: `stop_gradient` of the module does nothing."""
    monkeypatch.setattr(boltzmann.lax, "stop_gradient", lambda x: x)


@pytest.mark.parametrize("name", some(["contrastive", "persistent"], "persistent"))
def test_no_gradient_flows_through_the_chain(name, monkeypatch):
    """The step of this chain is differentiable in the parameters; a loss that differentiates it is refused."""
    params, x = parameters(V, H), one_hot(example_batch())
    if name == "contrastive":
        loss, batch = boltzmann.contrastive_divergence(mean_free_energy, LAW_KERNEL, num_steps=2), x[0]
    else:
        loss = boltzmann.persistent_contrastive_divergence(mean_free_energy, LAW_KERNEL, num_steps=2)
        batch = Carried(x[:1], Law(x[:1]))
    rows = np.asarray(gradient_rows(params))
    expected = rows[1] - k_step_law(params, 2)[1] @ rows
    close(flat_gradient(loss, params, KEY, batch), expected)
    through_everything(monkeypatch)
    assert np.abs(flat_gradient(loss, params, KEY, batch) - expected).max() > 1e-2


def test_draws_of_block_gibbs_have_the_expected_gradient():
    """The mean of 40 000 gradients of CD-2 is within 5 standard errors of the exact one; CD-1 and CD-3 are refused.

    False alarms: 11 comparisons at 5.7e-7, 6.3e-6 in all.
    """
    params, x, num = slow_parameters(), states(V)[5], 40_000
    kernel = kernels.block_gibbs(machine(V, H).hidden, machine(V, H).visible)
    objective = boltzmann.contrastive_divergence(free_energy, kernel, num_steps=2)
    keys = jax.random.split(jax.random.key(1), num)
    draws = np.asarray(jax.jit(jax.vmap(functools.partial(flat_gradient, objective), (None, 0, None)))(params, keys, x))
    rows = np.asarray(gradient_rows(params))

    def deviation(num_steps):
        error = draws.mean(axis=0) - (rows[5] - k_step_law(params, num_steps)[5] @ rows)
        return np.abs(error / draws.std(axis=0) * np.sqrt(num)).max()

    assert deviation(2) < 5
    assert deviation(1) > 5 and deviation(3) > 5


@pytest.mark.slow
def test_a_gaussian_chain_is_not_differentiated(monkeypatch):
    """Draws of Gaussian units are functions of the parameters; the gradient is that at fixed draws."""
    functions, params = machine(2, H, visible_units="gaussian"), parameters(2, H, visible_units="gaussian")
    kernel, x = kernels.block_gibbs(functions.hidden, functions.visible), jnp.array([0.3, -1.0])
    objective = boltzmann.contrastive_divergence(functions.free_energy, kernel)
    init_key, run_key = jax.random.split(KEY)
    step_key = jax.random.fold_in(run_key, 0)
    v = kernel.step(step_key, kernel.init(x, init_key), params)[0].position

    def at_fixed_draws(params, rng_key, x):
        return functions.free_energy(params, x) - functions.free_energy(params, v), {}

    expected = flat_gradient(at_fixed_draws, params, KEY, x)
    close(flat_gradient(objective, params, KEY, x), expected)
    through_everything(monkeypatch)
    assert np.abs(flat_gradient(objective, params, KEY, x) - expected).max() > 1e-2


# Exact likelihood and pseudo-likelihood


def test_the_exact_loss_and_its_gradient():
    """-log p of the enumerated law, and central differences to 1e-8."""
    params, x = parameters(V, H), example_batch()
    loss = objectives.batch_mean(boltzmann.exact_negative_log_likelihood(free_energy, log_z_of))
    value, aux = loss(params, KEY, x)
    close(value, -jnp.log(law(machine(V, H), params, V))[index_of(x)].mean())
    close(aux["log_partition_function"], log_z_of(params))
    flat, unravel = ravel_pytree(params)
    steps = 1e-5 * jnp.eye(flat.size)
    at = jax.jit(lambda points: jax.lax.map(lambda point: loss(unravel(point), KEY, x)[0], points))
    gradient = flat_gradient(loss, params, KEY, x)
    np.testing.assert_allclose(gradient, (at(flat + steps) - at(flat - steps)) / 2e-5, atol=1e-8)
    close(gradient, exact_gradient(params, x))


def enumerated_terms(params, x):
    """-log p(x_i | x without x_i) of every bit, from the enumerated law."""
    log_p = np.log(np.asarray(law(machine(5, H), params, 5))).reshape((2,) * 5)
    place = tuple(np.asarray(x, int))
    terms = []
    for bit in range(5):
        both = log_p[(*place[:bit], slice(None), *place[bit + 1 :])]
        terms.append(np.logaddexp(*both) - log_p[place])
    return np.array(terms)


@pytest.mark.parametrize("chunk_size", some([1, 2, 5, 98], 5, 98))
def test_the_pseudo_likelihood_is_the_sum_over_all_bits(chunk_size):
    """Chunks that divide the five bits and chunks that do not give one value, and a gradient that is that of the sum.

    One random bit times five, as in scikit-learn's `score_samples`, has this mean, but every single value is refused.
    """
    params, x = parameters(5, H), states(5)[0b10110]
    energy = machine(5, H).free_energy
    objective = boltzmann.negative_pseudo_likelihood(energy, chunk_size=chunk_size)
    value, gradient = jax.value_and_grad(objective)(params, KEY, x)
    terms = enumerated_terms(params, x)
    close(value, terms.sum())
    close(objective(params, KEY, x.astype(bool)), value)
    close(objective(params, KEY, x.astype(jnp.uint8)), value)

    def one_bit(bit):
        return x.size * jax.nn.softplus(energy(params, x) - energy(params, x.at[bit].set(1 - x[bit])))

    single = np.array([one_bit(bit) for bit in range(5)])
    close(single.mean(), value)
    assert np.abs(single - value).min() > 0.1
    step = 1e-6
    moved = [{**params, "hidden_bias": params["hidden_bias"] + sign * step} for sign in (1, -1)]
    slope = (enumerated_terms(moved[0], x).sum() - enumerated_terms(moved[1], x).sum()) / (2 * step)
    np.testing.assert_allclose(gradient["hidden_bias"].sum(), slope, atol=1e-8)


# Bars and stripes


def bars_and_stripes(side):
    """All images of full rows and of full columns, each of the 2^side choices once: `[2^(side + 1), side^2]`."""
    rows = np.repeat(np.asarray(states(side))[:, :, None], side, axis=2)
    return np.concatenate([rows, rows.transpose(0, 2, 1)]).reshape(2 ** (side + 1), -1)


@pytest.mark.parametrize(("side", "num_hidden", "num_steps", "bound", "gap"), [
    (2, 6, 800, -13.863, 0.5), pytest.param(3, 8, 200, -41.589, 25.0, marks=pytest.mark.slow),
])  # fmt: skip
def test_bars_and_stripes_approach_their_bound(side, num_hidden, num_steps, bound, gap):
    """Exact training of a small machine: the log likelihood of the whole set is below its bound and near it."""
    with jax.enable_x64(False):
        x = jnp.asarray(bars_and_stripes(side), jnp.float32)
        model = models.RBM(side**2, num_hidden, kernel_init=jax.nn.initializers.normal(0.5))
        functions = models.machine(model)

        def log_z(params):
            return partition_function.log_partition_function(functions.hidden_free_energy, params, num_hidden)

        loss = objectives.batch_mean(boltzmann.exact_negative_log_likelihood(functions.free_energy, log_z))
        kernel = kernels.optimize(loss, optax.adam(0.05))
        params = model.init(jax.random.key(1), x[0])["params"]
        state, _ = training.run(KEY, kernel, kernel.init(params, KEY), x, num_steps=num_steps, keep=lambda state: ())
        value = -len(x) * float(loss(state.position, KEY, x)[0])
    _, counts = np.unique(np.asarray(x), axis=0, return_counts=True)
    np.testing.assert_allclose(np.sum(counts * np.log(counts / len(x))), bound, atol=1e-3)
    assert bound - gap < value < bound + 1e-3
