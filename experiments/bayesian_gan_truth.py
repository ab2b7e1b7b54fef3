"""What a Bayesian GAN samples: SGHMC against HMC-within-Gibbs on the weights of two small networks.

Papers: Saatci & Wilson, "Bayesian GAN", NIPS 2017 (the conditionals); Arnold & Press, "Compatible conditional
distributions", 1989; Heckerman et al., "Dependency networks", 2000 (Gibbs sampling of incompatible conditionals).

    python -m experiments.bayesian_gan_truth                     quick: under a minute
    python -m experiments.bayesian_gan_truth --preset paper      all schemes, long chains

The noise z of the generator G is a fixed set, so that both conditionals are definite densities of the weights d of the
discriminator D and the weights g of G. The priors are normal, and there are no minibatches:

    log p(d | g) = log p(d) + sum_x log D(x) + sum_z log (1 - D(G(z)))
    log p(g | d) = log p(g) + sum_z [ a log D(G(z)) + b log (1 - D(G(z))) ]

The conditionals are compatible, that is, a joint density has both, only if their mixed second derivatives are equal:

    cooperative       a = 0, b = 1     compatible: the sums over z are equal
    non_saturating    a = 1, b = 0     incompatible: the generator of the paper
    zero_sum          a = 0, b = -1    incompatible: the mixed derivatives have opposite signs

HMC-within-Gibbs takes many HMC updates of one player, then of the other. SGHMC-within-Gibbs takes `inner` steps of one
player, then of the other. With one inner step it is the alternating scheme of the Bayesian GAN. Compatible conditionals
have one joint density, which all schemes sample. Otherwise each scheme has its own stationary law. That of Gibbs
sampling depends on which player moved last. That of one-step SGHMC tends to the law of a Langevin diffusion with a
non-conservative force, which depends on the friction. The quadratic game has all these laws in closed form:

    log p(d | g) = -d^2 / 2 - s d g,    log p(g | d) = -g^2 / 2 - t d g,    compatible if s = t, zero-sum if s = -t

Weights are not identified, so functions of them are compared, by the total variation (TV) of histograms: the mean and
standard deviation of G(z), the logits of D at both modes of the data, and the mean logit of D(G(z)).

Expected: the TV between SGHMC-within-Gibbs and HMC-within-Gibbs falls with the step size to the Monte Carlo error in
every game. With one inner step it falls with the step size in the cooperative game only.
"""

import functools
import itertools
import math
import zlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, special

from bayesjax import evaluation, kernels, models, plots, posteriors, training
from bayesjax.types import Array, Density, Given, Kernel, Params, PRNGKey
from experiments.harness import Column, Count, NonEmpty, Positive, Range, Run, RunConfig, Table, cli, row

GAMES = {"cooperative": (0.0, 1.0), "non_saturating": (1.0, 0.0), "zero_sum": (0.0, -1.0)}
"""Weights a and b of log D(G(z)) and log (1 - D(G(z))) in the log likelihood of the generator."""
PLAYERS = ("discriminator", "generator")
NETWORK, PRIOR_SCALE = models.MLP((5, 1), jnp.tanh), 0.7
"""The generator, and the logits of the discriminator: 16 weights each. All have a prior standard deviation of 0.7."""
NOISE = special.ndtri((np.arange(6, dtype=np.float32)[:, None] + 0.5) / 6)
"""The noise z: quantiles of the standard normal distribution, `[6, 1]`."""
MODES = np.array([[-1.0], [1.5]], np.float32)
REAL = np.concatenate([MODES[0] + 0.3 * NOISE[::2], MODES[1] + 0.3 * NOISE[1::2]])
"""The data x: three points around each of two modes, `[6, 1]`."""
LEAPFROG = {"step_size": kernels.jittered(0.25, 0.5), "num_integration_steps": 8}
"""An HMC update; its step sizes vary, to avoid periodic trajectories."""
COUPLING = 0.6
"""Absolute value of the couplings s and t of the quadratic game."""
PARTS, NUM_BINS = {"generator": (0, 1), "discriminator": (2, 3), "joint": (0, 2, 4)}, 4
"""Indices of the values of `summarise` whose joint histograms are compared, and the number of bins along each axis."""


