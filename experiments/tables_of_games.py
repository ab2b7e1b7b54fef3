"""The README's tables of games: GANs and Bayesian GANs, and how their players move."""

import math
import statistics

from experiments.gan_flags import steps_in_words
from experiments.markdown import number, table


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


def games(results: dict) -> str:
    """Games and step sizes down, ways to move across: the factor of a step, measured and by theory."""
    config, metrics = results["config"], results["metrics"]
    rows = []
    for game in config["games"]:
        for step_size in config["step_sizes"]:
            entries = [metrics[f"{game} {method} eta={step_size:g}"] for method in config["methods"]]
            cells = [f"{number(entry, 4)} ({number({'value': entry['theory']}, 4)})" for entry in entries]
            rows.append([game, f"{step_size:g}", *cells])
    return table(rows, ["game", "step size", *(f"{method} (theory)" for method in config["methods"])])


def game_of_normals(results: dict) -> str:
    """What the toys show in a line; moments of the game down, densities and values across."""
    metrics = results["metrics"]
    titles = list(dict.fromkeys(name.partition(": ")[0] for name in metrics if ": " in name))
    measures = list(dict.fromkeys(name.partition(": ")[2] for name in metrics if ": " in name))
    rows = [[title, *(number(metrics[f"{title}: {what}"], 4) for what in measures)] for title in titles]
    worst = {what: f"{metrics[f'toys {what}']['value']:.0e}" for what in ("D - D*", "V + ln 4 - 2 JS")}
    found = " and ".join(f"{what} = {value}" for what, value in worst.items())
    toys = f"The largest of {results['config']['num_toys']} pairs of discrete distributions: {found}."
    return "\n\n".join([table(rows, ["moment", *measures]), toys])


def generative(of_runs: list[dict]) -> str:
    """Losses down, kernel by kernel, what their samples are worth across; of several runs on one data set."""
    measures = {
        "modes": 1, "high quality": 3, "FCD": 2, "KCD": 4, "IS": 3, "precision": 3, "recall": 3, "density": 3,
        "coverage": 3, "modes before sampling": 1, "high quality before sampling": 3, "FCD before sampling": 2,
        "modes of one pair": 1, "modes of one pair before sampling": 1, "diversity": 2, "swing": 1,
    }  # fmt: skip
    across = {
        name: digits for name, digits in measures.items()
        if any(key.endswith(f" {name}") for results in of_runs for key in results["metrics"])
    }  # fmt: skip
    rows = []
    if any(key.startswith("real ") for key in of_runs[0]["metrics"]):
        rows.append(["training images", "-", *_cells(of_runs[0]["metrics"], "real", across)])
    for results in of_runs:
        config = results["config"]
        rows += [[name, config["kernel"], *_cells(results["metrics"], name, across)] for name in config["losses"]]
    notes: dict[str, list[str]] = {}
    for results in of_runs:
        notes.setdefault(_played(results["config"]), []).append(results["config"]["preset"])
    said = list(notes) if len(notes) == 1 else [f"{', '.join(presets)}: {note}" for note, presets in notes.items()]
    return "\n\n".join([table(rows, ["loss", "kernel", *across]), " ".join(said)])


def _played(config: dict) -> str:
    games = f"{config['num_seeds']} games" if config["num_seeds"] > 1 else "one game"
    if config.get("num_chains", 1) > 1:  # results from before there were several have no such setting
        games += f" of {config['num_chains']} independent pairs of players"
    return f"{steps_in_words(config)} of {config['batch_size']}, {games}, {config['num_judged']} samples of each."


def _cells(metrics: dict, name: str, across: dict[str, int]) -> list[str]:
    return [number(metrics.get(f"{name} {measure}"), digits) for measure, digits in across.items()]


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("tables")
