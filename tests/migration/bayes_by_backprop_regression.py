"""Names of `bayes_by_backprop_regression`: "posterior outside / inside"."""


def row_keys(name, config):
    """Method and measure."""
    method, _, measure = name.partition(" ")
    return {"method": method, "measure": measure}
