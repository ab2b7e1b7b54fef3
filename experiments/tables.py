"""Writes the README's tables from the committed results of experiments and benchmarks; a test holds them equal.

    python -m experiments.tables           rewrites README.md
    python -m experiments.tables --check   exits 1 if README.md is out of date

A table stands between `<!-- results: NAME -->` and `<!-- end -->`, NAME being a file in experiments/results, or between
`<!-- benchmark: NAME -->` and `<!-- end -->`, NAME being a file in benchmarks/results. One table of all regression
sets, or of all language models, stands where NAME has a `*`.
"""

import json
import math
import re
import sys
from pathlib import Path

from experiments.common import RESULTS, ROOT
from experiments.markdown import number, table
from experiments.tables_of_benchmarks import of_benchmark
from experiments.tables_of_codes import information_of_codes, told_classes
from experiments.tables_of_games import game_of_normals, games, generative, semisupervised, step_sizes, synthetic
from experiments.tables_of_gans import densities, judge_of_images, moment_matching
from experiments.tables_of_samplers import network_posterior, standard_posteriors, tour
from experiments.tables_of_translations import few_labels, translations

MARK = re.compile(r"(<!-- (?P<kind>results|benchmark): (?P<name>[\w*!\[\]-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
FOLDERS = {"results": RESULTS, "benchmark": ROOT / "benchmarks" / "results"}


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


def by_method(results: dict) -> str:
    """Methods across, measures down: of metrics called "METHOD measure"."""
    metrics = results["metrics"]
    methods = list(dict.fromkeys(name.partition(" ")[0] for name in metrics))
    measures = list(dict.fromkeys(name.partition(" ")[2] for name in metrics))
    rows = [[what, *(number(metrics.get(f"{method} {what}"), 3) for method in methods)] for what in measures]
    return table(rows, ["", *methods])


def language_models(of_runs: list[dict]) -> str:
    """Methods down, the best last, and perplexities across; methods may be of several runs."""
    across = {
        "validation": "validation", "test": "test", "best epoch": "after epochs", "test at the end": "test at the end",
        "test at the end, draws averaged": "draws averaged", "seconds per epoch": "s an epoch",
    }  # fmt: skip
    digits = [0 if what == "best epoch" else 1 for what in across]
    rows = {}
    for config, metrics in ((results["config"], results["metrics"]) for results in of_runs):
        for name in config["methods"]:
            entries = [metrics.get(f"{name} {what}") for what in across]
            published = [f"{entry['paper']}" for entry in entries[:2] if entry and "paper" in entry]
            setting = {"lstm": "-", "dropout": f"rate {config['dropout_rate']:g}"}
            cells = [*map(number, entries, digits), f"{config['num_epochs']}", " / ".join(published) or "-"]
            tempered = f"divergence x {config['kl_weight']:g}"
            place = metrics[f"{name} validation"]["value"] or math.inf, name  # what is not finite is written as null
            rows[place] = [name, setting.get(name, tempered), *cells]
    note = "Perplexity a word, after the epoch that is best on the validation text."
    if "known perplexity" in of_runs[0]["metrics"]:
        note += f" The least that there can be: {number(of_runs[0]['metrics']['known perplexity'], 2)}."
    header = ["method", "setting", *across.values(), "epochs in all", "published"]
    return "\n\n".join([table([rows[key] for key in sorted(rows, reverse=True)], header), note])


def labelled_pixels(results: dict) -> str:
    """Measures down, ways to use the network across."""
    config, metrics = results["config"], results["metrics"]
    ways = ("one pass", "weight averaging", f"{config['num_draws']} passes")
    measures = list(
        dict.fromkeys(name.removeprefix(way).strip() for way in ways for name in metrics if name.startswith(way))
    )
    rows = [[what.replace("_", " "), *(number(metrics.get(f"{way} {what}"), 3) for way in ways)] for what in measures]
    return "\n\n".join([table(rows, ["", *ways]), f"Of the {config['judge']} images."])


def two_uncertainties(results: dict) -> str:
    """Likelihoods and sizes down, measures across; then the exponents and what is known."""
    config, metrics = results["config"], results["metrics"]
    names = [name.removesuffix(" exponent of epistemic") for name in metrics if name.endswith("exponent of epistemic")]
    tables = []
    for group in (names[:2], names[2:]):
        first = f", {config['num_data'][0]} points"
        measures = [
            name.removeprefix(f"{group[0]} ").removesuffix(first)
            for name in metrics
            if name.startswith(f"{group[0]} ") and name.endswith(first)
        ]
        rows = [
            [
                name,
                str(num),
                *(
                    number(metrics[f"{name} {measure}, {num} points"], 4 if i < 2 else 3)
                    for i, measure in enumerate(measures)
                ),
            ]
            for name in group
            for num in config["num_data"]
        ]
        tables.append(table(rows, ["likelihood", "points", *measures]))
    rows = [
        [name, *(number(metrics[f"{name} exponent of {part}"], 2) for part in ("epistemic", "aleatoric"))]
        for name in names
    ]
    tables.append(table(rows, ["against the number of points, exponent of", "epistemic", "aleatoric"]))
    known = [f"{number(metrics[f'known aleatoric of the {kind}'], 4)} ({kind})" for kind in ("regression", "classes")]
    return "\n\n".join([*tables, f"Aleatoric uncertainty of the problems themselves: {', '.join(known)}."])


def weight_uncertainty(results: dict) -> str:
    """Methods and widths down, measures across; then what is left of them with weights removed."""
    config, metrics = results["config"], results["metrics"]
    measures = {"error %": 2, "error of the mean %": 2, "nll": 3, "ece": 3}
    rows = []
    for name in config["methods"]:
        for width in config["widths"]:
            entries = [metrics[f"{name} {width} {measure}"] for measure in measures]
            published = entries[0].get("paper")
            cells = [number(entry, digits) for entry, digits in zip(entries, measures.values(), strict=True)]
            rows.append([name, str(width), *cells, f"{published}" if published else "-"])
    fractions = [0.0, *config["removed"]]
    pruned = []
    for name in (name for name in config["methods"] if name.startswith("bbb")):
        for fraction in fractions:
            at = f"{name} removed {fraction:g}"
            entry = metrics[f"{at} error %"]
            cells = [number(entry, 2), number(metrics[f"{at} rise %"], 2), number(metrics[f"{at} nll"], 3)]
            pruned.append([name, f"{100 * fraction:g}", *cells, f"{entry['paper']}" if "paper" in entry else "-"])
    seeds, held = config["num_seeds"], config["num_validation"]
    judged = f"{held} training images held out" if held else "the test set"
    epochs = f"{config['num_sgd_epochs']} epochs of SGD, {config['num_epochs']} of the others"
    spread = f"± standard error over {seeds} seeds. " if seeds > 1 else ""
    first, second = config["mixture_scales"]
    mixture = f"{config['mixture_weight']:g} N(0, {first:g}^2) + {1 - config['mixture_weight']:g} N(0, {second:g}^2)"
    priors = f"Divergence times {config['kl_weight']:g} from N(0, {config['prior_scale']:g}^2) or {mixture}"
    note = f"{spread}Of {judged}; {config['num_draws']} draws or masks; {epochs}. {priors}; {config['estimator']}."
    header = ["method", "units", "error %", "of the mean weights", "nll", "ECE", "published error"]
    tables = [table(rows, header), note]
    if pruned:
        header = ["method", "% removed", "error %", "rise", "nll", "published error"]
        tables.append(table(pruned, header))
    return "\n\n".join(tables)


def dropout(results: dict) -> str:
    """Methods down, errors and log-likelihoods across; or angles down, what passes over the turned digit do across."""
    config, metrics = results["config"], results["metrics"]
    if "error %" in metrics:
        angles = list(dict.fromkeys(name.split(" at ")[1] for name in metrics if " at " in name))
        measures = list(dict.fromkeys(name.split(" at ")[0] for name in metrics if " at " in name))
        rows = [[angle, *(number(metrics[f"{name} at {angle}"], 3) for name in measures)] for angle in angles]
        note = f"Test error of the network {number(metrics['error %'], 2)} %; {config['num_draws']} passes."
        return "\n\n".join([table(rows, ["turned by", *measures]), note])
    return regression_sets([results])


def regression_sets(of_sets: list[dict]) -> str:
    """Sets and methods down, errors and log-likelihoods across; of chains how well they mixed."""
    rows = []
    for results in sorted(of_sets, key=lambda results: results["config"]["dataset"]):
        config, metrics = results["config"], results["metrics"]
        for name in config.get("methods", ("hmc",)):
            entries = [metrics[f"{name} {measure}"] for measure in ("rmse", "log-likelihood")]
            published = [f"{entry['paper']}" if "paper" in entry else "-" for entry in entries]
            splits, digits = len(entries[0]["splits"]), 4 if entries[0]["value"] < 0.2 else 2
            cells = [number(entries[0], digits), published[0], number(entries[1], 3), published[1], str(splits)]
            judged = (("largest r hat", 2), ("median r hat", 2), ("least bulk ess", 0), ("divergent %", 1))
            mixing = [number(metrics.get(f"{name} {measure}"), digits) for measure, digits in judged]
            rows.append([config["dataset"].removeprefix("uci/"), name, *cells, *mixing])
    header = ["set", "method", "test RMSE", "published", "test log-likelihood", "published", "splits"]
    if all(row[-4:] == ["-"] * 4 for row in rows):
        rows = [row[:-4] for row in rows]
    else:
        header += ["largest R-hat", "median R-hat", "least bulk ESS", "divergent %"]
    return "\n\n".join([table(rows, header), "± standard error over the splits."])


RENDER = {
    "acgan": told_classes,
    "adversarial_games": games,
    "bayesian_gan": synthetic,
    "bayesian_gan_semisupervised": semisupervised,
    "bayesian_gan_step_sizes": step_sizes,
    "vae": auto_encoder,
    "bayes_by_backprop": weight_uncertainty,
    "bayes_by_backprop_regression": by_method,
    "bayesian_cnn": by_method,
    "bayesian_rnn": lambda results: language_models([results]),
    "bayesian_segnet": labelled_pixels,
    "bnn_posterior": network_posterior,
    "cyclegan": lambda results: translations([results]),
    "density_estimation": densities,
    "gan": lambda results: generative([results]),
    "gan_theory": game_of_normals,
    "gmmn": moment_matching,
    "hmc_regression": lambda results: regression_sets([results]),
    "hmc_tour": tour,
    "infogan": information_of_codes,
    "judge_images": judge_of_images,
    "semi_supervised_gan": lambda results: few_labels([results]),
    "standard_posteriors": standard_posteriors,
    "uncertainty": two_uncertainties,
    "mc_dropout": dropout,
}
JOIN = {  # of several runs; the others are regression sets
    "bayesian_rnn": language_models, "cyclegan": translations, "gan": generative, "semi_supervised_gan": few_labels,
}  # fmt: skip


def render(path: Path) -> str:
    """The Markdown of one results file: its table, and the command, time, device and commit that made it."""
    if "*" in path.name:
        several = [json.loads(each.read_text()) for each in sorted(path.parent.glob(path.name))]
        if not several:
            raise FileNotFoundError(f"no results file is called {path}")
        join = JOIN.get(several[0]["experiment"], regression_sets)
        return "\n\n".join([join(several), *map(origin, several)]) + "\n"
    results = json.loads(path.read_text())
    body = of_benchmark(results) if "benchmark" in results else RENDER[results["experiment"]](results)
    return f"{body}\n\n{origin(results)}\n"


def origin(results: dict) -> str:
    """The command that made a file, how long it took, on what, from which commit."""
    took, seconds = "", results.get("seconds")
    if "experiment" in results and seconds is not None:
        took = f"{seconds / 60:.0f} min on " if seconds >= 120 else f"{seconds:.0f} s on "
    return f"`{results['command']}`: {took}{results['device']}, commit {results['commit']}"


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
