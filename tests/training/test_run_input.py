"""Refusals before or at the first step: a start that is not finite, a batch that ignores the step."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import pytest
from test_run import DIM, CountState, X, start, walk

from bayesjax import checks, data, kernels, training
from bayesjax.types import Kernel


class DensityInfo(NamedTuple):
    logdensity: jax.Array


class InfiniteState(NamedTuple):
    position: jax.Array
    best: jax.Array


def log_walk() -> Kernel:
    """Moves along the gradient of log x, which is infinite at 0 and not a number below."""

    def step(rng_key, state, batch):
        del rng_key, batch
        value, gradient = jax.value_and_grad(jnp.log)(state.position)
        return CountState(state.position + 0.1 * gradient), DensityInfo(value)

    return Kernel(lambda position, rng_key: CountState(position), step)


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (jnp.nan, "warm-up: the initial position is not finite: position is nan"),
        (0.0, "warm-up: the state is not finite after step 4; .* The initial state is the cause: after the first step, "
              "logdensity is -inf"),
    ],
    ids=["state", "density"],
)  # fmt: skip
def test_a_bad_start_is_named(start, words):
    """A state that is not finite is refused before the first step; a density that is not is told after it, as such."""
    begin = CountState(jnp.float32(start))
    with pytest.raises(training.NonFinite, match=words):
        training.run(jax.random.key(0), log_walk(), begin, num_steps=8, chunk_size=4, label="warm-up")


def test_other_parts_of_a_state_may_begin_infinite():
    """As the best value of an optimiser does; a density that is -inf at the start of HMC is told by its first step."""

    def step(rng_key, state, batch):
        del rng_key, batch
        return InfiniteState(state.position, jnp.minimum(state.best, 1.0)), DensityInfo(state.position)

    begin = InfiniteState(jnp.float32(1.0), jnp.float32(jnp.inf))
    assert training.run(jax.random.key(0), Kernel(InfiniteState, step), begin, num_steps=2)[1].steps == 2
    unmoved = Kernel(InfiniteState, lambda rng_key, state, batch: (state, DensityInfo(state.position)))
    assert training.run(jax.random.key(0), unmoved, begin, num_steps=2)[1].steps == 2  # and stay so for a chunk
    hmc = kernels.hmc(lambda position, rng_key, batch: jnp.log(position).sum(), step_size=0.1, num_integration_steps=2)
    start = hmc.init(jnp.zeros(2), jax.random.key(0))
    with pytest.raises(
        training.NonFinite, match=r"initial state is the cause: after the first step, .*is (-inf|inf|nan)"
    ):
        training.run(jax.random.key(1), hmc, start, num_steps=4)


def test_kernel_and_state_are_named():
    with pytest.raises(ValueError, match="kernel must be a kernel, with init and step; got function"):
        training.run(jax.random.key(0), lambda x: x, start(walk()), num_steps=2)
    with pytest.raises(ValueError, match=r"state must be kernel.init\(position, rng_key\), with a position; got dict"):
        training.run(jax.random.key(0), walk(), {"w": X}, num_steps=2)


STEPS = {  # a wrong result of a step, and the words that name it
    "type": (
        lambda state: (state._replace(best=1), ()),
        "kernel.step must keep the shapes and types of its state; state.best must be float32[], got int32[]",
    ),
    "half": (
        lambda state: (state._replace(position={"w": state.position["w"].astype(jnp.bfloat16)}), ()),
        "kernel.step must keep the shapes and types of its state; state.position['w'] must be float32[2], got "
        "bfloat16[2]",
    ),
    "shape": (
        lambda state: (state._replace(best=state.position["w"]), ()),
        "kernel.step must keep the shapes and types of its state; state.best must be float32[], got float32[2]",
    ),
    "leaf": (
        lambda state: (state._replace(position={**state.position, "v": 0.0}), ()),
        "kernel.step must keep the structure of its state, InfiniteState; got InfiniteState with state.position['v']",
    ),
    "state alone": (
        lambda state: state,
        "kernel.step must keep the structure of its state, InfiniteState; got dict without state.position['w']",
    ),
    "none": (lambda state: None, "kernel.step must return the pair (state, info); got NoneType"),
    "three": (lambda state: (state, (), ()), "kernel.step must return the pair (state, info); got a tuple of 3"),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_keeps_the_types_of_the_state(name):
    """The message names the leaf, also if `repeat` carries the state.

    A Python number may become an array, and a pair may be a list.
    """
    result, words = STEPS[name]
    kernel = Kernel(lambda position, rng_key: position, lambda rng_key, state, batch: result(state))
    begin = InfiniteState({"w": jnp.zeros(2)}, jnp.float32(0.0))
    for each in (kernel, kernels.repeat(kernel, 2)):
        with pytest.raises(ValueError, match=r"^kernel\.step must") as error:
            training.run(jax.random.key(0), each, begin, num_steps=2)
        assert str(error.value) == words
    number = begin._replace(best=0)
    counting = Kernel(kernel.init, lambda rng_key, state, batch: [state._replace(best=state.best + 1.5), ()])
    assert training.run(jax.random.key(0), counting, number, num_steps=2)[0].best == 3


def test_a_callback_may_return_nothing():
    steps = []
    options = {"num_steps": 4, "chunk_size": 2, "callback": lambda step, state: steps.append(step)}
    _, trace = training.run(jax.random.key(0), walk(), start(walk()), {"x": X}, **options)
    assert steps == [2, 4] and [row["step"] for row in trace.metrics] == [2, 4]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(iter([1]), "got list_iterator: data.stream takes iterators"), ({"x": [X, "a"]}, "got str at x/1")],
)
def test_data_are_arrays(wrong, words):
    with pytest.raises(ValueError, match=f"^data must hold arrays; {words}$"):
        training.run(jax.random.key(0), walk(), start(walk()), wrong, num_steps=2)


def test_a_function_that_ignores_the_step_is_refused():
    """An iterator would give its first batch for ever; also within the combinators, and as a pytree.

    A batch that is the same at every step comes as the arrays themselves; a part of a batch may be constant; a callback
    may read another batch at every step.
    """
    kernel, key = walk(), jax.random.key(2)
    iterator = iter([{"x": X}] * 100)
    ignoring = {
        "iterator": lambda: lambda step: next(iterator),
        "constant": lambda: lambda step: {"x": jnp.asarray(X)},
        "jitted": lambda: jax.jit(lambda step: {"x": next(iterator)["x"] + 0 * jnp.ones(DIM)}),
        "pytree": lambda: jax.tree_util.Partial(lambda arrays, step: arrays, {"x": X}),
        "numbered": lambda: data.number_batches(lambda step: next(iterator)),
        "binarised": lambda: data.Binarised(key, lambda step: jnp.ones((3, 2))),
    }
    for make in ignoring.values():
        with pytest.raises(ValueError, match="returned the same batch at every step"):
            training.run(key, kernel, start(kernel), make(), num_steps=2)
    partly = lambda step: {"x": jnp.asarray(X), "scale": 1.0 * step}  # noqa: E731
    read = lambda step: {"x": jax.pure_callback(lambda step: X[step : step + 2], jnp.zeros((2, DIM)), step)}  # noqa: E731
    several = data.stacked_minibatches(jax.random.split(key, 1), {"x": X[None]}, 4)
    for source in (partly, jax.jit(partly), read, lambda step: None, several):
        checks.varies_with_step(source, "data")
