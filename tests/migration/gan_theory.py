"""Names of `gan_theory`: "toys D - D*", "at the end: mean"."""


def row_keys(name, config):
    """Method, measure and moment."""
    if name.startswith("toys "):
        return {"method": "toys", "measure": name.removeprefix("toys ")}
    moment, _, measure = name.partition(": ")
    measure = {"deviation": "standard deviation"}.get(measure, measure)
    return {"method": "game", "measure": measure, "moment": moment}
