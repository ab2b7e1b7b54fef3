"""Invalid arguments of kernels raise errors that name them; valid arguments may be traced."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels
from tests.kernels.test_contract import BATCH, NUM, game, hmc, hot, logdensity, position, quick_jit, stacked
from tests.parameters import some


def make(method, **arguments):
    return lambda: method(logdensity, **{"step_size": 0.1, **arguments})


rmsprop = functools.partial(kernels.rmsprop_preconditioner, 1)
METHODS = (kernels.sgld, kernels.sghmc, kernels.sgnht, kernels.nuts, hmc)
BAD_ARGUMENTS = {
    "sgld step_size 0": (make(kernels.sgld, step_size=0.0), "step_size must be positive.*0"),
    "sgld step_size inf": (make(kernels.sgld, step_size=float("inf")), "step_size must be positive and finite.*inf"),
    "sghmc step_size -1": (make(kernels.sghmc, step_size=-1), "step_size must be positive.*-1"),
    "sghmc step_size nan": (make(kernels.sghmc, step_size=float("nan")), "step_size must be positive.*nan"),
    "sgld temperature -1": (make(kernels.sgld, temperature=-1.0), "temperature must be non-negative.*-1"),
    "sghmc temperature -1": (make(kernels.sghmc, temperature=-1.0), "temperature must be non-negative.*-1"),
    "sghmc noise_estimate": (make(kernels.sghmc, noise_estimate=-0.1), "noise_estimate must be non-negative.*-0.1"),
    "sgnht step_size 0": (make(kernels.sgnht, step_size=0.0), "step_size must be positive.*0"),
    "sgnht temperature 0": (make(kernels.sgnht, temperature=0.0), "temperature must be positive.*0"),
    "sgnht friction 0": (make(kernels.sgnht, friction=0.0), "friction must be positive.*0"),
    "nuts step_size 0": (make(kernels.nuts, step_size=0.0), "step_size must be positive.*0"),
    "nuts no doubling": (make(kernels.nuts, max_num_doublings=0), "max_num_doublings must be at least 1.*0"),
    "nuts threshold -5": (make(kernels.nuts, divergence_threshold=-5), "divergence_threshold must be positive; got -5"),
    "hmc threshold nan": (make(hmc, divergence_threshold=float("nan")), "divergence_threshold must be positive; .*nan"),
    "hmc half a step": (make(hmc, num_integration_steps=2.5), "num_integration_steps must be an integer.*got 2.5"),
    "hmc -1 steps": (make(hmc, num_integration_steps=jnp.int32(-1)), "num_integration_steps must be at least 1.*-1"),
    "hmc numpy step_size": (make(hmc, step_size=np.float32(-1)), "step_size must be positive.*-1"),
    "hmc array step_size": (make(hmc, step_size=jnp.float32(-1)), "step_size must be positive.*-1"),
    "sgld array temperature": (make(kernels.sgld, temperature=np.array(-1.0)), "temperature must be non-neg.*-1"),
    "jitted step_size": (jax.jit(make(hmc, step_size=jnp.float32(0))), "step_size must be positive.*0"),
    "rmsprop decay": (
        lambda: rmsprop(num_adaptation=1, decay=1.0),
        r"decay must be in \[0, 1\).*1",
    ),
    "rmsprop for ever": (
        lambda: rmsprop(num_adaptation=None),
        "num_adaptation must be an integer.*None",
    ),
    "polynomial power": (lambda: kernels.polynomial(0.1, power=2.0), "power must be at most 1.*2"),
    "no cycles": (
        lambda: kernels.cyclical(0.1, num_steps=5, num_cycles=6),
        "num_cycles must lie between .* 5; got 6",
    ),
    "short warm-up": (lambda: kernels.adapt(hmc, num_steps=3), "num_steps must be at least 20; got 3"),
    "adapt target": (
        lambda: kernels.adapt(hmc, num_steps=30, target_acceptance=1.0),
        r"target_acceptance must be in \(0, 1\).*1",
    ),
    "sghmc friction 0": (make(kernels.sghmc, friction=0.0), "friction must be strictly between 0 and 1.*0"),
    "sghmc friction 1": (make(kernels.sghmc, friction=1.0), "friction must be strictly between 0 and 1.*1"),
    "sghmc friction nan": (make(kernels.sghmc, friction=float("nan")), "friction must be strictly.*nan"),
    "sghmc array friction": (make(kernels.sghmc, friction=jnp.float32(1.5)), "friction must be strictly between.*1.5"),
    "sgnht array friction": (make(kernels.sgnht, friction=np.float32(-1)), "friction must be positive.*-1"),
    "averaging decay": (lambda: kernels.averaging(hot(logdensity), np.array(1.0)), r"decay must be in \[0, 1\).*1"),
    "particles none": (lambda: kernels.particles(hot(logdensity), 0), "num must be at least 1.*0"),
    "particles in turns": (
        lambda: kernels.particles(hot(logdensity), 2, chunk_size=0),
        "chunk_size must be at least 1.*0",
    ),
    "repeat never": (lambda: kernels.repeat(hot(logdensity), 0), "num_steps must be at least 1.*0"),
    "no players": (kernels.alternate, "players is empty"),
    "clip_weights": (lambda: kernels.clip_weights(-0.01), "bound must be positive.*-0.01"),
    "unknown player": (
        lambda: game(logdensity).init({"first": position(), "third": stacked()}, jax.random.key(0)),
        r"position must have the keys \['first', 'second'\]; got \['first', 'third'\]",
    ),
    "missing player": (
        lambda: game(logdensity).init({"first": position()}, jax.random.key(0)),
        r"position must have the keys \['first', 'second'\]; got \['first'\]",
    ),
    "not stacked": (
        lambda: kernels.particles(hot(logdensity), NUM).init(position(), jax.random.key(0)),
        "position must have one leading axis",
    ),
    "too few stacked": (
        lambda: kernels.particles(hot(logdensity), 5).init(stacked(), jax.random.key(0)),
        "position must stack 5 particles.*2",
    ),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_a_wrong_argument_is_named(case):
    """ValueError with the argument's name, what was expected and what came."""
    call, message = BAD_ARGUMENTS[case]
    with pytest.raises(ValueError, match=message):
        call()


