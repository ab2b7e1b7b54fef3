"""Which step sizes are stable? SGHMC on the synthetic Bayesian GAN over learning rates, frictions and temperatures.

    python -m experiments.bayesian_gan_step_sizes                    quick: small networks, under a minute
    python -m experiments.bayesian_gan_step_sizes --preset paper     the networks of experiments.bayesian_gan: 5 minutes

At each setting SGHMC takes the same number of steps from the end of one warm-up of Adam. Networks and densities are
those of `bayesian_gan.py`. A step size is stable if the run stays finite and the kinetic temperatures of generators and
discriminator, averaged over the second half of the run, equal the posterior's temperature T. A step size that is too
large raises the kinetic temperature, or makes the run diverge. The integrator BAOAB (Leimkuhler & Matthews, see
`bayesjax/kernels/sghmc.py`) with step size eta and friction alpha needs eta < 2 (2 - alpha) / (largest curvature of
-log p). Minibatch noise raises the kinetic temperature by an amount that grows with eta / alpha.

Expected (paper preset): at T = 1 and a friction of 0.5, kinetic temperatures are right to 2 % up to a learning rate of
1e-3. With a friction of 0.1 they are twenty times too high at this learning rate, and higher ones diverge.
"""

import itertools
import math
from dataclasses import dataclass, replace
from typing import Annotated

import jax
import jax.numpy as jnp

from bayesjax import kernels, training, tree
from experiments import bayesian_gan
from experiments.harness import Count, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, launch, require, row
from experiments.shared import games, populations

Friction = Annotated[float, Range(above=0, below=1)]


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bayesian_gan_step_sizes."""

    dataset: str = "synthetic/ten_clusters"
    """Data: `synthetic/ten_clusters`, `synthetic/single_gaussian`, or the path of an .npz file (x_train [num, dim])."""
    learning_rates: Annotated[tuple[Positive, ...], NonEmpty] = (1e-4, 1e-3, 3e-3, 1e-2)
    """Learning rates of SGHMC, its step sizes times the number of data."""
    frictions: Annotated[tuple[Friction, ...], NonEmpty] = (0.1, 0.5)
    """Frictions of SGHMC, in (0, 1); 1 minus friction is the fraction of the momentum that a step keeps."""
    temperatures: Annotated[tuple[Positive, ...], NonEmpty] = (1.0, 0.01)
    """Temperatures T of the posterior."""
    hidden: Count = 200
    """Number of units in the one hidden layer of every network."""
    num_generators: Count = 10
    """Number of generators that face the discriminator."""
    num_warmup: Count = 200
    """Number of steps of Adam before SGHMC, less than --num-steps."""
    num_steps: Count = 300
    """Number of steps at each setting, including the warm-up."""

    def __post_init__(self) -> None:
        """Checks that steps are left for SGHMC."""
        super().__post_init__()
        require(self.num_warmup < self.num_steps, "--num-warmup must be less than --num-steps")


QUICK = Config()
PRESETS = {"quick": QUICK, "paper": replace(QUICK, hidden=1000, num_warmup=1000, num_steps=1300)}
TABLES = [
    Table(
        {"temperature": "T", "friction": "friction", "player": "kinetic temperature / T"},
        across="learning_rate",
        digits=".3g",
        note="The last columns are learning rates. At the correct temperature the ratio is 1. A dash marks a run that "
        "diverged.",
    )
]
HEADLINE = "bayesian_gan_step_sizes-paper-synthetic_ten_clusters", {
    "measure": "kinetic temperature / T", "player": "generator", "temperature": 1.0, "friction": 0.5,
    "learning_rate": 0.001,
}  # fmt: skip


def main(config: Config) -> None:
    """Runs SGHMC at every setting from the end of one warm-up, and writes the table of kinetic temperatures."""
    with Run("bayesian_gan_step_sizes", config) as run:
        inputs = bayesian_gan.load_vectors(config.dataset, config.data_dir)
        num_data, num_sampled = len(inputs), config.num_steps - config.num_warmup
        game = replace(bayesian_gan.QUICK, hidden=config.hidden, num_generators=config.num_generators)
        net = bayesian_gan.networks(game, inputs.shape[1])
        data_key, init_key, warmup_key, sample_key = jax.random.split(jax.random.key(config.seed), 4)
        batches = populations.unlabelled_batches(data_key, inputs, game.batch_size)
        moves = bayesian_gan.optimised(game, net, games.prior(game), num_data, config.num_warmup)
        adam, options = run.stage("warmup", populations.sweep(moves, *game.num_networks))
        state = jax.jit(lambda key: adam.init(net.init(key, *game.num_networks), jax.random.fold_in(key, 0)))(init_key)
        state, _ = training.run(
            warmup_key, adam, state, batches, num_steps=config.num_warmup, keep=lambda state: (), **options
        )
        position = training.fetch(state.position)

        @jax.jit
        def sample(position, batches, rng_key, temperature, friction, learning_rate):
            """Kinetic temperatures of generators and discriminator after every step, and whether the run is finite."""
            densities = bayesian_gan.conditionals(net, games.prior(game), num_data, batch_size=game.batch_size)
            moves = [
                kernels.sghmc(density, step_size=learning_rate / num_data, friction=friction, temperature=temperature)
                for density in densities.values()
            ]
            kernel = launch.spread(config, populations.sweep(moves, *game.num_networks))
            start_key, rng_key = jax.random.split(rng_key)
            keys = jax.random.split(rng_key, num_sampled)

            def step(state, now):
                time, key = now
                state, info = kernel.step(key, state, batches(time))
                return state, {name: player.kinetic_temperature.mean() for name, player in info.players.items()}

            state, kinetic = jax.lax.scan(step, kernel.init(position, start_key), (jnp.arange(num_sampled), keys))
            return kinetic, tree.all_finite(state.position)

        def measure(setting: tuple[float, float, float]) -> dict[str, float]:
            """Mean kinetic temperature of each player over the second half of a run; infinite if the run diverges."""
            kinetic, is_finite = training.fetch(sample(position, batches, sample_key, *setting))
            print("T {:g}, friction {:g}, learning rate {:g}".format(*setting), "" if is_finite else "diverges")
            return {
                player: float(values[num_sampled // 2 :].mean()) if is_finite else math.inf
                for player, values in kinetic.items()
            }

        rows = []
        for setting in itertools.product(config.temperatures, config.frictions, config.learning_rates):
            name = "T{:g}-friction{:g}-learning_rate{:g}".format(*setting)
            kinetic = run.part(name, lambda setting=setting: measure(setting))
            temperature, friction, learning_rate = setting
            rows += [
                row("kinetic temperature / T", value / temperature, player=player,
                    temperature=temperature, friction=friction, learning_rate=learning_rate)
                for player, value in kinetic.items()
            ]  # fmt: skip
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
