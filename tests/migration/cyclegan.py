"""Names of `cyclegan`: "X to Y class kept %", "after both at the start"."""

from tests.migration import semi_supervised_gan

MEASURES = {
    "class kept %": "correct class %",
    "class in the truth %": "correct class of true images %",
    "class kept after both %": "correct class after both translations %",
    "L1 to the truth": "L1 to the true image",
    "L1 untranslated": "L1 of the untranslated image",
    "L1 after both": "L1 after both translations",
    "after both": "L1 after both translations",
    "to the truth": "L1 to the true image",
}


def row_keys(name, config):
    """Measure, and the direction or the moment."""
    for direction in ("X to Y", "Y to X"):
        if name.startswith(direction):
            measure = name.removeprefix(f"{direction} ")
            return {"measure": MEASURES.get(measure, measure), "direction": direction}
    for moment in ("at the start", "at the end"):
        if name.endswith(moment):
            return {"measure": MEASURES[name.removesuffix(f" {moment}")], "moment": moment}
    return {"measure": name}


def new_config(config):
    """The present names, and a flag of all games that is new here."""
    return semi_supervised_gan.new_config(config) | {"latent_dim": 32}
