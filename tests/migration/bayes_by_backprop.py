"""Names of `bayes_by_backprop`: "sgd 400 error %", "bbb_mixture removed 0.98 nll"."""

MEASURES = {
    "error of the mean %": "error % of the mean weights", "nll": "NLL", "ece": "ECE", "rise %": "rise in error %",
}  # fmt: skip


def row_keys(name, config):
    """Method, width, measure, and the percentage of weights that were removed."""
    method, second, rest = name.split(" ", 2)
    if second != "removed":
        return {"method": method, "measure": MEASURES.get(rest, rest), "width": int(second)}
    fraction, _, measure = rest.partition(" ")
    pruned = {"width": config["widths"][-1], "is_pruned": True, "removed_percent": 100 * float(fraction)}
    return {"method": method, "measure": MEASURES.get(measure, measure), **pruned}


def new_config(config):
    """`kl_weights` is now `kl_schedule`."""
    return {{"kl_weights": "kl_schedule"}.get(key, key): value for key, value in config.items()}
