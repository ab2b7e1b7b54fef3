"""Files of a run: whole or absent, valid whatever the numbers, one line where they are damaged or cannot be written."""

import json
import math
import os
import shutil
import zipfile
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_checkpoint import Info, State, go, walk

from bayesjax import atomic, training
from bayesjax.training import files
from bayesjax.types import Kernel

FILES = ("step_00000004/state.npz", "step_00000004/run.json", "record/00000002.npz", "record/00000004.npz")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder that holds a run of four steps."""
    folder = tmp_path_factory.mktemp("saved")
    go(folder)
    return folder


def empty(path):
    path.write_bytes(b"")


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def altered(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))


def huge(path):
    """Arrays of which the header declares 8 terabytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", array)


def pickled(path):
    with path.open("wb") as file:
        np.savez(file, types=np.array(["float32"]), arr_0=np.array([{}], object))


@pytest.mark.parametrize("damage", [empty, cut, altered, huge, pickled, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line_that_names_it(saved, tmp_path, name, damage):
    """Whatever library notices; never a traceback of another kind, nor a state half read."""
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    damage(folder / name)
    checkpointer = training.Checkpointer(folder, config={"a": 1, "b": [2]})
    with pytest.raises(training.CheckpointError) as caught:
        checkpointer.restore(State({"w": jnp.zeros(3)}, jnp.int32(0)), jax.random.key(4))
    message = str(caught.value)
    assert str(folder / name) in message and "\n" not in message and "pickle" not in message.lower()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "\xff", "run.json: 'utf-8' codec can't decode"),
        (lambda text: "[]", "run.json: it does not contain a JSON object"),
        (lambda text: "{" * 5000, "cannot read"),
        (lambda text: text.replace('"step": 4', '"step": "4"'), "it has no int 'step'"),
        (lambda text: text.replace('"format": 2,', ""), "written by an older version"),
        (lambda text: text.replace("00000002.npz", "../../../other.npz"), "is not the name of a record"),
        (lambda text: text.replace("00000002.npz", "/etc/passwd"), "is not the name of a record"),
        (lambda text: text.replace('"metrics": [', '"metrics": [7,'), "its entries are not those of a save"),
    ],
)
def test_a_run_file_that_no_save_wrote(saved, tmp_path, change, words):
    """Other entries, other types, names outside the folder, bytes that are no text."""
    folder = tmp_path / "run"
    shutil.copytree(saved, folder)
    path = folder / "step_00000004" / "run.json"
    path.write_text(change(path.read_text()), encoding="latin-1")
    with pytest.raises(training.CheckpointError) as caught:
        go(folder)
    assert str(path) in str(caught.value) and words in str(caught.value) and "\n" not in str(caught.value)


class KeyState(NamedTuple):
    position: jax.Array
    rng_key: jax.Array


def test_every_type_comes_back(tmp_path):
    """Narrow types, typed keys of either implementation, scalars and empty arrays, bit for bit."""
    keys = jax.random.split(jax.random.key(7, impl="rbg"), 3)
    types = ("bfloat16", "float16", "float8_e4m3fn", "int8", "uint32", "bool", "complex64")
    leaves = [*(jnp.array([0.5, -1.0, 3.0]).astype(name) for name in types), jnp.int32(4), jnp.zeros((0, 2)), keys]
    files.write_arrays(tmp_path / "a.npz", leaves)
    for leaf, again in zip(leaves, files.read_arrays(tmp_path / "a.npz"), strict=True):
        assert leaf.dtype == again.dtype and leaf.shape == again.shape
        plain = jax.random.key_data if leaf is keys else np.asarray
        assert np.asarray(plain(leaf)).tobytes() == np.asarray(plain(again)).tobytes()


