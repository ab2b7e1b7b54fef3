"""Tables in Markdown, and numbers as they stand in them. Loads nothing heavy."""

import math


def table(rows: list[list[str]], header: list[str]) -> str:
    """A Markdown table."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    line = lambda cells: "| " + " | ".join(str(c).ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"  # noqa: E731
    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def number(entry: dict | None, digits: int) -> str:
    """Value and standard error, or a dash."""
    if entry is None or entry["value"] is None or not math.isfinite(entry["value"]):
        return "-"
    stderr = entry.get("stderr")
    plain = f"{entry['value']:.{digits}f}"
    return f"{plain} ± {stderr:.{digits}f}" if stderr is not None and math.isfinite(stderr) else plain


def short(value: float) -> str:
    """Two decimals, and at least three digits."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("tables")
