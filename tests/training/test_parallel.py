"""Kernels spread over devices give the numbers of one device, by `shard_map` and by `pmap`, with one reduction a step.

Eight host devices, from tests/conftest.py. Agreement is to float32 rounding over ten steps (2e-5 of the largest value):
sums over a batch are taken in another order. Particles are not summed over and agree bit for bit.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import axes, kernels, models, objectives, posteriors, training, tree
from bayesjax.objectives import adversarial
from bayesjax.training.parallel import axis_sizes, spread
from bayesjax.types import Given
from tests.parameters import some

NUM_DATA, NUM_STEPS, TOLERANCE = 160, 10, 2e-5
KEY = jax.random.key(0)
pytestmark = pytest.mark.usefixtures("compile_once")


def log_likelihood(params, rng_key, example):
    """A small regression whose inputs are blurred with each example's own noise."""
    x, y = example
    x = x + 0.3 * jax.random.normal(rng_key, x.shape)
    return -0.5 * (jnp.tanh(x @ params["hidden"]) @ params["out"] - y) ** 2, {"square": y**2}


def batch():
    random = np.random.default_rng(0)
    return random.normal(size=(16, 3)).astype(np.float32), random.normal(size=16).astype(np.float32)


POSITION = {"hidden": jnp.full((3, 5), 0.3), "out": jnp.linspace(-1.0, 1.0, 5)}
LOG_POSTERIOR = posteriors.log_posterior(log_likelihood, posteriors.gaussian(1.0), NUM_DATA)


def negative(params, rng_key, example):
    value, aux = log_likelihood(params, rng_key, example)
    return -value, aux


KERNELS = {
    "hmc": kernels.hmc(LOG_POSTERIOR, step_size=0.02, num_integration_steps=3),
    "nuts": kernels.nuts(LOG_POSTERIOR, step_size=0.05, max_num_doublings=2),
    "optimize": kernels.optimize(objectives.batch_mean(negative), optax.adam(1e-2)),
    "sghmc": kernels.sghmc(LOG_POSTERIOR, step_size=1e-3),
    "sgld": kernels.sgld(LOG_POSTERIOR, step_size=1e-3),
    "sgnht": kernels.sgnht(LOG_POSTERIOR, step_size=1e-3),
}
WAYS = [
    (8, "shard_map"),
    (2, "pmap"),
    *(pytest.param(*way, marks=pytest.mark.slow) for way in ((2, "shard_map"), (8, "pmap"))),
]


def steps(kernel, position, given):
    """Final state and every info, after NUM_STEPS steps under jit and scan."""

    @jax.jit
    def run(state):
        def one(state, step):
            return kernel.step(jax.random.fold_in(KEY, step), state, given)

        return jax.lax.scan(one, state, jnp.arange(NUM_STEPS))

    return jax.device_get(run(kernel.init(position, KEY)))


def assert_same(actual, expected, tolerance=TOLERANCE):
    def compare(a, b):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(np.abs(b).max(), 1e-3))

    jax.tree.map(compare, actual, expected)


def assert_same_steps(actual, expected):
    """As `assert_same`; what HMC and NUTS make of a difference of energies is rounded as they are."""
    info = expected[1]
    if isinstance(info, kernels.HMCInfo | kernels.NUTSInfo):
        differences = [name for name in ("energy_error", "acceptance_probability") if name in info._fields]
        for name in differences:
            values = [getattr(found[1], name) for found in (actual, expected)]
            np.testing.assert_allclose(*values, rtol=0, atol=TOLERANCE * np.abs(info.energy).max())
        actual, expected = (
            (state, info._replace(**dict.fromkeys(differences, np.zeros(1)))) for state, info in (actual, expected)
        )
    assert_same(actual, expected)


@pytest.fixture(scope="module")
def on_one_device():
    return {name: steps(kernel, POSITION, batch()) for name, kernel in KERNELS.items()}


