"""Which step sizes hold? SGHMC on the synthetic Bayesian GAN over learning rates, frictions and temperatures.

    python -m experiments.bayesian_gan_step_sizes                    quick: small networks, under a minute
    python -m experiments.bayesian_gan_step_sizes --preset paper     the networks of experiments.bayesian_gan

One Adam warm-up, then the same number of SGHMC steps from its end at each setting. A step size holds if the run stays
finite and its momentum is as warm as it should be: the kinetic temperature of the discriminator and of the generators,
averaged over the second half, is T. Too large a step makes it hotter, then infinite: BAOAB needs
eta < 2 (2 - alpha) / (largest curvature of -log p), and what the minibatch's own noise adds grows with eta / alpha.
"""

from dataclasses import dataclass, replace

from experiments import common


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.bayesian_gan_step_sizes."""

    dataset: str = "synthetic/ten_clusters"
    """As in experiments.bayesian_gan."""
    learning_rates: tuple[float, ...] = (1e-4, 1e-3, 3e-3, 1e-2)
    """Step sizes times the number of data: the step on U/N."""
    frictions: tuple[float, ...] = (0.1, 0.5)
    """alpha; 1 - alpha is the momentum."""
    temperatures: tuple[float, ...] = (1.0, 0.01)
    """T."""
    hidden: int = 200
    """Hidden units of both networks."""
    num_generators: int = 10
    """J_g."""
    warmup: int = 200
    """Adam steps before SGHMC."""
    num_steps: int = 100
    """SGHMC steps at each setting."""


QUICK = Config()
PAPER = replace(QUICK, preset="paper", hidden=1000, warmup=1000, num_steps=300)
PRESETS = {"quick": QUICK, "paper": PAPER}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import itertools
import math

import jax
import jax.numpy as jnp

from bayesjax import posteriors, training, tree
from experiments import bayesian_gan, tables
from experiments import bayesian_gan_game as game


def check(config: Config) -> None:
    """Raises ValueError for the first setting that makes no sense."""
    common.require_all_positive(config, "learning_rates", "frictions", "temperatures")
    common.require(max(config.frictions) < 1, f"--frictions must be below 1; got {config.frictions}")
    common.require_at_least(config, 1, "hidden", "num_generators", "warmup", "num_steps")


def main(config: Config) -> None:
    """Runs every setting from one warm-up and writes the table of kinetic temperatures."""
    with common.Experiment("bayesian_gan_step_sizes", config) as run:
        check(config)
        inputs = bayesian_gan.load_vectors(config.dataset, config.data_dir)
        flags = bayesian_gan.Config(hidden=config.hidden, num_generators=config.num_generators, warmup=config.warmup)
        net = bayesian_gan.networks(flags, inputs.shape[1])
        data_key, init_key, warmup_key, sample_key = jax.random.split(jax.random.key(config.seed), 4)
        batches = game.batches(data_key, inputs, flags.batch_size)
        densities = game.conditionals(net, flags, posteriors.gaussian(flags.prior_scale), num_data=len(inputs))
        adam = run.spread(game.play(map(game.optimise(flags, len(inputs)), densities), flags.num_networks))
        state = jax.jit(lambda key: adam.init(net.init(key, *flags.num_networks), jax.random.fold_in(key, 0)))(init_key)
        state, _ = training.run(
            warmup_key, adam, state, batches, num_steps=config.warmup, keep=lambda state: (), **run.stage("warmup")
        )
        position = training.fetch(state.position)

        @jax.jit
        def sample(position, batches, rng_key, learning_rate, friction, temperature):
            """Kinetic temperatures of both players after every step, and whether the run is finite."""
            here = replace(flags, learning_rate=learning_rate, friction=friction)
            kernel = run.spread(
                game.play(map(game.sample(here, len(inputs), temperature), densities), flags.num_networks)
            )
            start_key, rng_key = jax.random.split(rng_key)
            keys = jax.random.split(rng_key, config.num_steps)

            def step(state, now):
                time, key = now
                state, info = kernel.step(key, state, batches(time))
                return state, {name: player.kinetic_temperature.mean() for name, player in info.players.items()}

            state, kinetic = jax.lax.scan(step, kernel.init(position, start_key), (jnp.arange(config.num_steps), keys))
            return kinetic, tree.all_finite(state.position)

        def measure(temperature: float, friction: float, learning_rate: float) -> dict:
            settings = learning_rate, friction, temperature
            kinetic, finite = training.fetch(sample(position, batches, sample_key, *settings))
            second_half = {name: values[config.num_steps // 2 :] for name, values in kinetic.items()}
            print(f"T {temperature:g}, friction {friction:g}, learning rate {learning_rate:g}: finite {bool(finite)}")
            return {"finite": bool(finite), **{name: float(values.mean()) for name, values in second_half.items()}}

        metrics = {}
        for setting in itertools.product(config.temperatures, config.frictions, config.learning_rates):
            name = "T={:g} friction={:g} learning_rate={:g}".format(*setting)
            result = run.cached(name.replace(" ", "-"), lambda setting=setting: measure(*setting))
            for player in ("discriminator", "generator"):
                ratio = result[player] / setting[0] if result["finite"] else math.inf
                metrics[f"{name} {player} kinetic temperature / T"] = {"value": ratio}
        path = run.finish(metrics)
        print("kinetic temperature / T of D / of the Gs (1: right; above: the step is too large)")
        print(tables.render(path))
        print(f"results in {path}")


if __name__ == "__main__":
    main(CONFIG)