@dataclass(frozen=True)
class Config(RunConfig):
    """Flags of experiments.bayesian_gan_truth."""

    dataset: Literal["synthetic/two_normals"] = "synthetic/two_normals"
    """Name of the data in the results: six points around two modes in one dimension."""
    step_sizes: Annotated[tuple[Positive, ...], NonEmpty] = (0.5, 0.25)
    """Time steps h of SGHMC, for both numbers of inner steps; the learning rate eta is h^2 (2 - alpha) / 2."""
    friction_rates: Annotated[tuple[Positive, ...], NonEmpty] = (2.0,)
    """Frictions of SGHMC per unit of time; alpha is 1 - exp(-friction h). The first is the friction of all schemes;
    one-step SGHMC also has the others, at the smallest step size."""
    integration_time: Positive = 8.0
    """Time for which SGHMC-within-Gibbs moves a player before the other moves."""
    num_inner_steps: tuple[Count, ...] = ()
    """Further numbers of inner steps, at the smallest step size."""
    num_hmc_updates: Annotated[tuple[Count, ...], NonEmpty] = (8,)
    """Numbers of HMC updates of a player before the other moves; the first is that of the reference."""
    num_chains: Annotated[int, Range(least=2)] = 16
    """Number of independent chains of a scheme in each game, at least 2; the reference has twice as many."""
    num_warmup: Count = 20
    """Number of draws that are dropped at the start of each chain."""
    num_draws: Annotated[int, Range(least=4)] = 100
    """Number of draws of each chain, at least 4: one for each sweep of HMC, or each integration time of SGHMC."""


PRESETS = {
    "quick": Config(),
    "paper": Config(
        step_sizes=(0.7, 0.5, 0.35, 0.25, 0.12), friction_rates=(2.0, 8.0), num_inner_steps=(4, 16),
        num_hmc_updates=(8, 4), num_chains=64, num_warmup=100, num_draws=1000,
    ),
}  # fmt: skip
SCHEME = {
    "method": "method", "first": "first player", "step_size": "h", "inner": "inner steps", "friction_rate": "friction",
}  # fmt: skip
TABLES = [
    Table(
        SCHEME, [Column("variance", "variance of d", 3), Column("covariance", digits=3)], across="coupling",
        heading="{}:", where={"game": "quadratic"}, note=f"The quadratic game in closed form; |s| is {COUPLING}.",
    ),
    Table(
        SCHEME, [Column(f"TV, {part}", part, 3) for part in ("generator", "joint")], across="game", heading="{}:",
        note="Total variation to the first scheme. The first line has that between halves of its chains, which is the "
        "Monte Carlo error.",
    ),
    Table(
        SCHEME,
        [Column("worst R-hat", "R-hat", 3), Column("least ESS", "ESS", 0), Column("kinetic temperature", "T", 3)],
        across="game", heading="{}:",
        note="R-hat and ESS are the worst of the five functions. The kinetic temperature T should be 1.",
    ),
]  # fmt: skip
HEADLINE = (
    "bayesian_gan_truth-paper-synthetic_two_normals",
    {"measure": "TV, joint", "game": "non_saturating", "method": "sghmc", "step_size": 0.12, "inner": 67},
    3,
)

# ---- networks and conditionals


class Batch(NamedTuple):
    """What a chain is given: the data `[6, 1]`, and the weights a and b of its game."""

    real: Array
    real_weight: Array
    fake_weight: Array


def apply(params: Params, inputs: Any) -> Any:
    """G(z) of the generator, or the logits of the discriminator, `[n, 1]`."""
    return NETWORK.apply({"params": params}, inputs)


