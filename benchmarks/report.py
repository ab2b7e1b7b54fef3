"""Markdown tables of the files in benchmarks/results: `render(results)` for one file as a dictionary.

    python -m benchmarks.report          writes the page and the figures of all devices, docs/benchmarks/devices.md

Every benchmark prints its own tables with `render`, and `python -m docs.tables` writes them into docs/.
"""

import statistics
from pathlib import Path

from benchmarks import device_report
from experiments.harness.report import markdown, number, origin

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "devices.md"


def render(results: dict) -> str:
    """Renders the tables of one results file, and the command, device and commit that made it."""
    if results["benchmark"] == "run":
        return "\n\n".join([device_report.devices_table([results]), *device_report.tables(results)])
    tables = {"tpu": tpu_tables, "nuts": efficiency_tables}.get(results["benchmark"], cost_tables)
    return "\n\n".join([*tables(results), origin(results)])


def cost_tables(results: dict) -> list[str]:
    """Milliseconds per step of each row, ratios of rows with their bars, peak memory, remarks and further tables."""
    key = next(key for key in results if key.startswith("milliseconds_per_"))
    times = []
    for name, entry in results[key].items():
        seconds = results["compile_seconds"].get(name)
        span = f"{_milliseconds(entry['min'])} to {_milliseconds(entry['max'])}"
        times.append([name, _milliseconds(entry["median"]), span, "-" if seconds is None else f"{seconds:.1f}"])
    ratios = []
    for name, entry in results["ratios"].items():
        value = number({"value": entry.get("of_medians"), **entry}, 2)
        ratios.append([name, value, f"{entry['min']:.2f} to {entry['max']:.2f}", entry["bar"]])
    parts = [
        markdown([f"one {key.removeprefix('milliseconds_per_')}", "ms, median", "range", "compile s"], times),
        markdown(["ratio", "value", "range", "bar"], ratios),
    ]
    if peaks := [[name, f"{mib:.0f}"] for name, mib in results.get("peak_mib", {}).items()]:
        parts.append(markdown(["process", "peak memory, MiB"], peaks))
    parts += results.get("remarks", [])
    if results.get("shapes"):
        parts.append(shape_table(results["shapes"]))
    if results["benchmark"] == "samplers":
        parts += sampler_tables(results)
    return parts


def sampler_tables(results: dict) -> list[str]:
    """Effective sample size per gradient, and the test of moments."""
    effective, gate = [], []
    for name, entry in results["effective"].items():
        sizes = [number(entry[f"{which}_per_1000_gradients"], 2) for which in ("min", "median")]
        effective.append([name, *sizes, f"{entry['largest_r_hat']:.3f}"])
    for name, entry in results["gate"].items():
        variance = number({"value": entry["variance"], **entry}, 3)
        gate.append([name, variance, "passes" if entry["passes"] else "fails"])
    return [
        markdown(["HMC in", "smallest bulk ESS per 1000 gradients", "median", "largest R-hat"], effective),
        markdown(["sampler", "variance on N(0, I) (exact: 1)", "test (within 5 %)"], gate),
    ]


def efficiency_tables(results: dict) -> list[str]:
    """Effective draws per 1000 gradients by target and library, the ratios, and the diagnostics of each run."""
    draws, ratios, config = results["effective_draws_per_1000_gradients"], results["ratios"], results["config"]
    libraries = list(dict.fromkeys(name.rpartition(" ")[2] for name in draws))
    own, *peers = libraries
    sizes, runs = [], []
    for target in results["targets"]:
        entries = {library: draws[f"{target} {library}"] for library in libraries}
        against = [number(ratios[f"{target} / {peer}"], 2) for peer in peers]
        sizes.append([target, *(number(entry, 2) for entry in entries.values()), *against])
        for library, entry in entries.items():
            gradients = [f"{entry['gradients_per_draw']:.1f}", f"{entry['warmup_gradients']:.0f}"]
            diagnostics = [f"{entry['largest_r_hat']:.3f}", f"{entry['divergent_percent']:.2f}"]
            runs.append([target, library, *gradients, *diagnostics])
    verdict = "met" if all(entry["met"] in (True, None) for entry in ratios.values()) else "not met"
    note = (
        f"± is the standard error over {config['num_groups']} runs of {config['num_chains']} chains, each with "
        f"{config['num_warmup']} warm-up steps and {config['num_draws']} draws. A ratio is omitted where the libraries "
        f"do not sample the same distribution: the R-hat of all chains exceeds 1.01, or the means differ. The bar is "
        f"that no ratio is below 1 by more than two standard errors. It is {verdict}."
    )
    header = ["smallest bulk ESS per 1000 gradients", *libraries, *(f"{own} / {peer}" for peer in peers)]
    run = [
        "target",
        "library",
        "gradients per draw",
        "gradients of warm-up",
        "largest R-hat",
        "divergent %",
    ]
    return [markdown(header, sizes), note, markdown(run, runs)]


