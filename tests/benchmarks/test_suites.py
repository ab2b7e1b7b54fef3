"""Suites of `benchmarks.run` other than samplers: targets, checks of the work, flags, tables and small runs."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from bayesjax.evaluation import agreement
from benchmarks import device_report, report, run
from benchmarks.suites import bnn, rows, targets, vae
from tests.benchmarks.test_benchmark_run import RATES
from tests.benchmarks.test_device_report import result


def fake(values):
    """A chunk that counts, and a quality that reads `values` one by one."""
    return (lambda state, index: (jnp.float32(state + 1), index)), (lambda state, output: values[output])


def test_a_run_ends_once_the_quality_is_confirmed():
    """One good value is not enough; three in a row are. Without them the run ends with its chunks."""
    values = [0.5, 0.1, 0.5, 0.1, 0.1, 0.1, 0.0]
    chunk, evaluate = fake(values)
    course = targets.run(chunk, evaluate, 0, least=0.1, most_seconds=1e9)
    assert list(course.values) == values[:6] and float(course.state) == 6
    assert (np.diff(course.seconds) > 0).all()
    assert targets.time_to(course.values, course.seconds, 0.1) == course.seconds[3]
    course = targets.run(chunk, evaluate, 0, least=-1.0, most_seconds=1e9, most_chunks=4)
    assert len(course.values) == 4
    assert len(targets.run(chunk, evaluate, 0, least=0.1, most_seconds=0.0).values) == 0


def test_wrong_work_is_refused():
    """A gradient that is 10 % off fails the check, one within rounding passes."""
    tree = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
    assert rows.check_close(tree, tree, "it", "itself") == 0
    with pytest.raises(ArithmeticError, match=r"the step differs from that of one device by 1\.0e-01"):
        rows.check_close({"a": 1.1 * tree["a"], "b": 1.1 * tree["b"]}, tree, "the step", "one device")


def test_enlarged_digits():
    """Every pixel becomes 3 x 3 pixels inside a border of two."""
    image = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
    large = vae.enlarge(image)
    assert large.shape == (1, 28, 28, 1) and large[:, :2].sum() == large[:, :, -2:].sum() == 0
    np.testing.assert_array_equal(large[0, 2:26:3, 4:26:3, 0], image[0, :, :, 0])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"suite": "vae", "batch_sizes": ()}, "--batch-sizes must be at least 1; got ()"),
        ({"suite": "vae", "batch_sizes": (50,), "devices": 4}, "--devices must divide the batch size 50; got 4"),
        ({"suite": "bayesian_gan", "mc_samples": (0,)}, "--mc-samples must be at least 1; got (0,)"),
        ({"suite": "bayesian_gan", "generators": (1,), "devices": 2}, "must divide the number of generators 1; got 2"),
        (
            {"suite": "bnn", "samplers": ("sgd",)},
            "must name one of sgld, sghmc, sgnht, hmc, nuts; got ('sgd',)",
        ),
        ({"suite": "bnn", "devices": 3}, "--devices must divide the number of chains 4; got 3"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(run.Config(**flags))
    assert stopped.value.code == 2 and message in capsys.readouterr().err


def of_suite(suite, keys, rate, bound):
    """Synthetic results of a suite on another device: one rate, and one time to a bound that was not reached."""
    made = rows.Program(rows.measure.Row(lambda: None, 1, 2.5), 0.001, 1e6, 2**20)
    body = rows.of_program(keys, rate, 100, made, [1.0, 2.0, 4.0], RATES)
    body += rows.plain(bound, {"seconds to the bound": None, "seconds of training": 12.0})
    return result("TPU v5 lite", 1.0) | {"suite": suite, "rows": body}


def test_tables_of_each_suite():
    """100 examples in 2 ms are 50 000 a second; a bound that is not reached is a dash."""
    bound = {"data": "mnist", "bound": 110.0, "source": "Flax", "batch_size": 128, "devices": 1}
    keys = {"data": "mnist", "batch_size": 128, "devices": 1}
    first = of_suite("vae", keys, "examples per second", bound)
    tables = [" ".join(line.split()) for line in report.render(first).splitlines()]
    assert "| mnist | 128 | 1 | 5e+04 | 2.5e+04 to 1e+05 | 2 | 1 | 2 | 0.5 | 2.5 | 1 |" in tables
    assert "| mnist | 110 | Flax | 128 | 1 | 12 |" in tables
    second = of_suite(
        "bayesian_gan", {"J": 4, "M": 2, "networks": 10}, "network updates per second", {"bound": 0.03, "source": "us"}
    )
    tables = [" ".join(line.split()) for line in report.render(second).splitlines()]
    assert "| 4 | 2 | 10 | 5e+04 | 2.5e+04 to 1e+05 | 2 | 1 | 2 | 0.5 | 2.5 | 1 |" in tables
    found = {"sampler": "hmc", "bound": 0.05, "source": "Laplace"}
    third = result("TPU v5 lite", 1.0) | {"suite": "bnn", "rows": rows.plain(found, {"seconds to the bound": 3.25})}
    assert "| hmc | 0.05 | Laplace | 3.25 |" in [" ".join(line.split()) for line in report.render(third).splitlines()]
    assert device_report.captions([first, second, third]) == {}
    assert "### vae: TPU v5 lite" in device_report.page([first, second])


def test_the_reference_of_the_bnn_suite():
    """The reference predicts as well as the published run of HMC with another seed: NLL 0.186, error 3.1 %.

    A permuted reference, of the same distribution over test images, does not.
    """
    problem = bnn.classification(bnn.SETTINGS)
    known = agreement.load_reference(bnn.REFERENCE, num_classes=10)
    assert known.shape == (360, 10)
    scores = problem.evaluate(np.log(known)[None], np.log(known)[None])
    assert float(scores["NLL"].value) == pytest.approx(0.186, abs=0.005)
    assert float(scores["error %"].value) == pytest.approx(3.1, abs=0.6)
    assert float(problem.evaluate(np.log(known[::-1])[None], np.log(known)[None])["NLL"].value) > 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "rate"),
    [
        ({"suite": "vae", "images": "digits", "batch_sizes": (128,)}, "examples per second"),
        ({"suite": "bayesian_gan", "generators": (2,), "mc_samples": (1,)}, "network updates per second"),
        ({"suite": "bnn", "samplers": ("sghmc",)}, "total variation at the end"),
    ],
)
def test_a_small_run(flags, rate, tmp_path, monkeypatch, capsys):
    """The command ends with rates or distances on two devices, and with the seconds spent toward the bound."""
    monkeypatch.setattr("os.sched_setaffinity", lambda *_: None)
    monkeypatch.setattr(run.machine, "calibrate", lambda num: RATES)
    out = tmp_path / "r.json"
    run.main(run.Config(**flags, devices=2, repeats=2, seconds=0.01, target_seconds=0.5, threads=1, out=str(out)))
    results = json.loads(out.read_text())
    values = [row["value"] for row in results["rows"] if row["measure"] == rate]
    assert len(values) == (1 if flags["suite"] == "bayesian_gan" else 2) and min(values) > 0
    spent = ("seconds of training", "seconds of sampling")
    assert next(row["value"] for row in results["rows"] if row["measure"] in spent) >= 0.5
    assert report.render(results)