def conditionals() -> dict[str, Density]:
    """The log densities log p(d | g) and log p(g | d) of the weights of both players."""
    prior = posteriors.gaussian(PRIOR_SCALE)

    def generate(g: Params, rng_key: PRNGKey, num: int) -> Array:
        return apply(g, NOISE)

    def log_prob_real(d: Params, x: Array, sign: float = 1.0) -> Array:
        return jax.nn.log_sigmoid(sign * apply(d, x)[:, 0])

    log_prob_fake = functools.partial(log_prob_real, sign=-1.0)

    def generator_density(g: Params, rng_key: PRNGKey, given: Given) -> Any:
        _, a, b = given.data
        density = posteriors.generator_conditional(
            generate, lambda d, x: a * log_prob_real(d, x) + b * log_prob_fake(d, x), prior,
            num_generated=len(NOISE), batch_size=len(NOISE),
        )  # fmt: skip
        return density(g, rng_key, given)

    discriminator_density = posteriors.discriminator_conditional(
        generate, log_prob_real, log_prob_fake, prior, num_data=len(REAL), batch_size=len(NOISE)
    )
    return {"discriminator": discriminator_density, "generator": generator_density}


def summarise(position: dict[str, Params]) -> Array:
    """Mean and standard deviation of G(z), the logits of D at both modes, and the mean logit of D(G(z)); `[5]`."""
    d, g = (jax.tree.map(lambda leaf: leaf[0], position[player]) for player in PLAYERS)
    fakes = apply(g, NOISE)
    return jnp.array([fakes.mean(), fakes.std(), *apply(d, MODES)[:, 0], apply(d, fakes).mean()])


# ---- schemes


class Scheme(NamedTuple):
    """A way to sample from both conditionals: `inner` steps of a kernel for the first player, then for the other."""

    method: Literal["hmc", "sghmc"]
    inner: int
    step_size: float | None = None
    friction_rate: float | None = None
    first: str = "discriminator"

    def order(self) -> list[str]:
        """The players in the order of their moves."""
        return sorted(PLAYERS, key=lambda player: player != self.first)


def kept_momentum(scheme: Scheme) -> float:
    """The fraction 1 - alpha of the momentum that a step of SGHMC keeps."""
    return math.exp(-(scheme.friction_rate or 0) * (scheme.step_size or 0))


def schemes(config: Config) -> dict[str, list[Scheme]]:
    """The schemes of a run by kind; the first of HMC is the reference, and in the last the generator moves first."""
    sizes, (num, *fewer), (rate, *rates) = sorted(config.step_sizes), config.num_hmc_updates, config.friction_rates
    return {
        "hmc": [*(Scheme("hmc", each) for each in (num, *fewer)), Scheme("hmc", num, first="generator")],
        "gibbs": [Scheme("sghmc", max(round(config.integration_time / h), 1), h, rate) for h in sizes],
        "between": [Scheme("sghmc", each, sizes[0], rate) for each in config.num_inner_steps],
        "one step": [Scheme("sghmc", 1, h, rate) for h in sizes],
        "other friction": [Scheme("sghmc", 1, sizes[0], each) for each in rates],
    }


def sweep(scheme: Scheme, densities: dict[str, Density]) -> Kernel:
    """The kernel of one sweep, in which each player has one network, as particles with a leading axis of 1."""

    def move(density: Density) -> Kernel:
        if scheme.step_size is None:
            return kernels.hmc(density, **LEAPFROG)
        friction = 1 - kept_momentum(scheme)
        return kernels.sghmc(density, step_size=scheme.step_size**2 * (2 - friction) / 2, friction=friction)

    moves = {player: kernels.repeat(move(densities[player]), scheme.inner) for player in scheme.order()}
    return kernels.alternate(**{player: kernels.particles(kernel, 1) for player, kernel in moves.items()})


