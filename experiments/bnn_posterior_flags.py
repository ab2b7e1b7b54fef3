"""The flags of `bnn_posterior.py`, its presets, and what is wrong with a setting. Loads nothing heavy."""

from dataclasses import dataclass, replace

from experiments import common

METHODS = (
    "hmc", "nuts", "sghmc", "csghmc", "sgld", "psgld", "sgnht", "bbb", "mc_dropout", "ensemble", "laplace", "map",
)  # fmt: skip


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.bnn_posterior."""

    dataset: str = "digits"
    """digits, an image set of TensorFlow Datasets (mnist, fashion_mnist), or an .npz file with labels; for real-valued
    targets synthetic/gap (a curve), diabetes, or uci/NAME."""
    split: int = 0
    """Which of a regression set's splits."""
    num_train: int = 400
    """Training points, the first ones; 0 for all."""
    num_test: int = 360
    """Test points, the first ones; 0 for all."""
    num_validation: int = 0
    """Training points that stand in for the test set, to choose settings by."""
    methods: tuple[str, ...] = METHODS
    """hmc (first, the reference, unless there is a file of one), nuts, sghmc, csghmc (cyclical), sgld, psgld (RMSprop's
    preconditioner), sgnht, bbb (mean field), mc_dropout, ensemble (of modes), laplace (of the last layer), map (one
    mode)."""
    reference: str = ""
    """A file of class probabilities, a row for each test point, such as those published of HMC or parts/reference.csv
    of a run with another --seed (chains of the same one would judge themselves): what all methods are judged against
    instead of one half of hmc's chains."""
    hidden: tuple[int, ...] = (20,)
    """Units of the hidden layers, tanh."""
    prior_scale: float = 3.0
    """Of the prior N(0, s^2 / fan-in) of weights and N(0, s^2) of biases."""
    num_chains: int = 4
    """Chains of HMC, one half of which is the reference of the other, and of every other sampler."""
    num_warmup: int = 150
    """Steps of HMC and NUTS before draws are kept."""
    num_hmc_draws: int = 150
    """Draws of each chain of HMC and NUTS."""
    num_integration_steps: int = 60
    """Leapfrog steps of HMC's trajectories."""
    at_a_time: int = 1
    """Chains of HMC and NUTS that move at once, 0 for all, which an accelerator wants; with 1, trees of NUTS need not
    wait for the largest one."""
    max_num_doublings: int = 7
    """Of NUTS's trajectories."""
    batch_size: int = 50
    """Points a step, of all but HMC and NUTS."""
    num_epochs: int = 200
    """Epochs of every sampler with minibatches, or as many more as --num-draws takes; draws are of the second half."""
    num_draws: int = 100
    """Draws that each chain keeps, of csghmc about 0.6 times as many; and of bbb, dropout's masks and laplace."""
    learning_rate: float = 0.05
    """Of SGHMC and SGNHT: the step size times the number of points, parameters being in units of the prior."""
    sgld_learning_rate: float = 0.01
    """Of SGLD."""
    psgld_learning_rate: float = 1e-3
    """Of SGLD with RMSprop's preconditioner."""
    friction: float = 0.1
    """Of SGHMC and SGNHT."""
    num_cycles: int = 6
    """Of the cyclical sampler."""
    cyclical_factor: float = 4.0
    """The cyclical sampler's first rate over SGHMC's."""
    noise_lightness: float = 1.0
    """Deviations of the noise given the weights to a unit in which samplers move it: the more, the closer it follows
    the weights' fit along a trajectory of HMC."""
    num_optimizer_epochs: int = 150
    """Epochs of Adam: mc_dropout, ensemble, laplace, map."""
    num_bbb_epochs: int = 1200
    """Of bbb, whose standard deviations have to grow to the prior's."""
    optimizer_learning_rate: float = 5e-3
    """Adam's; it falls to 0 along a cosine."""
    dropout_rate: float = 0.1
    """Of hidden units."""
    num_members: int = 10
    """Of the ensemble."""


