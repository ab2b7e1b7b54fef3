"""The flags of `vae.py`, its presets, and what is wrong with a setting. Loads nothing heavy."""

from dataclasses import dataclass, replace

from experiments import common

BINARISE = ("resampled", "fixed", "none")
LIKELIHOODS = ("bernoulli", "gaussian", "gaussian_shared")  # of models.vae, which would load JAX
ARCHITECTURES = ("mlp", "convolutional")
ACTIVATIONS = ("tanh", "relu")
SCHEDULES = ("constant", "cosine")
ESTIMATORS = ("closed_form", "sampled", "score_function")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.vae."""

    dataset: str = "digits"
    """digits, a set of TensorFlow Datasets, an .npz file (x_train, y_train, x_test, y_test) or an .npy of images."""
    binarise: str = "resampled"
    """resampled: grey values become 0 or 1 anew at every step (test images once); fixed: once; none: they stay grey."""
    likelihood: str = "bernoulli"
    """bernoulli, gaussian (a variance for every pixel) or gaussian_shared (one for all)."""
    architecture: str = "mlp"
    """mlp or convolutional."""
    activation: str = "tanh"
    """tanh, as in the paper of 2014, or relu; of the perceptrons."""
    centred: bool = False
    """Whether the decoder begins at the training images' mean; of the perceptrons."""
    hidden: tuple[int, ...] = (200,)
    """Widths of the encoder's hidden layers, or channels of its convolutions; the decoder's are the same backwards."""
    latent_dims: tuple[int, ...] = (2, 10)
    """Latent dimensions, a model each; 2 among them is drawn as a manifold."""
    bounds: tuple[str, ...] = ("elbo",)
    """Objectives, a model each: elbo or elbo-L with the mean of L draws of z, iwae-K with K draws."""
    learning_rate: float = 1e-3
    """Adam's."""
    schedule: str = "constant"
    """Of the learning rate: constant, or cosine, down to zero at the last step."""
    batch_size: int = 128
    """Images a step."""
    num_epochs: int = 60
    """Epochs, of N // batch size steps."""
    warm_epochs: int = 0
    """Epochs of a bound that starts where the one before it ended; 0: every bound has --num-epochs from scratch."""
    estimators: tuple[str, ...] = ESTIMATORS
    """Gradients to compare, of closed_form, sampled, score_function."""
    estimator_epochs: int = 20
    """Epochs for each of them."""
    num_validation: int = 0
    """The last training images that stand in for the test set; 0: the test set itself."""
    num_likelihood: int = 100
    """Test images whose likelihood is estimated, at most; the first ones."""
    likelihood_samples: int = 1000
    """Draws for each."""
    num_annealed: int = 0
    """How many of them are annealed, too."""
    num_temperatures: int = 500
    """Of annealing, with 8 chains an image and 5 leapfrog steps at each."""


QUICK = Config()
PAPER = replace(
    QUICK, preset="paper", dataset="mnist", activation="relu", hidden=(500,), latent_dims=(20, 2, 5, 10), num_epochs=20,
    estimator_epochs=3, num_likelihood=1000, likelihood_samples=5000,
)  # fmt: skip
LIKELIHOOD = replace(
    PAPER, preset="likelihood", binarise="fixed", hidden=(300, 300), latent_dims=(50,), bounds=("elbo", "iwae-50"),
    schedule="cosine", num_epochs=120, warm_epochs=30, estimators=(), num_likelihood=10_000,
)  # fmt: skip
ANNEALED = replace(PAPER, preset="annealed", latent_dims=(10,), estimators=(), num_annealed=1000)
FACES = replace(
    QUICK, preset="faces", dataset="frey_faces.npy", binarise="none", likelihood="gaussian_shared", centred=True,
    latent_dims=(2, 5, 10, 20), batch_size=100, num_epochs=1000, schedule="cosine", estimators=(), num_likelihood=196,
    likelihood_samples=5000,
)  # fmt: skip
PRESETS = {preset.preset: preset for preset in (QUICK, PAPER, LIKELIHOOD, ANNEALED, FACES)}


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_choice(config, "binarise", BINARISE)
    common.require_choice(config, "likelihood", LIKELIHOODS)
    common.require_choice(config, "architecture", ARCHITECTURES)
    common.require_choice(config, "activation", ACTIVATIONS)
    common.require_choice(config, "schedule", SCHEDULES)
    for name in config.estimators:
        common.require(name in ESTIMATORS, f"--estimators must be among {', '.join(ESTIMATORS)}; got {name!r}")
    common.require(not config.centred or config.architecture == "mlp", "--centred is for --architecture mlp")
    for name in ("latent_dims", "bounds", "estimators"):
        values = getattr(config, name)
        common.require(
            len(set(values)) == len(values), f"--{name.replace('_', '-')} must not repeat itself; got {values}"
        )
    common.require(
        config.likelihood == "bernoulli" or config.binarise == "none",
        f"--likelihood {config.likelihood} is of grey values: it needs --binarise none; got {config.binarise}",
    )
    for name in config.bounds:
        bound, dash, num = name.partition("-")
        common.require(
            bound in ("elbo", "iwae") and (num.isdecimal() and int(num) > 0 if dash else bound == "elbo"),
            f"--bounds must be elbo, elbo-L or iwae-K with numbers of draws L and K; got {name!r}",
        )
    common.require(bool(config.latent_dims and config.bounds), "--latent-dims and --bounds must name a model each")
    common.require_all_positive(config, "hidden", "latent_dims")
    common.require_positive(config, "learning_rate")
    common.require_at_least(
        config, 1, "batch_size", "num_epochs", "estimator_epochs", "num_likelihood", "likelihood_samples"
    )
    common.require(config.num_validation != 1, "--num-validation must be 0, or 2 or more; got 1")
    common.require(
        not config.num_annealed or config.num_temperatures >= 10,
        f"--num-temperatures must be at least 10; got {config.num_temperatures}",
    )
    for name in ("num_validation", "warm_epochs"):
        flag = name.replace("_", "-")
        common.require(getattr(config, name) >= 0, f"--{flag} must be 0 or more; got {getattr(config, name)}")
    common.require(
        0 <= config.num_annealed <= config.num_likelihood,
        f"--num-annealed must be at most --num-likelihood, {config.num_likelihood}; got {config.num_annealed}",
    )


if __name__ == "__main__":
    common.not_a_command("vae")
