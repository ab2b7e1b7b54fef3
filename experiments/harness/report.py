"""Tables of results: the rows of results files pivoted into Markdown by a short specification.

    TABLES = [Table({"loss": "loss"}, [Column("modes", digits=1), Column("high quality %", digits=1)])]

An experiment keeps its `TABLES` beside its code. `python -m docs.tables` writes the tables into the documentation.
"""

import dataclasses
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Column:
    """A column of a table: one measure, or another field of its rows.

    Attributes:
      measure: the measure of the rows to show.
      heading: heading of the column; if empty, the measure.
      digits: number of decimals, or a format such as ".3g".
      field: field of the row to show: "value" (with its standard error), "paper", "n", ...
      where: further keys that the rows must have; the value None excludes rows with that key.
    """

    measure: str
    heading: str = ""
    digits: int | str = 2
    field: str = "value"
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)


@dataclasses.dataclass(frozen=True)
class Table:
    """A pivot table of results. Lines and columns without a row are omitted; a cell without a row is a dash.

    The key of a line is looked up in the row and, if the row does not have it, in the configuration of its run.

    Attributes:
      lines: keys whose values identify a line, with their headings, for example `{"loss": "loss"}`.
      columns: columns of the table; if empty, the values of `across` are the columns, and `measure` is a line's key.
      across: key of the rows; each of its values has its own set of columns.
      heading: format of that value in the headings of its columns, for example "d = {}".
      digits: number of decimals if `columns` is empty, for all measures or as `{measure: digits}`.
      where: values that the rows must have, by key; None excludes rows with the key, a tuple lists alternatives.
      note: text below the table, or a function of a run's configuration that returns it.
    """

    lines: Mapping[str, str]
    columns: Sequence[Column] = ()
    across: str = ""
    heading: str = "{}"
    digits: int | str | Mapping[str, int | str] = 3
    where: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    note: str | Callable[[dict], str] = ""


def render(tables: Sequence[Table], runs: Sequence[dict]) -> str:
    """Returns the Markdown of results files of one experiment: tables that have rows, and the origin of each run."""
    blocks = []
    for table in tables:
        if body := pivot(table, [(row, run["config"]) for run in runs for row in run["rows"]]):
            notes = [table.note(run["config"]) if callable(table.note) else table.note for run in runs]
            blocks += [body, *(note for note in dict.fromkeys(notes) if note)]
    return "\n\n".join([*blocks, *map(origin, runs)])


def pivot(table: Table, rows: Sequence[tuple[dict, dict]]) -> str:
    """Returns the Markdown of one table, or an empty text if the table has no rows.

    Args:
      table: the specification.
      rows: rows of results files, each with the configuration of its run.

    Raises:
      ValueError: if two rows belong in one cell.
    """
    chosen = [(row, config) for row, config in rows if matches(row, table.where)]
    groups = [row[table.across] for row, _ in chosen if table.across in row] if table.across else [""]
    columns = table.columns or [Column("")]
    places = list(itertools.product(dict.fromkeys(groups), columns))
    cells: dict[tuple, dict[tuple, str]] = {}
    for row, config in chosen:
        line = tuple(row.get(key, config.get(key)) for key in table.lines)
        group = row.get(table.across) if table.across else ""
        for column in columns:
            if table.columns and not (row["measure"] == column.measure and matches(row, column.where)):
                continue
            digits = table.digits.get(row["measure"], 3) if isinstance(table.digits, Mapping) else table.digits
            content = number(row, column.digits if table.columns else digits, column.field)
            if content == "-":
                continue
            if (group, column) in cells.setdefault(line, {}):
                raise ValueError(f"two rows belong in line {line}, column {group} {column.measure}: {row}")
            cells[line][group, column] = content
    used = [place for place in places if any(place in line for line in cells.values())]
    starts = [table.heading.format(cell(group)) if table.across else "" for group, _ in used]
    header = [f"{start} {each.heading or each.measure}".strip() for start, (_, each) in zip(starts, used, strict=True)]
    body = [[*map(cell, line), *(cells[line].get(place, "-") for place in used)] for line in cells if cells[line]]
    return markdown([*table.lines.values(), *header], body) if used else ""


def matches(row: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """Whether a row has the values of `where`; None requires that the key is absent, a tuple lists alternatives."""
    return all(row.get(key) in (value if isinstance(value, tuple) else (value,)) for key, value in where.items())


def cell(value: Any) -> str:
    """Formats a key, or a field that is not a measured number, as text."""
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def number(row: Mapping[str, Any], digits: int | str, field: str = "value") -> str:
    """A field of a row as text: the value with its standard error; a dash if it is absent or not finite.

    Args:
      row: a row of a results file.
      digits: decimals, or a format such as ".3g", of the fields "value", "stderr", "sd" and "theory".
      field: the field of the row to format.
    """
    value = row.get(field)
    if isinstance(value, float) and not math.isfinite(value):
        return "-"
    if not isinstance(value, int | float) or field not in ("value", "stderr", "sd", "theory"):
        return cell(value)
    style = digits if isinstance(digits, str) else f".{digits}f"
    stderr = row.get("stderr") if field == "value" else None
    return f"{value:{style}}" + ("" if stderr is None else f" ± {stderr:{style}}")


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [header, *body]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    rows = (" | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(f"| {row} |" for row in rows)


def origin(run: dict) -> str:
    """The command that made a results file, with its duration, devices and commits in words."""
    seconds, device = run.get("seconds"), re.sub(r"([^, ][^,]*) x (\d+)", r"\2 \1", run["device"])
    device = re.sub(r"\b1 cpu", "1 CPU device", device).replace(" cpu", " CPU devices").replace("(1 cores", "(1 core")
    commit = f"commit{'s' if ',' in run['commit'] else ''} " + run["commit"].replace("+", " with uncommitted ")
    took = "run" if seconds is None else f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
    sessions = " in several sessions," if "," in device + commit else ""
    place, version = (re.sub(r", ([^,]*)$", r" and \1", text) for text in (device, commit))
    return f"`{run['command']}`: {took}{sessions} on {place}, {version}"
