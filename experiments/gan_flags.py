"""The flags of every GAN, and what is wrong with them: how the two players move. Loads nothing heavy."""

from dataclasses import dataclass

from experiments import common

KERNELS = ("adam", "sghmc", "sgld")


@dataclass(frozen=True)
class PlayerFlags(common.RunFlags):
    """How two players move, and for how long."""

    kernel: str = "adam"
    """adam (the GAN), or a sampler of both players' weights, sghmc or sgld (the Bayesian GAN)."""
    batch_size: int = 64
    """Data, and fakes, of a step."""
    discriminator_steps: int = 1
    """Of the discriminator for each of the generator, on data of their own."""
    num_steps: int = 2000
    """Of the generator, those before sampling included."""
    generator_learning_rate: float = 2e-4
    """Adam's."""
    discriminator_learning_rate: float = 2e-4
    """Adam's."""
    decay_from: float = 1.0
    """The share of Adam's steps after which both rates fall to 0 along a line; 1: they do not."""
    momentum: float = 0.5
    """Adam's first."""
    average: float = 0.999
    """Decay of the moving average of Adam's generator, by which it is judged; 0: its last step."""
    warmup: float = 0.5
    """The share of the steps in which a sampler's players are moved to a mode by Adam."""
    learning_rate: float = 1e-4
    """A sampler's step size times the number of data."""
    friction: float = 0.1
    """Of sghmc."""
    temperature: float = 1.0
    """Of the sampled posterior."""
    prior_scale: float = 3.0
    """Of the prior N(0, s^2 / fan-in) of weights and N(0, s^2) of biases, for the samplers."""
    num_checks: int = 20
    """Looks at the samples along the way, after equally many steps (what is left at the end is not run); of a sampler,
    draws that are kept after warm-up."""

    @property
    def num_warmup(self) -> int:
        """Steps before sampling."""
        return _num_warmup(self.kernel, self.warmup, self.num_steps)


def _num_warmup(kernel: str, warmup: float, num_steps: int) -> int:
    return 0 if kernel == "adam" else round(warmup * num_steps)


def between_checks(num_steps: int, num_checks: int) -> tuple[int, int]:
    """Of a stage: the steps from one check to the next, and those that are run, which are whole multiples of them."""
    every = max(num_steps // num_checks, 1)
    return every, num_steps - num_steps % every


def steps_in_words(config: dict) -> str:
    """The steps that are run, stage by stage, for a table: of a results file's configuration."""
    warmup = _num_warmup(config["kernel"], config["warmup"], config["num_steps"])
    _, last = between_checks(config["num_steps"] - warmup, config["num_checks"])
    if config["kernel"] == "adam":
        return f"{last} steps"
    _, first = between_checks(warmup, config["num_checks"])
    return f"{first} steps of Adam and {last} of {config['kernel'].upper()}, batches"


def check(flags: PlayerFlags) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_choice(flags, "kernel", KERNELS)
    common.require_at_least(flags, 1, "batch_size", "discriminator_steps")
    common.require_at_least(flags, 2, "num_checks")
    common.require_positive(
        flags, "generator_learning_rate", "discriminator_learning_rate", "learning_rate", "prior_scale", "temperature"
    )
    for name in ("decay_from", "warmup"):
        value = getattr(flags, name)
        common.require(0 < value <= 1, f"--{name.replace('_', '-')} must lie in (0, 1]; got {value}")
    for name in ("momentum", "average"):
        value = getattr(flags, name)
        common.require(0 <= value < 1, f"--{name} must lie in [0, 1); got {value}")
    common.require(0 < flags.friction < 1, f"--friction must lie in (0, 1); got {flags.friction}")
    common.require(
        flags.kernel == "adam" or flags.num_warmup > 0,
        f"--warmup must leave a step of {flags.num_steps} before sampling; got {flags.warmup}",
    )
    left = flags.num_steps - flags.num_warmup
    common.require(
        left >= flags.num_checks,
        f"--num-steps must leave a step for each of {flags.num_checks} checks after {flags.num_warmup} steps of "
        f"warm-up; got {flags.num_steps}",
    )


if __name__ == "__main__":
    common.not_a_command()
