"""Streams of batches through the training loop: order, resumption bit for bit, limits of size, and one-line errors."""

import itertools
import os
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bayesjax import data, kernels, training
from bayesjax.data import streams

ROWS = np.random.default_rng(0).normal(3.0, 1.0, (500, 2)).astype(np.float32)


def read(step):
    return {"x": ROWS[np.random.default_rng(step).integers(0, len(ROWS), 8)]}


def batches():
    return map(read, itertools.count())


class Loader:
    """An iterable that can begin again, as PyTorch's DataLoader."""

    def __init__(self, num):
        self.num = num

    def __iter__(self):
        return map(read, range(self.num))


def loss(params, rng_key, batch):
    return jnp.mean((batch["x"] - params) ** 2) + 0.1 * jax.random.normal(rng_key) * params.sum()


KERNEL = kernels.optimize(loss, optax.adam(0.05))


def run(source, num_steps=60, folder=None, **options):
    checkpointer = folder and training.Checkpointer(folder, interval=0)
    start = KERNEL.init(jnp.zeros(2), jax.random.key(0))
    return training.run(
        jax.random.key(1), KERNEL, start, source, num_steps=num_steps, checkpointer=checkpointer, **options
    )


@pytest.fixture(scope="module")
def expected():
    """The run on the same batches as one array in memory."""
    array = jnp.stack([read(step)["x"] for step in range(60)])
    return {thinning: run(lambda step: {"x": array[step]}, thinning=thinning)[1].draws for thinning in (1, 4, 30)}


@pytest.mark.parametrize("thinning", [1, 4, 30])
@pytest.mark.parametrize("source", [read, batches, lambda: Loader(60)], ids=["function", "iterator", "iterable"])
def test_every_step_has_its_batch(source, thinning, expected, monkeypatch):
    """The draws are those of the arrays in memory, also if a chunk holds few batches."""
    make = (lambda: data.stream(read)) if source is read else lambda: data.stream(source())
    np.testing.assert_array_equal(run(make(), thinning=thinning)[1].draws, expected[thinning])
    monkeypatch.setattr(streams, "MAX_CHUNK_BYTES", 7 * 64)
    np.testing.assert_array_equal(run(make(), thinning=thinning)[1].draws, expected[thinning])


def test_chunks_do_not_depend_on_the_number_of_processes(monkeypatch):
    """A run that reads shares may resume with another number of processes, so the limit counts the whole batch."""
    whole, half = np.zeros((8, 3)), data.stream(lambda step: np.zeros((4, 3)), share=True)
    alone = half.longest_chunk
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    assert half.longest_chunk == data.stream(lambda step: whole).longest_chunk < alone


def test_the_next_chunk_is_read_by_a_thread(monkeypatch):
    """Only the first chunk is read by the thread of the caller, and never more than the run needs."""
    threads = {}

    def noted(step):
        threads[step] = threading.current_thread()
        return read(step)

    run(data.stream(noted, read(0)), num_steps=60, chunk_size=20)
    here = [step for step, thread in threads.items() if thread is threading.main_thread()]
    assert here == list(range(20)) and sorted(threads) == list(range(60))


def test_prefetched_batches_serve_their_own_steps_alone():
    """Batches that were read ahead for other steps, as before an interruption, are not used."""
    stream = data.stream(read)
    stream.prefetch(0, 3)
    np.testing.assert_array_equal(stream.take(10, 3)["x"], np.stack([read(step)["x"] for step in (10, 11, 12)]))


@pytest.mark.parametrize("source", [lambda: read, lambda: Loader(60)], ids=["function", "iterable"])
def test_an_interrupted_run_resumes_bit_for_bit(source, tmp_path, expected, capsys):
    """A run of 40 steps that is continued to 60 equals the uninterrupted one; an iterable says that it reads again."""
    run(data.stream(source()), 40, tmp_path, chunk_size=20)
    _, trace = run(data.stream(source()), 60, tmp_path, chunk_size=20)
    np.testing.assert_array_equal(trace.draws, expected[1])
    said = "the stream cannot seek: reading 39 earlier batches" in capsys.readouterr().err
    assert said == (source() is not read)


