"""Kernels of parts of a network: equal to one kernel of all parts, exact conditionals, fixed leaves, and errors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels, posteriors, tree
from bayesjax.types import Kernel

quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
PRECISION = np.array([[2.0, 0.8, 0.3], [0.8, 1.5, -0.4], [0.3, -0.4, 1.0]])
BATCH = jnp.zeros(())


def position():
    return {"body": {"kernel": jnp.array([1.0])}, "head": {"bias": jnp.array([0.5]), "kernel": jnp.array([-1.0])}}


def logdensity(params, rng_key, batch):
    """A Gaussian of mean zero with the matrix PRECISION."""
    x = jnp.concatenate(jax.tree.leaves(params))
    return -0.5 * x @ PRECISION @ x, {"norm": jnp.linalg.norm(x)}


def cold(density):
    return kernels.sghmc(density, step_size=0.05, temperature=0.0)


def adam(density):
    return kernels.optimize(posteriors.as_loss(density, 10), optax.adam(0.1))


def run(kernel, num_steps, start=None, seed=0):
    """Positions after each step, `[num_steps, 3]`, and the infos."""

    def step(state, key):
        state, info = kernel.step(key, state, BATCH)
        return state, (jnp.concatenate(jax.tree.leaves(state.position)), info)

    keys = jax.random.split(jax.random.key(seed), num_steps)
    return quick_jit(lambda: jax.lax.scan(step, kernel.init(start or position(), keys[0]), keys)[1])()


@pytest.mark.parametrize("make", [cold, adam])
def test_together_equals_one_kernel_of_all_parts(make):
    """Without noise the draws are the same; "in turn" sees the new values of the first part, and differs."""
    expected, _ = run(make(logdensity), 20)
    parts = {"body/*": make, "*/bias": make, "*": make}
    together, info = run(kernels.by_path(logdensity, parts, order="together"), 20)
    np.testing.assert_allclose(together, expected, rtol=1e-5, atol=1e-6)
    assert set(info.parts) == set(parts)
    np.testing.assert_allclose(info.parts["*"].aux["norm"][1:], np.linalg.norm(expected, axis=1)[:-1], rtol=1e-5)
    in_turn, _ = run(kernels.by_path(logdensity, parts), 20)
    assert np.abs(in_turn - expected).max() > 1e-4


def test_fixed_leaves_may_be_integers():
    """Only moving leaves are differentiated."""
    start = {**position(), "table": jnp.arange(3)}

    def density(params, rng_key, batch):
        return logdensity({name: params[name] for name in ("body", "head")}, rng_key, batch)

    for order in ("in turn", "together"):
        kernel = kernels.by_path(density, {"table": None, "*": cold}, order=order)
        state, info = kernel.step(jax.random.key(1), kernel.init(start, jax.random.key(0)), BATCH)
        np.testing.assert_array_equal(state.position["table"], np.arange(3))
        assert set(info.aux) == {"norm"}


def test_the_gradient_norm_is_that_of_the_part():
    """Diagnostics are those of each part: their squares add up to the square for all leaves."""
    _, whole = run(cold(logdensity), 3)
    _, info = run(kernels.by_path(logdensity, {"body/*": cold, "head/*": cold}, order="together"), 3)
    squares = sum(part.gradient_norm**2 for part in info.parts.values())
    np.testing.assert_allclose(squares, whole.gradient_norm**2, rtol=1e-5)
    for part in info.parts.values():
        np.testing.assert_allclose(part.logdensity, whole.logdensity, rtol=1e-5)


def test_fixed_leaves_give_the_exact_conditional():
    """HMC of the head, with the body fixed at 1, has the conditional mean and covariance within 5 standard errors.

    False alarms: 3e-6. The marginal law of the head, in which the body is free, is refused.
    """
    hmc = functools.partial(kernels.hmc, step_size=kernels.jittered(0.7, 0.9), num_integration_steps=4)
    draws, _ = run(kernels.by_path(logdensity, {"head/*": hmc, "*": None}), 6000)
    assert (draws[:, 0] == 1.0).all()
    head, covariance = np.asarray(draws[500:, 1:], float), np.linalg.inv(PRECISION[1:, 1:])

    def deviation(mean, covariance):
        batches = (head - mean).reshape(50, -1, 2)
        centred = batches[..., :, None] * batches[..., None, :] - covariance
        blocks = np.concatenate([batches.mean(axis=1), centred.mean(axis=1).reshape(50, 4)[:, [0, 1, 3]]], axis=1)
        return np.abs(blocks.mean(axis=0) / blocks.std(axis=0, ddof=1) * np.sqrt(50)).max()

    mean = -covariance @ PRECISION[1:, 0]
    assert deviation(mean, covariance) < 5
    assert deviation(0 * mean, np.linalg.inv(PRECISION)[1:, 1:]) > 5


@pytest.mark.slow
def test_samplers_in_turn_have_the_joint_law():
    """HMC of each part given the other leaves the joint Gaussian invariant; values of the start are refused.

    Ten thousand chains, 60 sweeps; the largest error of a variance or covariance is below 5 standard errors.
    """
    hmc = functools.partial(kernels.hmc, step_size=0.6, num_integration_steps=3)
    kernel = kernels.by_path(logdensity, {"body/*": hmc, "head/*": hmc})
    starts = jax.tree.map(lambda leaf: jnp.zeros((10_000, 1)), position())

    def chain(start, key):
        def step(state, key):
            return kernel.step(key, state, BATCH)[0], None

        return jax.lax.scan(step, kernel.init(start, key), jax.random.split(key, 60))[0].position

    end = jax.jit(jax.vmap(chain))(starts, jax.random.split(jax.random.key(3), 10_000))
    x = np.concatenate(jax.tree.leaves(end), axis=1).astype(float)
    products = x[:, :, None] * x[:, None, :] - np.linalg.inv(PRECISION)
    assert np.abs(products.mean(axis=0) / products.std(axis=0) * 100).max() < 5
    shuffled = np.stack([np.roll(column, i) for i, column in enumerate(x.T)], axis=1)
    products = shuffled[:, :, None] * shuffled[:, None, :] - np.linalg.inv(PRECISION)
    assert np.abs(products.mean(axis=0) / products.std(axis=0) * 100).max() > 5


@pytest.mark.parametrize("order", ["in turn", "together"])
def test_optimised_features_under_a_sampled_head(order):
    """The body settles at the mode that it has given a head at temperature 0, while the head at T = 1 keeps moving."""
    parts = {"head/*": functools.partial(kernels.sgld, step_size=0.01), "*": adam}
    draws, info = run(kernels.by_path(logdensity, parts, order=order), 400)
    assert draws[:, 1:].std(axis=0).min() > 0.1 and draws[200:, 0].std() < draws[200:, 1].std()
    assert jnp.isfinite(info.parts["*"].loss).all() and jnp.isfinite(info.parts["head/*"].logdensity).all()


def test_particles_of_parts():
    """A part of a network in many copies, through `kernels.particles`."""
    kernel = kernels.particles(kernels.by_path(logdensity, {"head/*": cold, "*": None}), 3)
    state = kernel.init(tree.stack([position()] * 3), jax.random.key(0))
    state, _ = quick_jit(kernel.step)(jax.random.key(1), state, BATCH)
    np.testing.assert_array_equal(state.position["body"]["kernel"], np.ones((3, 1)))


hmc = functools.partial(kernels.hmc, step_size=0.1, num_integration_steps=2)
ERRORS = {
    "kernels must have at least one kernel": lambda: kernels.by_path(logdensity, {"*": None}),
    "order must be one of in turn, together; got 'at once'": lambda: kernels.by_path(
        logdensity, {"*": cold}, order="at once"
    ),
    r"density must take \(params, rng_key, batch\)": lambda: kernels.by_path(lambda params: 0.0, {"*": cold}),
    "kernels must cover every leaf; none of head/. matches body/kernel": lambda: run(
        kernels.by_path(logdensity, {"head/*": cold}), 1
    ),
    "kernels must each be the first to match a leaf; tail/. is not": lambda: run(
        kernels.by_path(logdensity, {"tail/*": cold, "*": None}), 1
    ),
    'order must be "in turn" for the kernel of ., which evaluates its density': lambda: run(
        kernels.by_path(logdensity, {"*": hmc}, order="together"), 1
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    """Wrong arguments give one line that says what came and what was expected."""
    with pytest.raises(ValueError, match=message):
        ERRORS[message]()


def test_a_together_kernel_is_a_kernel():
    assert isinstance(kernels.by_path(logdensity, {"*": cold}, order="together"), Kernel)
