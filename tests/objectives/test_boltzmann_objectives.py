"""Exact tests of the objectives of Boltzmann machines, on machines of a few units and in float64.

A chain of distributions takes the place of a chain of draws: its position is a vector p of probabilities of all visible
states, a step multiplies it by the transition matrix of block Gibbs sampling, and its free energy is the mean of F
under p. Losses that are linear in the samples then have their exact expectations. Tests with draws state their
false-alarm rates. Wrong variants, most of which public code has shipped, are planted and must be refused.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from bayesjax import data, kernels, objectives, posteriors, training
from bayesjax.evaluation import partition_function
from bayesjax.models import boltzmann as models
from bayesjax.objectives import boltzmann
from bayesjax.types import Carried, Kernel
from tests.kernels.enumerated_machine import gibbs_matrix, law, machine, over_states, parameters, states

V, H = 3, 2
KEY = jax.random.key(0)
close = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-11)

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(autouse=True)
def double():
    """Enumeration is held to 1e-11, which needs float64."""
    with jax.enable_x64(True):
        yield


def free_energy(params, v):
    return machine(V, H).free_energy(params, v)


def slow_parameters():
    """A machine with two modes, all units off and all on, between which its Gibbs chain moves slowly."""
    params = jax.tree.map(lambda leaf: 0.2 * leaf, parameters(V, H))
    biases = {"visible_bias": params["visible_bias"] - H, "hidden_bias": params["hidden_bias"] - V}
    return {"kernel": params["kernel"] + 2.0, **biases}


def example_batch():
    """Five examples, two of them equal."""
    return states(V)[jnp.array([1, 6, 6, 3, 0])]


def gradient_rows(params):
    """dF(v) for all visible states, `[2^V, num_parameters]`."""
    return jax.vmap(lambda v: ravel_pytree(jax.grad(free_energy)(params, v))[0])(states(V))


def flat_gradient(loss, params, *args):
    """The gradient of a loss with aux, as a vector."""
    return ravel_pytree(jax.grad(loss, has_aux=True)(params, *args)[0])[0]


def index_of(v):
    return jnp.asarray(v @ 2.0 ** jnp.arange(V - 1, -1, -1), int)


def one_hot(v):
    """Visible vectors as distributions over all visible states."""
    return jax.nn.one_hot(index_of(v), 2**V, dtype=float)


class Law(NamedTuple):
    position: jax.Array


def step_of_law(rng_key, state, params):
    del rng_key
    moved = Law(state.position @ gibbs_matrix(machine(V, H), params, V, H))
    return moved, moved


LAW_KERNEL = Kernel(lambda position, rng_key: Law(position), step_of_law)


def mean_free_energy(params, p):
    return p @ jax.vmap(free_energy, (None, 0))(params, states(V))


# Contrastive divergence


def divergence_gradient(num_steps, params, x):
    """The expected gradient of CD-k on one example, from the library."""
    objective = boltzmann.contrastive_divergence(mean_free_energy, LAW_KERNEL, num_steps=num_steps)
    return flat_gradient(objective, params, KEY, one_hot(x))


def k_step_law(params, num_steps):
    return np.linalg.matrix_power(np.asarray(gibbs_matrix(machine(V, H), params, V, H)), num_steps)


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


@pytest.mark.parametrize("name", ["contrastive", "persistent"])
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


# Persistent chains


def exact_gradient(params, x):
    """The gradient of the mean of -log p(x) over a batch."""
    rows = gradient_rows(params)
    return rows[index_of(x)].mean(axis=0) - law(machine(V, H), params, V) @ rows


def divided_by_rows(params, x, chains):
    """scikit-learn's `BernoulliRBM`: both phases are sums over their samples, divided by the rows of the batch."""
    values = [jax.vmap(mean_free_energy, (None, 0))(params, p).sum() for p in (x, chains)]
    return (values[0] - values[1]) / len(x), {}


@pytest.mark.parametrize("num_rows", [5, 2, 1])
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


def test_samples_are_read_from_the_state_and_the_info():
    """Of a ladder, the target's position alone, and of block Gibbs, means of p(v | h) in place of draws."""
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