def sample(run: Run, scheme: Scheme, num_chains: int) -> dict[str, dict[str, np.ndarray]]:
    """Runs independent chains of a scheme on every game, all games in one vmapped kernel, from draws of the prior.

    Returns:
      For each game the summaries of the "draws" `[num_chains, num_draws, 5]`, and the mean kinetic "temperature" of
      both players `[num_chains]`.
    """
    config, num, name = run.config, num_chains * len(GAMES), "-".join(map(str, scheme))
    key = jax.random.fold_in(jax.random.key(config.seed), zlib.crc32(name.encode()))
    start_key, init_key, run_key = jax.random.split(key, 3)
    a, b = jnp.repeat(jnp.array(list(GAMES.values())), num_chains, axis=0).T
    params = dict.fromkeys(PLAYERS, NETWORK.init(init_key, NOISE)["params"])
    stacked = jax.tree.map(lambda leaf: jnp.zeros((num, 1, *leaf.shape)), params)
    start = posteriors.sample_gaussian(start_key, stacked, PRIOR_SCALE)
    kernel, options = run.stage(name, kernels.particles(sweep(scheme, conditionals()), num, batch_axis=0))
    thinning = round(config.integration_time / scheme.inner / scheme.step_size) if scheme.step_size else 1
    _, trace = training.run(
        run_key, kernel, jax.jit(kernel.init)(start, init_key), Batch(jnp.tile(REAL, (num, 1, 1)), a, b),
        num_steps=(config.num_warmup + config.num_draws) * max(thinning, 1), thinning=max(thinning, 1),
        num_burnin=config.num_warmup * max(thinning, 1), warn=False,
        keep=lambda state: jax.vmap(summarise)(state.position), **options,
    )  # fmt: skip
    temperatures = [info.kinetic_temperature.mean(axis=(0, 2)) for info in trace.info.players.values()]
    parts = {"draws": evaluation.chains_first(trace.draws), "temperature": np.mean(temperatures, axis=0)}
    parts = {name: np.split(values, len(GAMES)) for name, values in parts.items()}
    return {game: {name: values[i] for name, values in parts.items()} for i, game in enumerate(GAMES)}


# ---- the quadratic game


def quadratic_covariance(scheme: Scheme, coupling: tuple[float, float]) -> np.ndarray:
    """The stationary covariance `[2, 2]` of (d, g) under a scheme of SGHMC on the quadratic game with couplings (s, t).

    A sweep is a linear map A of (d, momentum of d, g, momentum of g) that adds normal noise of covariance Q. The
    stationary covariance C is the solution of the discrete Lyapunov equation C = A C A' + Q.
    """
    h, kept, eye = scheme.step_size or 0, kept_momentum(scheme), np.eye(4)
    transition, noise = eye, np.zeros((4, 4))
    for player in map(PLAYERS.index, scheme.order()):
        own, momentum, other = 2 * player, 2 * player + 1, 2 - 2 * player
        kick, drift, refresh = eye.copy(), eye.copy(), eye.copy()
        kick[momentum, [own, other]] = -h, -h * coupling[player]
        drift[own, momentum], refresh[momentum, momentum] = h / 2, kept
        step, injected = drift @ refresh @ drift @ kick, drift @ np.diag((1 - kept**2) * eye[momentum]) @ drift.T
        for _ in range(scheme.inner):
            transition, noise = step @ transition, step @ noise @ step.T + injected
    return linalg.solve_discrete_lyapunov(transition, noise)[::2, ::2]


def quadratic_rows(config: Config) -> list[dict]:
    """The variance of d and the covariance of d and g at the smallest step size."""
    rows, kinds = [], schemes(config)
    first = kinds["gibbs"][0]
    for scheme in (first, first._replace(first="generator"), kinds["one step"][0], *kinds["other friction"]):
        for name, sign in (("s = t", 1), ("s = -t", -1)):
            (variance, covariance), _ = quadratic_covariance(scheme, (COUPLING, sign * COUPLING))
            keys = {"game": "quadratic", "coupling": name, **scheme._asdict()}
            rows += [row("variance", variance, **keys), row("covariance", covariance, **keys)]
    return rows


# ---- comparison with the reference


