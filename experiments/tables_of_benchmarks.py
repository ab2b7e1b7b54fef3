"""What `tables.py` makes of the files in benchmarks/results: milliseconds and ratios, shapes, samplers, TPUs."""

import statistics

from experiments.markdown import number, short, table


def of_benchmark(results: dict) -> str:
    """The tables of one file."""
    if "workloads" in results:
        return tpu(results)
    return efficiency(results) if "effective_draws_per_1000_gradients" in results else cost(results)


def cost(results: dict) -> str:
    """Milliseconds of a sweep or step in each library, ratios with their bars, peak memory, remarks, shapes if any."""
    per = next(key for key in results if key.startswith("milliseconds_per_"))
    compiling = {name: f"{seconds:.1f}" for name, seconds in results["compile_seconds"].items()}
    times = [
        [name, short(entry["median"]), f"{short(entry['min'])} to {short(entry['max'])}", compiling.get(name, "-")]
        for name, entry in results[per].items()
    ]
    ratios = [
        [
            name,
            number({"value": entry.get("of_medians"), **entry}, 2),
            f"{entry['min']:.2f} to {entry['max']:.2f}",
            entry["bar"],
        ]
        for name, entry in results["ratios"].items()
    ]
    parts = [
        table(times, [f"one {per.removeprefix('milliseconds_per_')}", "ms, median", "range", "compile s"]),
        table(ratios, ["ratio", "value", "range", "bar"]),
    ]
    if peaks := results.get("peak_mib"):
        parts.append(
            "Peak memory of the processes: " + ", ".join(f"{name} {mib:.0f} MiB" for name, mib in peaks.items()) + "."
        )
    parts += results.get("remarks", [])
    if results.get("shapes"):
        parts.append(shapes(results["shapes"]))
    if results["benchmark"] == "samplers":
        parts += samplers(results)
    return "\n\n".join(parts)


def samplers(results: dict) -> list[str]:
    """What a gradient buys in each library's HMC; the moment gate; cost against size; the share of a product's rate."""
    effective = [
        [
            name,
            *(number(entry[f"{which}_per_1000_gradients"], 2) for which in ("min", "median")),
            number({"value": entry["largest_r_hat"]}, 3),
        ]
        for name, entry in results["effective"].items()
    ]
    gate = [
        [name, number({"value": entry["variance"], **entry}, 3), "passes" if entry["passes"] else "fails"]
        for name, entry in results["gate"].items()
    ]
    slopes = [
        [name, f"{entry['from']} to {entry['to']}", number(entry, 2)] for name, entry in results["slopes"].items()
    ]
    rates = [
        [name, f"{entry['gflops']:.0f}", f"{100 * entry['share']:.0f} %"] for name, entry in results["roofline"].items()
    ]
    return [
        table(effective, ["HMC of", "bulk ESS per 1000 gradients, least", "median", "largest R-hat"]),
        table(gate, ["sampler", "variance on N(0, I), exact 1", "gate of 5 %"]),
        table(slopes, ["cost of HMC against", "from", "exponent"]),
        table(rates, ["products of", "GFLOP/s", "of the rate of 1024 x 1024"]),
    ]


def efficiency(results: dict) -> str:
    """Targets down: effective draws of 1000 gradients in each library and the ratios; then what each run was like."""
    found, ratios, config = results["effective_draws_per_1000_gradients"], results["ratios"], results["config"]
    libraries = list(dict.fromkeys(name.rpartition(" ")[2] for name in found))
    own, *peers = libraries
    worth, runs = [], []
    for target in results["targets"]:
        of_each = {library: found[f"{target} {library}"] for library in libraries}
        against = [number(ratios[f"{target} / {peer}"], 2) for peer in peers]
        worth.append([target, *(number(entry, 2) for entry in of_each.values()), *against])
        for library, entry in of_each.items():
            cells = [f"{entry['gradients_per_draw']:.1f}", f"{entry['warmup_gradients']:.0f}"]
            runs.append([target, library, *cells, f"{entry['largest_r_hat']:.3f}", f"{entry['divergent_percent']:.2f}"])
    ratio = [f"{own} / {peer}" for peer in peers]
    verdict = "met" if all(entry["met"] in (True, None) for entry in ratios.values()) else "not met"
    below = (
        f"± standard error over {config['num_groups']} runs of {config['num_chains']} chains: {config['num_warmup']} "
        f"steps of warm-up, {config['num_draws']} draws. No ratio where the runs are not of one law: an R-hat of all "
        f"chains above 1.01, or means apart. Bar: none below 1 by more than two standard errors; {verdict}."
    )
    run = ["target", "library", "gradients a draw", "of a chain's warm-up", "largest R-hat of all runs", "divergent %"]
    return "\n\n".join(
        [table(worth, ["least bulk ESS of 1000 gradients", *libraries, *ratio]), below, table(runs, run)]
    )


