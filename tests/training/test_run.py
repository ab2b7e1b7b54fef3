"""The loop: what a run computes, keeps, reports and refuses."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import data, kernels, training
from bayesjax.types import Kernel

NUM, DIM = 12, 3
X = np.random.default_rng(0).normal(size=(NUM, DIM)).astype(np.float32)


class CountState(NamedTuple):
    position: jax.Array


class CountInfo(NamedTuple):
    before: jax.Array
    is_even: jax.Array


def counter(bad_step: int = 10**6) -> Kernel:
    """Moves the position by one a step, so that every number of a run is known; infinite at `bad_step`."""

    def init(position, rng_key):
        del rng_key
        return CountState(position)

    def step(rng_key, state, batch):
        del rng_key, batch
        moved = jnp.where(state.position + 1 == bad_step, jnp.inf, state.position + 1)
        return CountState(moved), CountInfo(state.position.astype(jnp.int32), state.position % 2 == 0)

    return Kernel(init, step)


class WalkState(NamedTuple):
    position: dict


class WalkInfo(NamedTuple):
    distance: jax.Array


def walk() -> Kernel:
    """A random walk drawn to the batch's mean; without a batch, to 0."""

    def init(position, rng_key):
        del rng_key
        return WalkState(position)

    def step(rng_key, state, batch):
        center = 0.0 if batch is None else batch["x"].mean(axis=0)
        w = state.position["w"]
        w = w + 0.3 * (center - w) + jax.random.normal(rng_key, w.shape)
        return WalkState({"w": w}), WalkInfo(jnp.sum((w - center) ** 2))

    return Kernel(init, step)


def start(kernel: Kernel):
    return kernel.init({"w": jnp.ones(DIM)}, jax.random.key(1))


def plain_loop(rng_key, kernel, state, batch_of, num_steps, shift=0):
    """Every position and info of a Python loop over the steps; `shift` plants a wrong key."""
    step, positions, infos = jax.jit(kernel.step), [], []
    for t in range(num_steps):
        state, info = step(jax.random.fold_in(rng_key, t + shift), state, batch_of(t))
        positions.append(state.position)
        infos.append(info)
    stack = lambda trees: jax.tree.map(lambda *leaves: np.stack(leaves), *trees)  # noqa: E731
    return state, stack(positions), stack(infos)


def assert_close(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=2e-5, atol=1e-6), a, b)


MINIBATCHES = data.Minibatches(jax.random.key(3), {"x": X}, 4)


@pytest.mark.parametrize(
    ("source", "batch_of"),
    [
        (None, lambda t: None),
        ({"x": X}, lambda t: {"x": X}),
        (lambda t: {"x": jnp.asarray(X) * jnp.float32(t)}, lambda t: {"x": X * np.float32(t)}),
        (MINIBATCHES, jax.jit(MINIBATCHES)),
    ],
    ids=["none", "pytree", "function", "minibatches"],
)
def test_equals_a_plain_loop(source, batch_of):
    """The chunked scan is a loop of `kernel.step` with key fold_in(rng_key, t) and batch data(t), to rounding.

    The same loop with the keys one step late is far off, so the comparison can tell.
    """
    kernel, key = walk(), jax.random.key(2)
    state, trace = training.run(key, kernel, start(kernel), source, num_steps=10, chunk_size=4)
    expected_state, positions, infos = plain_loop(key, kernel, start(kernel), batch_of, 10)
    assert_close(state, expected_state)
    assert_close(trace.draws, positions)
    assert_close(trace.info, infos)
    if source is None:
        late, _, _ = plain_loop(key, kernel, start(kernel), batch_of, 10, shift=1)
        assert np.abs(late.position["w"] - state.position["w"]).max() > 0.01


def test_chunks_do_not_change_the_run():
    """Any chunk size gives the same draws, infos and final state."""
    kernel, key, results = walk(), jax.random.key(2), []
    for chunk_size in (None, 1, 7):
        state, trace = training.run(key, kernel, start(kernel), {"x": X}, num_steps=9, chunk_size=chunk_size)
        results.append((state, trace.draws, trace.info))
    assert_close(results[0], results[1])
    assert_close(results[0], results[2])


