"""The optimal discriminator and the value of a GAN's game, checked where theory gives both in closed form.

Paper: Goodfellow et al., "Generative adversarial nets", NIPS 2014, propositions 1 and 2, theorem 1, and figure 1.

    python -m experiments.gan_theory                     quick: under a minute
    python -m experiments.gan_theory --preset paper      more toy distributions, longer training

There are two demonstrations. In the first, data and samples have discrete distributions p and q over a few outcomes,
and L-BFGS trains a discriminator with one logit for each outcome on --num-toys such pairs. The discriminator must equal
D* = p / (p + q), and its value must be V(D*) = -ln 4 + 2 JS(p, q). In the second, a GAN in one dimension is trained on
data N(m, s^2). The generator is b + a z with normal z, and the logit of the discriminator is a polynomial of degree
two. The discriminator can therefore represent D*, and every density is known. The figure shows four moments, as in the
paper: the start, the trained discriminator, a few steps of the generator, and the end.

Expected: |D - D*| and |V + ln 4 - 2 JS| are at most 1e-12 on the discrete distributions. At the end of the game the
generator has the mean of the data, and their standard deviation to 5 %. Where there is mass, D = 1/2, and V = -ln 4 =
-1.386. The remaining JS of about 0.0005 nats cannot be resolved by batches of this size.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from bayesjax import divergences, kernels, plots, training
from bayesjax.objectives import adversarial
from bayesjax.types import Given
from experiments.harness import Column, Count, Positive, Range, Run, RunConfig, Table, cli, row

FEW_STEPS = 50
"""Sweeps of the game before the third moment of the figure; a sweep updates the discriminator, then the generator."""


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.gan_theory."""

    dataset: Literal["synthetic/normal"] = "synthetic/normal"
    """Name of the data of the game, which are drawn from N(2, 0.5^2)."""
    num_toys: Count = 5
    """Number of pairs p, q of discrete distributions."""
    num_outcomes: Annotated[int, Range(least=2)] = 6
    """Number of outcomes of each discrete distribution, at least 2."""
    num_steps: Annotated[int, Range(above=FEW_STEPS)] = 3000
    """Number of sweeps of the game, above 50; before it, a tenth as many sweeps train the discriminator alone."""
    batch_size: Count = 256
    """Number of real examples, and of generated examples, in a step."""
    learning_rate: Positive = 1e-2
    """Initial learning rate of Adam for generator and discriminator; it decays to 0 along a cosine."""
    discriminator_steps: Count = 5
    """Number of steps of the discriminator in each sweep."""


PRESETS = {"quick": Config(), "paper": Config(num_toys=50, num_steps=20_000)}
TABLES = [
    Table(
        {},
        [
            Column("D - D*", "toys: largest abs(D - D*)", ".1e"),
            Column("V + ln 4 - 2 JS", "largest abs(V + ln 4 - 2 JS)", ".1e"),
        ],
    ),
    Table(
        {"moment": "game"},
        [
            Column("mean", "mean of the generator", 3),
            Column("standard deviation", digits=3),
            Column("mean distance of D from D*", digits=4),
            Column("V", digits=4),
            Column("-ln 4 + 2 JS", digits=4),
        ],
    ),
]
HEADLINE = "gan_theory-paper-synthetic_normal", {"measure": "V", "moment": "at the end"}

MEAN, DEVIATION = 2.0, 0.5  # mean and standard deviation of the data
START = {"shift": -1.0, "log_scale": 0.0}  # initial parameters of the generator
GRID = np.linspace(-5.0, 5.0, 2001)

# ---- discriminators of discrete distributions


def train_table(config: Config, index: int) -> dict[str, float]:
    """Trains one logit for each outcome on one pair p, q. Returns the errors against D* and -ln 4 + 2 JS."""
    p, q = np.random.default_rng([config.seed, index]).dirichlet(np.ones(config.num_outcomes), 2)
    with jax.enable_x64(True):

        def loss(logits: jax.Array) -> jax.Array:
            game = adversarial.MINIMAX
            return jnp.sum(p * game.real_loss(logits)) + jnp.sum(q * game.fake_loss(logits))

        # The loss is convex. Its curvature (p + q) D* (1 - D*) differs between logits, and L-BFGS adapts to it.
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


# ---- a game in one dimension


def logit(params: Any, x: Any) -> Any:
    """The discriminator's logit, a polynomial of degree two, as is log(p / q) of two normal densities."""
    return params["bias"] + params["slope"] * x + params["curvature"] * x**2


def generate(params: Any, z: Any) -> Any:
    """The generator's examples shift + exp(log_scale) z from noise z."""
    return params["shift"] + jnp.exp(params["log_scale"]) * z


def losses(config: Config) -> tuple[Callable, Callable]:
    """Non-saturating losses of the discriminator and of the generator, means over a batch."""
    game = adversarial.NON_SATURATING

    def discriminator_loss(params: Any, rng_key: jax.Array, batch: Given) -> jax.Array:
        fakes = generate(batch.others["generator"], jax.random.normal(rng_key, (config.batch_size,)))
        return game.discriminator_loss(logit(params, batch.data), logit(params, fakes)).mean()

    def generator_loss(params: Any, rng_key: jax.Array, batch: Given) -> jax.Array:
        fakes = generate(params, jax.random.normal(rng_key, (config.batch_size,)))
        return game.generator_loss(logit(batch.others["discriminator"], fakes)).mean()

    return discriminator_loss, generator_loss


