"""Fixtures that several test files share."""

import contextlib
import gc
import itertools
import os
import shutil
import subprocess

import jax
import pytest
from jax._src.interpreters import mlir
from jax.experimental.compilation_cache import compilation_cache

from experiments.harness import launch

LONGEST = (
    "test_every_experiment.py", "test_docs.py", "test_examples.py", "test_readme.py", "test_parallel.py",
    "test_contract.py", "test_processes.py", "test_resume.py",
)  # fmt: skip
jax.config.update("jax_num_cpu_devices", 8)  # for tests/training/test_parallel.py; all other tests use the first


def pytest_configure(config):
    """Compiling is most of `make test`, so there with little optimisation; `make test-slow` has all of it.

    Collecting garbage less often and leaving lines of the source out of the programs saves a few percent more.
    """
    os.environ["BAYESJAX_CACHE_DIR"] = ""  # tests neither read nor write decoded data of the user
    if config.option.markexpr == "not slow":
        launch.compile_fast()
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # for the processes that tests start
        jax.config.update("jax_traceback_in_locations_limit", 0)
        gc.set_threshold(200_000, 20, 100)
        gc.freeze()
        if jax.__version_info__[:2] == (0, 10):
            share_compiler_contexts()


def pytest_sessionfinish():
    """Spares pytest and Python some collections of all objects at the end, of a second each."""
    gc.freeze()


def share_compiler_contexts():
    """Lets 200 programs in a row share an MLIR context, of which JAX makes one for each.

    A context takes 9 ms, and the tests compile tens of thousands of small programs: this takes 30 % off their time. A
    context keeps the constants of its programs, so that it cannot serve for ever. The name is not public in JAX, hence
    the version above.
    """
    make_context, numbers, context = mlir.make_ir_context, itertools.count(), None

    def shared():
        nonlocal context
        if next(numbers) % 200 == 0:
            context = make_context()
        return context

    mlir.make_ir_context = shared


def pytest_collection_modifyitems(items):
    """The files that take longest come first, so that none of them is what one process ends on alone."""
    names = [*LONGEST, None]
    items.sort(key=lambda item: names.index(item.path.name if item.path.name in LONGEST else None))


@contextlib.contextmanager
def jax_config(**values):
    """Sets JAX's options within a block."""
    before = {name: jax.config.values[name] for name in values}
    for name, value in values.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


def cache_programs(folder):
    """Keeps all programs that are compiled within a block in a folder, and reads from it those that are there."""
    return jax_config(jax_compilation_cache_dir=str(folder), jax_persistent_cache_min_compile_time_secs=0.0)


@pytest.fixture(scope="module")
def compile_once(tmp_path_factory):
    """The same few programs, compiled anew by every run, are read from a cache of the file's own after the first."""
    with cache_programs(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture
def compile_fully():
    """With all optimisation but that of the flags above: for tests in which running is nearly all the time."""
    with jax_config(jax_disable_most_optimizations=False):
        yield


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, `disk(options)`, where that is permitted; `disk(options)` again changes it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mounted(options):
        more = ["-o", f"remount,{options}"] if folder.is_mount() else ["-t", "tmpfs", "-o", options, "tmpfs"]
        mount = shutil.which("mount") or "false"
        if subprocess.run([mount, *more, folder], capture_output=True, check=False).returncode:
            pytest.skip("mounting a disk needs the rights of root")
        return folder

    yield mounted
    if folder.is_mount():
        subprocess.run(["umount", "--lazy", folder], check=False)
