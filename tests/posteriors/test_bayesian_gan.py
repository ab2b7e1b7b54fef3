"""Tests of the Bayesian GAN's conditionals against loops over networks, and of the whole game."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import posteriors, tree
from bayesjax.kernels import alternate, hmc, particles, sghmc
from bayesjax.objectives import semi_supervised
from bayesjax.posteriors import GANBatch
from bayesjax.types import Given

NUM_DATA, NUM_LABELLED, NUM_GENERATED, BATCH_SIZE, K = 40, 12, 25, 4, 3
RANDOM = np.random.default_rng(0)
PRIOR = posteriors.gaussian(2.0)


def draw(*shape):
    return jnp.asarray(RANDOM.normal(size=shape), jnp.float32)


def generate(params, rng_key, num):
    """Noise of 2 to images of 3 pixels."""
    z = jax.random.normal(rng_key, (num * 2,)).reshape(num, 2)
    return jnp.tanh(z @ params["w"] + params["b"])


def logits(params, x):
    return jnp.tanh(x @ params["w"] + params["b"]) @ params["v"]


def log_prob_real(params, x):
    return semi_supervised.log_prob_real(logits(params, x))


def log_prob_fake(params, x):
    return semi_supervised.log_prob_fake(logits(params, x))


def log_prob_label(params, x, label):
    return semi_supervised.log_prob_label(logits(params, x), label)


def generators(num):
    return {"w": draw(num, 2, 3), "b": draw(num, 3)}


def discriminators(num):
    return {"w": draw(num, 3, 4), "b": draw(num, 4), "v": draw(num, 4, K)}


def one(stacked, i=0):
    return jax.tree.map(lambda leaf: leaf[i], stacked)


GENERATORS, DISCRIMINATORS = generators(3), discriminators(2)
DATA = GANBatch(draw(8, 3), draw(6, 3), jnp.array([0, 2, 1, 1, 0, 2]))
KEY = jax.random.key(5)


def generator_density(pool):
    return posteriors.generator_conditional(
        generate, log_prob_real, PRIOR, num_generated=NUM_GENERATED, batch_size=BATCH_SIZE, pool=pool
    )


def discriminator_density(pool="sum", labelled=True, num_generated=NUM_GENERATED, num_data=NUM_DATA):
    return posteriors.discriminator_conditional(
        generate,
        log_prob_real,
        log_prob_fake,
        PRIOR,
        num_data=num_data,
        num_generated=num_generated,
        batch_size=BATCH_SIZE,
        pool=pool,
        log_prob_label=log_prob_label if labelled else None,
        num_labelled=NUM_LABELLED if labelled else 0,
    )


def total(values, num):
    """`num` times the mean, as a float."""
    return num * float(np.mean(np.asarray(values, np.float64)))


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_generator_conditional_is_the_loop(pool):
    """log p(th_g) + sum (or mean) over discriminators of num_generated * mean log P_k(real | G(z)), one noise."""
    params = one(GENERATORS)
    value, aux = generator_density(pool)(params, KEY, Given(DATA, {"discriminator": DISCRIMINATORS}))
    fakes = generate(params, KEY, BATCH_SIZE)
    each = [total(log_prob_real(one(DISCRIMINATORS, k), fakes), NUM_GENERATED) for k in range(2)]
    expected = {how: float(PRIOR(params)) + gather(each) for how, gather in (("sum", np.sum), ("mean", np.mean))}
    assert value == pytest.approx(expected.pop(pool), rel=1e-5)
    assert value != pytest.approx(*expected.values(), rel=1e-2)
    assert aux["log_prob_real"] == pytest.approx(np.mean(each) / NUM_GENERATED, rel=1e-5)


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_discriminator_conditional_is_the_loop(pool, labelled):
    """log p(th_d) + sum_j [N/n real + num_generated/n_g fake_j] + N_s/n_s labels, noise by split key; labels once.

    Power: labels counted once per generator, and J real terms against one fake, are refused.
    """
    params = one(DISCRIMINATORS)
    density = discriminator_density(pool, labelled)
    value, aux = density(params, KEY, Given(DATA if labelled else GANBatch(DATA.real), {"generator": GENERATORS}))
    real = total(log_prob_real(params, DATA.real), NUM_DATA)
    fake = [
        total(log_prob_fake(params, generate(one(GENERATORS, j), key, BATCH_SIZE)), NUM_GENERATED)
        for j, key in enumerate(jax.random.split(KEY, 3))
    ]
    label = total(log_prob_label(params, DATA.labelled, DATA.labels), NUM_LABELLED) if labelled else 0
    factor = 1 if pool == "sum" else 1 / 3
    expected = float(PRIOR(params)) + factor * (3 * real + sum(fake)) + label
    assert value == pytest.approx(expected, rel=1e-5)
    assert value != pytest.approx(expected + factor * (np.mean(fake) - sum(fake)), rel=1e-2)
    if labelled:
        assert value != pytest.approx(expected + 2 * label, rel=1e-2)
        assert aux["log_prob_label"] == pytest.approx(label / NUM_LABELLED, rel=1e-5)
    assert set(aux) == {"log_prob_real", "log_prob_fake"} | ({"log_prob_label"} if labelled else set())
    assert aux["log_prob_real"] == pytest.approx(real / NUM_DATA, rel=1e-5)
    assert aux["log_prob_fake"] == pytest.approx(np.mean(fake) / NUM_GENERATED, rel=1e-5)


def test_minibatches_are_unbiased():
    """Averaged over disjoint minibatches of real and labelled images, with the same noise, it is the full-batch value.

    Power: one minibatch alone is not.
    """
    density, given = discriminator_density(), {"generator": GENERATORS}
    params = one(DISCRIMINATORS)
    full, _ = density(params, KEY, Given(DATA, given))
    parts = [
        GANBatch(DATA.real[i * 4 : i * 4 + 4], DATA.labelled[i * 3 : i * 3 + 3], DATA.labels[i * 3 : i * 3 + 3])
        for i in range(2)
    ]
    values = [float(density(params, KEY, Given(part, given))[0]) for part in parts]
    assert np.mean(values) == pytest.approx(float(full), rel=1e-6)
    assert values[0] != pytest.approx(float(full), rel=1e-3)


def test_fakes_count_as_many_as_the_data_unless_told_otherwise():
    """num_generated=None is N."""
    given = Given(DATA, {"generator": GENERATORS})
    default, same, other = (
        float(discriminator_density(num_generated=num)(one(DISCRIMINATORS), KEY, given)[0])
        for num in (None, NUM_DATA, NUM_GENERATED)
    )
    assert default == same
    assert default != pytest.approx(other, rel=1e-2)


@pytest.mark.parametrize("pool", ["sum", "mean"])
def test_copies_of_a_player(pool):
    """Facing one network twice doubles its likelihood under "sum" and leaves it under "mean"."""
    params = one(GENERATORS)
    once, twice = (
        generator_density(pool)(params, KEY, Given(None, {"discriminator": tree.stack([one(DISCRIMINATORS)] * num)}))[0]
        - PRIOR(params)
        for num in (1, 2)
    )
    assert twice == pytest.approx(float(once) * (2 if pool == "sum" else 1), rel=1e-5)


def game(step_size):
    """The Bayesian GAN: J_g M generators against J_d M discriminators, as in the paper's algorithm 1."""
    return lambda num_generators, num_discriminators: alternate(
        discriminator=particles(sghmc(discriminator_density(), step_size=step_size), num_discriminators),
        generator=particles(sghmc(generator_density("sum"), step_size=step_size), num_generators),
    )


