"""Tables and plots of the results of `benchmarks.run`, for one device or for all devices with committed results.

Every line of a table and every ratio is of one results file, and so of one device: `ratios` takes the rows of one run.
A plot shows the devices in separate lines. Read `report.py` next, which writes the page.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bayesjax.training import files
from experiments.harness.report import Column, Table, markdown, pivot

FOLDER = Path(__file__).parent / "results" / "devices"
FIGURES = Path(__file__).parents[1] / "docs" / "benchmarks" / "figures"
RATE = "gradients per second"
KEYS = {"library": "library", "sampler": "sampler"}
SIZE = {"weights": "weights", "chains": "chains"}
DETAILS = Table(
    {**KEYS, **SIZE},
    [
        Column(RATE, "gradients/s", digits=".3g"),
        Column(RATE, "range", field="range"),
        Column("seconds per step", "ms per step", digits=".3g"),
        Column("projected seconds per step", "projected ms", digits=".3g"),
        Column("measured / projected", digits=".2g"),
        Column("share of product rate", "% of product rate", digits=".2g"),
        Column("share of noise", "noise %", digits=".2g"),
        Column("share of diagnostics", "diagnostics %", digits=".2g"),
        Column("compile seconds", "compile s", digits=".2g"),
        Column("program MiB", "MiB", digits=".3g"),
    ],
)
QUALITY = Table(
    {**KEYS, "chains": "chains"},
    [
        Column("effective draws per second, smallest", "smallest ESS/s", digits=".3g"),
        Column("effective draws per second, median", "median ESS/s", digits=".3g"),
        Column("effective draws per second with warm-up and compilation", "median ESS/s, whole run", digits=".3g"),
        Column("largest R-hat", digits=".3f"),
        Column("error of the predictive", "error at the end", digits=".2g"),
        Column("seconds to error 0.1", digits=".3g"),
    ],
)


def rate_columns(measure: str, heading: str) -> list[Column]:
    """The columns of a rate: its median and range, and the time, the work and the compilation of a step."""
    rate = [Column(measure, heading, digits=".4g"), Column(measure, "range", field="range")]
    return [*rate, *DETAILS.columns[2:6], *DETAILS.columns[8:]]


EPOCHS = Table(
    {"data": "data", "batch_size": "batch size", "devices": "devices"},
    rate_columns("examples per second", "examples/s"),
)
BOUNDS = Table(
    {"data": "data", "bound": "bound, nats", "source": "bound of", "batch_size": "batch size", "devices": "devices"},
    [
        Column("seconds to the bound", digits=".3g"),
        Column("epochs to the bound", digits=0),
        Column("-ELBO at the end", digits=2),
        Column("seconds of training", "seconds in all", digits=".3g"),
    ],
)
SWEEPS = Table({"J": "J", "M": "M", "networks": "networks"}, rate_columns("network updates per second", "updates/s"))
DIVERGENCE = Table(
    {"bound": "bound, nats", "source": "bound of"},
    [
        Column("seconds to the bound", digits=".3g"),
        Column("sweeps to the bound", digits=0),
        Column("JS divergence at the end", digits=3),
        Column("seconds of training", "seconds in all", digits=".3g"),
    ],
)
AGREEMENT = Table(
    {"sampler": "sampler", "bound": "bound", "source": "bound of"},
    [
        Column("seconds to the bound", digits=".3g"),
        Column("total variation at the end", digits=4),
        Column("seconds of sampling", "seconds in all", digits=".3g"),
        Column("compile seconds", "compile s", digits=".2g"),
    ],
)
SUITE_TABLES = {
    "samplers": (DETAILS, QUALITY),
    "vae": (EPOCHS, BOUNDS),
    "bnn": (AGREEMENT,),
    "bayesian_gan": (SWEEPS, DIVERGENCE),
}
SCALES = {
    **dict.fromkeys(("seconds per step", "projected seconds per step"), 1e3),
    **dict.fromkeys(("share of product rate", "share of noise", "share of diagnostics"), 100),
}
"""Factors of the measures that a table shows in other units, such as milliseconds or per cent."""


def runs(folder: Path | None = None) -> list[dict[str, Any]]:
    """The contents of all results files, ordered by device kind, suite, precision and number of devices."""
    found = [files.read_json(path) for path in sorted((folder or FOLDER).glob("*.json"))]
    return sorted(found, key=lambda run: (run["suite"], run["device"]["kind"], *_setting(run)))


def name(run: dict[str, Any]) -> str:
    """A device in words: kind, number, arrangement and precision."""
    device = run["device"]
    count = f"{device['count']} x " if device["count"] > 1 else ""
    cores = f", {device['cores']} cores" if device["platform"] == "cpu" else ""
    topology = f", {device['topology']}" if device["topology"] else ""
    precision = "" if device["precision"] == "default" else f", {device['precision']}"
    return f"{count}{device['kind']}{cores}{topology}{precision}"


def tables(run: dict[str, Any]) -> list[str]:
    """The tables of one results file."""
    entries = [(_shown(row), {}) for row in run["rows"]]
    parts = [pivot(table, entries) for table in SUITE_TABLES[run["suite"]]]
    if run["suite"] == "samplers" and (compared := ratios(run["rows"])):
        parts.append(markdown(["gradients per second of", *SIZE, "divided by", "ratio"], compared))
    return [part for part in parts if part]


def ratios(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Gradients per second of bayesjax over those of each other library, at equal sizes within one run."""
    rates = {_key(row): row["value"] for row in rows if row["measure"] == RATE}
    lines = []
    for (library, sampler, weights, chains), value in rates.items():
        base = rates.get(("bayesjax", sampler, weights, chains))
        if library not in ("bayesjax", "own") and base is not None:
            lines.append([f"bayesjax {sampler}", f"{weights}", f"{chains}", library, f"{base / value:.2f}"])
    return lines


