"""The README's tables of generators that are told what to make, or find out: InfoGAN and ACGAN."""

from experiments.gan_flags import steps_in_words
from experiments.markdown import number, table

JUDGED = {"FCD": 2, "IS": 2, "precision": 3, "recall": 3}


def information_of_codes(results: dict) -> str:
    """Games down: the code as a classifier, what is read of it, and what the judge says of the images."""
    config, metrics = results["config"], results["metrics"]
    seeds = range(config["seed"], config["seed"] + config["num_seeds"])
    across = {
        "error %": ("error %", 2), "train error %": ("on training images", 2), "classes": ("classes", 0),
        "information": ("I(c; x) in nats", 3), "explained": ("R² of continuous codes", 3),
        "of the code's class %": ("% judged of the code's class", 1),
        **{name: (name, digits) for name, digits in JUDGED.items()},
    }  # fmt: skip
    across = {name: each for name, each in across.items() if any(key.endswith(f" {name}") for key in metrics)}

    def cells(name: str) -> list[str]:
        return [number(metrics.get(f"{name} {what}"), digits) for what, (_, digits) in across.items()]

    rows = [[f"seed {seed}", *cells(f"seed {seed}")] for seed in seeds]
    if any(key.startswith("real ") for key in metrics):
        rows.insert(0, ["training images", *cells("real")])
    error, chosen = metrics["error %"], metrics.get("error % of the game chosen on training images")
    note = f"{steps_in_words(config)} of {config['batch_size']}, {config['kernel']}."
    if chosen:
        note += f" Error over games {number(error, 2)} %; of game {chosen['seed']}, chosen on training images, "
        note += f"{number(chosen, 2)} %."
    note += f" Ceiling of the information: {metrics[f'seed {seeds[0]} information']['ceiling']:.3f} nats."
    if "paper" in error:
        note += f" Published error of InfoGAN: {error['paper']:g} %."
    return "\n\n".join([table(rows, ["", *(head for head, _ in across.values())]), note])


def told_classes(results: dict) -> str:
    """Samples, beside training images: whether they are of their class by the judge and by the second head, and FCD."""
    config, metrics = results["config"], results["metrics"]
    across = {
        "class accuracy %": ("% judged of their class", 2), "own accuracy %": ("% by its own head", 2),
        **{name: (name, digits) for name, digits in JUDGED.items()},
    }  # fmt: skip
    across = {name: each for name, each in across.items() if name in metrics}
    rows = [[config["kernel"], *(number(metrics[what], digits) for what, (_, digits) in across.items())]]
    if any(key.startswith("real ") for key in metrics):
        cells = [number(metrics.get(f"real {what}"), digits) for what, (_, digits) in across.items()]
        rows.insert(0, ["training images", *cells])
    note = f"{steps_in_words(config)} of {config['batch_size']}; {config['num_judged']} samples. "
    note += f"Test error of the second head {number(metrics['own test error %'], 2)} %."
    return "\n\n".join([table(rows, ["", *(head for head, _ in across.values())]), note])


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("tables")