def of_step_size(method):
    """A kernel of a step size, and its initial state."""

    def made(step_size):
        kernel = method(logdensity, step_size=step_size)
        return kernel, kernel.init(position(), jax.random.key(0))

    return made


def of_other(method, name):
    return lambda value: method(logdensity, **{"step_size": 0.1, name: value})


@pytest.mark.parametrize(
    ("name", "make_kernel"),
    [
        *(("step_size", of_step_size(method)) for method in METHODS),
        *(("temperature", of_other(method, "temperature")) for method in METHODS),
        *(("friction", of_other(method, "friction")) for method in (kernels.sghmc, kernels.sgnht)),
        ("noise_estimate", of_other(kernels.sghmc, "noise_estimate")),
        ("thermal_mass", of_other(kernels.sgnht, "thermal_mass")),
        ("divergence_threshold", of_other(kernels.nuts, "divergence_threshold")),
        ("step_size", lambda value: kernels.game_descent({"a": logdensity}, step_size=value)),
        ("step_size", lambda value: kernels.jittered(value, 0.5)),
        ("step_size", lambda value: kernels.adapt(hmc, num_steps=20, step_size=value)),
        ("decay", lambda value: kernels.averaging(hot(logdensity), value)),
    ],
)
def test_an_array_is_no_hyper_parameter(name, make_kernel):
    """With axes it would broadcast a scalar of the position into an array; a traced one is refused too."""
    message = rf"{name} must be a number; got an array of shape \(3,\)"
    values = jnp.full(3, 0.1)
    with pytest.raises(ValueError, match=message):
        make_kernel(values)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda values: make_kernel(values) and None, values)


@pytest.mark.parametrize("method", METHODS)
def test_a_schedule_returns_a_number(method):
    def step(values):
        kernel, state = of_step_size(method)(lambda step: values)
        return kernel.step(jax.random.key(1), state, BATCH)

    with pytest.raises(ValueError, match=r"step_size must be a number; got an array of shape \(3,\)"):
        jax.eval_shape(step, jnp.full(3, 0.1))


EVERY = {
    **{method.__name__ if hasattr(method, "__name__") else "hmc": method for method in METHODS},
    "optimize": lambda loss, step_size: kernels.optimize(loss, optax.sgd(step_size)),
    "game_descent": lambda loss, step_size: kernels.game_descent({"a": loss}, step_size=step_size),
    "adapt": lambda density, step_size: kernels.adapt(functools.partial(hmc, density), num_steps=20),
}
every = pytest.mark.parametrize("name", EVERY)


def start_of(name, position):
    return {"a": position} if name == "game_descent" else position


@every
@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (jnp.arange(3), r"position must hold floating-point arrays; got int32 at (a/)?layer/w"),
        (jnp.tanh, r"position must hold floating-point arrays; got \w+ at (a/)?layer/w: adapters.split"),
        ("text", r"position must hold floating-point arrays; got str at (a/)?layer/w$"),
        (jnp.zeros(3, complex), r"position must hold floating-point arrays; got complex64 at (a/)?layer/w"),
    ],
)
def test_a_position_of_integers_is_refused(name, leaf, message):
    kernel = EVERY[name](logdensity, step_size=0.1)
    with pytest.raises(ValueError, match=message):
        kernel.init(start_of(name, {"layer": {"w": leaf, "b": jnp.zeros(2)}}), jax.random.key(0))


