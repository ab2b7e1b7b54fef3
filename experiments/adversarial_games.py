"""How players move by gradients: what converges, what circles, what diverges, and how fast, measured and by theory.

Papers: Mescheder, Geiger & Nowozin, "Which training methods for GANs do actually converge?", ICML 2018 (the Dirac-GAN);
Mescheder, Nowozin & Geiger, "The numerics of GANs", NIPS 2017 (consensus); Daskalakis et al., "Training GANs with
optimism", ICLR 2018; Korpelevich, "The extragradient method", 1976.

    python -m experiments.adversarial_games                     quick: seconds
    python -m experiments.adversarial_games --preset paper      more step sizes, longer

Two scalars x and y, an equilibrium at (0, 0), and the gradients v(x, y) of the two losses:

    bilinear      min_x max_y  x y
    quadratic     min_x max_y  a/2 x^2 + x y - a/2 y^2,  a = --curvature
    dirac         a GAN: data at 0, fakes at x, D(t) = y t;  min_x max_y  log sigmoid(0) + log sigmoid(-x y)
    dirac_r1      the same with R1's penalty, r/2 y^2 on D's loss, r = --penalty

Near the equilibrium all are linear, v(z) = J z, so that a step is a matrix and the distance shrinks or grows by its
spectral radius: I - eta J simultaneously, (I - eta J_y)(I - eta J_x) by turns, I - eta J (I - eta J) with the
extragradient, I - eta (J + gamma J^T J) with consensus; an optimistic step is a matrix of two positions. Rates are
the slopes of log |z| over the second half of a run, in float64, from a start so near that nothing else counts.

Expected: measured and theory agree to three decimals (two where a matrix has one eigenvalue twice). The bilinear game
and the Dirac-GAN diverge by sqrt(1 + eta^2) and sqrt(1 + eta^2 / 4) simultaneously, circle by turns, and converge by
all the others; with R1 all converge.
"""

import dataclasses
from dataclasses import dataclass

from experiments import common

GAME_NAMES = ("bilinear", "quadratic", "dirac", "dirac_r1")
METHODS = ("simultaneous", "alternating", "extragradient", "optimistic", "consensus")


@dataclass(frozen=True)
class Config(common.RunFlags):
    """Flags of experiments.adversarial_games."""

    dataset: str = "synthetic/games"
    """The games below; there are no others."""
    games: tuple[str, ...] = GAME_NAMES
    """bilinear, quadratic, dirac, dirac_r1."""
    methods: tuple[str, ...] = METHODS
    """simultaneous, alternating (by turns), extragradient, optimistic, consensus."""
    step_sizes: tuple[float, ...] = (0.2,)
    """eta; the first is that of the figure."""
    consensus: float = 0.5
    """gamma."""
    curvature: float = 0.3
    """a, of the quadratic game."""
    penalty: float = 0.5
    """r, of the Dirac-GAN with R1."""
    num_steps: int = 600
    """Steps of each run."""


PRESETS = {
    "quick": Config(),
    "paper": dataclasses.replace(Config(), preset="paper", step_sizes=(0.2, 0.05, 0.5), num_steps=4000),
}

if __name__ == "__main__":
    CONFIG = common.parse(PRESETS, __doc__)  # before JAX loads: --help and mistyped flags answer at once

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import kernels, plots
from bayesjax.objectives import adversarial
from bayesjax.types import Density, Given, Kernel
from experiments import tables

Losses = dict[str, Density]
NEAR = 1e-9  # a start's distance from the equilibrium, where measured: the next order of the Dirac-GAN is 1e-18


def two_losses(of_x: Callable, of_y: Callable) -> Losses:
    """From functions of (x, y)."""

    def first(x: jax.Array, rng_key: jax.Array, batch: Given) -> jax.Array:
        return of_x(x, batch.others["y"])

    def second(y: jax.Array, rng_key: jax.Array, batch: Given) -> jax.Array:
        return of_y(batch.others["x"], y)

    return {"x": first, "y": second}


def games(config: Config) -> dict[str, Losses]:
    """The losses of x and y, by the game's name."""
    half = config.curvature / 2
    minimax = adversarial.MINIMAX

    def penalty(x: jax.Array, y: jax.Array) -> jax.Array:
        return config.penalty * adversarial.r1_penalty(lambda t: y * t, jnp.zeros_like(x))

    def discriminator(x: jax.Array, y: jax.Array) -> jax.Array:
        return minimax.discriminator(0.0 * y, y * x)

    return {
        "bilinear": two_losses(lambda x, y: x * y, lambda x, y: -x * y),
        "quadratic": two_losses(lambda x, y: half * x**2 + x * y, lambda x, y: half * y**2 - x * y),
        "dirac": two_losses(lambda x, y: minimax.generator(y * x), discriminator),
        "dirac_r1": two_losses(lambda x, y: minimax.generator(y * x), lambda x, y: discriminator(x, y) + penalty(x, y)),
    }


