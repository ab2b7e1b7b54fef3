"""The generated parts of README.md, experiments/README.md and the pages of this folder.

    python -m docs.tables              rewrites them from the committed results
    python -m docs.tables --check      exits 1 if one of them is out of date

A generated part stands between a marker and `<!-- end -->`:

    <!-- results: NAME, NAME, ... -->    files of experiments/results, which one table joins; `*` matches any text
    <!-- benchmark: NAME -->             a file of benchmarks/results
    <!-- headline: EXPERIMENT, ... -->   one line for each experiment, of its `HEADLINE`
    <!-- experiments -->                 one line for every experiment
    <!-- devices -->                     all files of benchmarks/results/devices, the results of `benchmarks.run`
"""

import functools
import importlib
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.__main__ import experiments
from experiments.harness import report
from experiments.harness.provenance import RESULTS, ROOT

MARK = re.compile(
    r"(<!-- (results|benchmark|headline|experiments|devices)(?:: ([^>]+?))? -->\n).*?(<!-- end -->)", re.DOTALL
)


@functools.cache
def experiment(name: str) -> Any:
    """The module of an experiment, which holds its `TABLES`, and a `HEADLINE` for the overview."""
    is_folder = (ROOT / "experiments" / name).is_dir()
    return importlib.import_module(f"experiments.{name}" + (".__main__" if is_folder else ""))


def results(names: str) -> list[dict]:
    """The contents of the results files of a marker.

    Raises:
      FileNotFoundError: if a name matches no file.
    """
    runs = []
    for name in (each.strip() for each in names.split(",")):
        paths = sorted(RESULTS.glob(f"{name}.json"))
        if not paths:
            raise FileNotFoundError(f"no results file is called {RESULTS / name}.json")
        runs += [json.loads(path.read_text()) for path in paths]
    return runs


def headline(name: str) -> list[str] | None:
    """The measure, number, reference number and command of an experiment's `HEADLINE`, (results file, keys, digits)."""
    chosen: Any = getattr(experiment(name), "HEADLINE", None)
    if chosen is None:
        return None
    file, keys, digits = chosen if len(chosen) == 3 else (*chosen, 2)
    (run,) = results(file)
    (row,) = [each for each in run["rows"] if report.matches(each, keys)]
    words = [
        report.cell(value) if key == "method" else f"{key.replace('_', ' ')} {report.cell(value)}"
        for key, value in keys.items()
        if key != "measure" and value is not None
    ]
    value, reference = (report.number(row, digits, field) for field in ("value", "paper"))
    return [", ".join([row["measure"], *words]), value, reference, run["command"].removesuffix(" --publish")]


def overview(names: Sequence[str], place: Path, has_all: bool) -> str:
    """The table of experiments: of all with their results pages, or of chosen ones with their headline numbers.

    Args:
      names: of experiments.
      place: the file that receives the table, for relative links.
      has_all: whether every experiment is listed, with its description and with or without a headline number.
    """
    described, body = experiments(), []

    def link(text: str, path: Path) -> str:
        return f"[{text}]({os.path.relpath(path, place.parent)})"

    for name in names:
        measure, ours, reference, command = headline(name) or ["-", "-", "-", f"python -m experiments.{name}"]
        code = Path(experiment(name).__file__)
        pages = [page for page in sorted((ROOT / "docs").rglob("*.md")) if f"results: {name}-" in page.read_text()]
        links = ", ".join(link(page.stem, page) for page in pages) or "-"
        titles = [link(f"`{name}`", code), *([described[name]] if has_all else [])]
        body.append([*titles, measure, ours, reference, f"`{command}`", links])
    titles = ["experiment", *(["contents"] if has_all else [])]
    return report.markdown([*titles, "measure", "ours", "reference", "command", "results"], body)


def updated(text: str, place: Path) -> str:
    """The text of a Markdown file with its generated parts made anew."""

    def generated(match: re.Match) -> str:
        kind, names = match[2], match[3] or ""
        if kind == "benchmark":
            body = importlib.import_module("benchmarks.report").render(
                json.loads((ROOT / "benchmarks" / "results" / f"{names}.json").read_text())
            )
        elif kind == "devices":
            device_report = importlib.import_module("benchmarks.device_report")
            body = device_report.page(device_report.runs())
        elif kind == "results":
            runs = results(names)
            body = report.render(experiment(runs[0]["experiment"]).TABLES, runs)
        else:
            chosen = [name.strip() for name in names.split(",") if name.strip()] or list(experiments())
            body = overview(chosen, place, has_all=kind == "experiments")
        return f"{match[1]}{body}\n{match[4]}"

    return MARK.sub(generated, text)


def main(arguments: Sequence[str]) -> None:
    """Rewrites or checks the generated parts."""
    if list(arguments) not in ([], ["--check"]):
        sys.exit(f"error: python -m docs.tables takes --check or nothing; got {' '.join(arguments)}")
    pages = [ROOT / "README.md", ROOT / "experiments" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in filter(Path.exists, pages):
        text = page.read_text()
        if (new := updated(text, page)) == text:
            continue
        if arguments:
            sys.exit(f"{page.relative_to(ROOT)} is out of date: run `make tables`")
        page.write_text(new)


if __name__ == "__main__":
    main(sys.argv[1:])
