"""The flags that both Bayesian GAN experiments have, and what is wrong with them. Loads nothing heavy."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments import common


@dataclass(frozen=True)
class GameFlags(common.RunFlags):
    """Players, posterior, sampler and length of a run."""

    num_generators: int = 10
    """J_g."""
    num_discriminators: int = 1
    """J_d."""
    num_chains: int = 1
    """M: chains per generator and per discriminator; J_g x M and J_d x M networks in all."""
    temperature: float = 1.0
    """T of the Bayesian GAN's posterior."""
    friction: float = 0.5
    """alpha of SGHMC; 1 - alpha is the momentum."""
    learning_rate: float = 1e-3
    """SGHMC's step size times the number of (unlabelled) data: the step on U/N."""
    prior_scale: float = 10.0
    """Standard deviation of the Gaussian prior on the weights."""
    pool: str = "sum"
    """Whether the likelihood sums over the other player's networks (the paper) or takes their mean."""
    latent_dim: int = 10
    """Noise dimensions, uniform on (-1, 1)."""
    batch_size: int = 64
    """Unlabelled data, and noise vectors per generator, in a step."""
    adam_learning_rate: float = 1e-3
    """Adam's learning rate, beta1 = 0.5."""
    warmup: int = 200
    """Adam steps before SGHMC."""
    num_steps: int = 600
    """All steps, warm-up included."""
    thinning: int = 20
    """Steps between kept draws."""

    @property
    def num_networks(self) -> tuple[int, int]:
        """Generators J_g x M and discriminators J_d x M of a game with several of each."""
        return self.num_generators * self.num_chains, self.num_discriminators * self.num_chains


def check(flags: GameFlags, methods: Sequence[str]) -> None:
    """Raises ValueError for the first shared setting that makes no sense; `methods` are those there are."""
    common.require_positive(flags, "temperature", "learning_rate", "adam_learning_rate", "prior_scale")
    common.require_at_least(
        flags, 1, "num_generators", "num_discriminators", "num_chains", "batch_size", "latent_dim", "thinning"
    )
    common.require(len(getattr(flags, "methods")) > 0, "--methods must name at least one method")  # noqa: B009
    unknown = [method for method in getattr(flags, "methods") if method not in methods]  # noqa: B009
    common.require(not unknown, f"--methods must be among {', '.join(methods)}; got {', '.join(unknown)}")
    common.require_choice(flags, "pool", ("sum", "mean"))
    common.require(0 < flags.friction < 1, f"--friction must lie strictly between 0 and 1; got {flags.friction}")
    common.require(0 <= flags.warmup < flags.num_steps, "--warmup must be less than --num-steps")


if __name__ == "__main__":
    common.not_a_command()