def kernel_of(config: Config, losses: Losses, method: str, step_size: float) -> Kernel:
    """The players' kernel."""
    if method == "alternating":
        return kernels.alternate(
            **{name: kernels.optimize(loss, optax.sgd(step_size)) for name, loss in losses.items()}
        )
    return kernels.game_descent(losses, step_size=step_size, method=method, consensus=config.consensus)


def positions(kernel: Kernel, start: tuple[float, float], num_steps: int) -> np.ndarray:
    """Where the players are, `[num_steps + 1, 2]`, in float64."""
    with jax.enable_x64(True):
        state = kernel.init({"x": jnp.asarray(start[0], float), "y": jnp.asarray(start[1], float)}, jax.random.key(0))

        def step(state: Any, rng_key: jax.Array) -> tuple:
            state, _ = kernel.step(rng_key, state, jnp.zeros(1))
            return state, (state.position["x"], state.position["y"])

        keys = jax.random.split(jax.random.key(0), num_steps)
        _, found = jax.jit(lambda state: jax.lax.scan(step, state, keys))(state)
        return np.concatenate([[start], np.stack(found, axis=-1)])


def measured_rate(path: np.ndarray) -> float:
    """The factor of a step: exp of the slope of log |z| over the second half."""
    logs = np.log(np.hypot(*path[len(path) // 2 :].T))  # no squares: they would underflow
    return float(np.exp(np.polyfit(np.arange(len(logs)), logs, 1)[0]))


def jacobian(losses: Losses) -> np.ndarray:
    """J of v at the equilibrium, `[2, 2]`."""

    def v(z: jax.Array) -> jax.Array:
        position = {"x": z[0], "y": z[1]}
        key = jax.random.key(0)
        return jnp.stack([jax.grad(losses[name])(position[name], key, Given(None, position)) for name in ("x", "y")])

    with jax.enable_x64(True):
        return np.asarray(jax.jacobian(v)(jnp.zeros(2)))


def expected_rate(config: Config, matrix: np.ndarray, method: str, step_size: float) -> float:
    """The spectral radius of a step's matrix."""
    one, step = np.eye(2), step_size * matrix
    of_x, of_y = (np.diag(row) @ step for row in one)
    found = {
        "simultaneous": one - step,
        "alternating": (one - of_y) @ (one - of_x),
        "extragradient": one - step @ (one - step),
        "optimistic": np.block([[one - 2 * step, step], [one, 0 * one]]),
        "consensus": one - step - config.consensus * step_size * matrix.T @ matrix,
    }[method]
    return float(np.abs(np.linalg.eigvals(found)).max())


def rate(config: Config, game: str, method: str, step_size: float) -> dict[str, float]:
    """A step's factor, measured and by theory."""
    losses = games(config)[game]
    kernel = kernel_of(config, losses, method, step_size)
    expected = expected_rate(config, jacobian(losses), method, step_size)
    speed = np.log(expected)
    room = (300 if speed < 0 else 7) / max(abs(speed), 1e-6)  # |z| stays above 1e-139, and where the game is linear
    num_steps = max(20, int(min(config.num_steps, room)))
    return {"measured": measured_rate(positions(kernel, (NEAR, NEAR / 2), num_steps)), "theory": expected}


def portrait(config: Config, game: str, method: str) -> np.ndarray:
    """A path from far away, `[num, 2]`."""
    kernel = kernel_of(config, games(config)[game], method, config.step_sizes[0])
    return positions(kernel, (1.0, 1.0), 120)


def main(config: Config) -> None:
    """Measures every rate, draws every path; writes table, figure and results."""
    with common.Experiment("adversarial_games", config) as run:
        common.require_choice(config, "dataset", ("synthetic/games",))
        common.require_names(config, "games", GAME_NAMES)
        common.require_names(config, "methods", METHODS)
        common.require_all_positive(config, "step_sizes")
        common.require_positive(config, "consensus", "curvature", "penalty")
        common.require_at_least(config, 40, "num_steps")
        metrics: dict[str, dict] = {}
        for game in config.games:
            for step_size in config.step_sizes:
                for method in config.methods:
                    name = f"{game} {method} eta={step_size:g}"
                    found = run.cached(name.replace(" ", "-"), functools.partial(rate, config, game, method, step_size))
                    metrics[name] = {"value": found["measured"], "theory": found["theory"]}
        paths = {game: {method: portrait(config, game, method) for method in config.methods} for game in config.games}
        plots.portraits(run.out / "figures" / "portraits.png", paths)
        path = run.finish(metrics)
        print(tables.render(path))
        print(f"results in {path}, figures in {run.out / 'figures'}")


if __name__ == "__main__":
    main(CONFIG)
