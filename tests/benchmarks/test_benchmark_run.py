"""`benchmarks.run`: the grid and its budget, backends other than the CPU by a fake name, and one small run."""

import ast
import json
import re
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import machine, measure, processes, report, roofline, run
from benchmarks import samplers_problem as problem
from benchmarks.suites import kernels, quality, reference, samplers, targets
from benchmarks.suites.samplers import Size
from tests.test_docs import ROOT

RATES = machine.Rates(((64, 1e10), (1024, 1e11)), ((2**18, 4e10), (2**28, 1e10)), 1e-7, 1e-6)


@pytest.mark.parametrize("num_weights", [1000, 10_000, 1_000_000, 10_000_000])
def test_networks_have_the_stated_number_of_weights(num_weights):
    params = jax.eval_shape(lambda: problem.initial_weights(samplers.hidden(num_weights)))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == pytest.approx(num_weights, rel=0.03)


def test_the_grid_is_a_cross_or_a_product():
    assert samplers.grid((1000, 10**6), (1, 64), False) == [Size(1000, 1), Size(1000, 64), Size(10**6, 1)]
    assert len(samplers.grid((1000, 10**6), (1, 64), True)) == 4


def test_sizes_beyond_the_budget_are_left_out(monkeypatch):
    """Time: HMC on 1e7 weights; memory: 4096 chains of 1e6 weights; devices: chains that cannot be divided."""
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2**33)
    ours = kernels.ours()
    assert samplers.fits(ours["sghmc"], Size(10**7, 1), RATES, 1, 2.0)
    assert not samplers.fits(ours["hmc"], Size(10**7, 1), RATES, 1, 2.0)
    assert not samplers.fits(ours["sghmc"], Size(10**6, 4096), RATES, 1, 1e9)
    assert samplers.fits(ours["hmc"], Size(1000, 4), RATES, 4, 2.0)
    assert not samplers.fits(ours["hmc"], Size(1000, 2), RATES, 4, 2.0)


def test_rates_of_this_device():
    """A product of 64 x 64 has a finite rate; between two measured sizes, rates lie between theirs."""
    rates = machine.calibrate(1, side=64, sizes=(2**12, 2**16))
    assert [length for length, _ in rates.products] == [8, 64]
    assert 1e7 < rates.peak < 1e15 and 0 < rates.instruction_seconds < 0.1 and 0 < rates.product_seconds < 0.1
    assert [RATES.bandwidth(size) for size in (1, 2**18, 2**23, 2**30)] == pytest.approx([4e10, 4e10, 2e10, 1e10])
    assert [RATES.product(length) for length in (1, 64, 256, 4096)] == pytest.approx([1e10, 1e10, 10**10.5, 1e11])


def test_projection_of_a_compiled_product():
    """One instruction: FLOPs over the rate of its length, bytes over the bandwidth, or the time to start."""
    x, weights = jnp.ones((64, 256)), jnp.ones((256, 256))
    program = jax.jit(jnp.matmul).lower(x, weights).compile()
    quick = machine.Rates(((64, 1e18), (1024, 1e18)), ((1, 1e18), (2, 1e18)), 1e-12, 1e-12)
    flops = 2 * 64 * 256**2
    seconds, counted = roofline.on_this_device(program, quick._replace(products=RATES.products))
    assert counted.flops == flops and seconds == pytest.approx(flops / 1e10, rel=1e-3)
    seconds, _ = roofline.on_this_device(program, quick._replace(copies=RATES.copies))
    assert seconds == pytest.approx(counted.memory_bytes / RATES.bandwidth(roofline.working_set(program)), rel=1e-3)
    seconds, _ = roofline.on_this_device(program, quick._replace(product_seconds=1e-3))
    assert seconds == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("platform", "kind", "precision", "expected"),
    [
        ("tpu", "TPU v5 lite", "default", 197e12),
        ("tpu", "TPU v5", "default", 459e12),
        ("gpu", "NVIDIA H200", "default", 494e12),
        ("gpu", "NVIDIA H100 80GB HBM3", "float32", 67e12),
        ("tpu", "TPU v5 lite", "float32", None),
        ("cpu", "AMD EPYC", "default", None),
    ],
)
def test_published_peaks(platform, kind, precision, expected):
    assert machine.published_peak(platform, kind, precision)[0] == expected


def test_files_are_of_one_device():
    device = {"kind": "TPU v5 lite", "count": 8, "precision": "default"}
    assert run.file_name("samplers", device) == "samplers-tpu-v5-lite-x8.json"
    device = {"kind": "Intel(R) Xeon(R) Processor @ 2.50GHz", "count": 1, "precision": "tf32"}
    assert run.file_name("samplers", device) == "samplers-intel-xeon-processor-tf32.json"


# ---- backends other than the CPU


def fake_backend(monkeypatch, name="tpu"):
    monkeypatch.setattr(jax, "default_backend", lambda: name)


def rows_of_a_side(name):
    return {name: measure.Row(lambda: None, 1, 0.25)}


def test_rows_share_this_process_on_an_accelerator(monkeypatch):
    fake_backend(monkeypatch)
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda kind: pytest.fail("a process was started"))
    sides = {"a": lambda: rows_of_a_side("quick"), "b": lambda: rows_of_a_side("other")}
    with measure.Sides(sides, threads=1, pause=0) as running:
        times = running.alternate(3)
    assert {name: len(values) for name, values in times.items()} == {"quick": 3, "other": 3}
    assert running.compile_seconds == {"quick": 0.25, "other": 0.25} and set(running.peak_mib) == {"a", "b"}


