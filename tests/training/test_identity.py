"""A checkpoint is resumed by the run that wrote it alone: what is compared, before which step, in which words."""

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax import data, training
from bayesjax.training import identity
from bayesjax.types import Kernel

pytestmark = pytest.mark.usefixtures("compile_once")
X = np.arange(12.0, dtype=np.float32).reshape(6, 2)
traces = []


class State(NamedTuple):
    position: jax.Array


class Info(NamedTuple):
    aux: dict


def walk(rate=0.5, sign=1.0, names=("distance",), table=(1.0, 2.0)) -> Kernel:
    """Moves to the batch's mean; `table` is an array in the program."""

    def step(rng_key, state, batch):
        traces.append(1)
        moved = state.position + rate * (batch.mean(axis=0) - state.position) + sign * jax.random.normal(rng_key, (2,))
        return State(moved), Info({name: moved.sum() * jnp.asarray(table)[0] for name in names})

    return Kernel(lambda position, rng_key: State(position), step)


def keep(state):
    return {"w": state.position}


SAME = {
    "kernel": walk, "source": lambda: data.Minibatches(jax.random.key(3), X, 2), "keep": keep, "num_steps": 8,
    "num_burnin": 2, "thinning": 2, "chunk_size": 4, "callback": lambda step, state: {"square": step**2},
}  # fmt: skip


def go(folder, *, check_program=True, **changed):
    settings = SAME | changed
    kernel, source = settings.pop("kernel")(), settings.pop("source")()
    checkpointer = training.Checkpointer(folder, interval=0, check_program=check_program)
    start = kernel.init(jnp.zeros(2), None)
    return training.run(jax.random.key(2), kernel, start, source, checkpointer=checkpointer, **settings)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, compile_once):
    """The folder of a run of eight steps, and its trace."""
    folder = tmp_path_factory.mktemp("saved")
    return folder, go(folder)[1]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_burnin": 0}, "num_burnin was 2 and is now 0"),
        ({"thinning": 1}, "thinning was 2 and is now 1"),
        ({"chunk_size": 2}, "chunk_size was 4 and is now 2"),
        ({"num_steps": 4}, "num_steps must be at least the 8 steps that the checkpoint has taken; got 4"),
        ({"kernel": lambda: walk(names=("other",))}, "another info: .aux['distance'] was float32[] and is now absent"),
        (
            {"kernel": lambda: walk(names=("distance", "more"))},
            "another info: .aux['more'] was absent and is now float32[]",
        ),
        ({"keep": lambda state: {"v": state.position}}, "other draws: ['w'] was float32[2] and is now absent"),
        ({"keep": lambda state: {"w": -state.position}}, "the function `keep` has changed"),
        ({"kernel": lambda: walk(sign=-1.0)}, "the kernel or a constant in it has changed"),
        ({"kernel": lambda: walk(rate=0.25)}, "the kernel or a constant in it has changed"),
        ({"kernel": lambda: walk(table=(1.0, 3.0))}, "the kernel or a constant in it has changed"),
        ({"source": lambda: data.Minibatches(jax.random.key(3), X + 1, 2)}, "the data has changed"),
        ({"source": lambda: data.Minibatches(jax.random.key(4), X, 2)}, "the data has changed"),
        ({"source": lambda: X[:2]}, "the data has changed"),
    ],
)  # fmt: skip
def test_another_run_is_refused_before_its_first_step(saved, changed, words):
    """Everything that shapes a trace; the folder is as it was, and names the difference."""
    folder, trace = saved
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(training.CheckpointMismatch) as caught:
        go(folder, **({"num_steps": 12, "callback": lambda step, state: pytest.fail("a step was taken")} | changed))
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert before == {path: path.read_bytes() for path in before}
    np.testing.assert_array_equal(go(folder)[1].draws["w"], trace.draws["w"])


def test_the_same_run_goes_on(saved, tmp_path, monkeypatch):
    """More steps are the same run; another program is, if the caller says so; under another JAX programs cannot be told
    apart. The kernel is traced once for all of this."""
    _, trace = saved
    go(tmp_path)
    traces.clear()
    _, longer = go(tmp_path, num_steps=12)
    assert len(traces) == 1
    assert longer.steps == 4 and len(longer.draws["w"]) == 5 and len(longer.info.aux["distance"]) == 5
    np.testing.assert_array_equal(longer.draws["w"][:3], trace.draws["w"])
    np.testing.assert_array_equal(longer.burnin_info.aux["distance"], trace.burnin_info.aux["distance"])
    assert go(tmp_path, num_steps=16, kernel=lambda: walk(rate=0.25), check_program=False)[1].steps == 4
    monkeypatch.setattr(identity.jax, "__version__", "0")
    assert go(tmp_path, num_steps=20)[1].steps == 4


def test_a_renamed_metric_of_the_host_is_refused(tmp_path):
    """The lines carry their names, so it shows after a chunk: which is neither recorded nor saved."""
    go(tmp_path)
    with pytest.raises(training.CheckpointMismatch, match="contain 'square', which `callback` no longer returns"):
        go(tmp_path, num_steps=12, callback=lambda step, state: {"cube": step**3})
    run = json.loads((tmp_path / "step_00000008" / "run.json").read_text())
    assert [row["step"] for row in run["metrics"]] == [4, 8]
    _, trace = go(tmp_path, num_steps=12, callback=lambda step, state: {"square": step**2, "more": 1})
    assert set(trace.metrics[-1]) == {"step", "aux.distance", "square", "more"}


def test_the_order_of_the_leaves_counts():
    """Leaves are stored by place: the same names and shapes in another order would change places."""
    here = {"state": {"a": "float32[]", "b": "float32[]"}}
    other = {"state": {"b": "float32[]", "a": "float32[]"}}
    assert identity.difference(here, here) == ""
    assert "in another order" in identity.difference(here, other)