def learner(num_chains=3):
    chains = kernels.particles(kernels.block_gibbs(machine(V, H).hidden, machine(V, H).visible), num_chains)
    loss = boltzmann.persistent_contrastive_divergence(free_energy, chains, num_steps=2)
    start = chains.init(states(V)[:num_chains], KEY)
    return kernels.carrying(kernels.optimize(loss, optax.sgd(0.01, momentum=0.9)), start)


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


def test_langevin_with_persistent_chains_samples_the_posterior():
    """Moments of (b, w) of 4096 SGLD particles, each with its own chain of distributions, against a grid.

    Means are within 4.5 standard errors and variances within 4.5 standard errors and 3 % for the bias of the step size.
    False alarms: 4 comparisons at 6.8e-6, 2.7e-5 in all. The gradient of the
    mean loss beside the noise of the whole posterior (GRBM), whose target is exp(-loss), and half the data are refused.
    """
    num = 4096

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
            kernel = kernels.carrying(kernels.sgld(logdensity, step_size=0.004), Law(jnp.full((1, 2), 0.5)))
            kernel = kernels.particles(kernel, num)
            position = dict(zip("bw", jax.random.normal(jax.random.key(5), (2, num)), strict=True))

            def step(state, index):
                return kernel.step(jax.random.fold_in(KEY, index), state, x)[0], None

            state, _ = jax.lax.scan(step, kernel.init(position, KEY), jnp.arange(600))
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


# Exact likelihood and pseudo-likelihood


def log_z_of(params):
    return partition_function.log_partition_function(machine(V, H).hidden_free_energy, params, H)


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


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 98])
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


# Deep belief networks


class Given:
    """A conditional whose draw is fixed."""

    def __init__(self, distribution, value):
        self.distribution, self.value = distribution, value

    def sample_and_log_prob(self, *, seed):
        del seed
        return self.value, self.distribution.log_prob(self.value)


SIZES = (3, 2, 3, 2)  # v, h_1, h_2, and the hidden units of the machine on top


def belief_network(num_layers, seed=0):
    """The parameters of `num_layers` sigmoid layers and of the machine on top of them."""
    return [parameters(*SIZES[i : i + 2], seed=seed + i) for i in range(num_layers + 1)]


def transposed(params):
    """The machine whose visible units are the hidden units of another one."""
    return {
        "kernel": params["kernel"].T,
        "visible_bias": params["hidden_bias"],
        "hidden_bias": params["visible_bias"],
    }


def functions_of(params):
    return machine(*params["kernel"].shape)


def log_weights(network, draws, v):
    """log p(v, h) / q(h | v) + log Z at given draws of the layers, from the library, and log q of these draws."""
    *layers, top = network
    hidden = [
        lambda params, units, h=h: Given(functions_of(params).hidden(params, units), h)
        for h in draws
    ]  # fmt: skip
    log_weight = boltzmann.deep_belief_log_weight(
        hidden, [functions_of(layer).visible for layer in layers], functions_of(top).free_energy
    )
    log_q, below = 0.0, v
    for layer, h in zip(layers, draws, strict=True):
        log_q, below = log_q + functions_of(layer).hidden(layer, below).log_prob(h), h
    return log_weight(network, KEY, v), log_q