KILLED = """
import os, signal, sys
from tests.training.test_streams import data, read, run

def source(step):
    if step == 45:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(step)

run(data.stream(source, read(0)), 60, sys.argv[1], chunk_size=10)
"""


def test_a_killed_run_resumes_bit_for_bit(tmp_path, expected):
    """Kill -9 while a thread reads batch 45; the state after step 30 or 40 is on the disk."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], env={**os.environ, "PYTHONPATH": "."}, check=False
    )
    assert done.returncode == -9
    saved = training.load(tmp_path).step
    assert saved in (20, 30, 40)
    _, trace = run(data.stream(read), 60, tmp_path, chunk_size=10)
    np.testing.assert_array_equal(trace.draws, expected[1])


def test_a_stream_that_fails_keeps_the_last_state(tmp_path):
    """An error of the source is one line, and the steps before it are saved."""

    def broken(step):
        if step == 25:
            raise OSError("disk\n gone")
        return read(step)

    with pytest.raises(data.StreamError, match=r"^reading batch 25 of the stream failed: OSError: disk gone$"):
        run(data.stream(broken), 60, tmp_path, chunk_size=10)
    assert training.load(tmp_path).step == 20


def short_batch(step):
    return {"x": read(step)["x"][: 8 if step < 12 else 5]}


def yielding():
    yield read(0)


ERRORS = {
    "the stream ended after 50 batches; the run needs one for each step": lambda: Loader(50),
    r"batch 12 of the stream must be float32\[8, 2\], as the example; got float32\[5, 2\]: drop the last": lambda: (
        short_batch
    ),
    r"batch 3 of the stream must be float32\[8, 2\], as the example; got int32\[8, 2\]": lambda: (
        lambda step: {"x": read(step)["x"].astype(np.int32 if step == 3 else np.float32)}
    ),
    "batch 2 of the stream must have the structure": lambda: lambda step: read(step) if step != 2 else read(step)["x"],
    "reading batch 0 of the stream failed: ZeroDivisionError": lambda: lambda step: 1 // step,
    "batch 4 of the stream has integers beyond int32: 1099511627776 .. 1099511627776": lambda: (
        lambda step: {"x": np.full((8, 2), 2**40 if step == 4 else 0)}
    ),
    "reading batch 1 of the stream failed: TypeError: <U1 at .'x'. is not a number": lambda: (
        lambda step: {"x": np.array(["a", "b"]) if step == 1 else np.zeros(2)}
    ),
    "source must be a function step -> batch or an iterable; got int": lambda: 3,
    r"source is a generator function: pass yielding\(\), the generator that it returns": lambda: yielding,
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors(message):
    """One line that names the batch."""
    with pytest.raises(ValueError, match=message) as error:
        run(data.stream(ERRORS[message]()))
    assert "\n" not in str(error.value)


def test_an_iterator_cannot_begin_again():
    """A second run on a used iterator is refused; one on an iterable begins again."""
    used, again = data.stream(batches(), read(0)), data.stream(Loader(60))
    first = run(used, 10)[1].draws
    with pytest.raises(data.StreamError, match="is an iterator that has passed batch 0; its next is batch 10"):
        run(used, 10)
    for _ in range(2):
        np.testing.assert_array_equal(run(again, 10)[1].draws, first)


def test_a_checkpoint_of_other_batches_is_refused(tmp_path):
    """Batches of another shape are another run."""
    run(data.stream(read), 20, tmp_path)
    with pytest.raises(training.CheckpointMismatch, match="the data"):
        run(data.stream(lambda step: {"x": read(step)["x"][:4]}), 40, tmp_path)
