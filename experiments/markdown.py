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


def steps(config: dict) -> str:
    """The steps that two players were moved, in words: those at the end of a stage that fill no check are not run."""
    kept = lambda num: num - num % max(num // config["num_checks"], 1)  # noqa: E731
    if config["kernel"] == "adam":
        return f"{kept(config['num_steps'])} steps"
    warmup = round(config["warmup"] * config["num_steps"])
    sampled = f"{kept(config['num_steps'] - warmup)} of {config['kernel'].upper()}"
    return f"{kept(warmup)} steps of Adam and {sampled}, batches"
