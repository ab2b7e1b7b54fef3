"""Convergence rates of two-player games under five kinds of gradient descent, measured and by theory.

Papers: Mescheder, Geiger & Nowozin, "Which training methods for GANs do actually converge?", ICML 2018 (the Dirac-GAN);
Mescheder, Nowozin & Geiger, "The numerics of GANs", NIPS 2017 (consensus); Daskalakis et al., "Training GANs with
optimism", ICLR 2018; Korpelevich, "The extragradient method", 1976.

    python -m experiments.adversarial_games                     quick: seconds
    python -m experiments.adversarial_games --preset paper      more step sizes, longer runs: a minute

Each game has two players, the scalars x and y, and an equilibrium at (0, 0):

    bilinear      min_x max_y  x y
    quadratic     min_x max_y  a/2 x^2 + x y - a/2 y^2,  a = --curvature
    dirac         a GAN: data at 0, fakes at x, D(t) = y t;  min_x max_y  log sigmoid(0) + log sigmoid(-x y)
    dirac_r1      dirac with the R1 penalty r/2 y^2 added to D's loss, r = --penalty

Near the equilibrium the gradients are linear in z = (x, y), so a step of size eta multiplies z by a matrix. The
spectral radius of this matrix is the theoretical factor by which a step changes |z|; see
`bayesjax/evaluation/game_dynamics.py`. The measured factor is the exponential of the slope of log |z| over the second
half of a run. Runs are in float64 and start 1e-9 from the equilibrium, where nonlinear terms are negligible.

Expected: measured and theoretical factors agree to three decimals (two where a matrix has a double eigenvalue). The
bilinear game and the Dirac-GAN diverge by sqrt(1 + eta^2) and sqrt(1 + eta^2 / 4) under simultaneous descent, circle
under alternating descent, and converge under the other three. With R1 all five converge.
"""

import functools
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bayesjax import evaluation, kernels, plots
from bayesjax.evaluation.game_dynamics import METHODS, Method
from bayesjax.objectives import adversarial
from bayesjax.types import Density, Kernel
from experiments.harness import Column, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, row

