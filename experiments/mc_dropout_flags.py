"""The flags of `mc_dropout.py`, its presets, and what is wrong with a setting. Loads nothing heavy."""

from dataclasses import dataclass, replace

from experiments import common

METHODS = ("dropout", "bbb")


def is_regression(dataset: str) -> bool:
    """Whether a data set has real-valued targets, by its name."""
    return dataset == "diabetes" or dataset.startswith("uci/")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.mc_dropout."""

    dataset: str = "diabetes"
    """Regression: diabetes, or uci/NAME, a folder NAME in uci/ of --data-dir (BAYESJAX_DATA_DIR if empty). The rotating
    digit: digits, an image set of TensorFlow Datasets (mnist), or an .npz file with labels."""
    methods: tuple[str, ...] = METHODS
    """dropout (MC dropout), bbb (Bayes by Backprop)."""
    hidden: int = 50
    """Units of the one hidden layer."""
    dropout_rates: tuple[float, ...] = (0.005, 0.05)
    """Dropout rates to choose from, for every split on its own."""
    prior_scales: tuple[float, ...] = (1.0,)
    """Standard deviations of the prior of weights to choose from (over the root of the fan-in), likewise, of bbb."""
    length_scale: float = 0.01
    """Of MC dropout's prior: N(0, 1 / length_scale^2)."""
    initial_scale: float = 0.02
    """Of the standard deviations of bbb's posterior."""
    num_steps: int = 1000
    """Steps of a training."""
    batch_size: int = 32
    """Rows a step."""
    learning_rate: float = 0.01
    """Adam's; it falls to 0 along a cosine."""
    num_draws: int = 200
    """Masks or draws that a prediction averages over."""
    validation_fraction: float = 0.2
    """Part of a split's training rows that its settings are chosen on; it is then trained on all of them."""
    rotated_label: int = 1
    """Of the digit that is turned."""
    rotation_rate: float = 0.5
    """Dropout rate of LeNet's hidden layer, for the rotating digit."""


QUICK = Config()
PAPER = replace(
    QUICK, preset="paper", dataset="uci/bostonHousing", dropout_rates=(0.005, 0.01, 0.05, 0.1),
    prior_scales=(0.5, 1.0, 2.0), num_steps=6000, num_draws=1000,
)  # fmt: skip
LARGE = replace(PAPER, preset="large", dataset="uci/kin8nm", batch_size=128)
ROTATION = replace(QUICK, preset="rotation", dataset="mnist", batch_size=128, num_steps=4000, learning_rate=1e-3)
PROTEIN = replace(LARGE, preset="protein", dataset="uci/protein-tertiary-structure", hidden=100, num_steps=40_000)
PRESETS = {preset.preset: preset for preset in (QUICK, PAPER, LARGE, PROTEIN, ROTATION)}


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_names(config, "methods", METHODS)
    common.require(
        len(config.dropout_rates) > 0 and all(0 < rate < 1 for rate in config.dropout_rates),
        f"--dropout-rates must be numbers in (0, 1); got {config.dropout_rates}",
    )
    common.require_all_positive(config, "prior_scales")
    common.require_positive(config, "length_scale", "initial_scale", "learning_rate")
    common.require(0 < config.rotation_rate < 1, f"--rotation-rate must lie in (0, 1); got {config.rotation_rate}")
    common.require_at_least(config, 1, "hidden", "num_steps", "batch_size", "num_draws")
    common.require(
        0 < config.validation_fraction < 1,
        f"--validation-fraction must lie in (0, 1); got {config.validation_fraction}",
    )


if __name__ == "__main__":
    common.not_a_command("hmc_regression", "mc_dropout")
