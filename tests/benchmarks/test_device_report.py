"""The page of all devices, from synthetic results: complete, drawn, and with every number beside those of its run."""

import json
import re

import pytest

from benchmarks import device_report, report
from tests.test_docs import ROOT


def rows(library, sampler, speed, weights=1000, chains=1):
    """The rows of one sampler at one size; `speed` is its gradients per second and marks every number."""
    keys = {"library": library, "sampler": sampler, "weights": weights, "chains": chains}
    values = {
        "seconds per step": 1 / speed,
        "projected seconds per step": 0.5 / speed,
        "measured / projected": 2.0,
        "share of product rate": 0.25,
        "FLOPs per gradient": 1e6 * weights,
        "bytes per gradient": 1e4 * weights,
        "compile seconds": 1.5,
    }
    if chains == 8:
        values |= {"effective draws per second, smallest": speed / 800, "seconds to error 0.1": None}
    rate = {**keys, "measure": "gradients per second", "value": speed, "min": 0.9 * speed, "max": 1.1 * speed, "n": 5}
    return [rate, *({**keys, "measure": name, "value": value} for name, value in values.items())]


def result(kind, speed, count=1, platform="tpu"):
    """The results of a device whose every sampler has the same speed, but BlackJAX's half of it."""
    device = {
        "platform": platform, "kind": kind, "count": count, "processes": 1, "topology": "", "cores": 2, "host": "host",
        "memory_bytes": 2**34, "precision": "default", "xla_flags": f"--flag_of_{count}", "libtpu_init_args": "",
    }  # fmt: skip
    sizes = [(1000, 1), (1000, 8), (10_000, 1)]
    body = [row for w, c in sizes for name in ("sghmc", "hmc") for row in rows("bayesjax", name, speed * c, w, c)]
    return {
        "benchmark": "run", "suite": "samplers", "command": f"python -m benchmarks.run --devices {count}",
        "device": device, "commit": "0123456789ab", "versions": {"jax": "0.10", "jaxlib": "0.10"}, "seconds": 300.0,
        "rates": {
            "products": [[64, 1e12], [1024, 2e13]], "copies": [[2**18, 4e11], [2**28, 1e11]],
            "instruction_seconds": 1e-7, "product_seconds": 1e-6,
        },
        "published_peak": {"flops": 1.97e14, "source": "somewhere"}, "load_average_at_start": [0.1, 0.1, 0.1],
        "rows": [*body, *rows("blackjax", "hmc", speed / 2), *rows("own", "mala", 3 * speed)],
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    found = [result("TPU v5 lite", 1111.0), result("TPU v5 lite", 7777.0, count=8), result("AMD EPYC", 3.0, 1, "cpu")]
    for index, each in enumerate(found):
        (tmp_path / f"{index}.json").write_text(json.dumps(each))
    return tmp_path


def test_a_page_of_every_device(folder):
    page = re.sub(r" +", " ", device_report.page(device_report.runs(folder)))
    assert "| TPU v5 lite | 2e+04 | 1.97e+05 | 400 / 100 | 1 / 0.1 | --flag_of_1 | 0.10 | 0123456789ab | 0.1 |" in page
    assert "### samplers: 8 x TPU v5 lite" in page and "### samplers: AMD EPYC, 2 cores" in page
    assert "| own | mala | 1000 | 1 | 3.33e+03 | 3e+03 to 3.67e+03 |" in page
    assert "| bayesjax | hmc | 8 | 11.1 |" in page
    assert device_report.page([]) == "No results are committed yet."


def test_no_ratio_or_line_mixes_devices(folder):
    """Every rate of a section is a multiple of its own device's speed, and every ratio the one within a run."""
    found = device_report.runs(folder)
    for run in found:
        speed = run["rows"][0]["value"]
        for row in run["rows"]:
            assert row["measure"] != "gradients per second" or row["value"] / speed in (0.5, 1, 3, 8)
        assert device_report.ratios(run["rows"]) == [["bayesjax hmc", "1000", "1", "blackjax", "2.00"]]
        tables = report.render(run)
        others = [f"{other['rows'][0]['value']:.3g}" for other in found if other is not run]
        assert f"| {speed:.3g} " in tables and not [each for each in others if f"| {each} " in tables]
    lines = [line for line in device_report.page(found).splitlines() if line.startswith("|")]
    kinds = ("TPU v5 lite", "AMD EPYC")
    assert not [line for line in lines if sum(line.count(kind) for kind in kinds) > 1]


def test_two_rows_of_one_cell_are_refused():
    """Power: rows of two devices in one file are an error and not an average."""
    mixed = result("TPU v5 lite", 1111.0)
    mixed["rows"] += result("AMD EPYC", 3.0)["rows"]
    with pytest.raises(ValueError, match="two rows belong in line"):
        device_report.tables(mixed)


def test_figures(folder, tmp_path):
    found = device_report.runs(folder)
    paths = device_report.draw(found, tmp_path / "figures")
    assert [path.stem for path in paths] == ["weights", "chains", "devices", "roofline"]
    assert all(path.stat().st_size > 10_000 for path in paths)
    assert "devices" not in device_report.captions(found[:1])
    page = device_report.page(found)
    assert all(f"](figures/{path.name})" in page for path in paths)


def test_the_command_writes_the_page(folder, tmp_path, monkeypatch):
    page = tmp_path / "devices.md"
    page.write_text("text\n\n<!-- devices -->\nold\n<!-- end -->\n")
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr(device_report, "FOLDER", folder)
    monkeypatch.setattr(device_report, "FIGURES", tmp_path / "figures")
    report.main()
    assert "### samplers: 8 x TPU v5 lite" in page.read_text() and "old" not in page.read_text()
    assert (tmp_path / "figures" / "roofline.png").exists()


def test_committed_figures_are_of_committed_results():
    """A page with results shows figures that are there; without results there are none."""
    stems = set(device_report.captions(found)) if (found := device_report.runs()) else set()
    assert {path.stem for path in (ROOT / "docs" / "benchmarks" / "figures").glob("*.png")} == stems
