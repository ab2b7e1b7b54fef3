"""Exact tests of restricted Boltzmann machines of a few units, by enumeration in float64.

The joint law is enumerated from the energy alone. Sums over Gaussian visible units are Gauss-Hermite quadratures, exact
to rounding. Tests of a formula also show that they refuse an error that public code has made there.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp
from scipy.special import expit

from bayesjax import noise
from bayesjax.models import boltzmann
from tests.kernels.enumerated_machine import gibbs_matrix, law, machine, over_states, parameters, states

H = 3
NUM_VISIBLE = {"bernoulli": 4, "gaussian": 2}
KINDS = {
    f"{'centred' if is_centred else 'plain'} {units}": {"visible_units": units, "is_centred": is_centred}
    for units in ("bernoulli", "gaussian")
    for is_centred in (False, True)
}
every_kind = pytest.mark.parametrize("kind", KINDS)
binary_kind = pytest.mark.parametrize("kind", [kind for kind in KINDS if "bernoulli" in kind])
close = functools.partial(np.testing.assert_allclose, rtol=1e-11, atol=1e-12)

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(autouse=True)
def double():
    """Enumeration is held to 1e-12, which needs float64."""
    with jax.enable_x64(True):
        yield


def functions_of(kind):
    return machine(NUM_VISIBLE[KINDS[kind]["visible_units"]], H, **KINDS[kind])


def parameters_of(kind, seed=0):
    return parameters(NUM_VISIBLE[KINDS[kind]["visible_units"]], H, **KINDS[kind], seed=seed)


def visible_points(params):
    """Points v `[n, V]` and log weights `[n]`, such that the weighted sum over them is the sum or integral over v."""
    num_visible = params["visible_bias"].size
    if "log_variance" not in params:
        return states(num_visible), jnp.zeros(2**num_visible)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = np.stack(np.meshgrid(*[nodes] * num_visible, indexing="ij"), -1).reshape(-1, num_visible)
    log_weights = sum(np.meshgrid(*[np.log(weights) + 0.5 * nodes**2] * num_visible, indexing="ij")).reshape(-1)
    scale = jnp.exp(0.5 * params["log_variance"])
    centre = params["visible_bias"] + params.get("visible_offset", 0.0)
    return centre + scale * grid, log_weights + jnp.sum(jnp.log(scale))


@functools.partial(jax.jit, static_argnums=0)
def energies(kind, params, v):
    """E(v, h) for all points v `[n, V]` and all hidden states, `[n, 2^H]`."""
    return over_states(functions_of(kind).energy)(params, v, states(H))


def normalised_energies(kind, params, v):
    """Energies up to their constant, equal for two machines exactly if their distributions are."""
    values = energies(kind, params, v)
    return values - values[0, 0]


def log_partition_function(kind, params):
    v, log_weights = visible_points(params)
    return logsumexp(log_weights[:, None] - energies(kind, params, v))


@every_kind
def test_parameters_are_those_of_the_module(kind):
    """The random parameters of these tests have the names and shapes that the module creates."""
    params = parameters_of(kind)
    model = boltzmann.RBM(params["visible_bias"].size, H, **KINDS[kind])
    v = jnp.zeros(model.num_visible)
    assert jax.tree.map(jnp.shape, model.init(jax.random.key(0), v)["params"]) == jax.tree.map(jnp.shape, params)
    assert model.apply({"params": params}, v) == functions_of(kind).free_energy(params, v)


@every_kind
def test_conditionals_are_those_of_the_enumerated_joint(kind):
    """log p(h | v) and log p(v | h) are the normalised negative energies."""
    functions, params = functions_of(kind), parameters_of(kind)
    v, log_weights = visible_points(params)
    log_joint = -energies(kind, params, v)
    hidden = over_states(lambda params, v, h: functions.hidden(params, v).log_prob(h))(params, v, states(H))
    close(hidden, jax.nn.log_softmax(log_joint, axis=1))
    visible = over_states(lambda params, v, h: functions.visible(params, h).log_prob(v))(params, v, states(H))
    close(visible, log_joint - logsumexp(log_joint + log_weights[:, None], axis=0))


@every_kind
def test_free_energies_and_the_partition_function_from_both_sides(kind):
    """F(v) and F(h) are -log of the sum of exp(-E) over the other side, and both give the same log Z."""
    functions, params = functions_of(kind), parameters_of(kind)
    v, log_weights = visible_points(params)
    log_joint = -energies(kind, params, v)
    of_visible = jax.vmap(functions.free_energy, (None, 0))(params, v)
    of_hidden = jax.vmap(functions.hidden_free_energy, (None, 0))(params, states(H))
    close(of_visible, -logsumexp(log_joint, axis=1))
    close(of_hidden, -logsumexp(log_joint + log_weights[:, None], axis=0))
    close(logsumexp(log_weights - of_visible), logsumexp(-of_hidden))


@binary_kind
def test_block_gibbs_leaves_the_law_invariant(kind):
    """p T = p to 1e-12 for T from the conditionals; a chain of other parameters does not keep p."""
    functions, params = functions_of(kind), parameters_of(kind)
    p, transition = law(functions, params, 4), gibbs_matrix(functions, params, 4, H)
    np.testing.assert_allclose(transition.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(p @ transition, p, rtol=0, atol=1e-12)
    wrong = gibbs_matrix(functions, {**params, "hidden_bias": params["hidden_bias"] + 0.1}, 4, H)
    assert jnp.abs(p @ wrong - p).max() > 1e-3


# Gradients of the exact log likelihood


@functools.partial(jax.jit, static_argnums=0)
def joint_law(kind, params, temperature=1.0):
    """p(v, h) at the points of `visible_points`, with their weights, `[n, 2^H]`."""
    v, log_weights = visible_points(params)
    logits = log_weights[:, None] - energies(kind, params, v) / temperature
    return jax.nn.softmax(logits.reshape(-1)).reshape(logits.shape)


@functools.partial(jax.jit, static_argnums=0)
def phase_difference(kind, params, x, model_weights):
    """E_model[dE] - E_data[dE], the gradient of the log likelihood if the weights are the law of the model."""
    functions, v = functions_of(kind), visible_points(params)[0]
    data_weights = jax.vmap(lambda x: jnp.exp(jax.vmap(functions.hidden(params, x).log_prob)(states(H))))(x) / len(x)

    def difference(params):
        mean = over_states(functions.energy)
        negative = jnp.sum(model_weights * mean(params, v, states(H)))
        return negative - jnp.sum(data_weights * mean(params, x, states(H)))

    return jax.grad(difference)(params)


@functools.partial(jax.jit, static_argnums=0)
def finite_difference(kind, params, x):
    """Central differences of the mean log likelihood in every parameter, accurate to 1e-9."""
    functions, (flat, unravel) = functions_of(kind), ravel_pytree(params)

    def log_likelihood(flat):
        params = unravel(flat)
        return -jnp.mean(jax.vmap(functions.free_energy, (None, 0))(params, x)) - log_partition_function(kind, params)

    steps = 1e-5 * jnp.eye(flat.size)
    return (jax.lax.map(log_likelihood, flat + steps) - jax.lax.map(log_likelihood, flat - steps)) / 2e-5


def gradient_error(kind, params, model_weights):
    """The largest error of the gradient on five examples, which are real numbers for Gaussian units."""
    x = jax.random.normal(jax.random.key(3), (5, params["visible_bias"].size), float)
    x = x if "log_variance" in params else (x > 0).astype(float)
    gradient = ravel_pytree(phase_difference(kind, params, x, model_weights))[0]
    return float(jnp.abs(gradient - finite_difference(kind, params, x)).max())


@every_kind
def test_the_gradient_is_the_difference_of_two_phases(kind):
    """d log p(x) = E_model[dE] - E_data[dE], in all parameters, offsets and variances included."""
    params = parameters_of(kind)
    assert gradient_error(kind, params, joint_law(kind, params)) < 1e-8


@every_kind
def test_temperature_in_the_negative_phase_only_is_caught(kind):
    """The statistics of a negative phase at T = 2 are the gradient of no likelihood (learnergy)."""
    params = parameters_of(kind)
    assert gradient_error(kind, params, joint_law(kind, params, 2.0)) > 1e-2


@binary_kind
def test_hidden_units_of_the_previous_sample_are_caught(kind):
    """Negative statistics of v_t with p(h | v_{t-1}) are wrong, even of a stationary chain (rbms, issue 31)."""
    functions, params = functions_of(kind), parameters_of(kind)
    joint = joint_law(kind, params)
    transition = gibbs_matrix(functions, params, 4, H)
    right = joint.sum(axis=1) @ transition
    given_v = jax.nn.softmax(-energies(kind, params, states(4)), axis=1)
    assert gradient_error(kind, params, right[:, None] * given_v) < 1e-8
    assert gradient_error(kind, params, transition.T @ joint) > 1e-2


# Parameterisations


def forget_biases(params, visible_offset, hidden_offset):
    """RestrictedBoltzmannMachines.jl, issue 124: the offsets change and the biases do not make up for it."""
    return {**params, "visible_offset": visible_offset, "hidden_offset": hidden_offset}


def forget_variance(params, visible_offset, hidden_offset):
    """The hidden biases of a Gaussian machine without the division by s^2."""
    moved = boltzmann.move_offsets(params, visible_offset, hidden_offset)
    shift = (visible_offset - params.get("visible_offset", 0.0)) @ params["kernel"]
    return {**moved, "hidden_bias": params["hidden_bias"] + shift}


@every_kind
def test_moved_offsets_keep_the_distribution(kind):
    """Energies change by a constant; the parameters come back with the offsets; two wrong moves are refused."""
    params, v = parameters_of(kind), visible_points(parameters_of(kind))[0]
    centred = kind.replace("plain", "centred")
    expected = normalised_energies(kind, params, v)
    offsets = jnp.linspace(0.2, 0.9, v.shape[1]), jnp.array([0.7, 0.1, 0.4])
    moved = boltzmann.move_offsets(params, *offsets)
    close(normalised_energies(centred, moved, v), expected)
    plain = boltzmann.remove_offsets(moved)
    close(normalised_energies(kind.replace("centred", "plain"), plain, v), expected)
    back = boltzmann.move_offsets(plain, *(moved[name] for name in boltzmann.OFFSETS))
    jax.tree.map(close, back, moved)
    if kind == centred:
        jax.tree.map(close, boltzmann.move_offsets(moved, *(params[name] for name in boltzmann.OFFSETS)), params)
    else:
        jax.tree.map(close, plain, params)
    for wrong in (forget_biases, forget_variance)[: 1 + ("gaussian" in kind)]:
        assert jnp.abs(normalised_energies(centred, wrong(params, *offsets), v) - expected).max() > 1e-2


def moments_of(kind):
    mean = jnp.linspace(0.2, 0.9, NUM_VISIBLE[KINDS[kind]["visible_units"]])
    return (mean,) if "bernoulli" in kind else (mean, 0.5 + mean)


@every_kind
def test_independent_units_have_the_given_moments(kind):
    """Mean and variance of v, and log Z, by enumeration; hidden units are fair coins."""
    base = boltzmann.independent_units(parameters_of(kind), *moments_of(kind))
    v, _ = visible_points(base)
    joint = joint_law(kind, base)
    mean = joint.sum(axis=1) @ v
    close(mean, moments_of(kind)[0])
    variance = mean * (1 - mean) if "bernoulli" in kind else moments_of(kind)[1]
    close(joint.sum(axis=1) @ (v - mean) ** 2, variance)
    close(joint.sum(axis=0), np.full(2**H, 2.0**-H))
    close(boltzmann.independent_log_partition_function(base), log_partition_function(kind, base))
    biased = {**base, "hidden_bias": jnp.array([0.3, -1.0, 2.0])}
    close(boltzmann.independent_log_partition_function(biased), log_partition_function(kind, biased))


@every_kind
def test_interpolation_joins_two_machines(kind):
    """Both ends are exact; between them the energy of Bernoulli units is linear unless the offsets are scaled too."""
    params, v = parameters_of(kind), visible_points(parameters_of(kind))[0]
    base = boltzmann.independent_units(params, *moments_of(kind))
    for t, end in ((0.0, base), (1.0, params)):
        close(energies(kind, boltzmann.interpolate(base, params, t), v), energies(kind, end, v))
    if "bernoulli" in kind:
        linear = 0.7 * energies(kind, base, v) + 0.3 * energies(kind, params, v)
        close(energies(kind, boltzmann.interpolate(base, params, 0.3), v), linear)
    if kind == "centred bernoulli":
        scaled = jax.tree.map(lambda leaf: 0.3 * leaf, params)  # a tempered machine that scales its offsets
        assert jnp.abs(energies(kind, scaled, v) - 0.3 * energies(kind, params, v)).max() > 1e-2


# Draws


@pytest.mark.slow
def test_the_probability_of_a_draw_is_exact_to_the_resolution_of_the_noise(monkeypatch):
    """With all 2^23 values of the noise in place of a draw, the share of ones is within 2^-24 and rounding of p."""
    values = jnp.arange(1 - 2**23, 2**23, 2, dtype=jnp.float32) * jnp.float32(2**-23)
    assert (noise.uniform(jax.random.key(0), 1000) * 2**23 % 2 == 1).all()
    monkeypatch.setattr(noise, "uniform", lambda rng_key, size: values)
    for logit in np.float32([-20.0, -3.0, 0.0, 0.4, 7.0]):
        ones = boltzmann.Units(logits=jnp.float32(logit)).sample(seed=jax.random.key(0), sample_shape=2**23)
        assert abs(np.mean(ones, dtype=np.float64) - expit(np.float64(logit))) < 2**-23


def test_draws_of_units_have_their_probabilities():
    """Frequencies of 2^18 draws of eight units are within 5 standard errors of p, and neighbours are uncorrelated.

    False alarms: 15 comparisons at 5.7e-7, 1e-5 in all. Units with probability sigmoid(1.02 l) are refused.
    """
    logits = jnp.array([-4.0, -2.0, -1.0, -0.3, 0.3, 1.0, 2.0, 4.0])
    num = 2**18
    draws = np.asarray(boltzmann.Units(logits=logits).sample(seed=jax.random.key(1), sample_shape=num))
    assert set(np.unique(draws)) == {0.0, 1.0}

    def deviations(logits):
        p = expit(np.asarray(logits))
        return (draws.mean(axis=0) - p) / np.sqrt(p * (1 - p) / num)

    assert np.abs(deviations(logits)).max() < 5
    assert np.abs(deviations(1.02 * logits)).max() > 5
    standard = (draws - draws.mean(axis=0)) / draws.std(axis=0)
    assert np.abs((standard[:, 1:] * standard[:, :-1]).mean(axis=0)).max() < 5 / np.sqrt(num)


# Arguments

PARAMS = parameters(4, 3)
GAUSSIAN = parameters(2, 3, visible_units="gaussian")
BAD_CALLS = {
    "units": (
        lambda: boltzmann.RBM(2, 3, "binary").init(jax.random.key(0), jnp.zeros(2)),
        "visible_units must be 'bernoulli' or 'gaussian'; got 'binary'",
    ),
    "size": (lambda: boltzmann.RBM(2, 0).init(jax.random.key(0), jnp.zeros(2)), "num_hidden must be at least 1; got 0"),
    "a batch": (
        lambda: machine(4, 3).free_energy(PARAMS, jnp.zeros((5, 4))),
        r"v must be one vector of shape \(4,\) \(use vmap for more\); got \(5, 4\)",
    ),
    "offset": (
        lambda: boltzmann.move_offsets(PARAMS, jnp.zeros(3), jnp.zeros(3)),
        r"visible_offset must have the shape \(4,\); got \(3,\)",
    ),
    "mean": (
        lambda: boltzmann.independent_units(PARAMS, jnp.zeros(3)),
        r"mean must have the shape \(4,\); got \(3,\)",
    ),
    "mean of 1": (
        lambda: boltzmann.independent_units(PARAMS, jnp.ones(4)),
        "mean must be strictly between 0 and 1; got .*1. 1.",
    ),
    "no variance": (
        lambda: boltzmann.independent_units(GAUSSIAN, jnp.zeros(2)),
        "variance must be given for Gaussian units, and only for them",
    ),
    "shape of the variance": (
        lambda: boltzmann.independent_units(GAUSSIAN, jnp.zeros(2), jnp.ones(3)),
        r"variance must have the shape \(2,\); got \(3,\)",
    ),
    "variance of 0": (
        lambda: boltzmann.independent_units(GAUSSIAN, jnp.zeros(2), jnp.zeros(2)),
        "variance must be positive and finite; got .*0",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_wrong_argument_is_named(case):
    """ValueError with the argument's name, what was expected and what came."""
    call, message = BAD_CALLS[case]
    with pytest.raises(ValueError, match=message):
        call()