def devices_table(found: Sequence[dict[str, Any]]) -> str:
    """One line for each results file: the device, its rates, the versions and the conditions of the run."""
    lines = []
    for run in found:
        rates, published = run["rates"], run["published_peak"]["flops"]
        peak = "-" if published is None else f"{published / 1e9:.4g}"
        copies = [f"{speed / 1e9:.3g}" for _, speed in (rates["copies"][0], rates["copies"][-1])]
        starts = [f"{rates[f'{kind}_seconds'] * 1e6:.2g}" for kind in ("product", "instruction")]
        load = run["load_average_at_start"][0]
        flags = run["device"]["xla_flags"] or "-"
        lines.append([
            name(run), f"{rates['products'][-1][1] / 1e9:.4g}", peak, " / ".join(copies),
            " / ".join(starts), flags, run["versions"]["jaxlib"], run["commit"], f"{load:.1f}",
        ])  # fmt: skip
    header = [
        "device", "product, GFLOP/s", "published", "copy, GB/s: small / large", "start, µs: product / other",
        "XLA flags", "jaxlib", "commit", "load at start",
    ]  # fmt: skip
    return markdown(header, lines)


def page(found: Sequence[dict[str, Any]]) -> str:
    """The generated part of docs/benchmarks/devices.md."""
    if not found:
        return "No results are committed yet."
    parts = [devices_table(found)]
    parts += [f"![{caption}](figures/{stem}.png)" for stem, caption in captions(found).items()]
    for run in found:
        parts += [
            f"### {run['suite']}: {name(run)}",
            *tables(run),
            f"`{run['command']}`: {run['seconds'] / 60:.0f} min",
        ]
    return "\n\n".join(parts)


# ---- plots


def captions(found: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The figures that the results of the samplers suite allow, by the stem of their file, with captions."""
    found = _of_samplers(found)
    if not found:
        return {}
    return {
        "weights": "Gradients per second against the number of weights",
        "chains": "Gradients per second against the number of chains",
        **({"devices": "Gradients per second against the number of devices"} if _by_count(found) else {}),
        "roofline": "FLOPs per second against FLOPs per byte, with the roof of each device",
    }


def draw(found: Sequence[dict[str, Any]], folder: Path | None = None) -> list[Path]:
    """Draws the figures; returns their paths."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder = folder or FIGURES
    folder.mkdir(parents=True, exist_ok=True)
    painters = {"weights": _draw_sizes, "chains": _draw_sizes, "devices": _draw_devices, "roofline": _draw_roofline}
    paths = []
    found = _of_samplers(found)
    for stem in captions(found):
        figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
        painters[stem](axes, found, stem)
        axes.set(xscale="log", yscale="log")
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize="x-small")
        paths.append(folder / f"{stem}.png")
        figure.savefig(paths[-1], dpi=110, metadata={"Software": None})
        plt.close(figure)
    return paths


