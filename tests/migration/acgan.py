"""Names of `acgan`: "real FCD", "FCD", "class accuracy %", "own accuracy %"."""

from tests.migration.gan import game_config as new_config  # noqa: F401

RENAMED = {
    "own accuracy %": "accuracy of the second head %",
    "own test error %": "test error of the second head %",
}


def row_keys(name, config):
    """Method (training images, or the kernel) and measure."""
    if name.startswith("real "):
        return {"method": "training images", "measure": name.removeprefix("real ")}
    return {"method": config["kernel"], "measure": RENAMED.get(name, name)}
