"""Names of `gan`: "real FCD", "hinge modes", "hinge modes before sampling", "hinge modes of one pair"."""


def game_config(config):
    """The flags of a game of two players: the warm-up in steps, and evaluations in place of checks."""
    renamed = {"warmup": "num_warmup", "num_checks": "num_evaluations"}
    new = {"prior": "fan_in"}
    for name, value in config.items():
        new[renamed.get(name, name)] = round(value * config["num_steps"]) if name == "warmup" else value
    return new


def new_config(config):
    """The present flags; the number of chains was 1 before there was such a flag."""
    return {"num_chains": 1} | game_config(config)


def row_keys(name, config):
    """Method (the loss), measure, stage and chain."""
    method, _, measure = name.partition(" ")
    if method == "real":
        return {"method": "training images", "kernel": "-", "measure": measure}
    keys = {"method": method}
    if measure.endswith(" before sampling"):
        measure, keys["stage"] = measure.removesuffix(" before sampling"), "warm-up"
    if measure.endswith(" of one pair"):
        measure, keys["chain"] = measure.removesuffix(" of one pair"), "mean"
    return keys | {"measure": "mean drift" if measure == "swing" else measure}
