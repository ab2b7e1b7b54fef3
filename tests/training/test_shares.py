"""Two processes that each read their share of every batch give the numbers of one device that reads the whole batch.

The processes run this file as a script, on two devices each. Comparisons are to float32 rounding.
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bayesjax import data, training

if __name__ == "__main__":
    training.initialize(sys.argv[2], 2, int(sys.argv[3]))  # before the kernels of the next lines make arrays
import two_processes
from test_parallel import KERNELS, KEY, POSITION, assert_same, batch
from test_processes import GAME, START, leaves_of, of_process, save

CASES = {  # kernel, position, how it is spread
    "sghmc": (KERNELS["sghmc"], POSITION, {"data": 4}),
    "game": (GAME, START, {"data": 2, "particle": 2}),
}
SIZE, NUM_STEPS = 8, 12


def read(step):
    """The whole batch of a step."""
    index = np.random.default_rng(step).permutation(16)[:SIZE]
    return tuple(leaf[index] for leaf in batch())


def share_of(process):
    """A function that reads the share of one of the two processes."""
    part = slice(process * SIZE // 2, (process + 1) * SIZE // 2)
    return lambda step: tuple(leaf[part] for leaf in read(step))


def take(name, stream, num_steps=NUM_STEPS, spread=False, **options):
    """State and trace of a run, whole and on the host."""
    kernel, position, parts = CASES[name]
    kernel = training.spread(kernel, **parts) if spread else kernel
    state, trace = training.run(
        KEY, kernel, kernel.init(position, KEY), stream, num_steps=num_steps, chunk_size=4, thinning=2, **options
    )
    return training.fetch(state), trace


def errors(here):
    """Wrong streams and kernels: arguments of `take`."""
    share = share_of(here)

    def fails(step):
        if step == 6 and here == 1:
            raise OSError("disk gone")
        return share(step)

    def short(step):
        return share(step) if here == 0 else tuple(leaf[:2] for leaf in share(step))

    def odd(step):
        return tuple(leaf[:3] for leaf in share(step))

    return {
        "fails": ("sghmc", data.stream(fails, share=True)),
        "unequal": ("sghmc", data.stream(short, share=True)),
        "odd": ("sghmc", data.stream(odd, share=True)),
        "scalar": ("sghmc", data.stream(lambda step: (*share(step), 1.0), share=True)),
        "particles": ("particles", data.stream(share, share=True)),
        "not spread": ("sghmc", data.stream(share, share=True), NUM_STEPS, False),
        "devices": ("devices", data.stream(share, share=True)),
    }


def process(folder):
    """What each process does: runs, runs with a fault, and the messages of errors, into files of its own."""
    here = jax.process_index()
    for name in CASES:
        save(folder, name, take(name, data.stream(share_of(here), share=True), spread=True))
    for num_steps in (4, 8, NUM_STEPS):
        checkpointer = training.Checkpointer(folder / "checkpoint")
        stream = data.stream(map(share_of(here), range(NUM_STEPS)), share=True)
        result = take("sghmc", stream, num_steps, spread=True, checkpointer=checkpointer)
    save(folder, "resumed", result)
    checkpointer = training.Checkpointer(folder / "eight")
    take("sghmc", data.stream(share_of(here), share=True), 8, spread=True, checkpointer=checkpointer)
    save(folder, "whole", take("sghmc", data.stream(read), spread=True))
    for fault, process in {"same": 0, "swapped": 1 - here}.items():
        save(folder, fault, take("sghmc", data.stream(share_of(process), share=True), spread=True))
    CASES["particles"] = GAME, START, {"particle": 2}
    swapped = [device for each in (1, 0) for device in jax.local_devices(process_index=each)[:2]]
    CASES["devices"] = KERNELS["sghmc"], POSITION, {"data": 4, "devices": swapped}
    messages = {}
    for name, (case, stream, *options) in errors(here).items():
        checkpointer = training.Checkpointer(folder / name)
        num_steps, spread = options or (NUM_STEPS, True)
        try:
            take(case, stream, num_steps, spread, checkpointer=checkpointer)
        except data.StreamError as error:
            messages[name] = str(error)
    (folder / f"messages-{here}.json").write_text(json.dumps(messages))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder in which two processes have left their results."""
    return two_processes.run(__file__, tmp_path_factory.mktemp("shares"))


@pytest.fixture(scope="module")
def on_one_device(compile_once):
    """The runs of one process and one device, which reads whole batches, compiled as the processes compile."""
    from tests.conftest import jax_config  # which the processes must not load: it sets the number of devices

    with jax_config(jax_disable_most_optimizations=True):
        return {name: leaves_of(take(name, data.stream(read))) for name in CASES}


@pytest.mark.parametrize("name", ["sghmc", "game", "resumed", "whole"])
def test_shares_equal_whole_batches(name, folder, on_one_device):
    """Final state, draws and infos on both processes.

    The resumed run was interrupted after 4 and 8 steps. In the last run both processes read whole batches.
    """
    for index in range(2):
        assert_same(of_process(folder, name, index), on_one_device["game" if name == "game" else "sghmc"])


@pytest.mark.parametrize("fault", ["same", "swapped"])
def test_the_comparison_detects_wrong_shares(fault, folder, on_one_device):
    """Power: two processes that pass the same share, or each the share of the other, give other numbers."""
    with pytest.raises(AssertionError):
        assert_same(of_process(folder, fault, 0), on_one_device["sghmc"])


ERRORS = {
    "fails": "process 1: reading batch 6 of the stream failed: OSError: disk gone",
    "unequal": "the shares of a batch must have equal shapes; [0] is float32[4, 3] in process 0 and float32[2, 3] in "
    "process 1",
    "odd": "a share must have a leading axis of examples, a multiple of the 2 devices along data in a process in size; "
    "got float32[3, 3]",
    "scalar": "a share must have a leading axis of examples, a multiple of the 2 devices along data in a process in "
    "size; got float32[]",
    **{
        name: "share=True with 2 processes needs training.spread(kernel, data=n), with n a multiple of 2 and the "
        f"devices in the order of the processes; the state has data={parts}"
        for name, parts in {"particles": 1, "not spread": 1, "devices": 4}.items()
    },
}


def test_errors_are_raised_in_both_processes(folder):
    """One line each; the run whose share fails in process 1 keeps the state after the chunk before."""
    for index in range(2):
        assert json.loads((folder / f"messages-{index}.json").read_text()) == ERRORS
    assert training.load(folder / "fails").step == 4


def test_one_process_resumes_shares(folder, on_one_device):
    """A run of two processes that read shares continues in one process of four devices, which reads whole batches."""
    checkpointer = training.Checkpointer(folder / "eight")
    result = take("sghmc", data.stream(read), spread=True, checkpointer=checkpointer)
    assert result[1].steps == NUM_STEPS - 8
    assert_same(leaves_of(result), on_one_device["sghmc"])


def test_one_process_has_the_whole_share(on_one_device):
    """With one process, `share=True` changes nothing."""
    from tests.conftest import jax_config

    with jax_config(jax_disable_most_optimizations=True):
        result = leaves_of(take("sghmc", data.stream(read, share=True)))
    jax.tree.map(np.testing.assert_array_equal, result, on_one_device["sghmc"])


if __name__ == "__main__":
    process(Path(sys.argv[1]))
