"""`import bayesjax` stays light: heavy dependencies load on use."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("distrax", "optax", "flax", "orbax", "tensorflow_datasets", "matplotlib", "blackjax", "sklearn", "scipy.stats")

IMPORTS = """
import sys, time, json
import jax
before = time.perf_counter()
import bayesjax
seconds = time.perf_counter() - before
print(json.dumps({"seconds": seconds, "modules": sorted(sys.modules), "lazy": bayesjax.kernels.__name__}))
"""


def python(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_import_is_light():
    """Less than 0.5 s beyond `import jax` (best of three, the machine being noisy), and no heavy module."""
    runs = []
    for _ in range(3):
        done = python("-c", IMPORTS)
        assert done.returncode == 0, done.stderr
        runs.append(json.loads(done.stdout))
        if runs[-1]["seconds"] < 0.5:
            break
    assert min(run["seconds"] for run in runs) < 0.5
    loaded = set(runs[0]["modules"])
    assert "bayesjax" in loaded and "jax" in loaded
    assert loaded.isdisjoint(HEAVY)
    assert runs[0]["lazy"] == "bayesjax.kernels", "subpackages load on first use"


def test_distrax_loads_with_the_vae_alone():
    """Its six seconds are paid by those who use it: not by `models` and `objectives`, the bounds included."""
    shown = "print([name in sys.modules for name in ('bayesjax.objectives.elbo', 'distrax')])"
    done = python("-c", f"import sys, bayesjax.models, bayesjax.objectives; {shown}; bayesjax.models.vae; {shown}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["[True, False]", "[True, True]"]


def test_training_and_data_import_no_heavy_module():
    """The loop and the data sets can be imported without Orbax, TFDS or matplotlib; those load when used."""
    heavy = "import sys, bayesjax.training, bayesjax.data, bayesjax.plots; print(' '.join(sys.modules))"
    done = python("-c", heavy)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "bayesjax.training.run" in loaded
    assert loaded.isdisjoint({"orbax", "tensorflow_datasets", "matplotlib", "flax", "optax", "distrax", "blackjax"})


def test_unknown_attribute():
    """A misspelt subpackage is an AttributeError, not an ImportError from the middle of the loader."""
    import bayesjax

    with pytest.raises(AttributeError, match="kernel"):
        _ = bayesjax.kernel
