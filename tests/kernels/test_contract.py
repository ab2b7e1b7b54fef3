"""The contract of kernels, tested for every kernel of one registry. Add new kernels to it.

`init(position, rng_key) -> state`, `step(rng_key, state, batch) -> (state, info)`: pure, one compilation, jit, vmap and
scan, all leaves arrays, keys used once. Errors that name a wrong argument are tested in `test_kernel_arguments.py`.
"""

import functools
import inspect
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import kernels, tree
from bayesjax.types import Given, Kernel
from tests.kernels.test_block_gibbs import gibbs
from tests.kernels.test_carrying import remembering

# Compiled for a few steps only: no time is spent on making it fast.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
BATCH = jnp.array([[0.1, -0.4, 0.9], [1.0, 0.3, 0.2]])
NUM = 2


def position():
    return {"w": jnp.array([0.5, -1.0, 2.0]), "b": jnp.array(0.3, jnp.float32)}


def logdensity(params, rng_key, batch):
    """A Gaussian with a key-dependent tilt, so that a kernel that forgets to pass a key on is seen."""
    data = batch.data if isinstance(batch, Given) else batch
    tilt = jax.random.normal(rng_key, ())
    return -0.5 * jnp.sum((params["w"] - data.mean(axis=0)) ** 2) - 0.5 * params["b"] ** 2 + tilt * params["b"]


def logdensity_with_aux(params, rng_key, batch):
    return logdensity(params, rng_key, batch), {"b squared": params["b"] ** 2}


def descent(density):
    """Optimize takes a loss."""

    def loss(params, rng_key, batch):
        return jax.tree.map(jnp.negative, density(params, rng_key, batch))

    return kernels.optimize(loss, optax.adam(1e-2))


def hot(density):
    return kernels.sghmc(density, step_size=0.05, friction=0.2)


def sgld(density):
    return kernels.sgld(density, step_size=0.1)


DENSE = np.eye(4, dtype=np.float32) + 0.5
hmc = functools.partial(kernels.hmc, num_integration_steps=3)
RMSPROP = kernels.rmsprop_preconditioner(1, num_adaptation=2)


def scheduled(density):
    return kernels.sghmc(density, step_size=lambda step: 0.05 / (1 + step), friction=0.2, temperature=0.5)


def keeping(density):
    """HMC of a density that is the same at every step."""

    def fixed(params, rng_key, batch):
        return density(params, jax.random.key(7), batch)

    return hmc(fixed, step_size=0.3, full_batch=True)


def game(density):
    return kernels.alternate(first=hot(density), second=kernels.particles(kernels.sgld(density, step_size=0.1), NUM))


def duel(density, method):
    """Two players who descend at once."""

    def loss(params, rng_key, batch):
        return jax.tree.map(jnp.negative, density(params, rng_key, batch))

    return kernels.game_descent({"first": loss, "second": loss}, step_size=0.1, method=method)


def tempered(density):
    return kernels.parallel_tempering(hot(density), density, NUM)


class Entry(NamedTuple):
    """How to make the kernel of a density, and a position for it."""

    make: object
    position: object = position


def stacked():
    return tree.stack([position()] * NUM)


class PlantedState(NamedTuple):
    """The state of the wrong kernels below."""

    position: dict


REGISTRY = {
    "optimize": Entry(descent),
    "sgld": Entry(sgld),
    "sghmc": Entry(hot),
    "sghmc with a schedule": Entry(scheduled),
    "sgld with a preconditioner": Entry(lambda density: kernels.sgld(density, step_size=0.1, preconditioner=RMSPROP)),
    "sghmc with a preconditioner": Entry(
        lambda density: kernels.sghmc(density, step_size=0.05, preconditioner=RMSPROP)
    ),
    "sgnht": Entry(lambda density: kernels.sgnht(density, step_size=0.1)),
    "nuts": Entry(lambda density: kernels.nuts(density, step_size=0.3)),
    "hmc with a dense mass": Entry(lambda density: hmc(density, step_size=0.3, inverse_mass_matrix=DENSE)),
    "hmc": Entry(lambda density: hmc(density, step_size=0.3)),
    "hmc that keeps its gradient": Entry(keeping),
    "averaging": Entry(lambda density: kernels.averaging(hot(density), 0.9)),
    "particles": Entry(lambda density: kernels.particles(hot(density), NUM), stacked),
    "block_gibbs": Entry(gibbs),
    "particles of block_gibbs": Entry(lambda density: kernels.particles(gibbs(density), NUM), stacked),
    "parallel_tempering": Entry(tempered, stacked),
    "particles of parallel_tempering": Entry(
        lambda density: kernels.particles(tempered(density), NUM), lambda: tree.stack([stacked()] * NUM)
    ),
    "alternate": Entry(game, lambda: {"first": position(), "second": stacked()}),
    **{
        f"game_descent {method}": Entry(
            functools.partial(duel, method=method), lambda: {"first": position(), "second": position()}
        )
        for method in ("optimistic", "extragradient", "consensus")
    },
    "by_path": Entry(lambda density: kernels.by_path(density, {"w": functools.partial(hmc, step_size=0.3), "b": hot})),
    "by_path together": Entry(lambda density: kernels.by_path(density, {"w": hot, "b": sgld}, order="together")),
    "by_path with fixed leaves": Entry(lambda density: kernels.by_path(density, {"b": hot, "*": None})),
    "repeat": Entry(lambda density: kernels.repeat(hot(density), 3)),
    "carrying": Entry(remembering),
    "adapt": Entry(lambda density: kernels.adapt(functools.partial(kernels.nuts, density), num_steps=20)),
}
every_kernel = pytest.mark.parametrize("name", REGISTRY)
WITHOUT_DENSITY = ("block_gibbs", "particles of block_gibbs")
ALIKE = (  # one more setting of a kernel, or method of a file, that is there already
    "sghmc with a schedule", "sgld with a preconditioner", "hmc with a dense mass", "game_descent optimistic",
    "game_descent consensus", "hmc that keeps its gradient", "particles of parallel_tempering",
    "by_path with fixed leaves",
)  # fmt: skip
ALGORITHMS = [pytest.param(name, marks=pytest.mark.slow if name in ALIKE else []) for name in REGISTRY]
every_algorithm = pytest.mark.parametrize("name", ALGORITHMS)
every_density = pytest.mark.parametrize("name", [case for case in ALGORITHMS if case.values[0] not in WITHOUT_DENSITY])