@pytest.mark.parametrize(
    ("num_steps", "num_burnin", "thinning", "chunk_size"),
    [
        *((17, 5, 3, 6), (17, 0, 1, None), (12, 12, 4, 4), (5, 0, 7, 7), (20, 7, 4, 12)),
        *((26, 6, 6, 2), (24, 8, 12, 4), (5, 0, 6, 3)),  # several chunks for each draw
    ],
)
def test_thinning_and_burnin(num_steps, num_burnin, thinning, chunk_size):
    """Draws and infos are those at the multiples of `thinning` beyond the burn-in; an info is the mean of its steps.

    The infos of the burn-in stand apart: divergences counted from `trace.info` are those of the draws.
    """
    kernel = counter()
    state, trace = training.run(
        jax.random.key(0), kernel, kernel.init(jnp.zeros(()), None),
        num_steps=num_steps, num_burnin=num_burnin, thinning=thinning, chunk_size=chunk_size,
    )  # fmt: skip
    kept = [t for t in range(thinning, num_steps + 1, thinning) if t > num_burnin]
    if kept:
        assert isinstance(trace.draws, np.ndarray)
        np.testing.assert_array_equal(trace.draws, np.array(kept, np.float32))
    else:
        assert trace.draws is None
    burnin = [t for t in range(thinning, num_steps + 1, thinning) if t <= num_burnin]
    for info, ends in ((trace.info, kept), (trace.burnin_info, burnin)):
        groups = [np.arange(t - thinning, t) for t in ends]
        if ends:
            np.testing.assert_allclose(info.before, [group.mean() for group in groups], rtol=1e-6)
            np.testing.assert_allclose(info.is_even, [(group % 2 == 0).mean() for group in groups], rtol=1e-6)
        else:
            assert info is None
    assert float(state.position) == num_steps


def test_a_chunk_within_a_draw_keeps_nothing():
    """`keep` may be expensive, so it is called at the draws alone, also if chunks are shorter than `thinning`."""
    kernel, seen = counter(), []

    def keep(state):
        jax.debug.callback(lambda position: seen.append(float(position)), state.position)
        return state.position

    begin = kernel.init(jnp.zeros(()), None)
    training.run(jax.random.key(0), kernel, begin, num_steps=13, thinning=6, chunk_size=2, keep=keep)
    jax.effects_barrier()
    assert seen == [6, 12]


def test_keep():
    """`keep` chooses what a draw is; kept nothing, the draws are None and the info is still there."""
    kernel = counter()
    begin = kernel.init(jnp.zeros(()), None)
    keep = lambda state: {"half": state.position / 2, "two": jnp.full(2, state.position)}  # noqa: E731
    _, trace = training.run(jax.random.key(0), kernel, begin, num_steps=6, thinning=2, keep=keep)
    np.testing.assert_array_equal(trace.draws["half"], [1, 2, 3])
    np.testing.assert_array_equal(trace.draws["two"], [[2, 2], [4, 4], [6, 6]])
    _, trace = training.run(jax.random.key(0), kernel, begin, num_steps=6, thinning=2, keep=lambda state: ())
    assert trace.draws is None and len(trace.info.before) == 3


def test_no_steps():
    """Zero steps return the state as it came and an empty trace."""
    kernel = counter()
    state, trace = training.run(jax.random.key(0), kernel, kernel.init(jnp.full((), 4.0), None), num_steps=0)
    assert float(state.position) == 4
    assert trace.draws is None and trace.info is None and trace.metrics == []


@pytest.mark.parametrize(
    ("num_steps", "thinning", "ends"),
    [(120, 1, [60, 120]), (97, 1, [97]), (206, 2, [100, 200]), (300, 150, [75, 150]), (202, 101, [101])],
)
def test_default_chunks(num_steps, thinning, ends):
    """The default chunk is the largest up to 100 that divides the steps, or 100 and a rest, never a few steps."""
    kernel = counter()
    _, trace = training.run(
        jax.random.key(0), kernel, kernel.init(jnp.zeros(()), None), num_steps=num_steps, thinning=thinning
    )
    assert [row["step"] for row in trace.metrics][: len(ends)] == ends
    assert trace.metrics[-1]["step"] == num_steps


def test_non_finite(tmp_path):
    """A run that blows up raises with the last good state and its step, and the checkpoint holds exactly that."""
    kernel = counter(bad_step=8)
    begin = kernel.init(jnp.zeros(()), None)
    key = jax.random.key(0)
    saves = training.Checkpointer(tmp_path, interval=1e9)
    with pytest.raises(training.NonFinite, match=r"not finite after step 9; it was finite after step 6") as caught:
        training.run(key, kernel, begin, num_steps=12, chunk_size=3, checkpointer=saves)
    assert caught.value.step == 6 and float(caught.value.state.position) == 6
    assert isinstance(caught.value, FloatingPointError)
    step, state, record = training.Checkpointer(tmp_path).restore(begin, key)
    assert step == 6 and float(state.position) == 6
    assert [row["step"] for row in record.metrics] == [3, 6]
    assert np.concatenate([piece[0] for piece in record.pieces]).tolist() == [1, 2, 3, 4, 5, 6]


