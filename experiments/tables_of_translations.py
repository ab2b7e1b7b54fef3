"""The README's tables of translations between unpaired images, and of GANs that learn from few labels."""

from experiments.gan_flags import steps_in_words
from experiments.markdown import number, table


def translations(of_runs: list[dict]) -> str:
    """Runs and ways down, what translations are worth across."""
    across = {
        "class kept %": 1, "class in the truth %": 1, "L1 to the truth": 4, "L1 untranslated": 4, "L1 after both": 4,
        "class kept after both %": 1, "sd over draws": 4, "correlation of sd and error": 2,
    }  # fmt: skip
    across = {
        name: digits for name, digits in across.items()
        if any(f"X to Y {name}" in results["metrics"] for results in of_runs)
    }  # fmt: skip
    rows = []
    for results in of_runs:
        config, metrics = results["config"], results["metrics"]
        task = config["task"] if "X to Y L1 to the truth" in metrics else "as they are"
        for way in ("X to Y", "Y to X"):
            cells = [number(metrics.get(f"{way} {name}"), digits) for name, digits in across.items()]
            rows.append([task, config["kernel"], way, *cells])
    notes = []
    for results in of_runs:
        config, metrics = results["config"], results["metrics"]
        first, last = (number(metrics[f"after both at the {end}"], 3) for end in ("start", "end"))
        notes.append(
            f"{config['kernel']}: {steps_in_words(config)} of {config['batch_size']}, "
            f"{number(metrics['ms per step'], 0)} ms each; the distance after both translations falls from {first} to "
            f"{last}."
        )
    return "\n\n".join([table(rows, ["task", "kernel", "way", *across]), "\n".join(notes)])


def few_labels(of_runs: list[dict]) -> str:
    """Numbers of labels, methods and kernels down; error and log-likelihood across, published numbers beside."""
    rows, beside = {}, {}
    for results in of_runs:
        config, metrics = results["config"], results["metrics"]
        for num in config["num_labelled"]:
            for method in config["methods"]:
                entry = metrics[f"{method} N_s={num} error %"]
                spread = number({"value": entry["value"], "stderr": entry.get("sd")}, 2)
                published = f"{entry['paper']} ({entry['source']})" if "paper" in entry else "-"
                nll = number(metrics[f"{method} N_s={num} nll"], 3)
                rows.setdefault(num, []).append(
                    [str(num), method.replace("_", " "), config["kernel"], spread, nll, published]
                )
        for name, entry in metrics.items():
            if name.startswith("Bayesian table "):
                method, _, num = name.removeprefix("Bayesian table ").removesuffix(" error %").partition(" N_s=")
                spread = number({"value": entry["value"], "stderr": entry.get("sd")}, 2)
                beside.setdefault(int(num), {})[method] = [
                    num,
                    f"{method} of the Bayesian table",
                    "-",
                    spread,
                    "-",
                    "-",
                ]
    lines = [line for num in rows for line in [*rows[num], *beside.get(num, {}).values()]]
    config = of_runs[0]["config"]
    draws, held = config["num_label_draws"], config["num_validation"]
    spread = f"± sd of {draws} draws of the labels" if draws > 1 else "one draw of the labels"
    judged = f"{held} training images held out" if held else "the test set"
    note = f"Of {judged}; {spread}; {steps_in_words(config)} of {config['batch_size']}."
    return "\n\n".join([table(lines, ["labels", "method", "kernel", "error %", "nll", "published error %"]), note])


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("tables")
