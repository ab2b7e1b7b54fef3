"""The flags of `gmmn.py`, its presets, and what is wrong with a setting. Loads nothing heavy."""

from dataclasses import dataclass, replace

from experiments import common

SPACES = ("data", "code")
OPTIMISERS, SAMPLERS = ("adam", "sgd"), ("sghmc", "sgld")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.gmmn."""

    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets, or an .npz file (x_train, y_train, x_test, y_test)."""
    space: tuple[str, ...] = SPACES
    """Where samples and data are compared: data (GMMN), code (of an auto-encoder: GMMN+AE)."""
    kernel: tuple[str, ...] = ("adam", "sghmc")
    """adam, sgd (with momentum), or a sampler of the generator's weights, sghmc or sgld: each a model in each space."""
    latent_dim: int = 10
    """Of the noise, uniform on (-1, 1)."""
    hidden: tuple[int, ...] = (64, 256, 256)
    """Widths of the generator's hidden layers."""
    init_scale: float = 1.0
    """s of the first weights, N(0, s^2 / fan-in)."""
    variances: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
    """Of the Gaussian kernels that are summed in data space."""
    code_variances: tuple[float, ...] = (0.1, 0.3, 1.0)
    """Likewise in code space."""
    batch_size: int = 200
    """Images in a step, and as many samples."""
    num_steps: int = 300
    """Of the optimiser."""
    learning_rate: float = 3e-3
    """The optimiser's; Adam's falls to 0 along a cosine."""
    momentum: float = 0.9
    """Of sgd."""
    drop_after: float = 1.0
    """The share of its steps after which sgd goes on with a tenth of its rate and a tenth of its friction."""
    warmup: str = "adam"
    """The optimiser from whose end samplers start, adam or sgd."""
    sampling_steps: int = 60
    """Of a sampler."""
    num_draws: int = 10
    """Kept from the second half of them."""
    sampling_rate: float = 0.02
    """A sampler's step size times the number of data."""
    friction: float = 0.1
    """Of sghmc."""
    temperature: float = 1.0
    """T of the density that is sampled, exp(-N loss / T) prior^(1/T)."""
    prior_scale: float = 1.4
    """s of the prior N(0, s^2 / fan-in) of weights, N(0, s^2) of biases."""
    code_features: tuple[int, ...] = (128, 16)
    """Widths of the auto-encoder from its first hidden layer to the code."""
    code_dropout: tuple[float, ...] = (0.0, 0.0)
    """Of the inputs of each encoder layer."""
    code_steps: int = 600
    """Steps of Adam of the auto-encoder, on 100 images each."""
    code_rate: float = 1e-2
    """Adam's there; it falls to 0 along a cosine."""
    num_samples: int = 1000
    """Of a model, for the Parzen window."""
    num_validation: int = 300
    """Training images held out, on which the window's width is chosen."""


QUICK = Config()
PAPER = replace(
    QUICK, preset="paper", dataset="mnist", kernel=("sgd",), hidden=(64, 256, 256, 1024),
    variances=(2.0, 5.0, 10.0, 20.0, 40.0, 80.0), code_variances=(1.0,), batch_size=1000, num_steps=40_000,
    learning_rate=2.0, drop_after=0.25, warmup="sgd", sampling_steps=10_000, sampling_rate=0.2,
    code_features=(1024, 32), code_dropout=(0.2, 0.5), code_steps=20_000, code_rate=1e-3,
    num_samples=10_000, num_validation=5000,
)  # fmt: skip
CPU = replace(
    PAPER, preset="cpu", kernel=("adam",), num_steps=1000, learning_rate=3e-3, drop_after=1.0,
    warmup="adam", batch_size=500, code_steps=3000, code_rate=3e-3, num_validation=1000,
)  # fmt: skip
BAYES = replace(PAPER, preset="bayes", kernel=("sgd", "sghmc", "sgld"))
PRESETS = {preset.preset: preset for preset in (QUICK, PAPER, CPU, BAYES)}


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_names(config, "space", SPACES)
    common.require_names(config, "kernel", (*OPTIMISERS, *SAMPLERS))
    common.require_choice(config, "warmup", OPTIMISERS)
    common.require_all_positive(config, "hidden", "variances", "code_variances", "code_features")
    common.require_positive(
        config, "init_scale", "learning_rate", "code_rate", "sampling_rate", "temperature", "prior_scale"
    )
    common.require_at_least(
        config, 1, "latent_dim", "batch_size", "num_steps", "num_draws", "code_steps", "num_samples"
    )
    common.require_at_least(config, 2, "num_validation")
    for name in ("momentum", "friction"):
        common.require(
            0 < getattr(config, name) < 1, f"--{name} must lie strictly between 0 and 1; got {getattr(config, name)}"
        )
    common.require(0 < config.drop_after <= 1, f"--drop-after must lie in (0, 1]; got {config.drop_after}")
    common.require(
        config.sampling_steps >= 2 * config.num_draws,
        f"--sampling-steps must be at least twice --num-draws, {config.num_draws}; got {config.sampling_steps}",
    )
    common.require(
        config.num_samples >= config.num_draws,
        f"--num-samples must be at least --num-draws, {config.num_draws}; got {config.num_samples}",
    )
    common.require(
        len(config.code_dropout) == len(config.code_features) and all(0 <= rate < 1 for rate in config.code_dropout),
        f"--code-dropout must be a number in [0, 1) for each of --code-features; got {config.code_dropout}",
    )


if __name__ == "__main__":
    common.not_a_command("gmmn")