def _draw_sizes(axes: Any, found: Sequence[dict[str, Any]], axis: str) -> None:
    """Gradients per second of all chains against weights or chains, with the other at its least value."""
    other = "weights" if axis == "chains" else "chains"
    for run, style in zip(found, itertools.cycle(("-", "--", ":", "-.")), strict=False):
        rates = [row for row in run["rows"] if row["measure"] == RATE and row["library"] in ("bayesjax", "own")]
        least = min((row[other] for row in rates), default=0)
        for index, sampler in enumerate(dict.fromkeys(row["sampler"] for row in rates)):
            line = sorted(
                (row[axis], row["value"]) for row in rates if (row["sampler"], row[other]) == (sampler, least)
            )
            x, y = zip(*line, strict=True)
            axes.plot(x, y, style, marker="o", color=f"C{index}", label=f"{sampler}, {name(run)}")
    axes.set(xlabel=f"number of {axis}", ylabel=RATE)


def _draw_devices(axes: Any, found: Sequence[dict[str, Any]], _: str) -> None:
    """The largest number of gradients per second of each sampler against the number of devices of one kind."""
    for kind, group in _by_count(found).items():
        best: dict[str, list[tuple[int, float]]] = {}
        for run in group:
            for row in run["rows"]:
                if row["measure"] == RATE and row["library"] == "bayesjax" and row["chains"] == _common_chains(group):
                    best.setdefault(row["sampler"], []).append((run["device"]["count"], row["value"]))
        for sampler, points in best.items():
            x, y = zip(*sorted(points), strict=True)
            axes.plot(x, y, marker="o", label=f"{sampler}, {_common_chains(group)} chains, {kind}")
    axes.set(xlabel="number of devices", ylabel=RATE)


def _draw_roofline(axes: Any, found: Sequence[dict[str, Any]], _: str) -> None:
    """The products of a gradient on one device: rate against intensity, and the roof of the device."""
    for index, run in enumerate(found):
        rates, points = run["rates"], []
        product = rates["products"][-1][1]
        values = {(_key(row), row["measure"]): row["value"] for row in run["rows"]}
        for key, measure in values:
            if measure == "FLOPs per gradient" and key[0] == "bayesjax":
                flops, moved = values[key, measure], values[key, "bytes per gradient"]
                points.append((flops / moved, flops * values[key, RATE] / run["device"]["count"]))
        x, y = zip(*points, strict=True) if points else ((1.0,), (product,))
        axes.plot(x, y, "o", color=f"C{index}", alpha=0.5, label=name(run))
        span = [min(x) / 2, max(*x, product / rates["copies"][-1][1]) * 2]
        for _, bandwidth in (rates["copies"][0], rates["copies"][-1]):
            knee = product / bandwidth
            intensities = sorted({*span, min(max(knee, span[0]), span[1])})
            axes.plot(intensities, [min(product, bandwidth * i) for i in intensities], color=f"C{index}")
    axes.set(xlabel="FLOPs per byte of a gradient", ylabel="FLOPs per second of a device")


def _of_samplers(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run for run in found if run["suite"] == "samplers"]


def _by_count(found: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Runs of the same suite, kind and precision with different numbers of devices, by the kind."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in found:
        kind = f"{run['device']['kind']} {run['device']['precision']} {run['suite']}".replace(" default", "")
        groups.setdefault(kind, []).append(run)
    return {kind: group for kind, group in groups.items() if len({run["device"]["count"] for run in group}) > 1}


def _common_chains(group: Sequence[dict[str, Any]]) -> int:
    """The largest number of chains that all runs of a group have measured; 0 if there is none."""
    measured = [{row["chains"] for row in run["rows"] if row["measure"] == RATE} for run in group]
    return max(set.intersection(*measured), default=0)


def _setting(run: dict[str, Any]) -> tuple[str, int]:
    return run["device"]["precision"], run["device"]["count"]


def _key(row: dict[str, Any]) -> tuple[str, str, int, int]:
    return row["library"], row["sampler"], row["weights"], row["chains"]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row in the units of the tables, with its range as text."""
    if "min" in row:
        row = {**row, "range": f"{row['min']:.3g} to {row['max']:.3g}"}
    if row["value"] is None or row["measure"] not in SCALES:
        return row
    return {**row, "value": row["value"] * SCALES[row["measure"]]}
