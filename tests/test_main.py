"""The report of `python -m bayesjax`."""

import numpy as np

from bayesjax import __main__ as report


def test_the_report_names_devices_folders_and_packages(monkeypatch, tmp_path):
    """Data folders with their contents or the reason for none, decoded images by number, packages by version."""
    (tmp_path / "data" / "faces").mkdir(parents=True)
    (tmp_path / "cache").mkdir()
    np.savez(tmp_path / "cache" / "digits-0.npz", x=np.zeros(3))
    monkeypatch.setenv("BAYESJAX_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("BAYESJAX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(report, "OPTIONAL", ("numpy", "no-such-package"))
    lines = {line.split("  ")[0]: line for line in report.describe()}
    assert "faces" in lines["BAYESJAX_DATA_DIR"] and "No such file" in lines["TFDS_DATA_DIR"]
    assert "1 data sets" in lines["decoded images"] and " x cpu" in lines["devices"].lower()
    assert f"numpy {np.__version__}" in lines["optional"] and "no-such-package" in lines["not installed"]
    assert "MISSING" not in lines["packages"]
    monkeypatch.delenv("BAYESJAX_DATA_DIR")
    monkeypatch.setenv("BAYESJAX_CACHE_DIR", "")
    lines = {line.split("  ")[0]: line for line in report.describe()}
    assert lines["BAYESJAX_DATA_DIR"].endswith("not set") and lines["decoded images"].endswith("not kept")
