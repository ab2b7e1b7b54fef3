"""Names of `bnn_posterior`: "sghmc total variation", "hmc bulk ess a 1000 passes"."""

MEASURES = {
    "rmse": "RMSE", "nll": "NLL", "ece": "ECE", "in the 90 % band %": "% in the 90 % band",
    "ece by the reference": "ECE by the reference", "r hat": "largest R-hat", "bulk ess": "least bulk ESS",
    "bulk ess a 1000 passes": "least bulk ESS per 1000 passes",
}  # fmt: skip
FLAGS = {"at_a_time": "chunk_size", "noise_lightness": "noise_unit"}


def row_keys(name, config):
    """Method and measure."""
    method, _, measure = name.partition(" ")
    return {"method": method, "measure": MEASURES.get(measure, measure)}


def new_config(config):
    """Two flags have new names."""
    return {FLAGS.get(key, key): value for key, value in config.items()}
