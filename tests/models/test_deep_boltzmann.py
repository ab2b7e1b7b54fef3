"""Exact tests of deep Boltzmann machines of a few units, by enumeration of all layers; they refuse likely errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from bayesjax.models import boltzmann, deep_boltzmann
from bayesjax.objectives.boltzmann import variational_free_energy
from tests.kernels.enumerated_machine import law, machine, over_states, parameters, states
from tests.parameters import some

SIZES = {2: (3, 2), 3: (2, 3, 2), 4: (2, 2, 1, 2), 5: (2, 1, 2, 1, 2)}
KEY = jax.random.key(0)
close = functools.partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
every_machine = pytest.mark.parametrize("is_centred", [False, True])
every_depth = pytest.mark.parametrize("num_layers", some(SIZES, 3))

pytestmark = pytest.mark.usefixtures("compile_once")


@pytest.fixture(autouse=True)
def double():
    """Enumeration is held to 1e-12, which needs float64."""
    with jax.enable_x64(True):
        yield


def model_of(num_layers, is_centred=False):
    return deep_boltzmann.DBM(SIZES[num_layers], is_centred)


def deep_parameters(num_layers, is_centred=False, scale=1.0, seed=0):
    """Parameters with all entries random."""
    random, sizes = np.random.default_rng(seed), SIZES[num_layers]
    params = {f"kernel_{i}": scale * random.normal(size=sizes[i : i + 2]) for i in range(num_layers - 1)}
    params |= {f"bias_{i}": random.normal(size=size) for i, size in enumerate(sizes)}
    if is_centred:
        params |= {f"offset_{i}": random.uniform(size=size) for i, size in enumerate(sizes)}
    return jax.tree.map(jnp.asarray, params)


def split(units, sizes):
    """The layers of `[..., sum(sizes)]`."""
    return jnp.split(units, np.cumsum(sizes)[:-1], axis=-1)


def energies(num_layers, is_centred, params):
    """E of all states of all layers, `[2^sum(sizes)]`."""
    model, sizes = model_of(num_layers, is_centred), SIZES[num_layers]
    return jax.vmap(lambda x: model.apply({"params": params}, split(x, sizes)))(states(sum(sizes)))


def energy_unit_by_unit(params, layers):
    """The sum over units and pairs of units in plain Python."""
    layers = [np.asarray(x) - np.asarray(params.get(f"offset_{i}", 0.0)) for i, x in enumerate(layers)]
    total = 0.0
    for i, layer in enumerate(layers):
        total -= sum(float(b) * x for b, x in zip(params[f"bias_{i}"], layer, strict=True))
        if i + 1 < len(layers):
            kernel = np.asarray(params[f"kernel_{i}"])
            total -= sum(kernel[j, k] * x * y for j, x in enumerate(layer) for k, y in enumerate(layers[i + 1]))
    return total


@every_machine
@every_depth
def test_the_energy_is_the_sum_over_units_and_pairs(num_layers, is_centred):
    """Names and shapes of the parameters are those of the module, and the energy is that of plain loops."""
    params, sizes = deep_parameters(num_layers, is_centred), SIZES[num_layers]
    layers = split(states(sum(sizes)), sizes)
    created = model_of(num_layers, is_centred).init(KEY, [layer[0] for layer in layers])["params"]
    assert jax.tree.map(jnp.shape, created) == jax.tree.map(jnp.shape, params)
    if is_centred:
        assert all((created[f"offset_{i}"] == 0.5).all() for i in range(num_layers))
    found = energies(num_layers, is_centred, params)
    for index in (0, 5, len(found) // 2, len(found) - 1):
        close(found[index], energy_unit_by_unit(params, [layer[index] for layer in layers]))


# The machine between even and odd layers


def forget_offsets(params):
    """Offsets of 1/2, as a new machine has them."""
    rbm = deep_boltzmann.as_rbm(params)
    return {name: jnp.full_like(value, 0.5) if "offset" in name else value for name, value in rbm.items()}


def top_first(params):
    """The even layers in the wrong order, where their sizes allow it."""
    rbm = deep_boltzmann.as_rbm(params)
    return {**rbm, "kernel": rbm["kernel"][::-1]}


def rbm_energies(num_layers, is_centred, params):
    """E of the restricted machine at all states of all layers, in the order of `energies`."""
    sizes = SIZES[num_layers]
    rbm = boltzmann.machine(deep_boltzmann.rbm_between_layers(model_of(num_layers, is_centred)))
    layers = split(states(sum(sizes)), sizes)
    v, h = jnp.concatenate(layers[::2], axis=1), jnp.concatenate(layers[1::2], axis=1)
    return jax.vmap(rbm.energy, (None, 0, 0))(params, v, h)


@every_machine
@every_depth
def test_the_restricted_machine_has_the_same_energy(num_layers, is_centred):
    """At every state, so that joint distribution and Z are the same; the map is linear; wrong maps are refused."""
    params = deep_parameters(num_layers, is_centred)
    expected = energies(num_layers, is_centred, params)
    close(rbm_energies(num_layers, is_centred, deep_boltzmann.as_rbm(params)), expected)
    other = deep_parameters(num_layers, is_centred, seed=1)
    sums = jax.tree.map(lambda a, b: a - 2 * b, params, other)
    expected_sums = jax.tree.map(lambda a, b: a - 2 * b, *map(deep_boltzmann.as_rbm, (params, other)))
    jax.tree.map(close, deep_boltzmann.as_rbm(sums), expected_sums)
    for wrong in [top_first, *([forget_offsets] if is_centred else [])]:
        assert jnp.abs(rbm_energies(num_layers, is_centred, wrong(params)) - expected).max() > 1e-2


def test_the_restricted_machine_keeps_the_type():
    """Blocks of zeros do not widen half precision."""
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), deep_parameters(4))
    assert {leaf.dtype for leaf in jax.tree.leaves(deep_boltzmann.as_rbm(params))} == {jnp.dtype(jnp.bfloat16)}


# Mean field and the variational bound


def hidden_states(num_layers):
    """All states of the hidden layers."""
    sizes = SIZES[num_layers][1:]
    return split(states(sum(sizes)), sizes)


def free_energies(num_layers, is_centred, params):
    """F(v) of all visible states, from the enumerated energies."""
    values = energies(num_layers, is_centred, params).reshape(2 ** SIZES[num_layers][0], -1)
    return -jax.nn.logsumexp(-values, axis=1)


def functions_of(num_layers, is_centred, num_updates):
    model = model_of(num_layers, is_centred)

    def energy(params, v, hidden):
        return model.apply({"params": params}, v, hidden, method="energy")

    def mean_field(params, v):
        return model.apply({"params": params}, v, num_updates, method="mean_field")

    return energy, mean_field


def bounds(num_layers, is_centred, params, num_updates):
    """The variational free energy of all visible states."""
    bound = variational_free_energy(*functions_of(num_layers, is_centred, num_updates))
    return jax.vmap(lambda v: bound(params, KEY, v))(states(SIZES[num_layers][0]))


def q_of(means, hidden):
    """q(h) of all hidden states."""
    return jnp.prod(jnp.concatenate([jnp.where(h == 1, m, 1 - m) for m, h in zip(means, hidden, strict=True)], 1), 1)


@every_machine
@every_depth
def test_the_variational_free_energy_is_a_bound(num_layers, is_centred):
    """At least F(v) for every v, with equality for one hidden layer; E_q E - entropy of the enumerated q.

    The bound without the entropy is refused.
    """
    params = deep_parameters(num_layers, is_centred)
    exact, found = free_energies(num_layers, is_centred, params), bounds(num_layers, is_centred, params, 5)
    if num_layers == 2:
        close(found, exact)
    else:
        assert (found > exact - 1e-12).all() and (found - exact).max() > 1e-3
    energy, mean_field = functions_of(num_layers, is_centred, 5)
    hidden, v = hidden_states(num_layers), states(SIZES[num_layers][0])[1]
    means = mean_field(params, v)
    q = q_of(means, hidden)
    mean_energy = jnp.sum(q * jax.vmap(lambda h: energy(params, v, h))(hidden))
    close(found[1], mean_energy + jnp.sum(q * jnp.log(q)))
    close(energy(params, v, means), mean_energy)
    assert abs(mean_energy - found[1]) > 1e-2


def all_layers_at_once(params, v, num_updates):
    """The planted update: all hidden layers given the layers before the update."""
    means = [v, *(jnp.full_like(params[f"bias_{i}"], 0.5) for i in range(1, 3))]
    for _ in range(num_updates):
        first = jax.nn.sigmoid(params["bias_1"] + v @ params["kernel_0"] + params["kernel_1"] @ means[2])
        second = jax.nn.sigmoid(params["bias_2"] + means[1] @ params["kernel_1"])
        means = [v, first, second]
    return means[1:]


@every_machine
@pytest.mark.parametrize("num_layers", some([3, 5], 3))
def test_an_update_never_raises_the_variational_free_energy(num_layers, is_centred):
    """From the bottom-up pass on, for strong weights and every v; updates of all layers at once are refused."""
    params = deep_parameters(num_layers, is_centred, scale=3.0)
    values = jnp.stack([bounds(num_layers, is_centred, params, num_updates) for num_updates in range(7)])
    assert jnp.diff(values, axis=0).max() < 1e-12
    assert (values[0] - values[-1]).max() > 1e-2
    if num_layers == 3 and not is_centred:
        energy, _ = functions_of(3, False, 0)
        strong = {**params, "kernel_1": -6.0 * jnp.abs(params["kernel_1"]), "bias_2": 3.0 + params["bias_2"]}
        wrong = [
            variational_free_energy(energy, functools.partial(all_layers_at_once, num_updates=num))(
                strong, KEY, states(2)[3]
            )
            for num in range(1, 7)
        ]
        assert np.diff(wrong).max() > 1e-2


@every_machine
def test_the_gradient_is_that_of_the_energy_at_fixed_means(is_centred):
    """After one update, where the means are not yet stationary; a gradient through the means is refused."""
    params, v = deep_parameters(3, is_centred), states(2)[1]
    energy, mean_field = functions_of(3, is_centred, 1)
    means = mean_field(params, v)
    expected = ravel_pytree(jax.grad(energy)(params, v, means))[0]
    bound = variational_free_energy(energy, mean_field)
    close(ravel_pytree(jax.grad(bound)(params, KEY, v))[0], expected)

    def through_the_means(params):
        means = mean_field(params, v)
        entropy = sum(jnp.sum(jax.scipy.special.entr(m) + jax.scipy.special.entr(1 - m)) for m in means)
        return energy(params, v, means) - entropy

    close(through_the_means(params), bound(params, KEY, v))
    assert jnp.abs(ravel_pytree(jax.grad(through_the_means)(params))[0] - expected).max() > 1e-3


def test_a_mean_field_of_unknown_length_can_be_used():
    """A loop until convergence has no reverse derivative, and needs none, because the means are fixed."""
    params, v = deep_parameters(3), states(2)[1]
    energy, mean_field = functions_of(3, False, 1)
    _, many_updates = functions_of(3, False, 200)
    start = mean_field(params, v)

    def converged(params, v):
        def update(carry):
            means, _ = carry
            first = jax.nn.sigmoid(params["bias_1"] + v @ params["kernel_0"] + params["kernel_1"] @ means[1])
            second = jax.nn.sigmoid(params["bias_2"] + first @ params["kernel_1"])
            return [first, second], jnp.abs(first - means[0]).max()

        return jax.lax.while_loop(lambda carry: carry[1] > 1e-14, update, (start, jnp.ones(())))[0]

    gradients = [jax.grad(variational_free_energy(energy, each))(params, KEY, v) for each in (converged, many_updates)]
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-10), *gradients)


# Pre-training


@pytest.mark.parametrize("doubled", ["visible", "hidden", "both"])
def test_tied_machines_are_two_explicit_copies(doubled):
    """E is the sum over all pairs of copies; means given two equal copies have doubled input and a single bias."""
    params = parameters(2, 2)
    visible, hidden = (1 + (doubled in (side, "both")) for side in ("visible", "hidden"))
    tied, tied_functions = deep_boltzmann.tied_rbm(params, doubled=doubled), machine(2 * visible, 2 * hidden)
    v, h = states(2 * visible), states(2 * hidden)
    found = over_states(tied_functions.energy)(tied, v, h)

    def explicit(params, v, h):
        copies_of_v, copies_of_h = v.reshape(visible, 2), h.reshape(hidden, 2)
        total = -sum(params["visible_bias"] @ x for x in copies_of_v)
        total -= sum(params["hidden_bias"] @ x for x in copies_of_h)
        return total - sum(x @ params["kernel"] @ y for x in copies_of_v for y in copies_of_h)

    close(found, over_states(explicit)(params, v, h))
    x = states(2)[2]
    mean = tied_functions.hidden(tied, jnp.tile(x, visible)).mean()
    once = jax.nn.sigmoid(params["hidden_bias"] + visible * x @ params["kernel"])
    close(mean, jnp.tile(once, hidden))
    wrong = {**tied, "hidden_bias": 2 * tied["hidden_bias"]}
    assert jnp.abs(over_states(tied_functions.energy)(wrong, v, h) - found).max() > 1e-2


def test_a_deep_machine_from_its_machines():
    """Kernels are kept, hidden biases are means of both machines, and a single machine keeps its distribution."""
    stack = [parameters(*SIZES[3][i : i + 2], seed=i) for i in range(2)]
    params = deep_boltzmann.from_rbms(stack)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, deep_parameters(3))
    close(params["kernel_0"], stack[0]["kernel"])
    close(params["kernel_1"], stack[1]["kernel"])
    close(params["bias_0"], stack[0]["visible_bias"])
    close(params["bias_1"], (stack[0]["hidden_bias"] + stack[1]["visible_bias"]) / 2)
    close(params["bias_2"], stack[1]["hidden_bias"])
    single = parameters(*SIZES[2])
    exact = free_energies(2, False, deep_boltzmann.from_rbms([single]))
    close(jax.nn.softmax(-exact), law(machine(*SIZES[2]), single, SIZES[2][0]))


# Arguments


def init(sizes):
    return deep_boltzmann.DBM(sizes).init(KEY, [jnp.zeros(size) for size in sizes])


def apply(method, *args):
    return model_of(3).apply({"params": deep_parameters(3)}, *args, method=method)


BAD_CALLS = {
    "one layer": (lambda: init((3,)), r"layer_sizes must have at least two entries; got \(3,\)"),
    "an empty layer": (lambda: init((3, 0)), "layer_sizes must be at least 1; got 0"),
    "a batch": (
        lambda: apply("energy", jnp.zeros((4, 2)), [jnp.zeros(3), jnp.zeros(2)]),
        r"layers must have the shapes \[\(2,\), \(3,\), \(2,\)\] \(use vmap for more\); got \[\(4, 2\), ",
    ),
    "a batch for the means": (
        lambda: apply("mean_field", jnp.zeros((4, 2))),
        r"v must be one vector of shape \(2,\) \(use vmap for more\); got \(4, 2\)",
    ),
    "updates": (lambda: apply("mean_field", jnp.zeros(2), -1), "num_updates must be non-negative and finite; got -1"),
    "doubled": (
        lambda: deep_boltzmann.tied_rbm(parameters(2, 2), doubled="neither"),
        "doubled must be 'visible', 'hidden' or 'both'; got 'neither'",
    ),
    "a centred machine": (
        lambda: deep_boltzmann.tied_rbm(parameters(2, 2, is_centred=True), doubled="both"),
        r"params must be those of a plain RBM .* \(see boltzmann.remove_offsets\); got .*'visible_offset'",
    ),
    "a Gaussian machine": (
        lambda: deep_boltzmann.from_rbms([parameters(2, 2, visible_units="gaussian")]),
        r"stack\[0\] must be those of a plain RBM of Bernoulli units, .*; got .*'log_variance'",
    ),
    "no machine": (lambda: deep_boltzmann.from_rbms([]), "stack must have at least one machine; got none"),
    "sizes": (
        lambda: deep_boltzmann.from_rbms([parameters(2, 3), parameters(2, 2)]),
        r"stack\[1\] must have 3 visible units, the number of hidden units of the machine below; got 2",
    ),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_wrong_argument_is_named(case):
    """ValueError with the argument's name, what was expected and what came."""
    call, message = BAD_CALLS[case]
    with pytest.raises(ValueError, match=message):
        call()
