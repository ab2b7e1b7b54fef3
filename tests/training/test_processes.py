"""Two processes of two devices each give the numbers of one device, on both processes, through `training.run`.

The processes run this file as a script; they compile, save and resume as a user's would. The parent runs the same
kernels on one device and compares to float32 rounding; particles bit for bit.
"""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from bayesjax import axes, data, kernels, training, tree

if __name__ == "__main__":
    training.initialize(sys.argv[2], 2, int(sys.argv[3]))  # before the kernels of the next line make their first array
import two_processes
from test_parallel import KERNELS, KEY, NUM_DATA, POSITION, TOLERANCE, assert_same, batch

PARTICLES = tree.stack([jax.tree.map(lambda leaf, i=i: i * leaf, POSITION) for i in range(8)])


def facing(other):
    """A linear fit of what the other player's particles, on average, leave over."""

    def logdensity(params, rng_key, given):
        x, y = given.data
        left = y - (x @ given.others[other]["w"].T).mean(axis=1)
        return -0.5 * NUM_DATA * ((x @ params["w"] - left) ** 2).mean() - 0.5 * (params["w"] ** 2).sum()

    return logdensity


GAME = kernels.alternate(
    first=kernels.particles(kernels.sghmc(facing("second"), step_size=1e-3), 4),
    second=kernels.particles(kernels.sghmc(facing("first"), step_size=1e-3), 2),
)
START = {
    "first": {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)},
    "second": {"w": np.eye(2, 3, dtype=np.float32)},
}
CASES = {  # kernel, position, how it is spread
    **{name: (kernel, POSITION, {"data": 4}) for name, kernel in KERNELS.items()},
    "particles": (kernels.particles(KERNELS["sghmc"], 8), PARTICLES, {"particle": 4}),
    "game": (GAME, START, {"data": 2, "particle": 2}),
}
RESUMED = ("game",)
FAST = ("game",)  # of `make test`: reductions over data, and particles of two players that face each other


def take(kernel, position, num_steps=8, **options):
    """State and trace of a run on minibatches, whole and on the host."""
    source = data.Minibatches(jax.random.key(1), batch(), 8)
    state, trace = training.run(
        KEY, kernel, kernel.init(position, KEY), source, num_steps=num_steps, chunk_size=4, thinning=2, **options
    )
    return training.fetch(state), trace


def process(folder, names):
    """What each process does: every case of `names`, and one with a fault, each into a file of this process's own."""
    for name in names:
        kernel, position, parts = CASES[name]
        kernel, options = training.spread(kernel, **parts), {}
        if name in RESUMED:
            options = {
                "checkpointer": training.Checkpointer(folder / name, config={"name": name}),
                "metrics": training.MetricsFile(folder / f"metrics-{name}-{jax.process_index()}.jsonl"),
            }
            take(kernel, position, num_steps=4, **options)
        save(folder, name, take(kernel, position, **options))
    # The fault: a device takes the noise of its place in its own process, so both processes draw the same.
    right = axes.local_keys
    axes.local_keys = lambda key, num, axis: (
        right(key, num, axis) if axes.size(axis) == 1 else local_keys(key, num, axis)
    )
    save(folder, "faulty", take(training.spread(KERNELS["sgld"], data=4), POSITION))


def local_keys(rng_key, num, axis):
    first = jax.lax.axis_index(axis) % two_processes.DEVICES_EACH * num
    return jax.lax.dynamic_slice_in_dim(jax.random.split(rng_key, num * axes.size(axis)), first, num)


def leaves_of(result):
    state, trace = result
    return [np.asarray(leaf) for leaf in jax.tree.leaves((state, trace.draws, trace.info))]


def save(folder, name, result):
    np.savez(folder / f"{name}-{jax.process_index()}.npz", *leaves_of(result))


@pytest.fixture(scope="module")
def wanted(request):
    """The cases of the tests at hand."""
    return {
        item.callspec.params["name"]
        for item in request.session.items
        if getattr(item, "callspec", None) and item.path == Path(__file__)
    }


@pytest.fixture(scope="module")
def processes(tmp_path_factory, wanted):
    """The folder in which two processes have left their results."""
    return two_processes.run(__file__, tmp_path_factory.mktemp("processes"), *sorted(wanted))


@pytest.fixture(scope="module")
def on_one_device(compile_once, wanted):
    """Compiled as the processes compile: another level of optimisation rounds the noise to other last bits."""
    from tests.conftest import jax_config  # which the processes must not load: it sets the number of devices

    names = wanted | {"sgld"}  # the faulty one is of it
    with jax_config(jax_disable_most_optimizations=True):
        return {name: leaves_of(take(*CASES[name][:2])) for name in names}


def of_process(folder, name, index):
    with np.load(folder / f"{name}-{index}.npz") as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(arrays.files))]


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_two_processes_equal_one_device(name, processes, on_one_device):
    """Final state, every draw and every info, whole on both processes; the resumed runs are as the unbroken one."""
    for index in range(2):
        tolerance = 0.0 if name == "particles" else TOLERANCE
        assert_same(of_process(processes, name, index), on_one_device[name], tolerance)


def test_the_comparison_refuses_noise_by_place_in_the_process(processes, on_one_device):
    """Power: had each process its own devices' places, the same comparison would fail."""
    with pytest.raises(AssertionError):
        assert_same(of_process(processes, "faulty", 0), on_one_device["sgld"])


def test_the_first_process_alone_writes(processes):
    """Metrics, and a checkpoint at the end of which no half is left."""
    for name in RESUMED:
        assert len((processes / f"metrics-{name}-0.jsonl").read_text().splitlines()) == 2
        assert not (processes / f"metrics-{name}-1.jsonl").exists()
        assert sorted(path.name for path in (processes / name).iterdir()) == [".lock", "record", "step_00000008"]


if __name__ == "__main__":
    process(Path(sys.argv[1]), sys.argv[4:])