@functools.cache
def compiled_game(num_generators, num_discriminators):
    """Three sweeps, scanned, of any step size; and where they start. Compiled without optimisation: it is run once."""

    @functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
    def play(step_size, start):
        kernel = game(step_size)(num_generators, num_discriminators)
        init_key, run_key = jax.random.split(jax.random.key(0))
        state = kernel.init(start, init_key)
        return jax.lax.scan(lambda state, key: kernel.step(key, state, DATA), state, jax.random.split(run_key, 3))

    return play, {"discriminator": discriminators(num_discriminators), "generator": generators(num_generators)}


@pytest.mark.parametrize(
    ("num_d", "num_g", "num_mcmc"),
    [
        pytest.param(*numbers, marks=[] if numbers == (3, 2, 2) else pytest.mark.slow)
        for numbers in itertools.product((1, 2, 3), repeat=3)
    ],
)
def test_the_game_stays_finite(num_d, num_g, num_mcmc):
    """Every J_d, J_g, M in 1, 2, 3: all finite, all shapes kept, all chains moved."""
    num_generators, num_discriminators = num_g * num_mcmc, num_d * num_mcmc
    play, start = compiled_game(num_generators, num_discriminators)
    state, info = play(1e-4, start)
    assert tree.all_finite((state.position, info))
    assert jax.tree.map(jnp.shape, state.position) == jax.tree.map(jnp.shape, start)
    for name, num in (("generator", num_generators), ("discriminator", num_discriminators)):
        moved = state.position[name]["w"] != start[name]["w"]
        assert moved.reshape(num, -1).any(axis=1).all()
        assert info.players[name].logdensity.shape == (3, num)