class Walk(NamedTuple):
    """Three steps of a kernel under jit."""

    kernel: Kernel
    step: object
    states: list
    infos: list
    num_traces: int


def walk(kernel, position):
    """Takes three steps with the keys of `split(key(1), 3)` and counts how often the step is traced."""
    traces = []

    @quick_jit
    def step(rng_key, state, batch):
        traces.append(1)
        return kernel.step(rng_key, state, batch)

    states, infos = [kernel.init(position, jax.random.key(0))], []
    for key in jax.random.split(jax.random.key(1), 3):
        state, info = step(key, states[-1], BATCH)
        states.append(state)
        infos.append(info)
    return Walk(kernel, step, states, infos, len(traces))


@functools.cache
def registered_walk(name):
    return walk(REGISTRY[name].make(logdensity_with_aux), REGISTRY[name].position())


def assert_arrays(value):
    """`value` is a NamedTuple with arrays for leaves."""
    assert isinstance(value, tuple)
    assert hasattr(value, "_fields")
    leaves = jax.tree.leaves(value)
    assert leaves
    assert all(isinstance(leaf, jax.Array) for leaf in leaves), value


@every_kernel
def test_signature(name):
    """`init(position, rng_key)` and `step(rng_key, state, batch)`, by these names."""
    kernel = REGISTRY[name].make(logdensity)
    assert isinstance(kernel, Kernel)
    assert list(inspect.signature(kernel.init).parameters) == ["position", "rng_key"]
    assert list(inspect.signature(kernel.step).parameters) == ["rng_key", "state", "batch"]


@every_kernel
def test_state_and_info_are_named_tuples_of_arrays(name):
    """State and info hold arrays only; `.position` has the shape it was given; a step moves it."""
    _, _, states, infos, _ = registered_walk(name)
    for value in states + infos:
        assert_arrays(value)
    given = REGISTRY[name].position()
    assert jax.tree.all(jax.tree.map(jnp.array_equal, states[0].position, given))
    assert jax.tree.structure(states[1].position) == jax.tree.structure(given)
    assert not jnp.array_equal(*(jax.tree.leaves(state.position)[0] for state in states[:2]))


@every_kernel
def test_one_compilation_serves_all_steps(name):
    """A step gives back a state of the very type it took, weak types included, so that jit traces it once."""
    assert registered_walk(name).num_traces == 1


def test_the_trace_count_sees_a_drifting_state():
    """Power: a state that starts out with a weak type or as an integer is traced twice."""

    def step(rng_key, state, batch):
        return PlantedState(jax.tree.map(lambda x: x + jax.random.normal(rng_key), state.position)), batch

    for start in (0.0, 0):
        drifting = Kernel(lambda position, rng_key, start=start: PlantedState({"x": jnp.array(start)}), step)
        assert walk(drifting, None).num_traces == 2


