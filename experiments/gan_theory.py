"""What a GAN's discriminator knows, and what its game is worth: theory checked where all of it is in closed form.

Paper: Goodfellow et al., "Generative adversarial nets", NIPS 2014, propositions 1 and 2, theorem 1, and figure 1.

    python -m experiments.gan_theory                     quick: under a minute
    python -m experiments.gan_theory --preset paper      more toys, longer

Two demonstrations. On --num-toys pairs of distributions p, q over a few outcomes a table of logits is trained to the
best discriminator, by L-BFGS: it must be D* = p / (p + q), and the value V(D*) = -ln 4 + 2 JS(p, q). Then a
whole GAN in one dimension: data N(m, s^2), a generator b + a z of normal noise, and a discriminator whose logit is a
polynomial of degree two, so that D* is among its functions and every density is known. Four panels as in the paper's
figure: at the start; after the discriminator alone has been trained; after the generator's next steps; at the end.

Expected: D - D* and V + ln 4 - 2 JS of 1e-12 and less on the toys; at the end of the game a generator that has the
data's mean, and its deviation but for a twentieth, D = 1/2 where there is mass and V = -ln 4 = -1.386. What is left is
a JS of some 0.0005 nats, which batches of this size hardly tell.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.gan_theory."""

    dataset: str = "synthetic/normal"
    """The data of the game: N(2, 0.5^2)."""
    num_toys: int = 5
    """Pairs of discrete distributions."""
    num_outcomes: int = 6
    """Of each."""
    num_steps: int = 3000
    """Sweeps of the game, more than 50; before them a tenth as many of the discriminator alone."""
    batch_size: int = 256
    """Real examples a sweep, and as many fakes of each player."""
    learning_rate: float = 1e-2
    """Adam's, of both players; it falls to 0 along a cosine."""
    discriminator_steps: int = 5
    """Steps of the discriminator in a sweep."""


PRESETS = {
    "quick": Config(),
    "paper": dataclasses.replace(Config(), preset="paper", num_toys=50, num_steps=20_000),
}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special, stats

from bayesjax import divergences, kernels, plots, training
from bayesjax.objectives import adversarial
from bayesjax.types import Given
from experiments import tables

MEAN, DEVIATION, START = 2.0, 0.5, {"shift": -1.0, "log_scale": 0.0}  # of the data; of the generator
GRID = np.linspace(-5.0, 5.0, 2001)


def toy(config: Config, seed: int) -> dict[str, float]:
    """How far a trained table of logits is from D*, and its value from -ln 4 + 2 JS, on one pair of distributions."""
    p, q = np.random.default_rng([config.seed, seed]).dirichlet(np.ones(config.num_outcomes), 2)
    with jax.enable_x64(True):

        def loss(logits: jax.Array) -> jax.Array:
            game = adversarial.MINIMAX
            return jnp.sum(p * game.real(logits)) + jnp.sum(q * game.fake(logits))

        # The loss is convex, and each logit has its own curvature (p + q) D* (1 - D*) at the end: L-BFGS finds it.
        optimizer = optax.lbfgs()
        evaluate = optax.value_and_grad_from_state(loss)

        def step(carry: tuple, _: None) -> tuple[tuple, None]:
            logits, state = carry
            value, gradient = evaluate(logits, state=state)
            updates, state = optimizer.update(gradient, state, logits, value=value, grad=gradient, value_fn=loss)
            return (logits + updates, state), None

        start = jnp.zeros(config.num_outcomes)
        (logits, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, None, 300))((start, optimizer.init(start)))
        value, js = -float(loss(logits)), float(divergences.js_categorical(jnp.asarray(p), jnp.asarray(q)))
    return {
        "D - D*": float(np.abs(special.expit(np.asarray(logits)) - p / (p + q)).max()),
        "V + ln 4 - 2 JS": abs(value + math.log(4) - 2 * js),
    }


def logit(params: Any, x: Any) -> Any:
    """The discriminator's, a polynomial: log p / q of two normal densities is one."""
    return params["bias"] + params["slope"] * x + params["curvature"] * x**2


def generate(params: Any, z: Any) -> Any:
    """Fakes of noise."""
    return params["shift"] + jnp.exp(params["log_scale"]) * z


def players(config: Config, num_alone: int) -> tuple[kernels.Kernel, kernels.Kernel]:
    """The kernels of discriminator and generator."""
    game = adversarial.NON_SATURATING

    def of_discriminator(params: Any, rng_key: jax.Array, batch: Given) -> jax.Array:
        fakes = generate(batch.others["generator"], jax.random.normal(rng_key, (config.batch_size,)))
        return game.discriminator(logit(params, batch.data), logit(params, fakes)).mean()

    def of_generator(params: Any, rng_key: jax.Array, batch: Given) -> jax.Array:
        fakes = generate(params, jax.random.normal(rng_key, (config.batch_size,)))
        return game.generator(logit(batch.others["discriminator"], fakes)).mean()

    def descend(loss: Any, num_steps: int) -> kernels.Kernel:
        return kernels.optimize(loss, optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps), b1=0.5))

    discriminator = descend(of_discriminator, (num_alone + config.num_steps) * config.discriminator_steps)
    return kernels.repeat(discriminator, config.discriminator_steps), descend(of_generator, config.num_steps)


