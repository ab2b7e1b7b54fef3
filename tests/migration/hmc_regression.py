"""Names of `hmc_regression`: "hmc rmse", "hmc largest r hat"."""

from tests.migration.mc_dropout import new_row  # noqa: F401, the number of splits

MEASURES = {
    "rmse": "RMSE", "in the 90 % band": "% in the 90 % band", "largest r hat": "largest R-hat",
    "median r hat": "median R-hat", "least bulk ess": "least bulk ESS",
}  # fmt: skip


def row_keys(name, config):
    """Method and measure."""
    measure = name.removeprefix("hmc ")
    return {"method": "hmc", "measure": MEASURES.get(measure, measure)}


def new_config(config):
    """`at_a_time` is now `chunk_size`."""
    return {{"at_a_time": "chunk_size"}.get(key, key): value for key, value in config.items()}
