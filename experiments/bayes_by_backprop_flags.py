"""The flags of `bayes_by_backprop.py`, its presets, and what is wrong with a setting. Loads nothing heavy."""

from dataclasses import dataclass, replace

from experiments import common

METHODS = ("sgd", "dropout", "bbb_gaussian", "bbb_mixture")
ESTIMATORS = ("weights", "flipout", "local")
KL_WEIGHTS = ("uniform", "blundell")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.bayes_by_backprop."""

    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets (mnist, fashion_mnist), or an .npz file with labels."""
    methods: tuple[str, ...] = METHODS
    """sgd, dropout, bbb_gaussian (prior N(0, s^2)), bbb_mixture (prior of two normals for every weight)."""
    widths: tuple[int, ...] = (100,)
    """Units of each of the two hidden layers, a network each."""
    num_seeds: int = 1
    """Trainings of each network, with the seeds --seed, --seed + 1, ..."""
    num_epochs: int = 60
    """Epochs of Bayes by Backprop and of dropout."""
    num_sgd_epochs: int = 30
    """Epochs of SGD."""
    batch_size: int = 128
    """Images a step."""
    learning_rate: float = 1e-3
    """Adam's, of Bayes by Backprop and of dropout; it falls to 0 along a cosine."""
    sgd_learning_rate: float = 0.1
    """Of SGD with momentum 0.9; it falls to 0 along a cosine."""
    dropout_rate: float = 0.5
    """Of hidden units; inputs are dropped at 0.4 times it."""
    initial_scale: float = 0.05
    """Of the posterior's standard deviations."""
    prior_scale: float = 0.1
    """Of the Gaussian prior."""
    mixture_weight: float = 0.5
    """Of the mixture's first component: pi."""
    mixture_scales: tuple[float, float] = (1.0, 0.0025)
    """Of the mixture's components: sigma_1 and sigma_2."""
    kl_weight: float = 1.0
    """Factor of the divergence: 1 for the bound on the evidence, less for a tempered posterior."""
    kl_weights: str = "uniform"
    """uniform, or blundell: 2^(M - i) / (2^M - 1) for batch i of M."""
    estimator: str = "flipout"
    """Noise of the gradient: weights (a draw for a batch), flipout, or local (reparameterisation; Gaussian prior)."""
    num_draws: int = 50
    """Draws, or dropout's masks, that the predictive averages over."""
    removed: tuple[float, ...] = (0.5, 0.75, 0.95, 0.98)
    """Fractions of the weights to prune, of the posteriors with the last of --widths."""
    num_validation: int = 0
    """Training images that stand in for the test set, to choose settings by."""


QUICK = Config()
PAPER = replace(
    QUICK, preset="paper", dataset="mnist", widths=(400,), num_seeds=3, num_sgd_epochs=20, mixture_weight=0.25,
    mixture_scales=(0.5, 0.02), kl_weight=0.05,
)  # fmt: skip
WIDE = replace(PAPER, preset="wide", widths=(1200,))
PRESETS = {preset.preset: preset for preset in (QUICK, PAPER, WIDE)}


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_names(config, "methods", METHODS)
    common.require_choice(config, "estimator", ESTIMATORS)
    common.require_choice(config, "kl_weights", KL_WEIGHTS)
    common.require_all_positive(config, "widths", "mixture_scales")
    common.require_positive(config, "learning_rate", "sgd_learning_rate", "initial_scale", "prior_scale")
    common.require_at_least(config, 1, "num_seeds", "num_epochs", "num_sgd_epochs", "batch_size", "num_draws")
    common.require(0 <= config.dropout_rate < 1, f"--dropout-rate must lie in [0, 1); got {config.dropout_rate}")
    common.require(0 < config.mixture_weight < 1, f"--mixture-weight must lie in (0, 1); got {config.mixture_weight}")
    common.require(config.kl_weight >= 0, f"--kl-weight must be 0 or more; got {config.kl_weight}")
    common.require(
        all(0 <= fraction < 1 for fraction in config.removed),
        f"--removed must be fractions in [0, 1); got {config.removed}",
    )
    common.require(config.num_validation >= 0, f"--num-validation must be 0 or more; got {config.num_validation}")
    common.require(
        config.estimator != "local" or "bbb_mixture" not in config.methods,
        "--estimator local draws no weights, which the mixture's divergence is estimated at: take flipout or weights",
    )


if __name__ == "__main__":
    common.not_a_command("bayes_by_backprop")
