"""The package: one version everywhere, workflows that call the make targets, and the wheel as a user installs it.

The wheel is installed into a bare environment, away from the repository.
"""

import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import bayesjax

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = """
import pathlib
import jax
import bayesjax
from bayesjax import kernels, training

assert pathlib.Path(bayesjax.__file__).with_name("py.typed").exists()
assert "site-packages" in bayesjax.__file__
kernel = kernels.sghmc(lambda x, rng_key, batch: -0.5 * x**2, step_size=0.5, friction=0.5)
state = kernel.init(jax.numpy.zeros(()), jax.random.key(0))
options = {"num_steps": 2000, "num_burnin": 100, "thinning": 1}
state, trace = training.run(jax.random.key(1), kernel, state, lambda step: None, **options)
print(trace.draws.var())
"""


def call(*arguments, **options) -> str:
    done = subprocess.run(
        [str(argument) for argument in arguments], capture_output=True, text=True, check=False, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_version_is_the_same_everywhere():
    (declared,) = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert bayesjax.__version__ == declared
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == declared
    assert f"\n## {declared}" in (ROOT / "CHANGELOG.md").read_text()


def test_workflows_call_targets_of_the_makefile():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = set()
    for path in (ROOT / ".github" / "workflows").glob("*.yml"):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
        assert all(command.startswith("make ") for command in commands) and len(jobs) > 0
        called |= {target for command in commands for target in command.removeprefix("make ").split()}
    assert {"lint", "test", "docs", "wheel"} <= called <= targets


def test_lock_names_versions_alone():
    """No hosts and no paths: a package index serves them."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_wheel_holds_the_library_alone(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "bayesjax/py.typed" in names and "bayesjax/kernels/sghmc.py" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"bayesjax"}


@pytest.mark.slow
def test_wheel_samples_in_a_bare_environment(wheel, tmp_path):
    """N(0, 1) by SGHMC, with variance 1; nothing of the repository is on the path."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    call(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "requirements.lock", wheel)
    call(python, "-m", "pip", "check")
    assert 0.8 < float(call(python, "-c", PROGRAM, cwd=tmp_path)) < 1.2
