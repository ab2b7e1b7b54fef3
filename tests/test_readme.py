"""The README: one page, whose example runs and ends in the figure that it shows, and whose links lead somewhere."""

import re
from pathlib import Path

import numpy as np

from docs import tables as overview

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_is_one_page():
    assert len(README.splitlines()) <= 220
    assert set(re.findall(r"<!-- (\w+)", README)) <= {"headline", "end"}, "other tables belong to docs/"


def test_headline_numbers_are_those_of_the_results_files():
    assert "<!-- headline: " in README
    for path in (ROOT / "README.md", ROOT / "experiments" / "README.md"):
        assert overview.updated(path.read_text(), path) == path.read_text(), "run `make tables`"


def test_links_lead_to_files():
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []


def test_anchors_are_headings():
    anchors = re.findall(r"\]\(([^)#]+\.md)#([^)]+)\)", README)
    assert anchors
    for path, anchor in anchors:
        headings = re.findall(r"^#+ (.*)", (ROOT / path).read_text(), re.MULTILINE)
        slugs = {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
        assert anchor in slugs


def test_example_runs_and_ends_in_a_figure(compile_fully, tmp_path, monkeypatch):
    """The posterior is uncertain in the gap of the data, and the point estimate is not."""
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = [line for line in block.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 20
    namespace: dict = {}
    exec(compile(block, "README.md", "exec"), namespace)
    assert (tmp_path / "posterior.png").stat().st_size > 10_000
    gap = np.abs(namespace["grid"] - 0.1) < 0.2
    width = {name: float((bands[2] - bands[0])[gap].mean()) for name, bands in namespace["quantiles"].items()}
    assert width["hmc"] > 0.3 and width["hmc"] > 3 * width["optimize"], width