@every_algorithm
def test_jit_vmap_and_scan_give_the_draws_of_a_loop(name):
    """Three chains vmapped and scanned under jit are, to float rounding, each the loop of jitted steps."""
    kernel, step, states, infos, _ = registered_walk(name)
    keys = jax.random.split(jax.random.key(1), 3)
    other_keys = jax.random.split(jax.random.key(2), 3)

    @quick_jit
    @functools.partial(jax.vmap, in_axes=(0, None, None))
    def chain(keys, state, batch):
        return jax.lax.scan(lambda state, key: kernel.step(key, state, batch), state, keys)

    state, info = chain(jnp.stack([keys, other_keys]), states[0], BATCH)
    expected_info = tree.stack(infos)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[0], state), states[-1], rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(jax.tree.map(lambda x: x[0], info), expected_info, rtol=1e-4, atol=1e-5)
    if name != "optimize":  # whose Adam moves by the sign of the gradient: chains part later
        with pytest.raises(AssertionError):
            chex.assert_trees_all_close(jax.tree.map(lambda x: x[1], state), states[-1], rtol=1e-4, atol=1e-5)
    again, _ = step(keys[0], states[0], BATCH)
    chex.assert_trees_all_equal(again, states[1])


@every_density
def test_aux_is_reported_and_changes_nothing(name):
    """A density may return (scalar, aux): aux, taken before the step, arrives in info, and the draws are the same."""
    _, _, states, infos, _ = registered_walk(name)
    kernel = REGISTRY[name].make(logdensity)
    plain, info = quick_jit(kernel.step)(jax.random.split(jax.random.key(1), 3)[0], states[0], BATCH)
    chex.assert_trees_all_close(plain.position, states[1].position, rtol=1e-6)

    def aux_of(info):
        if name == "adapt" or "parallel_tempering" in name:
            return info.inner.aux
        if name.startswith("game_descent"):
            return info.aux["first"]
        if name.startswith("by_path"):
            return info.parts["b"].aux
        return info.players["first"].aux if name == "alternate" else info.aux

    assert jax.tree.leaves(aux_of(info)) == []
    aux = np.ravel(aux_of(infos[0])["b squared"])
    if name not in ("repeat", "nuts", "adapt") and "hmc" not in name.split():  # which report their last inner step
        np.testing.assert_allclose(np.abs(aux), 0.09, rtol=1e-6)
    assert (aux < 0).all() == (
        name.partition(" ")[0] in ("optimize", "game_descent")
    )  # the loss negates its aux as well


def is_moved_in(dtype, kernel, position, batch, *, x64=True):
    """Whether a step keeps every type of the state, and the position's: traced, never compiled."""
    with jax.enable_x64(x64):
        cast = jax.tree.map(lambda leaf: leaf.astype(dtype), (position, batch))
        before = jax.eval_shape(kernel.init, cast[0], jax.random.key(0))
        after, _ = jax.eval_shape(kernel.step, jax.random.key(1), before, cast[1])
    return before == after and {leaf.dtype for leaf in jax.tree.leaves(after.position)} == {jnp.dtype(dtype)}


@pytest.mark.parametrize(("dtype", "x64"), [("float64", True), ("float32", True), ("bfloat16", False)])
@every_kernel
def test_a_step_keeps_the_types_that_it_is_given(name, dtype, x64):
    """Leapfrog is held to 1e-12 in float64: no kernel rounds what it is given, or widens it.

    Nor does a kernel mix types with those of JAX's default: parameters in float32 where that is float64, or in 16 bits.
    """
    assert is_moved_in(dtype, REGISTRY[name].make(logdensity), REGISTRY[name].position(), BATCH, x64=x64)


def test_rounding_to_float32_is_caught():
    """Power: a step that rounds the position, and one that begins with it rounded."""

    def rounded(position):
        return PlantedState(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), position))

    def step(rng_key, state, batch):
        return rounded(state.position), batch

    for init in (lambda position, rng_key: PlantedState(position), lambda position, rng_key: rounded(position)):
        assert not is_moved_in("float64", Kernel(init, step), position(), BATCH)


def check_keys(kernel, position, batch):
    """Raises KeyReuseError if `init` or `step` uses a key twice, as far as JAX's checker sees.

    Both in float32 and in float64, whose noise comes from different functions. Traced and lowered, never compiled.
    """
    for x64 in (False, True):
        with jax.enable_x64(x64), jax.debug_key_reuse(True):
            cast = jax.tree.map(lambda leaf: leaf.astype(jnp.result_type(float)), (position, batch))
            init = jax.jit(kernel.init)
            state = jax.eval_shape(init, cast[0], jax.random.key(0))
            init.lower(cast[0], jax.random.key(0))
            jax.jit(kernel.step).lower(jax.random.key(1), state, cast[1])


@every_kernel
def test_keys_are_used_once(name):
    """`jax.debug_key_reuse` is clean over init and step of every kernel."""
    check_keys(REGISTRY[name].make(logdensity), REGISTRY[name].position(), BATCH)


@every_kernel
def test_every_step_needs_its_own_key(name):
    """Another key gives another step, and the same key the same: nothing but the arguments decides."""
    _, step, states, _, _ = registered_walk(name)
    first, again, other = (step(jax.random.key(seed), states[1], BATCH)[0].position for seed in (5, 5, 6))
    chex.assert_trees_all_equal(first, again)
    assert not jnp.array_equal(*(jax.tree.leaves(moved)[0] for moved in (first, other)))
