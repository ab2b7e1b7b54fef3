"""Writes the README's tables from the committed results of experiments and benchmarks; a test holds them equal.

    python -m experiments.tables           rewrites README.md
    python -m experiments.tables --check   exits 1 if README.md is out of date

A table stands between `<!-- results: NAME -->` and `<!-- end -->`, NAME being a file in experiments/results, or between
`<!-- benchmark: NAME -->` and `<!-- end -->`, NAME being a file in benchmarks/results.
"""

import json
import math
import re
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
    """Numbers of labels down, methods across: mean ± sd of the error over label draws; then paired gains ± stderr."""
    config, metrics = results["config"], results["metrics"]
    errors, gains = [], []
    for num in config["num_labelled"]:
        entries = [metrics[f"{method} N_s={num} error %"] for method in config["methods"]]
        errors.append([str(num), *(number({"value": e["value"], "stderr": e["sd"]}, 1) for e in entries)])
        paired = [metrics.get(f"{other} - bayes N_s={num} error %") for other in ("supervised", "dcgan")]
        gains.append([str(num), *(number(entry, 1) for entry in paired)])
    tables = [table(errors, ["labels", *config["methods"]])]
    if gains[0][1:] != ["-", "-"]:
        tables.append(table(gains, ["labels", "supervised - bayes", "dcgan - bayes"]))
    return "\n\n".join(tables)


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


def sweep_cost(results: dict) -> str:
    """Milliseconds of a sweep in each library, then the ratios with their bars."""
    times = [
        [name, f"{entry['median']:.1f}", f"{entry['min']:.1f} to {entry['max']:.1f}"]
        for name, entry in results["milliseconds_per_sweep"].items()
    ]
    ratios = [
        [name, f"{entry['of_medians']:.2f}", f"{entry['min']:.2f} to {entry['max']:.2f}", entry["bar"]]
        for name, entry in results["ratios"].items()
    ]
    return "\n\n".join(
        [table(times, ["one sweep", "ms, median", "range"]), table(ratios, ["ratio", "of medians", "range", "bar"])]
    )


RENDER = {
    "bayesian_gan": synthetic,
    "bayesian_gan_semisupervised": semisupervised,
    "bayesian_gan_step_sizes": step_sizes,
}


def render(path: Path) -> str:
    """The Markdown of one results file: its table, and the command, time, device and commit that made it."""
    results = json.loads(path.read_text())
    if "benchmark" in results:
        body, took = sweep_cost(results), ""
    else:
        body, took = RENDER[results["experiment"]](results), f"{results['seconds'] / 60:.0f} min on "
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