QUICK = Config()
# PAPER's rates are the best by the NLL of 437 training images, --num-validation 437, after 500 epochs: of SGHMC 0.015,
# 0.05, 0.15; of SGLD 0.01, 0.05, 0.2; with the preconditioner 1e-3, 5e-3.
PAPER = replace(
    QUICK, preset="paper", num_train=1000, hidden=(50, 50), num_warmup=100, num_hmc_draws=500,
    num_integration_steps=150, max_num_doublings=6, num_epochs=600, num_bbb_epochs=2000, sgld_learning_rate=0.2,
    psgld_learning_rate=5e-3,
)  # fmt: skip
# MNIST's likewise by that of 1000 images: of SGHMC 0.015, 0.05, 0.15; of SGLD 0.01, 0.05, 0.2; with the preconditioner
# 1e-3, 5e-3, 2e-2.
MNIST = replace(
    QUICK, preset="mnist", dataset="mnist", num_train=1000, num_test=1000, num_warmup=100, num_hmc_draws=1000,
    num_integration_steps=100, max_num_doublings=6, num_epochs=600, num_bbb_epochs=2000, sgld_learning_rate=0.2,
    psgld_learning_rate=5e-3,
)  # fmt: skip
GAP = replace(
    QUICK, preset="gap", dataset="synthetic/gap", num_train=0, num_test=0, hidden=(50,), num_warmup=1000,
    num_hmc_draws=2000, num_integration_steps=100, batch_size=40, num_epochs=100_000, num_draws=500,
    num_optimizer_epochs=4000, num_bbb_epochs=20_000, learning_rate=4e-4, sgld_learning_rate=4e-4, friction=0.005,
)  # fmt: skip
# UCI's rates are the best by the NLL of 144 training rows, --num-validation 144: of SGHMC 0.015, 0.05; of SGLD 0.01,
# 0.05; with the preconditioner 1e-3, 5e-3; of the cyclical sampler 1, 2 and 4 times SGHMC's.
UCI = replace(
    QUICK, preset="uci", dataset="uci/wine-quality-red", num_train=0, num_test=0, hidden=(50,), num_warmup=500,
    num_hmc_draws=5000, num_integration_steps=100, max_num_doublings=6, num_epochs=2000, num_draws=200,
    num_optimizer_epochs=400, learning_rate=0.015, noise_lightness=5.0,
)  # fmt: skip
PRESETS = {preset.preset: preset for preset in (QUICK, PAPER, MNIST, GAP, UCI)}


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_names(config, "methods", METHODS)
    common.require(
        config.methods[0] == "hmc" or bool(config.reference),
        f"--methods must begin with hmc, the reference, or --reference name a file; got {config.methods}",
    )
    common.require_all_positive(config, "hidden")
    common.require_positive(
        config, "prior_scale", "cyclical_factor", "noise_lightness", "learning_rate", "sgld_learning_rate",
        "psgld_learning_rate", "friction", "optimizer_learning_rate",
    )  # fmt: skip
    common.require_at_least(
        config, 1, "num_integration_steps", "max_num_doublings", "batch_size", "num_epochs", "num_cycles",
        "num_optimizer_epochs", "num_bbb_epochs", "num_members",
    )  # fmt: skip
    common.require(
        config.num_chains >= 4 and config.num_chains % 2 == 0,
        f"--num-chains must be even and at least 4; got {config.num_chains}",
    )
    common.require(config.friction < 1, f"--friction must be less than 1; got {config.friction}")
    common.require_at_least(config, 0, "num_train", "num_test", "split", "at_a_time")
    common.require_at_least(config, 20, "num_warmup", "num_hmc_draws", "num_draws")
    common.require(0 < config.dropout_rate < 1, f"--dropout-rate must lie in (0, 1); got {config.dropout_rate}")


if __name__ == "__main__":
    common.not_a_command("bnn_posterior")