def game_rows(config: Config, game: str, scheme: Scheme, values: dict, reference: np.ndarray) -> list[dict]:
    """Result rows of a scheme on a game; the TV of the reference is that between its halves."""
    draws, keys, rows = values["draws"], {"game": game, **scheme._asdict()}, []
    for part, axes in PARTS.items():
        tv = evaluation.histogram_total_variation(
            draws[: config.num_chains][..., axes], reference[..., axes], num_bins=NUM_BINS
        )
        value = tv.floor if draws is reference else evaluation.Estimate(tv.value, tv.stderr)
        rows.append(row(f"TV, {part}", value, floor=tv.floor, upper_floor=tv.upper_floor, **keys))
    return [
        *rows,
        row("worst R-hat", np.max(evaluation.r_hat(draws)), **keys),
        row("least ESS", np.min(evaluation.effective_sample_size(draws)), **keys),
        row("kinetic temperature", evaluation.mean_estimate(values["temperature"]), **keys),
    ]


def draw_figure(run: Run, rows: list[dict], results: dict[Scheme, dict]) -> None:
    """Draws the joint TV by step size and by inner steps, and the densities of the mean logit of D(G(z))."""
    kinds, smallest = schemes(run.config), min(run.config.step_sizes)
    by_size = {"SGHMC-within-Gibbs": kinds["gibbs"], "SGHMC, one inner step": kinds["one step"]}
    times = {"SGHMC": [kinds["gibbs"][0], *kinds["between"], kinds["one step"][0]]}
    laws = {"HMC, g moved last": kinds["hmc"][0], "HMC, d moved last": kinds["hmc"][-1]}
    laws |= {name: each[0] for name, each in by_size.items()}

    def curves(game: str, chosen: dict[str, list[Scheme]], x: str, scale: float = 1.0) -> dict[str, tuple]:
        def point(scheme: Scheme) -> tuple[float, float, float]:
            key = {"measure": "TV, joint", "game": game, **scheme._asdict()}
            (found,) = [each for each in rows if key.items() <= each.items()]
            return scale * found[x], found["value"], found["stderr"]

        return {name: tuple(np.array(sorted(map(point, each))).T) for name, each in chosen.items()}

    def densities(game: str) -> dict[str, tuple]:
        values = {name: results[scheme][game]["draws"][..., 4].ravel() for name, scheme in laws.items()}
        low, high = np.quantile(np.concatenate(list(values.values())), [0.001, 0.999])
        edges = np.linspace(low, high, 41)
        heights = {name: np.histogram(each, edges, density=True)[0] for name, each in values.items()}
        return {name: ((edges[1:] + edges[:-1]) / 2, height) for name, height in heights.items()}

    by_step = "step size h of SGHMC", "TV to HMC-within-Gibbs"
    by_time = "inner steps times h", f"TV at h = {smallest:g}"
    titles = {game: f"{game}: {'compatible' if game == 'cooperative' else 'incompatible'}" for game in GAMES}
    grid = {
        by_step: {title: curves(game, by_size, "step_size") for game, title in titles.items()},
        by_time: {title: curves(game, times, "inner", smallest) for game, title in titles.items()},
        ("mean logit of D(G(z))", "density"): {title: densities(game) for game, title in titles.items()},
    }
    floors = {titles[each["game"]]: each["upper_floor"] for each in rows if each["measure"] == "TV, joint"}
    plots.curve_grid(
        run.figure("laws.png"), grid, log=(by_step, by_time), shaded=floors, shade_name="Monte Carlo error"
    )


def main(config: Config) -> None:
    """Runs every scheme on every game; writes the tables, the figure and the results."""
    with Run("bayesian_gan_truth", config, one_device=True) as run:
        reference, *others = dict.fromkeys(itertools.chain(*schemes(config).values()))
        results = {reference: sample(run, reference, 2 * config.num_chains)}
        results |= {scheme: sample(run, scheme, config.num_chains) for scheme in others}
        rows = quadratic_rows(config)
        for scheme, values in results.items():
            for game in GAMES:
                rows += game_rows(config, game, scheme, values[game], results[reference][game]["draws"])
        draw_figure(run, rows, results)
        run.finish(rows, TABLES)


if __name__ == "__main__":
    main(cli.parse(PRESETS, __doc__))
