"""Names of `infogan`: "real FCD", "seed 0 error %", "error %", "error % of the game chosen on training images"."""

from tests.migration.gan import game_config


def new_config(config):
    """The present flags; invariance was not weighted before there was such a flag."""
    return {"invariance_weight": 0.0} | game_config(config)


def row_keys(name, config):
    """Method, measure, and the game or the games that it is of."""
    if name.startswith("real "):
        return {"method": "training images", "measure": name.removeprefix("real ")}
    if name.startswith("seed "):
        _, seed, measure = name.split(" ", 2)
        measure = {"of the code's class %": "images of the code's class %"}.get(measure, measure)
        return {"method": "infogan", "measure": measure, "game": int(seed)}
    games = "mean" if name == "error %" else "best on training images"
    return {"method": "infogan", "measure": "error %", "games": games}