def test_only_pytorch_needs_the_cpu(monkeypatch, tmp_path, capsys):
    fake_backend(monkeypatch)
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(measure, "installed", list)
    config = types.SimpleNamespace(repeats=1, threads=1, out=str(tmp_path / "r.json"))
    measure.prepare(config, needs=())
    with pytest.raises(SystemExit):
        measure.prepare(config, needs=("torch",))
    assert "JAX_PLATFORMS=cpu" in capsys.readouterr().err


def test_no_other_benchmark_refuses_a_backend():
    """The name of the CPU stands only where its threads, its memory or PyTorch are meant, and never before `fail`."""
    for path in (ROOT / "benchmarks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.If) and "cpu" in ast.unparse(node.test):
                refuses = any("fail(" in ast.unparse(part) for part in node.body)
                assert not refuses or "'torch' in needs" in ast.unparse(node.test), (path.name, node.lineno)


# ---- quality


def test_error_and_time_to_it():
    """Independent draws about the reference: the error falls; of draws that are off by one deviation it is 1."""
    expected = {"mean": np.zeros(64), "sd": np.full(64, 2.0)}
    draws = 2.0 * np.random.default_rng(0).normal(size=(4, 1000, 64))
    error = quality.errors(draws, 10, expected)
    assert error[-1] == pytest.approx(1 / np.sqrt(4 * 500), rel=0.3) and error[-1] < error[0]
    assert quality.errors(np.full((4, 100, 64), 2.0), 10, expected) == pytest.approx(np.ones(10))
    seconds = np.arange(1.0, 5.0)
    assert targets.time_to(np.array([0.3, 0.05, 0.2, 0.05]), seconds, 0.1) == 4.0
    assert targets.time_to(np.array([0.3, 0.05, 0.2, 0.2]), seconds, 0.1) is None
    assert targets.time_to(np.array([0.3, 0.05, 0.02, np.nan]), seconds, 0.1) is None
    assert targets.time_to(np.array([0.05, 0.05, 0.02, 0.1]), seconds, 0.1) == 1.0


def test_the_reference_has_converged():
    found = reference.read()
    assert set(found) == {"mean", "sd", "mcse", "r_hat"} and all(values.shape == (64,) for values in found.values())
    assert found["r_hat"].max() < 1.01 and (found["mcse"] / found["sd"]).max() < 0.03


# ---- the whole command


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"weights": ()}, "--weights is empty"),
        ({"chains": (0,)}, "--chains must be at least 1; got 0"),
        ({"devices": 3}, "--devices must divide --quality-chains 16; got 3"),
        ({"kernel": ("no_such_module:A",)}, "--kernel must be MODULE:NAME"),
        ({"kernel": ("benchmarks.run:Config",)}, "must be a benchmarks.suites.kernels.Sampler; got type"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(run.Config(**flags))
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def mala_of_the_page(folder):
    """The module of the how-to page, written to a folder."""
    page = (ROOT / "docs" / "how_to" / "benchmark_your_sampler.md").read_text()
    (folder / "my_sampler.py").write_text(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])


def test_the_kernel_of_the_page_samples(tmp_path, monkeypatch):
    """The variance of 1000 chains on N(0, 1) is 1."""
    mala_of_the_page(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (sampler,) = kernels.own(("my_sampler:MALA",)).values()
    kernel = sampler.make(lambda x, rng_key, batch: (-0.5 * x**2, ()), 0.5)
    move = jax.vmap(kernel.step, in_axes=(0, 0, None))
    keys = jax.random.split(jax.random.key(0), (100, 1000))
    state = jax.vmap(kernel.init)(jnp.zeros(1000), keys[0])
    _, draws = jax.jit(lambda state: jax.lax.scan(lambda s, k: (move(k, s, None)[0], s.position), state, keys))(state)
    assert float(draws[20:].var()) == pytest.approx(1, abs=0.03)


@pytest.mark.slow
def test_a_small_run_on_a_device_of_another_name(tmp_path, monkeypatch, capsys):
    """The command ends with a report of that device, with the user's MALA beside SGHMC and BlackJAX's."""
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    describe = machine.description
    monkeypatch.setattr(
        machine, "description", lambda *a: describe(*a) | {"platform": "tpu", "kind": "TPU v5 lite", "topology": "2x4"}
    )
    monkeypatch.setattr(machine, "calibrate", lambda num: RATES)
    mala_of_the_page(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    fake_backend(monkeypatch)  # the rows are compiled for the CPU all the same
    out = tmp_path / "r.json"
    run.main(run.Config(
        devices=2, weights=(1000,), chains=(2,), samplers=("sghmc",), kernel=("my_sampler:MALA",),
        repeats=2, seconds=0.01, quality_seconds=0.01, quality_chains=2, threads=1, out=str(out),
    ))  # fmt: skip
    results = json.loads(out.read_text())
    tables = capsys.readouterr().out
    assert "2 x TPU v5 lite, 2x4" in tables and "1.97e+05" in tables
    libraries = {(row["library"], row["sampler"]) for row in results["rows"]}
    assert libraries == {("bayesjax", "sghmc"), ("blackjax", "sghmc"), ("own", "mala")}
    values = {(row["sampler"], row["measure"]): row["value"] for row in results["rows"] if row["library"] != "blackjax"}
    assert values["mala", "gradients per step"] == 2 and values["mala", "gradients per second"] > 0
    assert values["mala", "error of the predictive"] > 0
    assert report.render(results)