@pytest.mark.parametrize(("num_devices", "transform"), WAYS)
@pytest.mark.parametrize("name", some(KERNELS, "optimize", "sghmc"))
def test_data_parallel_equals_one_device(name, num_devices, transform, on_one_device):
    """State, loss, gradient norm and aux of every step, with noise in the objective and in the kernel."""
    kernel = training.data_parallel(KERNELS[name], num_devices, transform=transform)
    assert_same_steps(steps(kernel, POSITION, batch()), on_one_device[name])


def test_devices_can_be_chosen():
    """The last two of eight, in the order given; more than there are is refused."""
    last = jax.devices()[-2:]
    state = spread(KERNELS["sghmc"], data=2, devices=last).init(POSITION, KEY)
    assert state.step.sharding.device_set == set(last) and state.step.sharding.mesh.devices.ravel().tolist() == last
    with pytest.raises(ValueError, match="need 4 x 1 devices; there are 2"):
        spread(KERNELS["sghmc"], data=4, devices=last)


def test_one_device_needs_nothing():
    """On one device the kernel is itself."""
    for transform in ("shard_map", "pmap"):
        assert spread(KERNELS["sghmc"], transform=transform) is KERNELS["sghmc"]


def test_the_comparison_catches_wrong_reductions(on_one_device, monkeypatch):
    """Power: a sum in place of the mean (prior and data counted once a device), no reduction, and noise that is equal
    on all devices or drawn from each device's own key are all refused."""
    wrong = {
        "mean": [jax.lax.psum, lambda values, axis: values],
        "local_part": [
            lambda values, axis: values[: len(values) // axes.size(axis)],
            lambda keys, axis: jax.vmap(jax.random.fold_in, (0, None))(
                keys[: len(keys) // axes.size(axis)], jax.lax.axis_index(axis)
            ),
        ],
    }
    for function, variants in wrong.items():
        for variant in variants:
            with monkeypatch.context() as patch:
                patch.setattr(axes, function, variant)
                moved = steps(training.data_parallel(KERNELS["sghmc"], 4), POSITION, batch())
            with pytest.raises(AssertionError):
                assert_same(moved, on_one_device["sghmc"])


@pytest.mark.parametrize(
    ("transform", "parts", "batch_axis"),
    [
        *(("shard_map", (1, 4), None), ("pmap", (1, 8), None)),
        *(pytest.param("shard_map", (2, 4), axis, marks=pytest.mark.slow) for axis in (None, 0)),
    ],
)
def test_particles_are_those_of_one_device(transform, parts, batch_axis, compile_fully):
    """Spread over particles, states are equal bit for bit and infos to rounding; over data as well, all to rounding.

    With `batch_axis=0` the first axis of the batch is spread over particles and the second over data.
    The sum in a log density is taken in an order that depends on how many particles a device has.
    """
    kernel = kernels.particles(KERNELS["sghmc"], 8, batch_axis=batch_axis)
    position = tree.stack([jax.tree.map(lambda leaf, i=i: i * leaf, POSITION) for i in range(8)])
    given = batch()
    if batch_axis == 0:  # each particle has data of its own
        given = tree.stack([jax.tree.map(lambda leaf, i=i: (1 + i / 8) * leaf, given) for i in range(8)])
    expected = steps(kernel, position, given)
    actual = steps(spread(kernel, data=parts[0], particle=parts[1], transform=transform), position, given)
    assert_same(actual[0], expected[0], 0.0 if parts[0] == 1 else TOLERANCE)
    assert_same(actual[1], expected[1])
    hidden = actual[0].position["hidden"]
    assert len(np.unique(hidden.reshape(8, -1), axis=0)) == 8


def bayesian_gan(num_generators=4, num_discriminators=2):
    """A small game of particles on both sides, its position and its batch."""
    generator, discriminator = models.MLP((8, 2)), models.MLP((8, 1))

    def generate(params, rng_key, num):
        return generator.apply({"params": params}, models.latent_noise(rng_key, num, 3))

    def log_prob(of_logit):
        return lambda params, x: of_logit(discriminator.apply({"params": params}, x)[:, 0])

    real, fake = log_prob(adversarial.log_prob_real), log_prob(adversarial.log_prob_fake)
    prior = posteriors.gaussian(1.0)
    game = kernels.alternate(
        discriminator=kernels.particles(
            kernels.repeat(
                kernels.sghmc(
                    posteriors.discriminator_conditional(generate, real, fake, prior, num_data=NUM_DATA, batch_size=8),
                    step_size=1e-4,
                ),
                2,
            ),
            num_discriminators,
        ),
        generator=kernels.repeat(
            kernels.particles(
                kernels.sghmc(
                    posteriors.generator_conditional(generate, real, prior, num_generated=NUM_DATA, batch_size=8),
                    step_size=1e-4,
                ),
                num_generators,
            ),
            2,
        ),
    )
    keys = jax.random.split(KEY, num_generators + num_discriminators)
    position = {
        "discriminator": jax.vmap(discriminator.init, (0, None))(keys[:num_discriminators], jnp.zeros((1, 2)))[
            "params"
        ],
        "generator": jax.vmap(generator.init, (0, None))(keys[num_discriminators:], jnp.zeros((1, 3)))["params"],
    }
    return game, position, posteriors.GANBatch(batch()[0][:, :2])


@pytest.fixture(scope="module")
def game_on_one_device():
    return steps(*bayesian_gan())


def test_a_compiled_init_leaves_the_particles_on_their_devices():
    """Else the first step moves them, and a program compiled for the state as it was refuses the one that it left."""
    kernel = spread(kernels.particles(KERNELS["optimize"], 4), particle=2)
    position = tree.stack([POSITION] * 4)
    eager, compiled = kernel.init(position, KEY), jax.jit(kernel.init)(position, KEY)
    elsewhere = kernel.init(jax.device_put(position, jax.devices()[7]), KEY)
    for leaves in zip(*map(jax.tree.leaves, (eager, compiled, elsewhere)), strict=True):
        assert len({leaf.sharding for leaf in leaves}) == 1 and not leaves[0].sharding.is_fully_replicated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("transform", "parts"), [("shard_map", (4, 2)), ("shard_map", (1, 2)), ("pmap", (1, 2)), ("pmap", (4, 1))]
)
def test_bayesian_gan_equals_one_device(transform, parts, game_on_one_device):
    """Both players spread, each facing all particles of the other; the batch and the fakes spread over `data`."""
    game, position, given = bayesian_gan()
    spread_game = spread(game, data=parts[0], particle=parts[1], transform=transform)
    assert_same(steps(spread_game, position, given), game_on_one_device)


@pytest.mark.slow
def test_bayesian_gan_on_four_devices():
    """Four generators on four devices and a discriminator on all."""
    game, position, given = bayesian_gan(num_discriminators=4)
    assert_same(steps(training.particle_parallel(game, 4), position, given), steps(game, position, given))


@pytest.mark.slow
@pytest.mark.parametrize("transform", ["shard_map", "pmap"])
def test_particles_that_do_not_divide_are_whole(transform):
    """One discriminator moves alike on all devices, while four generators are spread."""
    game, position, given = bayesian_gan(num_discriminators=1)
    assert_same(steps(spread(game, particle=4, transform=transform), position, given), steps(game, position, given))


@pytest.mark.slow
def test_of_particles_inside_particles_the_outermost_are_spread():
    """Two groups of three on two devices: those inside are whole, each with the key that it has on one device."""
    groups = kernels.particles(kernels.particles(KERNELS["sghmc"], 3), 2)
    position = tree.stack([tree.stack([POSITION] * 3)] * 2)
    assert_same(steps(spread(groups, particle=2), position, batch()), steps(groups, position, batch()), 0.0)


@pytest.mark.slow
def test_games_in_parallel_on_two_devices():
    """Each game's discriminator faces its own generators, though both are particles."""
    game, position, given = bayesian_gan(num_discriminators=2)
    games = kernels.particles(game, 2)
    positions = tree.stack([position, jax.tree.map(lambda leaf: 0.9 * leaf, position)])
    assert_same(steps(spread(games, particle=2), positions, given), steps(games, positions, given))


def test_all_devices_are_put_to_use():
    """As many devices as divide the particles share them, the others the batch; pmap takes one of the two."""
    one, ten = KERNELS["sghmc"], kernels.particles(KERNELS["sghmc"], 10)
    game = kernels.alternate(discriminator=kernels.particles(one, 1), generator=ten)
    assert axis_sizes(one, 4) == {"data": 4, "particle": 1}
    assert axis_sizes(ten, 2) == axis_sizes(game, 2, "pmap") == {"data": 1, "particle": 2}
    assert axis_sizes(game, 4) == {"data": 2, "particle": 2}
    assert axis_sizes(game, 4, "pmap") == {"data": 4, "particle": 1}


def all_reduced(kernel, position, given):
    """Bytes of each all-reduce of a compiled step whose info nobody reads."""
    state = kernel.init(position, KEY)
    text = jax.jit(lambda state, given: kernel.step(KEY, state, given)[0]).lower(state, given).compile().as_text()
    found = []
    for line in text.splitlines():
        match = re.search(r"= (.*?) all-reduce(?:-start)?\(", line)
        if match:
            shapes = re.findall(r"f32\[([\d,]*)\]", match[1])
            found.append(4 * sum(int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes))
    return found


@pytest.mark.parametrize("name", [n if n == "sghmc" else pytest.param(n, marks=pytest.mark.slow) for n in KERNELS])
def test_one_all_reduce_of_the_gradient(name):
    """One all-reduce a step, of exactly the gradient's bytes; none for particles.

    HMC's program has three: inside a trajectory, and at both ends, with the 4 bytes of the log density that decides.
    That of NUTS has two: at its start, and where a trajectory grows.
    """
    gradient = 4 * sum(leaf.size for leaf in jax.tree.leaves(POSITION))
    expected = {"hmc": [gradient, gradient + 4, gradient + 4], "nuts": [gradient + 4, gradient + 4]}
    found = sorted(all_reduced(training.data_parallel(KERNELS[name], 4), POSITION, batch()))
    assert found == expected.get(name, [gradient])
    copies = kernels.particles(KERNELS[name], 4)
    assert all_reduced(training.particle_parallel(copies, 4), tree.stack([POSITION] * 4), batch()) == []


def test_a_player_of_a_game_is_given_the_other_whole():
    """A player's kernel by itself: its data are spread, the position that it is given is not."""

    def loss(params, rng_key, given):
        return jnp.mean((given.data @ params["w"] - given.others["teacher"].sum()) ** 2)

    kernel, position = kernels.optimize(loss, optax.sgd(0.1)), {"w": jnp.ones(3)}
    given = Given(batch()[0], {"teacher": jnp.arange(3.0)})
    assert_same(steps(training.data_parallel(kernel, 4), position, given), steps(kernel, position, given))


def four_particles():
    return kernels.particles(KERNELS["sghmc"], 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spread(KERNELS["sghmc"], data=16), "need 16 x 1 devices; there are 8"),
        (lambda: spread(KERNELS["sghmc"], data=0), "data must be at least 1; got 0"),
        (lambda: training.data_parallel(KERNELS["sghmc"], 0), "data must be at least 1; got 0"),
        (lambda: spread(KERNELS["sghmc"], data=2, transform="gspmd"), "shard_map, pmap; got 'gspmd'"),
        (lambda: spread(four_particles(), data=2, particle=2, transform="pmap"), "pmap has one axis"),
        (lambda: training.particle_parallel(KERNELS["sghmc"], 2), "no particles to spread"),
        (lambda: training.particle_parallel(four_particles(), 3), "4 particles; .* multiple of the 3 devices"),
        (
            lambda: steps(training.data_parallel(KERNELS["sghmc"], 3), POSITION, batch()),
            r"axis 0 of a batch must be a multiple of the 3 devices in size; got shape \(16, 3\)",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
