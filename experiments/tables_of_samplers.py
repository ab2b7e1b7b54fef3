"""The README's tables of what samplers find: standard posteriors, one network's posterior."""

from experiments.markdown import number, table

COLUMNS = (
    ("worst mean (standard errors)", 1), ("worst deviation %", 1), ("its error %", 1), ("divergent %", 2),
    ("largest r hat", 3), ("least bulk ess", 0), ("bulk ess a 1000 gradients", 1), ("gradients a draw", 1),
    ("acceptance", 2),
)  # fmt: skip


def standard_posteriors(results: dict) -> str:
    """Targets and methods down, what is compared with the reference across."""
    config, metrics = results["config"], results["metrics"]
    rows = [
        [target, method, *(number(metrics[f"{target} {method} {name}"], digits) for name, digits in COLUMNS)]
        for target in config["targets"]
        for method in config["methods"]
    ]
    header = [
        "target", "method", "worst mean (st. errors)", "worst sd (%)", "largest error of an sd (%)", "divergent (%)",
        "largest R-hat", "least bulk ESS", "of 1000 gradients", "gradients a draw", "acceptance",
    ]  # fmt: skip
    found = {
        measure: [entry["value"] for name, entry in metrics.items() if name.endswith(f"reference {measure}")]
        for measure in ("largest r hat", "least bulk ess", "divergent %")
    }
    quality = ""
    if all(found.values()):
        largest, least, divergent = max(found["largest r hat"]), min(found["least bulk ess"]), max(found["divergent %"])
        quality = f" (R-hat at most {largest:.4f}, bulk ESS at least {least:.0f}, {divergent:g} % divergent)"
    below = (
        f"{config['num_chains']} chains of {config['num_draws']} draws after {config['num_warmup']} steps of warm-up; "
        f"references exact (gaussian, funnel) or of {config['num_reference']} draws a chain{quality}."
    )
    return f"{table(rows, header)}\n\n{below}"


def network_posterior(results: dict) -> str:
    """Methods down: how good they are, how near to HMC, how well they mix."""
    config, metrics = results["config"], results["metrics"]
    given = config.get("reference")
    other = "the file" if given else "HMC"
    columns = {
        "error %": ("error %", 1), "rmse": ("RMSE", 3), "nll": ("NLL", 3), "ece": ("ECE", 3),
        "in the 90 % band %": ("in the 90 % band %", 1), "agreement %": (f"agreement with {other} %", 1),
        "total variation": ("total variation", 4), "ece by the reference": (f"ECE if {other} were true", 3),
        "distance of f": ("distance from HMC", 4),
        "spread of f": ("spread / HMC's", 2), "r hat": ("largest R-hat", 3),
        "bulk ess a 1000 passes": ("least bulk ESS of 1000 passes", 2), "passes": ("passes over the data", 0),
    }  # fmt: skip
    columns = {
        name: column for name, column in columns.items()
        if any(f"{method} {name}" in metrics for method in config["methods"])
    }  # fmt: skip
    rows = [
        [name, *(number(metrics.get(f"{name} {measure}"), digits) for measure, (_, digits) in columns.items())]
        for name in config["methods"]
    ]
    nearness = (
        "Agreement and total variation are with"
        if "error %" in columns
        else "Distance (2-Wasserstein, of f at a test point, in units of the targets' spread) and spread are from"
    )
    reference = (
        f"the predictive of the file {given}."
        if given
        else f"one half of {config['num_chains']} chains of HMC; the row hmc is the other half, so with half as many "
        "chains as the other samplers; its R-hat and ESS are of all."
    )
    below = f"± standard error over the test points. {nearness} {reference}"
    return f"{table(rows, ['method', *(head for head, _ in columns.values())])}\n\n{below}"


def tour(results: dict) -> str:
    """Step sizes down; for each dimension the acceptance, and what it is by the formula."""
    config, metrics = results["config"], results["metrics"]
    rows = []
    for step_size in config["step_sizes"]:
        cells = [f"{step_size:g}"]
        for dim in config["dimensions"]:
            name = f"d={dim} eps={step_size:g}"
            cells += [number(metrics[f"{name} acceptance"], 3), number(metrics[f"{name} expected acceptance"], 3)]
        rows.append(cells)
    header = ["step size"]
    for dim in config["dimensions"]:
        header += [f"acceptance, d = {dim}", "formula"]
    below = f"L = {config['num_integration_steps']} on N(0, I); ± standard error over {config['num_chains']} chains."
    return f"{table(rows, header)}\n\n{below}"


if __name__ == "__main__":
    from experiments import common

    common.not_a_command("tables")
