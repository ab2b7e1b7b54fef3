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
    below = (
        f"{config['num_chains']} chains of {config['num_draws']} draws after {config['num_warmup']} steps of warm-up; "
        f"references exact (gaussian, funnel) or of {config['num_reference']} draws a chain."
    )
    return f"{table(rows, header)}\n\n{below}"


def network_posterior(results: dict) -> str:
    """Methods down: how good they are, how near to HMC, how well they mix."""
    config, metrics = results["config"], results["metrics"]
    columns = (
        ("error %", 1), ("nll", 3), ("ece", 3), ("agreement %", 1), ("total variation", 4), ("r hat", 3),
        ("bulk ess a 1000 passes", 2), ("passes", 0),
    )  # fmt: skip
    rows = [
        [name, *(number(metrics.get(f"{name} {measure}"), digits) for measure, digits in columns)]
        for name in config["methods"]
    ]
    header = [
        "method", "error %", "NLL", "ECE", "agreement with HMC %", "total variation", "largest R-hat",
        "least bulk ESS of 1000 passes", "passes over the data",
    ]  # fmt: skip
    below = (
        f"± standard error over {config['num_test']} test images. Agreement and total variation are with one half of "
        f"{config['num_chains']} chains of HMC; the row hmc is the other half, "
        "so with half as many chains as the other samplers; its R-hat and ESS are of all."
    )
    return f"{table(rows, header)}\n\n{below}"


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