def test_a_state_with_a_key_is_resumed(tmp_path):
    """A kernel may carry a key of its own."""

    def step(rng_key, state, batch):
        del rng_key, batch
        own, used = jax.random.split(state.rng_key)
        return KeyState(state.position + jax.random.normal(used, (2,)), own), Info(state.position[0])

    kernel = Kernel(KeyState, step)

    def run(folder, num_steps):
        start = kernel.init(jnp.zeros(2), jax.random.key(5))
        checkpointer = training.Checkpointer(tmp_path / folder, interval=0)
        return training.run(
            jax.random.key(0), kernel, start, num_steps=num_steps, chunk_size=2, checkpointer=checkpointer
        )

    run("broken", 2)
    (state, trace), (whole, unbroken) = run("broken", 6), run("whole", 6)
    assert trace.draws.tobytes() == unbroken.draws.tobytes()
    assert (jax.random.key_data(state.rng_key) == jax.random.key_data(whole.rng_key)).all()


def test_numbers_that_are_not_finite(tmp_path):
    """null in files for readers, themselves after a resumption; a configuration with such a number stays the same."""
    kernel = walk()
    numbers = {"nan": math.nan, "inf": np.float32(np.inf), "ninf": -math.inf, "array": np.float64(2)}

    def run():
        checkpointer = training.Checkpointer(tmp_path / "run", interval=0, config={"rate": math.nan})
        return training.run(
            jax.random.key(0), kernel, kernel.init({"w": jnp.zeros(3)}, None), num_steps=4, chunk_size=2,
            checkpointer=checkpointer, callback=lambda step, state: numbers,
            metrics=training.MetricsFile(tmp_path / "metrics.jsonl"),
        )[1].metrics  # fmt: skip

    first, again = run(), run()
    typed = {"inf": np.float32, "array": np.float64}
    assert str(first) == str([{name: typed.get(name, lambda v: v)(row[name]) for name in row} for row in again])
    assert again[1]["ninf"] == -math.inf and again[1]["array"] == 2
    strict = {"parse_constant": lambda name: pytest.fail(f"{name} is no JSON")}
    rows = [json.loads(line, **strict) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 2 and all(row["nan"] is row["inf"] is row["ninf"] is None and row["array"] == 2 for row in rows)
    json.loads((tmp_path / "run" / "step_00000004" / "run.json").read_text(), **strict)


def test_a_file_that_fails_leaves_nothing(tmp_path, monkeypatch):
    """Neither half of it nor what it was to replace; the message names the file."""
    path = tmp_path / "a.json"
    files.write_json(path, {"a": 1})
    monkeypatch.setattr(atomic.os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
    with pytest.raises(OSError, match=f"cannot write {path}: No space left on device"):
        files.write_json(path, {"a": 2})
    assert [each.name for each in tmp_path.iterdir()] == ["a.json"] and files.read_json(path) == {"a": 1}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("size=24k", "No space left on device"),
        ("nr_inodes=9", "No space left on device"),
        ("ro", "Read-only file system"),
    ],
    ids=["full", "inodes", "read-only"],
)
def test_a_disk_that_cannot_be_written(disk, options, words):
    """A save that fails is one line and leaves nothing; the save before it resumes, to the unbroken run's numbers."""
    folder = disk("size=1m,nr_inodes=100") / "run"
    go(folder)
    before = sorted(path for path in folder.rglob("*"))
    disk(options)
    with pytest.raises(training.CheckpointError) as caught:
        go(folder, 40)
    message = str(caught.value)
    assert words in message and "\n" not in message and "the last complete save is" in message
    assert not list(folder.rglob(f"*{atomic.UNFINISHED}"))
    run = files.read_json(training.Checkpointer(folder).latest() / "run.json")
    assert sorted(path.name for path in (folder / "record").iterdir()) == run["record"]
    assert options != "ro" or before == sorted(path for path in folder.rglob("*"))
    disk("size=1m,nr_inodes=100" + (",rw" if options == "ro" else ""))
    _, trace = go(folder, 40)
    assert trace.draws["w"][:, 0].tolist() == list(range(1, 41))
