"""Writes the README's tables from the committed results of experiments and benchmarks; a test holds them equal.

    python -m experiments.tables           rewrites README.md
    python -m experiments.tables --check   exits 1 if README.md is out of date

A table stands between `<!-- results: NAME -->` and `<!-- end -->`, NAME being a file in experiments/results, or between
`<!-- benchmark: NAME -->` and `<!-- end -->`, NAME being a file in benchmarks/results.
"""

import json
import math
import re
import statistics
import sys
from pathlib import Path

from experiments.common import RESULTS, ROOT, table

MARK = re.compile(r"(<!-- (?P<kind>results|benchmark): (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
FOLDERS = {"results": RESULTS, "benchmark": ROOT / "benchmarks" / "results"}


def number(entry: dict | None, digits: int) -> str:
    """Value and standard error, or a dash."""
    if entry is None or entry["value"] is None or not math.isfinite(entry["value"]):
        return "-"
    stderr = entry.get("stderr")
    plain = f"{entry['value']:.{digits}f}"
    return f"{plain} ± {stderr:.{digits}f}" if stderr is not None and math.isfinite(stderr) else plain


def synthetic(results: dict) -> str:
    """Methods down; JS divergence and what the draws do across."""
    metrics = results["metrics"]
    names = list(dict.fromkeys(key.rpartition(" ")[0] for key in metrics))
    rows = [
        [
            name,
            number(metrics[f"{name} js"], 3),
            number(metrics.get(f"{name} js_draws"), 3),
            number(metrics.get(f"{name} js_r_hat"), 2),
            number(metrics.get(f"{name} js_ess"), 0),
            number(metrics.get(f"{name} logit_r_hat"), 2),
        ]
        for name in names
    ]
    header = ["method", "JS at the end (nats)", "JS of the draws", "R-hat of JS", "ESS of JS", "worst R-hat of D(x)"]
    return table(rows, header)


def semisupervised(results: dict) -> str:
    """Labels down, methods across: error, mean ± sd over draws; what bayes gains, paired, ± stderr; NLL."""
    config, metrics = results["config"], results["metrics"]
    methods, draws = config["methods"], config["num_label_draws"]
    spread_of = f" ± sd of {draws} draws" if draws > 1 else ""
    errors, gained, nlls = [], [], []
    for num in config["num_labelled"]:
        entries = {method: metrics[f"{method} N_s={num} error %"] for method in methods}
        spread = [number({"value": entry["value"], "stderr": entry["sd"]}, 1) for entry in entries.values()]
        errors.append([str(num), *spread])
        nlls.append([str(num), *(number(metrics[f"{method} N_s={num} nll"], 2) for method in methods)])
        if "bayes" in methods and draws > 1:
            gains = []
            for entry in entries.values():
                gain = [other - bayes for other, bayes in zip(entry["errors"], entries["bayes"]["errors"], strict=True)]
                stderr = statistics.stdev(gain) / math.sqrt(len(gain))
                gains.append(number({"value": statistics.mean(gain), "stderr": stderr}, 1) if any(gain) else "-")
            gained.append([str(num), *gains])
    tables = {f"error %{spread_of}": errors, "error % less that of bayes ± stderr, paired": gained, "nll": nlls}
    return "\n\n".join(table(lines, [f"{name}: labels", *methods]) for name, lines in tables.items() if lines)


def step_sizes(results: dict) -> str:
    """Temperatures and frictions down, learning rates across: kinetic temperature / T of D and of the generators."""
    config, rows = results["config"], []
    for temperature in config["temperatures"]:
        for friction in config["frictions"]:
            row = [f"{temperature:g}", f"{friction:g}"]
            for rate in config["learning_rates"]:
                name = f"T={temperature:g} friction={friction:g} learning_rate={rate:g}"
                ratios = [
                    results["metrics"][f"{name} {player} kinetic temperature / T"]["value"]
                    for player in ("discriminator", "generator")
                ]
                row.append("diverges" if None in ratios else " / ".join(f"{ratio:.3g}" for ratio in ratios))
            rows.append(row)
    return table(rows, ["T", "friction", *(f"learning rate {rate:g}" for rate in config["learning_rates"])])


def auto_encoder(results: dict) -> str:
    """Models down; bounds by epoch, likelihoods and active units across; then the estimators."""
    config, metrics = results["config"], results["metrics"]
    epochs = sorted({int(name.rpartition(" ")[2]) for name in metrics if " -ELBO epoch " in name})
    if config["num_epochs"] > 20:  # long runs: powers of ten
        epochs = [epoch for epoch in epochs if epoch in (1, 10, 100, 1000)]
    across = {
        **{f"test -ELBO epoch {epoch}": f"epoch {epoch}" for epoch in epochs},
        "epochs": "epochs",
        "test -ELBO": "at the end",
        "train -ELBO": "training set",
        "test KL": "KL",
        "NLL": "-log p(x)",
        "annealed NLL": "annealed",
        "annealed - sampled log p": "log p(x), annealed - sampled",
        "annealed within 0.5 of sampled %": "% within 0.5",
        "active units": "active",
        "seconds per epoch": "s an epoch",
    }
    models = [(str(dim), bound) for dim in config["latent_dims"] for bound in config["bounds"]]
    across = {what: head for what, head in across.items() if any(name.endswith(f" {what}") for name in metrics)}
    whole = ("active units", "epochs", "annealed within 0.5 of sampled %")

    def cell(name: str, what: str) -> str:
        before = metrics[f"{name} epochs before"]["value"] if what == "epochs" else 0
        return (f"{before} + " if before else "") + number(metrics.get(f"{name} {what}"), 0 if what in whole else 2)

    rows = []
    for dim, bound in models:
        name = f"latent={dim} {bound}"
        published = {what: metrics.get(f"{name} {what}", {}).get("paper") for what in across}
        if any(published.values()):
            rows.append([dim, "published", *(number({"value": value}, 2) for value in published.values())])
        rows.append([dim, bound, *(cell(name, what) for what in across)])
    first, held = f"latent={models[0][0]} {models[0][1]}", config["num_validation"]
    images, annealed = (metrics.get(f"{first} images of {what}") for what in ("NLL", "annealed NLL"))
    pixels = "grey" if config["binarise"] == "none" else f"{config['binarise']} binarisation"
    if (config["binarise"], config["likelihood"]) == ("none", "bernoulli"):
        pixels += ", of which a Bernoulli's log p is no log density"
    judged = f"{held} training images held out" if held else "the test set"
    both = f", annealed for {annealed['value']} of them" if annealed else ""
    note = (
        f"Nats an image. -ELBO of {judged}; log p(x) of the first {images['value']} of it with "
        f"{config['likelihood_samples']} draws each{both}. Pixels: {pixels}."
    )
    estimators = [
        [
            name.replace("_", " "),
            number(metrics[f"{name} train -ELBO"], 2),
            f"{metrics[f'{name} gradient variance']['value']:.3g}",
        ]
        for name in config["estimators"]
    ]
    beside = [
        "gradient",
        f"train -ELBO after {config['estimator_epochs']} epochs",
        "variance of the encoder's gradient",
    ]
    parts = [table(rows, ["latents", "trained by", *across.values()]), note]
    return "\n\n".join([*parts, *([table(estimators, beside)] if estimators else [])])


def short(value: float) -> str:
    """Two decimals, and at least three digits."""
    return f"{value:.2f}" if value >= 1 else f"{value:.3g}"


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
            number({"value": entry["of_medians"], "stderr": entry.get("stderr")}, 2),
            f"{entry['min']:.2f} to {entry['max']:.2f}",
            entry["bar"],
        ]
        for name, entry in results["ratios"].items()
    ]
    parts = [
        table(times, [f"one {per.removeprefix('milliseconds_per_')}", "ms, median", "range", "compile s"]),
        table(ratios, ["ratio", "of medians", "range", "bar"]),
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


RENDER = {
    "bayesian_gan": synthetic,
    "bayesian_gan_semisupervised": semisupervised,
    "bayesian_gan_step_sizes": step_sizes,
    "vae": auto_encoder,
}


def render(path: Path) -> str:
    """The Markdown of one results file: its table, and the command, time, device and commit that made it."""
    results = json.loads(path.read_text())
    if "benchmark" in results:
        body, took = (tpu if "workloads" in results else cost)(results), ""
    else:
        seconds = results["seconds"]
        duration = f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
        body, took = RENDER[results["experiment"]](results), f"{duration} on "
    return f"{body}\n\n`{results['command']}`: {took}{results['device']}, commit {results['commit']}\n"


def updated(text: str) -> str:
    """The README's text with every table rendered anew."""
    return MARK.sub(lambda match: match[1] + render(FOLDERS[match["kind"]] / f"{match['name']}.json") + match[4], text)


def main() -> None:
    """Rewrites or checks README.md."""
    readme = ROOT / "README.md"
    text = readme.read_text()
    if "--check" in sys.argv[1:]:
        if text != updated(text):
            sys.exit("README.md is out of date: run `make tables`")
    else:
        readme.write_text(updated(text))


if __name__ == "__main__":
    main()