def test_every_chunk_and_metrics_file(tmp_path):
    """`callback` sees step and state after each chunk; its numbers and the infos' means are lines of the file."""
    kernel, seen = counter(), []

    def callback(step, state):
        seen.append((step, float(state.position)))
        return {"square": step**2}

    path = tmp_path / "deep" / "metrics.jsonl"
    other = training.MetricsFile(path, "other")
    other.write({"step": 1})
    for _ in range(2):  # a second run of the stage replaces its own lines and nobody else's
        seen.clear()
        _, trace = training.run(
            jax.random.key(0), kernel, kernel.init(jnp.zeros(()), None),
            num_steps=7, chunk_size=3, callback=callback, metrics=training.MetricsFile(path, "count"),
        )  # fmt: skip
    assert seen == [(3, 3.0), (6, 6.0), (7, 7.0)]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0] == {"stage": "other", "step": 1}
    assert rows[1:] == [{"stage": "count", **row} for row in trace.metrics]
    assert [row["square"] for row in trace.metrics] == [9, 36, 49]
    assert [row["before"] for row in trace.metrics] == pytest.approx([1, 4, 6])
    assert [row["step"] for row in trace.metrics] == [3, 6, 7]


def test_metrics_file_drops_a_half_written_line(tmp_path):
    """A line cut off by a kill does not survive the next start, nor does it break the file."""
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "a", "step": 1}\n{"stage": "b", "step": 1}\n{"stage": "b", "st')
    training.MetricsFile(path, "a").rewrite([{"step": 5}])
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows == [{"stage": "b", "step": 1}, {"stage": "a", "step": 5}]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_steps": -1}, "num_steps"),
        ({"num_steps": 4, "num_burnin": -1}, "num_burnin"),
        ({"num_steps": 4, "thinning": 0}, "thinning"),
        ({"num_steps": 4, "chunk_size": 0}, "chunk_size"),
        (
            {"num_steps": 4, "thinning": 2, "chunk_size": 3},
            "chunk_size must be a multiple or a divisor of thinning, 2; got 3",
        ),
    ],
)
def test_counts_out_of_range(arguments, words):
    """A count that makes no sense is a ValueError that names it."""
    kernel = counter()
    with pytest.raises(ValueError, match=words):
        training.run(jax.random.key(0), kernel, kernel.init(jnp.zeros(()), None), **arguments)


def test_one_compilation_per_chunk_length():
    """Five chunks of one length trace the step as often as one; a shorter last chunk adds a compilation, no trace."""
    calls = []

    def traced(num_steps):
        calls.clear()
        inner = counter()

        def step(rng_key, state, batch):
            calls.append(1)
            return inner.step(rng_key, state, batch)

        kernel = Kernel(inner.init, step)
        begin = kernel.init(jnp.zeros(()), None)
        _, trace = training.run(jax.random.key(0), kernel, begin, num_steps=num_steps, chunk_size=5)
        assert len(trace.metrics) == -(-num_steps // 5)
        return len(calls)

    once = traced(5)
    assert once > 0
    assert traced(25) == once
    assert traced(23) == once


def test_progress_bar(capfd):
    """A label shows a bar on standard error with the label and the metrics; without one nothing is printed."""
    kernel = counter()
    begin = kernel.init(jnp.zeros(()), None)
    training.run(jax.random.key(0), kernel, begin, num_steps=4)
    assert capfd.readouterr() == ("", "")
    training.run(jax.random.key(0), kernel, begin, num_steps=4, label="warm-up")
    out, err = capfd.readouterr()
    assert out == "" and "warm-up" in err and "4/4" in err


def test_seconds():
    """Compilation and chunks are parts of the whole time."""
    kernel = counter()
    _, trace = training.run(jax.random.key(0), kernel, kernel.init(jnp.zeros(()), None), num_steps=4)
    assert trace.compile_seconds > 0 and trace.chunk_seconds > 0
    assert trace.compile_seconds + trace.chunk_seconds <= trace.seconds


@pytest.mark.parametrize("transform", [jax.vmap, jax.jit])
def test_the_loop_cannot_be_transformed(transform):
    """One line that names kernels.particles."""
    kernel = kernels.sgld(lambda x, rng_key, batch: -(x**2), step_size=0.1)

    def run(rng_key):
        return training.run(rng_key, kernel, kernel.init(jnp.zeros(()), rng_key), num_steps=2)

    with pytest.raises(ValueError, match=r"vmap, jit and grad cannot transform: use kernels.particles") as error:
        transform(run)(jax.random.split(jax.random.key(0), 2) if transform is jax.vmap else jax.random.key(0))
    assert "\n" not in str(error.value)
