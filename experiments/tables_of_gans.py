"""The README's tables of generated images: by whom they are judged, and how."""

from experiments.markdown import number, table


def judge_of_images(results: dict) -> str:
    """Sets of images down, measures across; who judges, and whether its distance rises with what is done to images."""
    metrics = results["metrics"]
    across = {"FCD": 3, "FCD extrapolated": 3, "KCD": 4, "precision": 3, "recall": 3, "density": 3, "coverage": 3}
    names = list(dict.fromkeys(name.partition(": ")[0] for name in metrics if ": " in name))
    rows = []
    for name in names:
        score = metrics[f"{name}: IS"]
        cells = [number(metrics[f"{name}: {what}"], digits) for what, digits in across.items()]
        spread = number({"value": score["value"], "stderr": score["sd"]}, 2)
        rows.append([name, f"{score['num_fake']}", *cells[:3], spread, *cells[3:]])
    header = ["compared with training images", "images", "FCD", "at infinity", "KCD", "IS ± sd", *list(across)[3:]]
    judge = metrics["accuracy %"]
    ordered = [kind for kind in ("noise", "blur") if metrics[f"FCD rises with {kind}"]["value"]]
    note = (
        f"The judge {judge['judge']}, {number(judge, 2)} % of the test images right; "
        f"{metrics[f'{names[0]}: FCD']['num_real']} training images. FCD rises at every level of "
        f"{' and of '.join(ordered) or 'nothing'}."
    )
    return "\n\n".join([table(rows, header), note])


def densities(results: dict) -> str:
    """Transformations against closed forms in three short tables; then targets and flows down, measures across."""
    config, metrics = results["config"], results["metrics"]
    small = lambda entry: f"{entry['value']:.0e}"  # noqa: E731
    quantiles = list(dict.fromkeys(name.split()[1] for name in metrics if name.startswith("quantile ")))
    dims = list(dict.fromkeys(name.split()[1] for name in metrics if name.startswith("linear ")))
    one = [
        [name, small(metrics[f"quantile {name} difference"]), number(metrics[f"quantile {name} p_value"], 2)]
        for name in quantiles
    ]
    several = [
        [
            dim,
            small(metrics[f"linear {dim} difference"]),
            *(number(metrics[f"linear {dim} {what}"], 1) for what in ("mean", "covariance")),
        ]
        for dim in dims
    ]
    across = {"log-likelihood": 4, "KL": 4, "JS": 4, "integral": 5, "p-value of MMD": 3}
    fitted = []
    for name in config["targets"]:
        fitted.append([name, "truth", number(metrics[f"{name} truth log-likelihood"], 4), *["-"] * len(across)])
        for flow in config["flows"]:
            cells = [number(metrics[f"{name} {flow} {what}"], digits) for what, digits in across.items()]
            fitted.append([name, flow, *cells, small(metrics[f"{name} {flow} inverse"])])
    tables = [
        table(one, ["uniform to", "largest difference of log densities", "p-value of draws"]),
        table(several, ["dimensions", "largest difference of log densities", "mean, worst z", "covariance, worst z"]),
        table(fitted, ["target", "flow", *across, "inverse, worst"]),
    ]
    return "\n\n".join(tables)


def moment_matching(results: dict) -> str:
    """Models down; Parzen log-likelihoods of the test set, MMD^2 to it and the loss across."""
    config, metrics = results["config"], results["metrics"]
    rows = []
    for name in ("training images", *(f"{space} {kernel}" for space in config["space"] for kernel in config["kernel"])):
        judged = metrics[f"{name} log-likelihood"]
        cells = [number(judged, 1), f"{judged['paper']:.0f}" if "paper" in judged else "-"]
        cells += [number(metrics[f"{name} {what}"], digits) for what, digits in (("width", 2), ("MMD^2", 4))]
        temperature = number(metrics.get(f"{name} configurational temperature / T"), 2)
        rows.append([name, *cells, number(metrics.get(f"{name} loss"), 3), temperature])
    header = [
        "space, kernel",
        "Parzen log p (nats)",
        "published",
        "window",
        "MMD^2",
        "loss at the end",
        "T of draws / T",
    ]
    note = (
        f"Test images under a Parzen window of {config['num_samples']} samples, ± standard error over the images; the "
        f"window chosen on {config['num_validation']} training images held out. {config['num_steps']} steps on "
        f"{config['batch_size']} images"
    )
    if {"sghmc", "sgld"} & set(config["kernel"]):
        note += (
            f", of samplers {config['sampling_steps']} more at T = {config['temperature']:g}, of which "
            f"{config['num_draws']} draws are mixed"
        )
    else:  # a column of nothing
        rows, header = [row[:-1] for row in rows], header[:-1]
    note += "."
    return "\n\n".join([table(rows, header), note])


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("tables")