def every_draw(network):
    """All states of the layers above v, as a list of arrays `[num, size]`."""
    *layers, _ = network
    sizes = [layer["hidden_bias"].size for layer in layers]
    both = states(sum(sizes))
    return [both[:, sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]


def enumerated_weights(network):
    """Log weights and log q of all draws for every v, `[2^V, num]` each."""
    draws, v = every_draw(network), states(network[0]["visible_bias"].size)
    if not draws:
        value = jax.vmap(lambda v: log_weights(network, [], v)[0])(v)
        return value[:, None], jnp.zeros_like(value)[:, None]
    of_draws = jax.vmap(functools.partial(log_weights, network), (0, None))
    return jax.vmap(of_draws, (None, 0))(draws, v)


def log_z_of_top(network):
    top = network[-1]
    return jax.nn.logsumexp(-jax.vmap(functions_of(top).free_energy, (None, 0))(top, states(top["visible_bias"].size)))


def exact_log_law(network):
    """log p(v) of a deep belief network for every v, by sums over one layer after the other from the top."""
    *layers, top = network
    p = law(functions_of(top), top, top["visible_bias"].size)
    for layer in reversed(layers):
        below, above = (states(size) for size in layer["kernel"].shape)
        p = p @ jnp.exp(over_states(lambda params, h, v: functions_of(params).visible(params, h).log_prob(v))(
            layer, above, below
        ))  # fmt: skip
    return jnp.log(p)


def bounds(network):
    """E_q of the log weight less log Z, for every v."""
    values, log_q = enumerated_weights(network)
    return jnp.sum(jnp.exp(log_q) * values, axis=1) - log_z_of_top(network)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_the_bound_of_a_deep_belief_network(num_layers):
    """Over all draws the weights have the mean p(v) Z, and the mean log weight is a bound that is not tight.

    The weights p(v, h) without 1 / q have another mean.
    """
    network = belief_network(num_layers)
    values, log_q = enumerated_weights(network)
    exact = exact_log_law(network)
    close(jax.nn.logsumexp(log_q + values, axis=1) - log_z_of_top(network), exact)
    gap = exact - bounds(network)
    assert gap.min() > -1e-12 and gap.max() > 0.01
    wrong = jax.nn.logsumexp(2 * log_q + values, axis=1) - log_z_of_top(network)
    assert jnp.abs(wrong - exact).min() > 1e-2


def test_the_bound_is_tight_where_q_is_exact():
    """With the lowest machine transposed on top, the network is that machine and q its conditional.

    The machine on top that is not transposed, of as many visible as hidden units, has a gap.
    """
    lower = parameters(3, 3)
    network = [lower, transposed(lower)]
    exact = exact_log_law(network)
    close(exact, jnp.log(law(functions_of(lower), lower, 3)))
    close(bounds(network), exact)
    assert jnp.abs(bounds([lower, lower]) - exact).max() > 1e-2


@pytest.mark.parametrize("num_layers", [0, 1])
def test_a_layer_with_transposed_weights_keeps_the_bound(num_layers):
    """The machine on top becomes a sigmoid layer below its transposed self; log Z and the bound are the same.

    A new machine on top that is not the transposed one changes the bound.
    """
    network = belief_network(num_layers)
    grown = [*network, transposed(network[-1])]
    close(log_z_of_top(grown), log_z_of_top(network))
    close(bounds(grown), bounds(network))
    other = transposed({**network[-1], "kernel": -network[-1]["kernel"]})
    assert jnp.abs(bounds([*network, other]) - bounds(network)).max() > 1e-2


def test_the_mean_weight_of_draws_is_unbiased():
    """The mean of 40 000 weights is within 4 standard errors of p(v) Z.

    False alarms: 6.3e-5. The mean log weight, whose exponential is below p(v) Z, is refused.
    """
    network, v, num = belief_network(2), states(3)[5], 40_000
    *layers, top = network
    log_weight = boltzmann.deep_belief_log_weight(
        [functions_of(layer).hidden for layer in layers],
        [functions_of(layer).visible for layer in layers],
        functions_of(top).free_energy,
    )
    with jax.debug_key_reuse(True):
        log_weight(network, KEY, v)
    values = np.asarray(jax.jit(jax.vmap(log_weight, (None, 0, None)))(network, jax.random.split(KEY, num), v))
    ratios = np.exp(values - float(exact_log_law(network)[5] + log_z_of_top(network)))
    standard_error = ratios.std() / np.sqrt(num)
    assert abs(ratios.mean() - 1) < 4 * standard_error
    assert abs(np.exp(np.log(ratios).mean()) - 1) > 4 * standard_error


# Centred machines


def enumerated_loss(params, rng_key, batch):
    """-log p(x) less log Z, with its exact gradient; the carry has all states, so that both mirrors sum in one order."""
    functions, (x, order) = machine(V, H, is_centred=True), batch
    energies = jax.vmap(functions.free_energy, (None, 0))
    p = jax.lax.stop_gradient(jax.nn.softmax(-energies(params, order)))
    return energies(params, x).mean() - p @ energies(params, order)


def centred_hidden_mean(params, x):
    return machine(V, H, is_centred=True).hidden(params, x).mean()


def offset_optimizer(rate, offset_rate, *, is_kept=True):
    groups = {"weights": optax.sgd(rate), "offsets": optax.sgd(offset_rate)}
    moves = optax.partition(groups, lambda params: {
        name: "offsets" if name in boltzmann.OFFSETS else "weights" for name in params
    })  # fmt: skip
    return optax.chain(moves, kernels.adjust(models.keep_distribution)) if is_kept else moves


def free_loss(params, rng_key, x):
    """The mean free energy, whose own gradient of the offsets is not 0."""
    return jax.vmap(machine(V, H, is_centred=True).free_energy, (None, 0))(params, x).mean()


@pytest.mark.parametrize("is_carried", [False, True])
def test_the_gradient_of_the_offsets(is_carried):
    """m - mean(x) and l - mean of p(h = 1 | x) alone; the value and all other gradients are those of the loss."""
    params, x = parameters(V, H, is_centred=True), example_batch()
    batch = Carried(x, None) if is_carried else x

    def loss(params, rng_key, batch):
        return free_loss(params, rng_key, batch.batch if is_carried else batch), {"aux": jnp.ones(())}

    following = boltzmann.follow_means(loss, centred_hidden_mean)
    (value, aux), gradient = jax.value_and_grad(following, has_aux=True)(params, KEY, batch)
    (expected_value, expected_aux), expected = jax.value_and_grad(loss, has_aux=True)(params, KEY, batch)
    assert value == expected_value and aux == expected_aux
    means = x.mean(axis=0), jax.vmap(centred_hidden_mean, (None, 0))(params, x).mean(axis=0)
    for name, mean in zip(boltzmann.OFFSETS, means, strict=True):
        close(gradient[name], params[name] - mean)
        assert jnp.abs(gradient[name] - expected[name]).max() > 1e-3
        del gradient[name], expected[name]
    jax.tree.map(close, gradient, expected)


def test_the_value_is_kept_where_the_pull_is_large():
    """Added and subtracted in turn, the pull of offsets of 1e9 would leave nothing of the value."""
    params = parameters(V, H, is_centred=True)
    params["visible_offset"] = jnp.full(V, 1e9)
    following = boltzmann.follow_means(lambda params, rng_key, x: jnp.float64(0.1), centred_hidden_mean)
    assert following(params, KEY, example_batch())[0] == 0.1


def test_offsets_are_moving_averages_and_keep_the_distribution():
    """Three steps of the rate 0.25: (1 - a) m + a mean(x), and one distribution to 1e-12 if the weights have rate 0.

    With weights that learn, the law is that of the learnt weights with the offsets before. Offsets that move without
    the biases are refused.
    """
    params, x = parameters(V, H, is_centred=True), example_batch()
    functions = machine(V, H, is_centred=True)
    loss = boltzmann.follow_means(free_loss, centred_hidden_mean)

    def move(rate, num_steps, **options):
        kernel = kernels.optimize(loss, offset_optimizer(rate, 0.25, **options))
        state = kernel.init(params, KEY)
        for _ in range(num_steps):
            state, _ = kernel.step(KEY, state, x)
        return state.position

    expected = {name: params[name] for name in boltzmann.OFFSETS}
    hidden_mean = jax.vmap(centred_hidden_mean, (None, 0))(params, x).mean(axis=0)  # the same for equal distributions
    for _ in range(3):
        expected["visible_offset"] = 0.75 * expected["visible_offset"] + 0.25 * x.mean(axis=0)
        expected["hidden_offset"] = 0.75 * expected["hidden_offset"] + 0.25 * hidden_mean
    moved = move(0.0, 3)
    for name in boltzmann.OFFSETS:
        close(moved[name], expected[name])
    before = law(functions, params, V)
    np.testing.assert_allclose(law(functions, moved, V), before, atol=1e-12)
    assert jnp.abs(law(functions, move(0.0, 3, is_kept=False), V) - before).max() > 1e-3

    learnt, bare = move(0.1, 1), move(0.1, 1, is_kept=False)
    unmoved = {**bare, **{name: params[name] for name in boltzmann.OFFSETS}}
    np.testing.assert_allclose(law(functions, learnt, V), law(functions, unmoved, V), atol=1e-12)
    assert jnp.abs(law(functions, learnt, V) - before).max() > 1e-3


def mirrored(params):
    """The machine with the visible bits flipped: p'(1 - v) = p(v)."""
    flipped = {"kernel": -params["kernel"], "visible_bias": -params["visible_bias"]}
    return {**params, **flipped, "visible_offset": 1 - params["visible_offset"]}


@functools.cache
def mirror_step(is_centred):
    """A step of learning; the plain learner keeps its offsets at 0, which are not those of its mirror image."""
    if is_centred:
        loss = boltzmann.follow_means(enumerated_loss, centred_hidden_mean)
        kernel = kernels.optimize(loss, offset_optimizer(0.25, 0.125))
    else:
        kernel = kernels.optimize(enumerated_loss, offset_optimizer(0.25, 0.0, is_kept=False))
    return kernel, jax.jit(kernel.step)


def learn(is_centred, params, x, order):
    kernel, step = mirror_step(is_centred)
    state = kernel.init(params, KEY)
    for _ in range(12):
        state, _ = step(KEY, state, Carried(x, order))
    return state.position


def test_the_centred_learner_on_flipped_bits_is_the_mirror_image():
    """Bit for bit after twelve steps, from offsets of 1/2 at the rate 1/8 and four examples: 1 - m is then exact.

    The negative phase is enumerated, with the flipped states in the same order. The plain learner is refused.
    """
    x, order = states(V)[jnp.array([1, 6, 6, 0])], states(V)
    start = parameters(V, H, scale=0.1)
    half = {"visible_offset": jnp.full(V, 0.5), "hidden_offset": jnp.full(H, 0.5)}
    first, second = learn(True, {**start, **half}, x, order), learn(True, mirrored({**start, **half}), 1 - x, 1 - order)
    for name, value in mirrored(first).items():
        np.testing.assert_array_equal(second[name], value)
    assert jnp.abs(first["kernel"] - start["kernel"]).max() > 0.01

    zeros = {name: jnp.zeros_like(value) for name, value in half.items()}
    plain = {**start, **zeros}
    start_of_mirror = models.move_offsets(mirrored(plain), *zeros.values())  # the same law with offsets of 0
    functions = machine(V, H, is_centred=True)
    close(law(functions, start_of_mirror, V), law(functions, plain, V)[::-1])
    first, second = learn(False, plain, x, order), learn(False, start_of_mirror, 1 - x, 1 - order)
    assert jnp.abs(law(functions, second, V)[::-1] - law(functions, first, V)).max() > 1e-3


# Bars and stripes


def bars_and_stripes(side):
    """All images of full rows and of full columns, each of the 2^side choices once: `[2^(side + 1), side^2]`."""
    rows = np.repeat(np.asarray(states(side))[:, :, None], side, axis=2)
    return np.concatenate([rows, rows.transpose(0, 2, 1)]).reshape(2 ** (side + 1), -1)


@pytest.mark.parametrize(("side", "num_hidden", "num_steps", "bound", "gap"), [
    (2, 6, 800, -13.863, 0.5), (3, 8, 200, -41.589, 25.0),
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
        state, trace = training.run(
            KEY, kernel, kernel.init(params, KEY), x, num_steps=num_steps, keep=lambda state: ()
        )
        value = -len(x) * float(loss(state.position, KEY, x)[0])
    _, counts = np.unique(np.asarray(x), axis=0, return_counts=True)
    np.testing.assert_allclose(np.sum(counts * np.log(counts / len(x))), bound, atol=1e-3)
    assert bound - gap < value < bound + 1e-3


# Arguments


PARAMS = {"w": 1.0}
BAD_CALLS = {
    "steps of contrastive divergence": (
        lambda: boltzmann.contrastive_divergence(free_energy, LAW_KERNEL, num_steps=0),
        "num_steps must be at least 1; got 0",
    ),
    "steps of persistent chains": (
        lambda: boltzmann.persistent_contrastive_divergence(free_energy, LAW_KERNEL, num_steps=1.5),
        "num_steps must be an integer, and at least 1; got 1.5",
    ),
    "chunk": (
        lambda: boltzmann.negative_pseudo_likelihood(free_energy, chunk_size=0),
        "chunk_size must be at least 1; got 0",
    ),
    "an image": (
        lambda: boltzmann.negative_pseudo_likelihood(lambda params, v: v.sum())(PARAMS, KEY, jnp.zeros((2, 2))),
        r"x must be one vector \[V\]; got an array of shape \(2, 2\)",
    ),
    "numbers of conditionals": (
        lambda: boltzmann.deep_belief_log_weight([free_energy], [], free_energy),
        "hidden and visible must have equal lengths; got 1 and 0",
    ),
    "number of parameters": (
        lambda: boltzmann.deep_belief_log_weight([], [], free_energy)([PARAMS, PARAMS], KEY, jnp.zeros(V)),
        "params must have 1 entries, one for each machine; got 2",
    ),
    "plain parameters": (
        lambda: boltzmann.follow_means(free_loss, centred_hidden_mean)(parameters(V, H), KEY, example_batch()),
        "params must be those of a centred machine, with visible_offset; got .*kernel",
    ),
    "samples": (
        lambda: boltzmann.persistent_contrastive_divergence(
            mean_free_energy, LAW_KERNEL, samples=lambda state, info: state.position[0]
        )(parameters(V, H), KEY, Carried(one_hot(example_batch()), Law(one_hot(example_batch())))),
        r"samples must be \[num, V\], see the argument samples; got an array of shape \(8,\)",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_wrong_argument_is_named(case):
    """ValueError with the argument's name, what was expected and what came."""
    call, message = BAD_CALLS[case]
    with pytest.raises(ValueError, match=message):
        call()


def array(params, *units):
    return jnp.zeros((2,))


def scalar(params, *units):
    return jnp.zeros(())


def persistent(energy, positive=None):
    loss = boltzmann.persistent_contrastive_divergence(energy, LAW_KERNEL, positive=positive)
    return loss(parameters(V, H), KEY, Carried(jnp.zeros((2, 8)), Law(jnp.zeros((2, 8)))))


ARRAYS = {
    "free_energy, contrastive": lambda f: boltzmann.contrastive_divergence(f, LAW_KERNEL)(
        parameters(V, H), KEY, jnp.zeros(8)
    ),
    "free_energy, persistent": persistent,
    "positive": lambda f: persistent(scalar, f),
    "free_energy, exact": lambda f: boltzmann.exact_negative_log_likelihood(f, scalar)(PARAMS, KEY, jnp.zeros(V)),
    "log_partition_function": lambda f: boltzmann.exact_negative_log_likelihood(scalar, f)(PARAMS, KEY, jnp.zeros(V)),
    "free_energy, pseudo": lambda f: boltzmann.negative_pseudo_likelihood(f)(PARAMS, KEY, jnp.zeros(V)),
    "energy": lambda f: boltzmann.variational_free_energy(f, lambda params, v: [v])(PARAMS, KEY, jnp.zeros(V)),
    "top_free_energy": lambda f: boltzmann.deep_belief_log_weight([], [], f)([PARAMS], KEY, jnp.zeros(V)),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_in_place_of_a_scalar_is_refused(name):
    """Only traced; the message names the function."""
    call = ARRAYS[name]
    jax.eval_shape(lambda: call(scalar))
    with pytest.raises(ValueError, match=rf"{name.split(',')[0]} must return a scalar; got an array of shape \(2,\)"):
        jax.eval_shape(lambda: call(array))


@pytest.mark.parametrize("name", ["contrastive", "persistent", "exact", "pseudo", "follow"])
def test_no_rank_is_promoted(name):
    """Every loss can be traced with `jax_numpy_rank_promotion="raise"`."""
    x, params = example_batch(), parameters(V, H)
    laws = one_hot(x)
    calls = {
        "contrastive": lambda: boltzmann.contrastive_divergence(mean_free_energy, LAW_KERNEL)(params, KEY, laws[0]),
        "persistent": lambda: boltzmann.persistent_contrastive_divergence(mean_free_energy, LAW_KERNEL)(
            params, KEY, Carried(laws, Law(laws[:3]))
        ),
        "exact": lambda: boltzmann.exact_negative_log_likelihood(free_energy, log_z_of)(params, KEY, x[0]),
        "pseudo": lambda: boltzmann.negative_pseudo_likelihood(free_energy)(params, KEY, x[0]),
        "follow": lambda: boltzmann.follow_means(free_loss, centred_hidden_mean)(
            parameters(V, H, is_centred=True), KEY, x
        ),
    }
    with jax.numpy_rank_promotion("raise"):
        jax.eval_shape(calls[name])