def draw_batch(batch_size: int, rng_key: jax.Array, step: jax.Array) -> jax.Array:
    """Draws the real examples `[batch_size]` of a step."""
    return MEAN + DEVIATION * jax.random.normal(jax.random.fold_in(rng_key, step), (batch_size,))


def play(run: Run) -> dict[str, dict[str, dict[str, float]]]:
    """Trains the one-dimensional GAN. Returns its parameters at four moments, `{moment: {player: params}}`."""
    config = run.config
    data_key, init_key, alone_key, game_key, rest_key = jax.random.split(jax.random.key(config.seed), 5)
    batches = jax.tree_util.Partial(functools.partial(draw_batch, config.batch_size), data_key)
    discriminator_loss, generator_loss = losses(config)
    num_alone = config.num_steps // 10

    def adam(loss: Callable, num_steps: int) -> kernels.Kernel:
        return kernels.optimize(loss, optax.adam(optax.cosine_decay_schedule(config.learning_rate, num_steps), b1=0.5))

    discriminator = adam(discriminator_loss, (num_alone + config.num_steps) * config.discriminator_steps)
    discriminator = kernels.repeat(discriminator, config.discriminator_steps)
    generator = adam(generator_loss, config.num_steps)
    still = kernels.Kernel(generator.init, lambda rng_key, state, batch: (state, None))

    position = {"discriminator": {"bias": 0.0, "slope": 0.3, "curvature": 0.0}, "generator": START}
    position = jax.tree.map(jnp.asarray, position)
    moments = {"at the start": position}
    state = kernels.alternate(discriminator=discriminator, generator=still).init(position, init_key)
    for moment, moving_generator, key, num_steps in (
        ("discriminator trained", still, alone_key, num_alone),
        ("generator moved", generator, game_key, FEW_STEPS),
        ("at the end", generator, rest_key, config.num_steps - FEW_STEPS),
    ):
        sweep = kernels.alternate(discriminator=discriminator, generator=moving_generator)
        kernel, options = run.stage(moment.replace(" ", "-"), sweep)
        state, _ = training.run(key, kernel, state, batches, num_steps=num_steps, keep=lambda state: (), **options)
        moments[moment] = state.position
    return {moment: jax.tree.map(float, position) for moment, position in moments.items()}


# ---- comparison with theory


def curves(position: dict[str, dict[str, float]]) -> dict[str, np.ndarray]:
    """The densities of data and generator, D and D*, evaluated on the grid."""

    def log_density(mean: float, log_scale: float) -> np.ndarray:
        return -0.5 * (((GRID - mean) / math.exp(log_scale)) ** 2 + math.log(2 * math.pi)) - log_scale

    log_p = log_density(MEAN, math.log(DEVIATION))
    log_q = log_density(position["generator"]["shift"], position["generator"]["log_scale"])
    return {
        "data": np.exp(log_p),
        "generator": np.exp(log_q),
        "D": special.expit(np.asarray(logit(position["discriminator"], GRID))),
        "D*": special.expit(log_p - log_q),
    }


def compare(curves: dict[str, np.ndarray]) -> dict[str, float]:
    """Computes the mean of |D - D*| under (p + q) / 2, the value V of the game, and -ln 4 + 2 JS by quadrature."""
    p, q = curves["data"], curves["generator"]
    d = np.clip(curves["D"], 1e-300, 1 - 1e-16)  # D may be 0 or 1 to rounding
    mixture = (p + q) / 2

    def integral(values: np.ndarray) -> float:
        return float(np.trapezoid(values, GRID))

    js = 0.5 * (integral(special.rel_entr(p, mixture)) + integral(special.rel_entr(q, mixture)))
    return {
        "mean distance of D from D*": integral(mixture * np.abs(d - curves["D*"])),
        "V": integral(special.xlogy(p, d) + special.xlogy(q, 1 - d)),
        "-ln 4 + 2 JS": 2 * js - math.log(4),
    }


def main(config: Config) -> None:
    """Runs both demonstrations; writes the figure and the results."""
    with Run("gan_theory", config, one_device=True) as run:
        toys = run.part("toys", lambda: [train_table(config, index) for index in range(config.num_toys)])
        moments = run.part("moments", lambda: play(run))
        panels = {moment: curves(position) for moment, position in moments.items()}

        rows = [row(measure, max(toy[measure] for toy in toys), method="toys") for measure in toys[0]]
        for moment, position in moments.items():
            shift, log_scale = position["generator"]["shift"], position["generator"]["log_scale"]
            measures = {"mean": shift, "standard deviation": math.exp(log_scale), **compare(panels[moment])}
            rows += [row(measure, value, method="game", moment=moment) for measure, value in measures.items()]

        noise = special.ndtri((np.arange(15) + 0.5) / 15)
        maps = {
            moment: (noise, np.asarray(generate(position["generator"], noise))) for moment, position in moments.items()
        }
        plots.densities_and_maps(run.figure("game.png"), GRID, panels, maps)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
