"""Tables of results: the rows of results files pivoted into Markdown by a short specification.

    TABLES = [Table({"loss": "loss"}, [Column("modes", digits=1), Column("high quality %", digits=1)])]

An experiment keeps its `TABLES` beside its code. `python -m experiments.harness.report` writes every generated table of
README.md, experiments/README.md and docs/ from the committed results; with `--check` it exits 1 if one is out of date.
The generated text stands between a marker and `<!-- end -->`:

    <!-- results: NAME, NAME, ... -->    files of experiments/results, which one table joins; `*` matches any text
    <!-- benchmark: NAME -->             a file of benchmarks/results
    <!-- headline: EXPERIMENT, ... -->   one line for each experiment, of its `HEADLINE`
    <!-- experiments -->                 one line for every experiment
"""

import ast
import dataclasses
import functools
import importlib
import itertools
import json
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.harness.provenance import RESULTS, ROOT

MARK = re.compile(r"(<!-- (results|benchmark|headline|experiments)(?:: ([^>]+?))? -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Column:
    """A column of a table: one measure, or another field of its rows.

    Attributes:
      measure: of the rows.
      heading: of the column; the measure if empty.
      digits: decimals, or a format such as ".3g".
      field: of the row: "value" (with its standard error), "paper", "n", ...
      where: further keys that the rows must have; None: that they must not have.
    """

    measure: str
    heading: str = ""
    digits: int | str = 2
    field: str = "value"
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A pivot of rows. A line or column for which there is no row is left out; an absent cell is a dash.

    A key of a line is looked up in the row, and then in the configuration of its run.

    Attributes:
      lines: keys whose values identify a line, with their headings, for example `{"loss": "loss"}`.
      columns: measures across; empty: the values of `across` are the columns, and `measure` is a key of the lines.
      across: a key each of whose values has columns of its own.
      digits: decimals where there are no `columns`; by measure, or for all.
      where: keys that the rows of the table have; None: that they do not have; a tuple: any of these values.
      note: text below the table, or a function of a run's configuration that returns it.
    """

    lines: Mapping[str, str]
    columns: Sequence[Column] = ()
    across: str = ""
    digits: int | str | Mapping[str, int | str] = 3
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str | Callable[[dict], str] = ""


def render(tables: Sequence[Table], runs: Sequence[dict]) -> str:
    """The Markdown of results: every table that has rows, and the origin of each run.

    Args:
      tables: specifications.
      runs: contents of results files, of the same experiment.
    """
    blocks = []
    for table in tables:
        if body := pivot(table, [(row, run["config"]) for run in runs for row in run["rows"]]):
            notes = [table.note(run["config"]) if callable(table.note) else table.note for run in runs]
            blocks += [body, *(note for note in dict.fromkeys(notes) if note)]
    return "\n\n".join([*blocks, *map(origin, runs)])


def pivot(table: Table, rows: Sequence[tuple[dict, dict]]) -> str:
    """The Markdown of one table; empty if it has no row.

    Args:
      table: the specification.
      rows: each with the configuration of its run.

    Raises:
      ValueError: if two rows belong in one cell.
    """
    chosen = [(row, config) for row, config in rows if _matches(row, table.where)]
    cells: dict[tuple, dict[tuple, str]] = {}
    columns: dict[tuple, str] = {}
    groups = (
        list(dict.fromkeys(row[table.across] for row, _ in chosen if table.across in row)) if table.across else [""]
    )
    for group, column in itertools.product(groups, table.columns or [None]):
        heading = (column.heading or column.measure) if column else ""
        columns[group, column and (column.measure, column.heading, column.field)] = " ".join(
            filter(None, (f"{group}", heading))
        )
    for row, config in chosen:
        line = tuple(row.get(key, config.get(key)) for key in table.lines)
        group = row.get(table.across) if table.across else ""
        for column in table.columns or [None]:
            if column is None:
                digits = table.digits.get(row["measure"], 3) if isinstance(table.digits, Mapping) else table.digits
                text = number(row, digits)
            elif row["measure"] == column.measure and _matches(row, column.where):
                text = number(row, column.digits, column.field)
            else:
                continue
            place = group, column and (column.measure, column.heading, column.field)
            if place in cells.setdefault(line, {}):
                raise ValueError(f"two rows belong in one cell of the table: {line} and {columns.get(place)!r}: {row}")
            cells[line][place] = text
    used = [place for place in columns if any(line.get(place, "-") != "-" for line in cells.values())]
    body = [[*(_text(key) for key in line), *(cells[line].get(place, "-") for place in used)] for line in cells]
    return markdown([*table.lines.values(), *(columns[place] for place in used)], body) if used else ""


def _matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    return all(row.get(key) in (value if isinstance(value, tuple) else (value,)) for key, value in where.items())


def _text(value: Any) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def number(row: Mapping[str, Any], digits: int | str, name: str = "value") -> str:
    """A field of a row as text: the value with its standard error; a dash if it is absent or not finite."""
    value = row.get(name)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if not isinstance(value, int | float) or name not in ("value", "stderr", "sd"):
        return _text(value)
    style = digits if isinstance(digits, str) else f".{digits}f"
    stderr = row.get("stderr") if name == "value" else None
    return f"{value:{style}}" + ("" if stderr is None else f" ± {stderr:{style}}")


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(str(line[i])) for line in [header, *body]) for i in range(len(header))]
    lines = [header, ["-" * width for width in widths], *body]
    return "\n".join(
        "| " + " | ".join(str(c).ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in lines
    )


def origin(run: dict) -> str:
    """The command that made a results file, how long it took, on which device and from which commit."""
    seconds = run.get("seconds")
    took = "" if seconds is None else f"{seconds / 60:.0f} min on " if seconds >= 120 else f"{seconds:.0f} s on "
    return f"`{run['command']}`: {took}{run['device']}, commit {run['commit']}"


# ---- the generated parts of the documentation


@functools.cache
def experiment(name: str) -> Any:
    """The module of an experiment, which holds its `TABLES`, and a `HEADLINE` for the overview."""
    is_folder = (ROOT / "experiments" / name).is_dir()
    return importlib.import_module(f"experiments.{name}" + (".__main__" if is_folder else ""))


def experiments() -> dict[str, str]:
    """The first line of every experiment's description, by name; imports nothing."""
    places = {path.stem: path for path in (ROOT / "experiments").glob("[!_]*.py")}
    places |= {path.parent.name: path for path in (ROOT / "experiments").glob("*/__main__.py")}
    return {
        name: (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        for name, path in sorted(places.items())
    }


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
    """The measure, number, published number and command of an experiment's `HEADLINE`, a (results file, keys) pair."""
    if (chosen := getattr(experiment(name), "HEADLINE", None)) is None:
        return None
    (run,), keys = results(chosen[0]), chosen[1]
    (row,) = [each for each in run["rows"] if _matches(each, keys)]
    what = " ".join(_text(value) for key, value in keys.items() if key != "measure" and value is not None)
    return [
        f"{row['measure']}, {what}" if what else row["measure"],
        number(row, 2),
        number(row, 2, "paper"),
        run["command"],
    ]


def overview(names: Sequence[str], place: Path, has_all: bool) -> str:
    """The table of experiments: of all with their results pages, or of chosen ones with their headline numbers.

    Args:
      names: of experiments.
      place: the file that receives the table, for relative links.
      has_all: whether every experiment is listed, with or without a headline number.
    """
    described, body = experiments(), []
    for name in names:
        measure, ours, published, command = headline(name) or ["-", "-", "-", f"python -m experiments.{name}"]
        pages = [page for page in sorted((ROOT / "docs").rglob("*.md")) if f"results: {name}-" in page.read_text()]
        links = [f"[{page.stem}]({os.path.relpath(page, place.parent)})" for page in pages]
        line = [described[name], measure, ours, published, f"`{command}`", ", ".join(links) or "-"]
        body.append(line if has_all else line[:-1])
    header = ["experiment", "measure", "ours", "published", "command", "results"]
    return markdown(header if has_all else header[:-1], body)


def updated(text: str, place: Path) -> str:
    """The text of a Markdown file with its generated parts made anew."""

    def generated(match: re.Match) -> str:
        kind, names = match[2], match[3] or ""
        if kind == "benchmark":
            from benchmarks import report as benchmarks

            body = benchmarks.render(json.loads((ROOT / "benchmarks" / "results" / f"{names}.json").read_text()))
        elif kind == "results":
            runs = results(names)
            body = render(experiment(runs[0]["experiment"]).TABLES, runs)
        else:
            chosen = [name.strip() for name in names.split(",") if name.strip()] or list(experiments())
            body = overview(chosen, place, has_all=kind == "experiments")
        return f"{match[1]}{body}\n{match[4]}"

    return MARK.sub(generated, text)


def main(arguments: Sequence[str]) -> None:
    """Rewrites or checks the documentation."""
    pages = [ROOT / "README.md", ROOT / "experiments" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    for page in filter(Path.exists, pages):
        text = page.read_text()
        if (new := updated(text, page)) == text:
            continue
        if "--check" in arguments:
            sys.exit(f"{page.relative_to(ROOT)} is out of date: run `make tables`")
        page.write_text(new)


if __name__ == "__main__":
    main(sys.argv[1:])