def real(batch_size: int, rng_key: jax.Array, step: jax.Array) -> jax.Array:
    """A batch of data, a function of the step."""
    return MEAN + DEVIATION * jax.random.normal(jax.random.fold_in(rng_key, step), (batch_size,))


def stages(run: common.Experiment) -> dict[str, dict[str, dict[str, float]]]:
    """Positions of both players at the start, with the discriminator trained, a little later, and at the end."""
    config = run.config
    data_key, init_key, alone_key, game_key, rest_key = jax.random.split(jax.random.key(config.seed), 5)
    batches = jax.tree_util.Partial(functools.partial(real, config.batch_size), data_key)
    num_alone, num_few = config.num_steps // 10, 50
    discriminator, generator = players(config, num_alone)
    still = kernels.Kernel(generator.init, lambda rng_key, state, batch: (state, None))
    position = jax.tree.map(
        jnp.asarray, {"discriminator": {"bias": 0.0, "slope": 0.3, "curvature": 0.0}, "generator": START}
    )
    found = {"at the start": position}
    state = kernels.alternate(discriminator=discriminator, generator=still).init(position, init_key)
    for title, mover, key, num_steps in (
        ("discriminator trained", still, alone_key, num_alone),
        ("generator moved", generator, game_key, num_few),
        ("at the end", generator, rest_key, config.num_steps - num_few),
    ):
        kernel = kernels.alternate(discriminator=discriminator, generator=mover)
        stage = run.stage(title.replace(" ", "-"))
        state, _ = training.run(key, kernel, state, batches, num_steps=num_steps, keep=lambda state: (), **stage)
        found[title] = state.position
    return {title: jax.tree.map(float, position) for title, position in found.items()}


def curves(position: dict[str, dict[str, float]]) -> dict[str, np.ndarray]:
    """Both densities, D and D* on the grid."""

    def log_density(mean: float, log_scale: float) -> np.ndarray:
        return -0.5 * (((GRID - mean) / math.exp(log_scale)) ** 2 + math.log(2 * math.pi)) - log_scale

    of_data = log_density(MEAN, math.log(DEVIATION))
    of_fakes = log_density(position["generator"]["shift"], position["generator"]["log_scale"])
    return {
        "data": np.exp(of_data),
        "generator": np.exp(of_fakes),
        "D": special.expit(np.asarray(logit(position["discriminator"], GRID))),
        "D*": special.expit(of_data - of_fakes),
    }


def judged(lines: dict[str, np.ndarray]) -> dict[str, float]:
    """By quadrature: how far D is from D* where there is mass, the value of the game, and twice JS less ln 4."""
    p, q = lines["data"], lines["generator"]
    d = np.clip(lines["D"], 1e-300, 1 - 1e-16)  # where it is sure to rounding
    mixture = (p + q) / 2

    def integral(values: np.ndarray) -> float:
        return float(np.trapezoid(values, GRID))

    js = 0.5 * (integral(special.rel_entr(p, mixture)) + integral(special.rel_entr(q, mixture)))
    return {
        "mean distance of D from D*": integral(mixture * np.abs(d - lines["D*"])),
        "V": integral(special.xlogy(p, d) + special.xlogy(q, 1 - d)),
        "-ln 4 + 2 JS": 2 * js - math.log(4),
    }


def main(config: Config) -> None:
    """Trains the tables and the game; writes table, figure and results."""
    with common.Experiment("gan_theory", config) as run:
        common.require_choice(config, "dataset", ("synthetic/normal",))
        common.require_at_least(config, 1, "num_toys", "batch_size", "discriminator_steps")
        common.require_at_least(config, 2, "num_outcomes")
        common.require_at_least(config, 51, "num_steps")
        common.require_positive(config, "learning_rate")
        toys = run.cached("toys", lambda: {str(i): toy(config, i) for i in range(config.num_toys)})
        metrics: dict[str, dict] = {
            f"toys {name}": {"value": max(found[name] for found in toys.values())}
            for name in ("D - D*", "V + ln 4 - 2 JS")
        }
        found = run.cached("stages", functools.partial(stages, run))
        panels = {title: curves(position) for title, position in found.items()}
        for title, position in found.items():
            own = {"mean": position["generator"]["shift"], "deviation": math.exp(position["generator"]["log_scale"])}
            for name, value in {**own, **judged(panels[title])}.items():
                metrics[f"{title}: {name}"] = {"value": value}
        noise = stats.norm.ppf((np.arange(15) + 0.5) / 15)
        maps = {title: (noise, np.asarray(generate(position["generator"], noise))) for title, position in found.items()}
        plots.adversaries(run.out / "figures" / "game.png", GRID, panels, maps)
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