def shapes(results: list[dict]) -> str:
    """How many shapes of the sweep are slower than the better of XLA's own and patches; the worst; by size."""
    rows = []
    for size in sorted({result["size"] for result in results}):
        ratios = sorted(result["ratio"] for result in results if result["size"] == size)
        above = sum(ratio > 1.2 for ratio in ratios)
        rows.append(
            [
                f"{size} x {size}",
                f"{len(ratios)}",
                f"{statistics.geometric_mean(ratios):.2f}",
                f"{ratios[-1]:.2f}",
                f"{above}",
            ]
        )
    return table(rows, ["image", "shapes", "bayesjax / better of XLA and patches", "worst", "above 1.2"])


def tpu(results: dict) -> str:
    """What a chip does in a step, on one kind of chip; time and efficiency on all; the figures and what is assumed."""
    hardware, workloads = results["hardware"], results["workloads"]
    shown = "v5e" if "v5e" in hardware else next(iter(hardware))
    does, takes = [], []
    for name, workload in workloads.items():
        for at, row in enumerate(workload["on"][shown]):
            exchanged = {}
            for each in row["collectives"]:
                times, size = exchanged.get(each["kind"], (0, 0))
                exchanged[each["kind"]] = times + each["times"], size + each["times"] * each["bytes"]
            cells = [f"{times} {kind}, {size / 1e6:.2f} MB" for kind, (times, size) in exchanged.items()]
            parts = [f"{row['flops'] / 1e9:.3g}", f"{row['hbm_bytes'] / 1e6:.3g}", f"{row['peak_bytes'] / 2**20:.0f}"]
            chips = [name, f"{row['chips']}", f"{row['data']} x {row['particle']}"]
            does.append([*chips, *parts, "; ".join(cells) or "-"])
            on_each = [workload["on"][kind][at] for kind in hardware]
            takes.append([*chips[:2], *(f"{each['seconds'] * 1e3:.3g} ms{_percent(each)}" for each in on_each)])
    figures = [
        [
            kind,
            f"{chip['peak'] / 1e12:.0f}",
            f"{chip['hbm_bandwidth'] / 1e9:.0f}",
            f"{chip['hbm_gib']}",
            f"{chip['link_bandwidth'] / 1e9:.0f}",
            chip["source"],
        ]
        for kind, chip in hardware.items()
    ]
    per_chip = ["GFLOP", "HBM MB", "peak MiB", "collectives, bytes on a chip"]
    what = [f"- `{name}`: {workload['what']} ({workload['scaling']} scaling)" for name, workload in workloads.items()]
    return "\n\n".join(
        [
            "\n".join(what),
            table(does, [f"a step on {shown}", "chips", "data x particle", *per_chip]),
            table(takes, ["projected time, efficiency", "chips", *hardware]),
            table(figures, ["chip", "bf16 TFLOP/s", "HBM GB/s", "HBM GiB", "link GB/s, one way", "source"]),
            "\n".join(["Assumed:", "", *(f"- {line}" for line in results["assumptions"])]),
        ]
    )


def _percent(row: dict) -> str:
    """An efficiency behind its time, if there is one."""
    return "" if row["efficiency"] is None else f", {100 * row['efficiency']:.0f} %"


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("tables")