def shape_table(shapes: list[dict]) -> str:
    """Ratios of times to the faster of XLA's convolution and patches, by image size, over the shapes of the sweep."""
    rows = []
    for size in sorted({shape["size"] for shape in shapes}):
        ratios = sorted(shape["ratio"] for shape in shapes if shape["size"] == size)
        mean, num_slow = statistics.geometric_mean(ratios), sum(ratio > 1.2 for ratio in ratios)
        rows.append([f"{size} x {size}", f"{len(ratios)}", f"{mean:.2f}", f"{ratios[-1]:.2f}", f"{num_slow}"])
    return markdown(["image", "shapes", "bayesjax / better of XLA and patches", "worst", "above 1.2"], rows)


def tpu_tables(results: dict) -> list[str]:
    """Work of a step on one kind of chip, projected time and efficiency on every kind, and the assumed figures."""
    hardware, workloads = results["hardware"], results["workloads"]
    shown = "v5e" if "v5e" in hardware else next(iter(hardware))
    lines, work, times, figures = [], [], [], []
    for name, workload in workloads.items():
        lines.append(f"- `{name}`: {workload['what']} ({workload['scaling']} scaling)")
        for index, row in enumerate(workload["on"][shown]):
            sizes = [f"{row['flops'] / 1e9:.3g}", f"{row['hbm_bytes'] / 1e6:.3g}", f"{row['peak_bytes'] / 2**20:.0f}"]
            chips = [name, f"{row['chips']}"]
            work.append([*chips, f"{row['data']} x {row['particle']}", *sizes, _exchanged(row["collectives"])])
            times.append([*chips, *(_projected(workload["on"][kind][index]) for kind in hardware)])
    for kind, chip in hardware.items():
        rates = [chip["peak"] / 1e12, chip["hbm_bandwidth"] / 1e9, chip["link_bandwidth"] / 1e9]
        peak, bandwidth, link = (f"{rate:.0f}" for rate in rates)
        figures.append([kind, peak, bandwidth, f"{chip['hbm_gib']}", link, chip["source"]])
    columns = ["chips", "data x particle", "GFLOP", "HBM MB", "peak MiB", "collectives, bytes on a chip"]
    return [
        "\n".join(lines),
        markdown([f"a step on {shown}", *columns], work),
        markdown(["projected time, efficiency", "chips", *hardware], times),
        markdown(["chip", "bf16 TFLOP/s", "HBM GB/s", "HBM GiB", "link GB/s, one way", "source"], figures),
        "\n".join(["Assumed:", "", *(f"- {line}" for line in results["assumptions"])]),
    ]


def _exchanged(collectives: list[dict]) -> str:
    """Number and size of the collectives of a step, by kind."""
    parts = []
    for kind in dict.fromkeys(each["kind"] for each in collectives):
        same = [each for each in collectives if each["kind"] == kind]
        size = sum(each["times"] * each["bytes"] for each in same)
        parts.append(f"{sum(each['times'] for each in same)} {kind}, {size / 1e6:.2f} MB")
    return "; ".join(parts) or "-"


def _projected(row: dict) -> str:
    """The projected time of a step, and its efficiency if it was computed."""
    efficiency = "" if row["efficiency"] is None else f", {100 * row['efficiency']:.0f} %"
    return f"{row['seconds'] * 1e3:.3g} ms{efficiency}"


def _milliseconds(value: float) -> str:
    """Formats a time with two decimals, or with three significant digits below 1."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


def main() -> None:
    """Draws the figures of all devices and writes their page."""
    from docs import tables

    if found := device_report.runs():
        device_report.draw(found)
    PAGE.write_text(tables.updated(PAGE.read_text(), PAGE))
    print(f"{len(found)} results files in {PAGE}")


if __name__ == "__main__":
    main()