@pytest.mark.slow
def test_hmc_plays_with_one_noise_for_a_whole_trajectory():
    """HMC's step on each conditional has a noise of its own, held fixed within its trajectory: as the step size falls
    the energy error vanishes, and both players move. Power: with noise drawn anew at each point it does not."""

    def fickle(density):
        def drawn_anew(params, rng_key, batch):
            bits = jax.lax.bitcast_convert_type(tree.norm(jax.lax.stop_gradient(params)), jnp.int32)
            return density(params, jax.random.fold_in(rng_key, bits), batch)

        return drawn_anew

    @functools.partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
    def energy_errors(change):
        move = functools.partial(hmc, step_size=1e-5, num_integration_steps=3)
        kernel = alternate(
            discriminator=particles(move(change(discriminator_density())), 2),
            generator=particles(move(change(generator_density("sum"))), 2),
        )
        start = {"discriminator": discriminators(2), "generator": generators(2)}
        state = kernel.init(start, jax.random.key(0))
        moved, info = kernel.step(jax.random.key(1), state, DATA)
        is_moved = {name: (moved.position[name]["w"] != start[name]["w"]).any() for name in start}
        return {name: jnp.abs(info.players[name].energy_error).max() for name in start}, is_moved

    errors, is_moved = energy_errors(lambda density: density)
    assert max(errors.values()) < 1e-2 and all(is_moved.values())
    assert min(energy_errors(fickle)[0].values()) > 0.1


def test_the_finiteness_check_sees_a_game_that_diverges():
    """Power: a step size of 1e30 is not finite."""
    play, start = compiled_game(4, 6)  # which is finite at 1e-4, as above
    state, info = play(1e30, start)
    assert not tree.all_finite((state.position, info))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: generator_density("max"), "pool must be 'sum' or 'mean'; got 'max'"),
        (lambda: discriminator_density("max"), "pool must be 'sum' or 'mean'; got 'max'"),
        (lambda: discriminator_density(num_data=0), "num_data must be positive and finite; got 0"),
        (lambda: discriminator_density(num_generated=-1), "num_generated must be positive and finite; got -1"),
        (
            lambda: posteriors.generator_conditional(generate, log_prob_real, PRIOR, num_generated=1, batch_size=0),
            "batch_size must be positive and finite; got 0",
        ),
        (
            lambda: posteriors.discriminator_conditional(
                generate, log_prob_real, log_prob_fake, PRIOR, num_data=1, log_prob_label=log_prob_label
            ),
            "num_labelled must be positive and finite; got 0",
        ),
    ],
)
def test_a_wrong_argument_is_named(make, message):
    """ValueError with the argument's name and what came."""
    with pytest.raises(ValueError, match=message):
        make()