@every
def test_a_position_may_hold_python_floats(name):
    """They become arrays, with which a step that is not jitted works, too."""
    kernel = EVERY[name](logdensity, step_size=0.1)
    state = kernel.init(start_of(name, {"layer": {"w": 0.5, "b": np.zeros(2)}}), jax.random.key(0))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))


@every
def test_a_density_takes_three_arguments(name):
    """A function of the parameters alone is refused where the kernel is made (`adapt` makes its own in `init`)."""
    with pytest.raises(
        ValueError, match=r"(logdensity|loss|loss of a) must take \(params, rng_key, batch\); got \(p\)"
    ):
        EVERY[name](lambda p: 0.0, step_size=0.1).init(start_of(name, position()), jax.random.key(0))
    with pytest.raises(ValueError, match=r"must be a function \(params, rng_key, batch\); got float"):
        EVERY[name](1.0, step_size=0.1).init(start_of(name, position()), jax.random.key(0))
    with pytest.raises(ValueError, match=r"got \(params, rng_key, batch=\.\.\.\)"):  # a keyword, and no longer a place
        bound = functools.partial(lambda params, rng_key, batch: 0.0, batch=None)
        EVERY[name](bound, step_size=0.1).init(start_of(name, position()), jax.random.key(0))


@every
def test_a_density_returns_a_scalar(name):
    """A vector would be summed without a word; only HMC and NUTS accept one, as terms, and refuse more axes."""
    accepts_terms = name in ("hmc", "nuts", "adapt")

    def moved(shape):
        kernel = EVERY[name](lambda p, rng_key, batch: jnp.zeros(shape) + jnp.sum(p["w"]), step_size=0.1)
        state = kernel.init(start_of(name, position()), jax.random.key(0))
        return jax.eval_shape(kernel.step, jax.random.key(1), state, BATCH)

    with pytest.raises(ValueError, match=r"(logdensity|loss|loss of a) must return a scalar.* of shape \(2, 3\)"):
        moved((2, 3))
    if accepts_terms:
        moved((3,))
    else:
        with pytest.raises(ValueError, match=r"(logdensity|loss|loss of a) must return a scalar.* of shape \(3,\)"):
            moved((3,))


@pytest.mark.parametrize("method", some(METHODS, kernels.sgld, kernels.sghmc, kernels.sgnht))
def test_hyper_parameters_may_be_traced(method):
    """A step size or temperature under jit is not checked, and gives what the number gives."""

    def one(step_size, temperature):
        kernel = method(logdensity, step_size=step_size, temperature=temperature)
        state = kernel.init(position(), jax.random.key(0))
        return kernel.step(jax.random.key(1), state, BATCH)[0].position

    chex.assert_trees_all_close(quick_jit(one)(0.1, 0.5), one(0.1, 0.5), rtol=1e-5)


@pytest.mark.parametrize("num", [np.int64(3), jnp.int32(3), "traced"])
def test_the_number_of_leaps_may_be_an_array(num):
    """An integer array, concrete or traced, gives the result of the number."""

    def one(num):
        kernel = hmc(logdensity, step_size=0.1, num_integration_steps=num, divergence_threshold=float("inf"))
        return kernel.step(jax.random.key(1), kernel.init(position(), jax.random.key(0)), BATCH)[0].position

    chex.assert_trees_all_close(quick_jit(one)(3) if num == "traced" else one(num), one(3), rtol=1e-5)


def test_what_does_not_accept_cannot_be_adapted():
    """Dual averaging needs an acceptance probability: a kernel without it is named by what its info has."""

    def make(step_size, inverse_mass_matrix):
        return kernels.sgld(logdensity, step_size=step_size)

    kernel = kernels.adapt(make, num_steps=20)
    state = kernel.init(position(), jax.random.key(0))
    with pytest.raises(ValueError, match="info has acceptance_probability; got logdensity"):
        kernel.step(jax.random.key(1), state, BATCH)


def test_clip_weights_keeps_weights_in_bounds():
    """As the last link of a chain: after each step every weight is inside [-bound, bound], without it one is not."""

    def farthest(optimizer):
        kernel = kernels.optimize(lambda params, rng_key, batch: -logdensity(params, rng_key, batch), optimizer)
        state = kernel.init(position(), jax.random.key(0))
        state, _ = kernel.step(jax.random.key(1), state, BATCH)
        return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(state.position))

    assert farthest(optax.chain(optax.sgd(0.1), kernels.clip_weights(0.25))) <= 0.25 + 1e-6
    assert farthest(optax.sgd(0.1)) > 0.25
