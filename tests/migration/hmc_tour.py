"""Names of `hmc_tour`: "d=10 eps=0.5 expected acceptance"."""


def row_keys(name, config):
    """Measure, dimension and step size."""
    dim, step_size, measure = name.split(" ", 2)
    keys = {"dimension": int(dim.removeprefix("d=")), "step_size": float(step_size.removeprefix("eps="))}
    return {"method": "hmc", "measure": measure, **keys}