Losses = dict[str, Density]
Game = Literal["bilinear", "quadratic", "dirac", "dirac_r1"]
NEAR = 1e-9
"""Initial distance from the equilibrium; nonlinear terms of the Dirac-GAN are then about 1e-18 of the linear terms."""


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.adversarial_games."""

    dataset: Literal["synthetic/games"] = "synthetic/games"
    """Name under which results are stored; the games use no data."""
    games: tuple[Game, ...] = get_args(Game)
    """Games to simulate; the description above defines them."""
    methods: tuple[Method, ...] = METHODS
    """Kinds of gradient descent to compare."""
    step_sizes: Annotated[tuple[Positive, ...], NonEmpty] = (0.2,)
    """Step sizes eta of gradient descent, each above 0; the figure shows trajectories for the first."""
    consensus: Positive = 0.5
    """Weight gamma of the consensus term; only the method consensus uses it."""
    curvature: Positive = 0.3
    """Curvature a of the quadratic game."""
    penalty: Positive = 0.5
    """Weight r of the R1 penalty in dirac_r1."""
    num_steps: Annotated[int, Range(least=40)] = 600
    """Maximum number of steps of a run, at least 40; runs that diverge or converge fast are shorter."""


PRESETS = {"quick": Config(), "paper": Config(step_sizes=(0.2, 0.05, 0.5), num_steps=4000)}
TABLES = [
    Table(
        {"game": "game", "method": "method"},
        [Column("factor per step", "measured", 4), Column("factor per step", "theory", 4, field="theory")],
        across="step_size",
        note="The factor is that by which a step changes the distance from the equilibrium. Column headings begin with "
        "the step size.",
    )
]
HEADLINE = (
    "adversarial_games-paper-synthetic_games",
    {"measure": "factor per step", "game": "bilinear", "method": "simultaneous", "step_size": 0.5},
)

# ---- the games


def games(config: Config) -> dict[str, Losses]:
    """The losses of x and y in each game, `{game: {"x": loss, "y": loss}}`."""
    half = config.curvature / 2
    minimax = adversarial.MINIMAX

    def losses(x_loss: Callable, y_loss: Callable) -> Losses:
        return {
            "x": lambda x, rng_key, batch: x_loss(x, batch.others["y"]),
            "y": lambda y, rng_key, batch: y_loss(batch.others["x"], y),
        }

    def generator(x: jax.Array, y: jax.Array) -> jax.Array:
        return minimax.generator_loss(y * x)

    def discriminator(x: jax.Array, y: jax.Array) -> jax.Array:
        return minimax.discriminator_loss(0.0 * y, y * x)

    def penalty(x: jax.Array, y: jax.Array) -> jax.Array:
        return config.penalty * adversarial.r1_penalty(lambda t: y * t, jnp.zeros_like(x))

    return {
        "bilinear": losses(lambda x, y: x * y, lambda x, y: -x * y),
        "quadratic": losses(lambda x, y: half * x**2 + x * y, lambda x, y: half * y**2 - x * y),
        "dirac": losses(generator, discriminator),
        "dirac_r1": losses(generator, lambda x, y: discriminator(x, y) + penalty(x, y)),
    }


def descent(config: Config, losses: Losses, method: Method, step_size: float) -> Kernel:
    """The kernel whose step updates x and y by the given kind of gradient descent."""
    if method == "alternating":
        players = {name: kernels.optimize(loss, optax.sgd(step_size)) for name, loss in losses.items()}
        return kernels.alternate(**players)
    return kernels.game_descent(losses, step_size=step_size, method=method, consensus=config.consensus)


def simulate(kernel: Kernel, start: tuple[float, float], num_steps: int) -> np.ndarray:
    """Runs the kernel from `start`; returns (x, y) before and after every step, `[num_steps + 1, 2]` in float64."""
    with jax.enable_x64(True):
        state = kernel.init({"x": jnp.asarray(start[0], float), "y": jnp.asarray(start[1], float)}, jax.random.key(0))

        def step(state: Any, rng_key: jax.Array) -> tuple:
            state, _ = kernel.step(rng_key, state, jnp.zeros(1))
            return state, (state.position["x"], state.position["y"])

        keys = jax.random.split(jax.random.key(0), num_steps)
        _, positions = jax.jit(lambda state: jax.lax.scan(step, state, keys))(state)
        return np.concatenate([[start], np.stack(positions, axis=-1)])


# ---- the factor of a step, measured and predicted


def measured_factor(positions: np.ndarray) -> float:
    """The factor per step: exp of the slope of log |z| over the second half of `positions [num, 2]`."""
    logs = np.log(np.hypot(*positions[len(positions) // 2 :].T))  # np.hypot, since squares would underflow
    return float(np.exp(np.polyfit(np.arange(len(logs)), logs, 1)[0]))


def factors(config: Config, game: str, method: Method, step_size: float) -> dict[str, float]:
    """The factor by which a step changes |z| near the equilibrium, measured in a run and predicted by theory."""
    losses = games(config)[game]
    with jax.enable_x64(True):
        jacobian = evaluation.game_jacobian(losses, {"x": jnp.zeros(()), "y": jnp.zeros(())}, jax.random.key(0))
    theory = evaluation.convergence_factor(jacobian, method, step_size, consensus=config.consensus)
    # Runs of this length keep |z| above 1e-139, and small enough for the game to be linear.
    longest = (300 if theory < 1 else 7) / max(abs(np.log(theory)), 1e-6)
    num_steps = max(20, int(min(config.num_steps, longest)))
    positions = simulate(descent(config, losses, method, step_size), (NEAR, NEAR / 2), num_steps)
    return {"measured": measured_factor(positions), "theory": theory}


def main(config: Config) -> None:
    """Measures all factors and plots all trajectories; writes the figure and the results."""
    with Run("adversarial_games", config, one_device=True) as run:
        rows = []
        for game, step_size, method in itertools.product(config.games, config.step_sizes, config.methods):
            compute = functools.partial(factors, config, game, method, step_size)
            factor = run.part(f"{game}-{method}-{step_size:g}", compute)
            keys = {"game": game, "step_size": step_size, "theory": factor["theory"]}
            rows.append(row("factor per step", factor["measured"], method=method, **keys))

        def path(game: str, method: Method) -> np.ndarray:
            return simulate(descent(config, games(config)[game], method, config.step_sizes[0]), (1.0, 1.0), 120)

        paths = {game: {method: path(game, method) for method in config.methods} for game in config.games}
        plots.phase_portraits(run.figure("portraits.png"), paths)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
